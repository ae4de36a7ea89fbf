"""The triton backend: kernel matrices on a GPU, or interpreted on the CPU to check the code."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg import config
from kernreg.backends import rows as R
from kernreg.backends.analysis import analyze
from kernreg.backends.base import CPU, Part, Request
from kernreg.backends.generated import OPS, Duals
from kernreg.backends.tiles import Machine, translate
from kernreg.backends.triton.source import module_text
from kernreg.backends.triton.tuning import INTERPRETED, Tile, tile
from kernreg.exceptions import BackendError
from kernreg.ir.program import Program

__all__ = ["TritonBackend"]

# Registers of the translation; duals are compiled, so only states take any.
_REGISTERS = 64
_MAX_COLUMNS = 128
# Programs that a product is cut into at least, so that a large GPU has work.
_MIN_PROGRAMS = 1024


@dataclass(frozen=True)
class _Side:
    """One side on the device: unit rows, tables, and standard deviations at the output."""

    units: Tensor
    table: Tensor
    scale: Tensor

    @staticmethod
    def of(units: Tensor, table: NDArray[Any], row: R.Row) -> _Side:
        slots = table if len(table) else np.zeros((1, len(units)), table.dtype)
        on_device = torch.from_numpy(np.ascontiguousarray(slots)).to(units.device)
        return _Side(units, on_device, row.s.to(units))

    def part(self, start: int, stop: int) -> _Side:
        return _Side(self.units[start:stop], self.table[:, start:stop], self.scale[start:stop])


class _TritonBound:
    def __init__(self, request: Request) -> None:
        data = [request.X1] if request.X2 is None else [request.X1, request.X2]
        first, *second = (_on_cpu(R.input_row(X)) for X in data)
        rows = (first, second[0] if second else first)
        pairs = len(rows[0].s) * len(rows[1].s)
        analysis = analyze(request.program, rows, request.dtype, pairs, request.exact)
        if analysis.reason is not None:
            raise BackendError(analysis.reason)
        self.arithmetic = analysis.dtype
        self._near = analysis.near
        self._symmetric = request.symmetric
        # The interpreter multiplies in the type of the operands, whatever the policy.
        plain = self.arithmetic == np.float64 or request.device == CPU
        self._precision = "ieee" if plain else request.precision
        duals = Duals()
        machine = Machine(OPS, duals.number, _REGISTERS)
        tiles = translate(request.program, rows, machine, analysis, self.arithmetic)
        self.text = module_text(tiles, duals.found, self.arithmetic.name)
        self._kind = torch.float32 if self.arithmetic == np.float32 else torch.float64
        units = [R.unit_rows(X, self._kind) for X in data]
        self._rows = _Side.of(units[0], tiles.tables[0], tiles.rows[0])
        self._columns = _Side.of(units[-1], tiles.tables[1], tiles.rows[1])
        constants = tiles.consts if len(tiles.consts) else np.zeros(1)
        self._constants = torch.from_numpy(constants).to(units[0])
        self._diagonals = {k: R.diagonal(tiles.rows[0], k) for k in ("nngp", "ntk")}
        self._on_device = {k: v.to(request.device) for k, v in self._diagonals.items()}

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        return self._diagonals[kernel].numpy()

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        from kernreg.backends.triton.templates import gram

        rows, columns = self._rows.part(part.i0, part.i1), self._columns.part(part.j0, part.j1)
        half = self._symmetric and (part.i0, part.i1) == (part.j0, part.j1)
        t = self._tile("gram")
        down, across = -(-len(rows.units) // t.BM), -(-len(columns.units) // t.BN)
        tiles = t.BM // t.BN * (down * (down + 1) // 2) if half else down * across
        some = next(iter(out.values()))
        outs = [out.get(kernel, some) for kernel in ("nngp", "ntk")]
        gram[(tiles,)](
            *self._data(rows, columns),
            *(self._on_device[kernel][part.i0 : part.i1] for kernel in ("nngp", "ntk")),
            *outs,
            *self._sizes(rows, columns, part.i0 - part.j0),
            *(o.stride(0) for o in outs),
            self._near,
            self.program(),
            self._precision,
            half,
            "nngp" in out,
            "ntk" in out,
            t.BM,
            t.BN,
            t.BK,
            **_options(t),
        )

    def multiply(self, kernel: str, V: Tensor) -> Tensor:
        from kernreg.backends.triton.templates import multiply

        n, m = len(self._rows.units), len(self._columns.units)
        t = self._tile("multiply_half" if self._symmetric else "multiply")
        down = -(-n // t.BM)
        splits = max(1, min(-(-_MIN_PROGRAMS // down), -(-m // t.BN)))
        results = []
        for block in V.to(self._columns.units).split(_MAX_COLUMNS, dim=1):
            width = block.shape[1]
            result = torch.zeros((n, width), dtype=self._kind, device=block.device)
            multiply[(down, splits)](
                *self._data(self._rows, self._columns),
                self._on_device[kernel],
                block.contiguous(),
                result,
                *self._sizes(self._rows, self._columns, 0),
                width,
                self._near,
                self.program(),
                self._precision,
                self._symmetric,
                kernel == "ntk",
                max(16, 1 << (width - 1).bit_length()),
                t.BM,
                t.BN,
                t.BK,
                **_options(t),
            )
            results.append(result)
        return torch.cat(results, dim=1)

    def _data(self, rows: _Side, columns: _Side) -> tuple[Tensor, ...]:
        return (
            *(rows.units, columns.units, rows.table, columns.table, rows.scale, columns.scale),
            self._constants,
        )

    def _sizes(self, rows: _Side, columns: _Side, shift: int) -> tuple[int, ...]:
        (n, d), m = rows.units.shape, len(columns.units)
        # Different data have no row in common: the diagonal lies beyond the last column.
        diagonal = shift if self._symmetric else m
        return n, m, d, diagonal, rows.table.stride(0), columns.table.stride(0)

    def program(self) -> Any:
        """The generated kernel program as a Triton function."""
        from kernreg.backends.triton.cache import load

        return load(self.text).program

    def _tile(self, template: str) -> Tile:
        device = self._rows.units.device
        if device == CPU:
            return INTERPRETED
        major, minor = torch.cuda.get_device_capability(device)
        precision = "float64" if self.arithmetic == np.float64 else self._precision
        return tile(template, precision, 10 * major + minor)


def _options(t: Tile) -> dict[str, Any]:
    """How a kernel is compiled; sums of products are fused, which the error bounds allow."""
    return {"num_warps": t.warps, "num_stages": t.stages, "enable_fp_fusion": True}


def _on_cpu(row: R.Row) -> R.Row:
    return R.Row(row.s.cpu(), row.tau.cpu())


class TritonBackend:
    """Triton tiles on NVIDIA GPUs; with ``TRITON_INTERPRET=1`` also on the CPU, slowly."""

    name = "triton"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """Triton must be there, and a GPU; what else may fail depends on the data."""
        if importlib.util.find_spec("triton") is None:
            return "the package triton is not installed"
        if device == CPU and not config.triton_interpreter():
            return "it computes on a GPU only: use device='cuda'"
        return None

    def bind(self, request: Request) -> _TritonBound:
        """Prepare a request."""
        return _TritonBound(request)
