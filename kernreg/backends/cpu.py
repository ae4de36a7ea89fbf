"""The cpu backend: the C++ tile engine."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg import config
from kernreg.backends import rows as R
from kernreg.backends.analysis import analyze
from kernreg.backends.base import CPU, KERNELS, Bound, Part, Request
from kernreg.backends.planes.bound import PlanesBound, unsupported
from kernreg.backends.small import small_problem
from kernreg.backends.sparse import for_engine
from kernreg.backends.tiles import Machine, TileProgram, translate
from kernreg.codegen.instructions import checksum
from kernreg.exceptions import BackendError
from kernreg.ir.program import Program

__all__ = ["CpuBackend", "load_extension"]

_MISSING: str | None = None
try:
    from kernreg import _core

    if getattr(_core, "INSTRUCTIONS", None) != checksum():
        raise ImportError("it was built from another list of instructions")
except ImportError as error:
    _core = None
    _MISSING = (
        f"the C++ extension is not there ({error}); build it with a C++ compiler by "
        "`pip install .` without KERNREG_BUILD_EXT=0"
    )


def load_extension() -> tuple[ModuleType | None, str | None]:
    """The extension module, or the reason why there is none."""
    return _core, _MISSING


def instruction_set() -> str:
    """The instruction set in use: ``KERNREG_ISA`` if this machine has it, else the best."""
    available: list[str] = _core.instruction_sets()
    chosen = config.isa()
    return chosen if chosen in available else available[0]


@functools.cache
def _machine() -> Machine:
    duals = {s: k for k, s in enumerate(_core.signatures())}
    return Machine(lambda _, code: duals.get(code.signature), _core.REGISTERS, peels=True)


def _translated(
    request: Request, rows: tuple[R.Row, R.Row], exact: bool
) -> tuple[TileProgram, float]:
    """The program for the engine, and the gap of near pairs."""
    found = small_problem(request, rows, _machine(), _core)
    if found is not None:
        return found
    pairs = len(rows[0].s) * len(rows[1].s)
    analysis = analyze(
        request.program, rows, request.dtype, pairs, exact, request.kernels, spare_close=True
    )
    if analysis.reason is not None:
        raise BackendError(analysis.reason)
    tiles = translate(request.program, rows, _machine(), analysis, analysis.dtype)
    return tiles, analysis.near


class _CpuBound:
    def __init__(self, request: Request, exact: bool) -> None:
        data = [request.X1] if request.X2 is None else [request.X1, request.X2]
        lengths = [R.norms(X) for X in data]
        first, *second = map(R.input_row, data, lengths)
        rows = (first, second[0] if second else first)
        self._tiles, self._near = _translated(request, rows, exact)
        close = self._tiles.close
        self._close = close and (close.code, close.consts, *close.tables)
        self.arithmetic = self._tiles.tables[0].dtype
        kind = torch.float32 if self.arithmetic == np.float32 else torch.float64
        units = for_engine([R.unit_rows(X, m, kind) for X, m in zip(data, lengths, strict=True)])
        self._shape = len(rows[0].s), len(rows[1].s)
        self._units = (units[0], units[-1])
        self._symmetric = request.symmetric
        row1, row2 = self._tiles.rows
        self._scales = [np.ascontiguousarray(r.s.numpy()) for r in (row1, row2)]
        self._diagonals = {k: R.diagonal(row1, k).numpy() for k in KERNELS}

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        return self._diagonals[kernel]

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        part.check(*self._shape, out)
        if part.i0 == part.i1 or part.j0 == part.j1:
            return
        # Half the work where every entry above the diagonal has its mirror image in the part.
        mirrored = self._symmetric and part.j0 <= part.i0 and part.j1 <= part.i1
        t = self._tiles
        arrays = {kernel: target.numpy() for kernel, target in out.items()}
        _core.fill(
            instruction_set(),
            self._units[0],
            t.tables[0],
            self._scales[0],
            self._units[1],
            t.tables[1],
            self._scales[1],
            mirrored,
            self._near,
            t.code,
            t.consts,
            [arrays.get("nngp"), arrays.get("ntk")],
            self._diagonals["nngp"],
            self._diagonals["ntk"],
            [part.i0, part.i1, part.j0, part.j1],
            config.num_threads(),
            self._close,
        )
        if self._symmetric and not mirrored:
            low, high = max(part.i0, part.j0), min(part.i1, part.j1)
            k = np.arange(low, high)
            for kernel, target in arrays.items():
                target[k - part.i0, k - part.j0] = self._diagonals[kernel][low:high]


def _planes(request: Request) -> Bound:
    duals = {s: k for k, s in enumerate(_core.signatures())}
    machine = Machine(lambda _, code: duals.get(code.signature), _core.PLANES)
    return PlanesBound(request, machine, functools.partial(_run_planes, instruction_set()))


def _run_planes(*job: Any) -> None:
    _core.planes(*job, config.num_threads())


class CpuBackend:
    """C++ tiles on AVX-512, AVX2 or baseline x86-64, and on any other processor."""

    name = "cpu"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """The extension must be there, and planes take what a program does to images.

        What else may fail depends on the data.
        """
        if _MISSING is not None or device != CPU:
            return _MISSING if device == CPU else "it computes on the CPU only"
        return None if program.shape is None else unsupported(program)

    def bind(self, request: Request) -> Bound:
        """Prepare a request."""
        if _MISSING is not None:
            raise BackendError(_MISSING)
        if request.program.shape is not None:
            return _planes(request)
        return _CpuBound(request, request.exact)
