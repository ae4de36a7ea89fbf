"""What backends that generate code for a whole program share: numbers of duals, rows and tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.analysis import analyze
from kernreg.backends.base import KERNELS, Request
from kernreg.backends.tiles import Machine, translate
from kernreg.exceptions import BackendError, MemoryBudgetError
from kernreg.ir.pair import Dual
from kernreg.ir.trace import DualCode

__all__ = ["Duals", "GeneratedBound", "Side"]


# Registers of the translation: states only, as all duals are compiled.
_REGISTERS = 64


class Duals:
    """Numbers for the duals of one program; equal code gets one number.

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.ir.trace import trace_dual
    >>> duals = Duals()
    >>> [duals.number(fn, trace_dual(fn)) for fn in (nn.Relu(), nn.Sin(), nn.Sin(2.0))]
    [0, 1, 1]
    """

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, DualCode]] = {}
        self._numbers: dict[str, int] = {}

    def number(self, fn: Dual, code: DualCode) -> int:
        """The number of a dual, a new one for new code."""
        number = self._numbers.setdefault(code.signature, len(self._numbers))
        self.found.setdefault(number, (type(fn).__name__, code))
        return number


@dataclass(frozen=True)
class Side:
    """One side on the device: unit rows, tables, and standard deviations at the output."""

    units: Tensor
    table: Tensor
    scale: Tensor

    @staticmethod
    def of(units: Tensor, table: NDArray[Any], row: R.Row) -> Side:
        """From tables and states on the CPU; a program without tables gets one empty slot."""
        slots = table if len(table) else np.zeros((1, len(units)), table.dtype)
        on_device = torch.from_numpy(np.ascontiguousarray(slots)).to(units.device)
        return Side(units, on_device, row.s.to(units))

    def part(self, start: int, stop: int) -> Side:
        """Rows ``[start, stop)``, without a copy."""
        return Side(self.units[start:stop], self.table[:, start:stop], self.scale[start:stop])


class GeneratedBound:
    """A program on rows, with all that its kernels read on the device of the rows.

    Parameters
    ----------
    request : Request
        What is wanted.

    Raises
    ------
    BackendError
        If the program does not fit tiles on these rows.
    MemoryBudgetError
        If rows and tables do not fit the memory of the device.
    """

    def __init__(self, request: Request) -> None:
        data = [request.X1] if request.X2 is None else [request.X1, request.X2]
        lengths = [R.norms(X) for X in data]
        first, *second = map(_on_cpu, map(R.input_row, data, lengths))
        rows = (first, second[0] if second else first)
        pairs = len(rows[0].s) * len(rows[1].s)
        analysis = analyze(
            request.program, rows, request.dtype, pairs, request.exact, request.kernels
        )
        if analysis.reason is not None:
            raise BackendError(analysis.reason)
        self.near = analysis.near
        self.symmetric, self.device = request.symmetric, request.device
        self.duals = Duals()
        machine = Machine(self.duals.number, _REGISTERS)
        self.tiles = translate(request.program, rows, machine, analysis, analysis.dtype)
        self.arithmetic = self.tiles.tables[0].dtype
        kind = torch.float32 if self.arithmetic == np.float32 else torch.float64
        row1, row2 = self.tiles.rows
        constants = self.tiles.consts if len(self.tiles.consts) else np.zeros(1)
        self._diagonals = {k: R.diagonal(row1, k) for k in KERNELS}
        try:
            units = [R.unit_rows(X, m, kind) for X, m in zip(data, lengths, strict=True)]
            # Columns have slots of their own, also where they are the same points as the rows.
            self.rows = Side.of(units[0], self.tiles.tables[0], row1)
            self.columns = Side.of(units[-1], self.tiles.tables[1], row2)
            self.constants = torch.from_numpy(constants).to(units[0])
            self.exact = {k: v.to(self.device) for k, v in self._diagonals.items()}
        except torch.cuda.OutOfMemoryError as error:
            raise MemoryBudgetError(
                f"Rows and tables of {sum(map(len, data))} points do not fit the free memory of "
                f"{self.device}: use fewer rows, dtype float32 or device='cpu'."
            ) from error

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        """The kernel of each row of ``X1`` with itself."""
        return self._diagonals[kernel].numpy()

    def sizes(self, rows: Side, columns: Side, shift: int) -> tuple[int, ...]:
        """Numbers of rows, columns and inputs, where the diagonal is, and strides of the tables.

        Row i of the part is its column ``i + shift``. Different data have no row in common: their
        diagonal lies beyond the last column.
        """
        (n, d), m = rows.units.shape, len(columns.units)
        strides = rows.table.stride(0), columns.table.stride(0)
        return n, m, d, shift if self.symmetric else m, *strides


def _on_cpu(row: R.Row) -> R.Row:
    """The analysis is done on the CPU."""
    return R.Row(row.s.cpu(), row.tau.cpu())
