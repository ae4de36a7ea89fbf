"""The cuda backend: kernel matrices in float64 on the tensor cores of a GPU."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.analysis import analyze
from kernreg.backends.base import CPU, Part, Request
from kernreg.backends.cuda.compile import missing
from kernreg.backends.cuda.launch import launch
from kernreg.backends.cuda.source import module_text
from kernreg.backends.generated import OPS, Duals
from kernreg.backends.tiles import Machine, translate
from kernreg.exceptions import BackendError
from kernreg.ir.program import Program

__all__ = ["CudaBackend"]

# As in csrc/cuda/product.cuh.
_TILE, _THREADS = 64, 128
# Registers of the translation: states only, as all duals are compiled.
_REGISTERS = 64
_KERNELS = ("nngp", "ntk")


@dataclass(frozen=True)
class _Side:
    """Rows of one side on the device: unit rows, tables, standard deviations at the output."""

    units: Tensor
    table: Tensor
    scale: Tensor

    @staticmethod
    def of(units: Tensor, table: NDArray[Any], row: R.Row) -> _Side:
        on_device = torch.from_numpy(np.ascontiguousarray(table)).to(units.device)
        return _Side(units, on_device, row.s.to(units.device))

    def part(self, start: int, stop: int) -> _Side:
        return _Side(self.units[start:stop], self.table[:, start:stop], self.scale[start:stop])


class _CudaBound:
    def __init__(self, request: Request) -> None:
        data = [request.X1] if request.X2 is None else [request.X1, request.X2]
        first, *second = (_on_cpu(R.input_row(X)) for X in data)
        rows = (first, second[0] if second else first)
        pairs = len(rows[0].s) * len(rows[1].s)
        analysis = analyze(request.program, rows, request.dtype, pairs, request.exact)
        if analysis.reason is not None:
            raise BackendError(analysis.reason)
        if analysis.dtype != np.float64:
            raise BackendError(
                "it computes in float64 only, and float32 is enough here; ask for dtype='float64'"
            )
        self.arithmetic = analysis.dtype
        self._near = analysis.near
        self._symmetric = request.symmetric
        self._duals = Duals()
        machine = Machine(OPS, self._duals.number, _REGISTERS)
        self._tiles = translate(request.program, rows, machine, analysis, self.arithmetic)
        units = [R.unit_rows(X) for X in data]
        row1, row2 = self._tiles.rows
        # Columns have slots of their own, also where they are the same points as the rows.
        self._rows = _Side.of(units[0], self._tiles.tables[0], row1)
        self._columns = _Side.of(units[-1], self._tiles.tables[1], row2)
        self._device = request.X1.device
        self._constants = torch.from_numpy(self._tiles.consts).to(self._device)
        self._diagonals = {k: R.diagonal(row1, k) for k in _KERNELS}
        self._on_device = {k: v.to(self._device) for k, v in self._diagonals.items()}

    def text(self, kernels: Collection[str], out: str) -> str:
        """The source of what :meth:`fill` runs, see :func:`.source.module_text`."""
        return module_text(self._tiles, self._duals.found, kernels, out)

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        return self._diagonals[kernel].numpy()

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        rows, columns = self._rows.part(part.i0, part.i1), self._columns.part(part.j0, part.j1)
        (n, d), m = rows.units.shape, len(columns.units)
        half = self._symmetric and (part.i0, part.i1) == (part.j0, part.j1)
        down, across = -(-n // _TILE), -(-m // _TILE)
        if down * across == 0:
            return
        some = next(iter(out.values()))
        outs = [out.get(kernel, some) for kernel in _KERNELS]
        if any(o.stride(1) != 1 or o.dtype != some.dtype for o in outs):
            raise ValueError("outputs must have contiguous rows and one type")
        tensors = (
            *(rows.units, columns.units, rows.table, columns.table, rows.scale, columns.scale),
            self._constants,
            *(self._on_device[kernel][part.i0 : part.i1] for kernel in _KERNELS),
            *outs,
        )
        # Different data have no row in common: the diagonal lies beyond the last column.
        shift = part.i0 - part.j0 if self._symmetric else m
        strides = [t.stride(0) for t in (rows.table, columns.table, *outs)]
        sizes = [n, m, d, shift, *strides, int(half)]
        launch(
            self.text(out, str(some.dtype).removeprefix("torch.")),
            self._device,
            down * (down + 1) // 2 if half else down * across,
            _THREADS,
            [*(t.data_ptr() for t in tensors), *sizes, float(self._near)],
        )


def _on_cpu(row: R.Row) -> R.Row:
    """The analysis is done on the CPU."""
    return R.Row(row.s.cpu(), row.tau.cpu())


class CudaBackend:
    """CUDA C++ tiles on an NVIDIA GPU, for float64 arithmetic."""

    name = "cuda"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """The rows must be on a GPU with float64 tensor cores, and the compiler installed."""
        if device.type != "cuda":
            return "it computes on an NVIDIA GPU only: use device='cuda'"
        if torch.cuda.get_device_capability(device) < (8, 0):
            return "it needs a GPU of compute capability 8.0 or newer"
        return missing()

    def bind(self, request: Request) -> _CudaBound:
        """Prepare a request."""
        return _CudaBound(request)
