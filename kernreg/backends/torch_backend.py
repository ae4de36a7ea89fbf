"""The reference backend: :mod:`kernreg.backends.reference` behind the common interface."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.backends import rows as R
from kernreg.backends.base import CPU, Bound, Part, Request
from kernreg.backends.blocks import evaluate_blocks
from kernreg.backends.distinct import Distinct
from kernreg.backends.reference import PairState, evaluate, input_pairs
from kernreg.backends.sparse import AnyRows, dense_rows
from kernreg.ir.program import Program

__all__ = ["ReferenceBackend"]

_TILE = 512
# Pairs of positions that are worked on at once.
_NUMBERS = 2**21


def _input(X: AnyRows) -> tuple[R.Row, AnyRows]:
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
        pair = input_pairs(dense_rows(self._unit1[i0:i1]), dense_rows(self._unit2[j0:j1]))
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


class _SpatialBound:
    """Spatial programs: blocks of positions for a few pairs of images at a time."""

    arithmetic = np.dtype(np.float64)

    def __init__(self, request: Request) -> None:
        assert request.program.shape is not None
        self._request, self._program = request, request.program
        data = [request.X1] if request.X2 is None else [request.X1, request.X2]
        self._images = [X.reshape(len(X), *request.program.shape) for X in data]
        widest = max(max(1, math.prod(s)) for s in request.program.sizes())
        self._blocks = max(1, _NUMBERS // (widest * widest))
        self._rows: R.Row | None = None

    def _pairs(
        self, images: torch.Tensor, first: torch.Tensor, second: torch.Tensor
    ) -> tuple[PairState, R.Row]:
        """Pairs of images, the last of each with itself."""
        program = self._program
        kind = images.to(torch.float64)
        return evaluate_blocks(program.ops, program.params, kind, first, second)

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        if self._rows is None:
            pieces = []
            for X in self._images[0].split(self._blocks):
                own = torch.arange(len(X))
                pieces.append(self._pairs(X, own, own)[1])
            s, tau = (torch.cat([getattr(p, name) for p in pieces]) for name in ("s", "tau"))
            self._rows = R.Row(s.reshape(-1), tau.reshape(-1))
            start = R.Row(self._images[0].flatten(1).double().norm(dim=1), self._rows.tau)
            R.check_range(self._rows, self._request.dtype, start, self._request.kernels)
        return R.diagonal(self._rows, kernel).numpy()

    def fill(self, part: Part, out: Mapping[str, torch.Tensor]) -> None:
        X, Y, symmetric = self._images[0], self._images[-1], self._request.symmetric
        part.check(len(X), len(Y), out)
        rows, columns = torch.arange(part.i0, part.i1), torch.arange(part.j0, part.j1)
        i, j = (t.reshape(-1) for t in torch.meshgrid(rows, columns, indexing="ij"))
        # Of a symmetric matrix below the diagonal, so that both halves are equal.
        a, b = (torch.maximum(i, j), torch.minimum(i, j)) if symmetric else (i, j)
        numbers, place = torch.unique(a * len(Y) + b, return_inverse=True)
        found = {kernel: torch.empty(len(numbers), dtype=torch.float64) for kernel in out}
        for at in torch.arange(len(numbers)).split(self._blocks):
            n = len(at)
            own = torch.arange(2 * n)
            images = torch.cat([X[numbers[at] // len(Y)], Y[numbers[at] % len(Y)]])
            pair, row = self._pairs(images, torch.cat([own[:n], own]), torch.cat([own[n:], own]))
            s = row.s.reshape(-1)
            scale = s[:n] * s[n:]
            for kernel, values in (("nngp", pair.rho), ("ntk", pair.tau)):
                if kernel in out:
                    found[kernel][at] = scale * values[:n].reshape(-1)
        for kernel, target in out.items():
            target.copy_(found[kernel][place].reshape(target.shape))
        low, high = max(part.i0, part.j0), min(part.i1, part.j1)
        if symmetric and low < high:
            k = torch.arange(low, high)
            for kernel, target in out.items():
                known = torch.from_numpy(self.diagonal(kernel)[low:high])
                target[k - part.i0, k - part.j0] = known.to(target.dtype)


class ReferenceBackend:
    """Torch in float64: slow, clear, trusted."""

    name = "reference"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """Runs every program."""
        return None

    def bind(self, request: Request) -> Bound:
        """Prepare a request."""
        if request.program.shape is not None:
            return _SpatialBound(request)
        return _ReferenceBound(request)
