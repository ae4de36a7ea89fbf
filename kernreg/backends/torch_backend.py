"""The reference backend: :mod:`kernreg.backends.reference` behind the common interface."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.backends import rows as R
from kernreg.backends.base import CPU, Part, Request
from kernreg.backends.distinct import Distinct
from kernreg.backends.reference import evaluate, input_pairs
from kernreg.ir.program import Program

__all__ = ["ReferenceBackend"]

_TILE = 512


def _input(X: torch.Tensor) -> tuple[R.Row, torch.Tensor]:
    """State of the data, and its rows at unit length."""
    length = R.norms(X)
    return R.input_row(X, length), R.unit_rows(X, length)


class _ReferenceBound:
    arithmetic = np.dtype(np.float64)

    def __init__(self, request: Request) -> None:
        self._program = request.program
        self._symmetric = request.symmetric
        self._row1, self._unit1 = _input(request.X1)
        self._row2, self._unit2 = self._row1, self._unit1
        if request.X2 is not None:
            self._row2, self._unit2 = _input(request.X2)
        distinct = Distinct.of(self._row1, self._row2)
        out = R.walk(request.program, distinct.row)
        R.check_range(out, request.dtype, distinct.row, request.kernels)
        self._out = distinct.rows(out, 0)

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        return R.diagonal(self._out, kernel).cpu().numpy()

    def fill(self, part: Part, out: Mapping[str, torch.Tensor]) -> None:
        part.check(len(self._unit1), len(self._unit2), out)
        for i0, i1 in _cuts(part.i0, part.i1):
            for j0, j1 in _cuts(part.j0, part.j1):
                for kernel, values in self._tile(i0, i1, j0, j1).items():
                    if kernel in out:
                        target = out[kernel][i0 - part.i0 : i1 - part.i0]
                        target[:, j0 - part.j0 : j1 - part.j0] = values

    def _tile(self, i0: int, i1: int, j0: int, j1: int) -> dict[str, torch.Tensor]:
        """A tile; of a symmetric matrix always worked out on or below the diagonal."""
        if self._symmetric and i0 < j0:
            return {k: v.T for k, v in self._tile(j0, j1, i0, i1).items()}
        row1 = R.Row(self._row1.s[i0:i1], self._row1.tau[i0:i1])
        row2 = R.Row(self._row2.s[j0:j1], self._row2.tau[j0:j1])
        pair = input_pairs(self._unit1[i0:i1], self._unit2[j0:j1])
        pair, row1, row2 = evaluate(self._program.ops, self._program.params, pair, row1, row2)
        scale = row1.s[:, None] * row2.s[None, :]
        tiles = {"nngp": scale * pair.rho, "ntk": scale * pair.tau}
        if self._symmetric and i0 == j0:
            for tile in tiles.values():
                # A square on the diagonal may be cut short on one side.
                n = min(tile.shape)
                low = torch.tril(tile[:n, :n], -1)
                tile[:n, :n] = low + low.T
        if self._symmetric and max(i0, j0) < min(i1, j1):
            first, last = max(i0, j0), min(i1, j1)
            for kernel, tile in tiles.items():
                crossed = tile[first - i0 : last - i0, first - j0 : last - j0]
                crossed.diagonal().copy_(R.diagonal(self._out, kernel)[first:last])
        return tiles


def _cuts(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Pieces between multiples of the tile size, the same for rows and columns."""
    while start < stop:
        end = min(stop, (start // _TILE + 1) * _TILE)
        yield start, end
        start = end


class ReferenceBackend:
    """Torch in float64: slow, clear, trusted."""

    name = "reference"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """Runs every program."""
        return None

    def bind(self, request: Request) -> _ReferenceBound:
        """Prepare a request."""
        return _ReferenceBound(request)
