"""Kernels averaged over images and their mirror images."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends.base import Bound, Part, Request
from kernreg.ir import operations as ir
from kernreg.ir.program import Program

__all__ = ["FlippedBound", "keeps_mirror"]

_STEP = 64
"""Rows and columns of a square of the mirrored half."""


def keeps_mirror(program: Program) -> bool:
    """Whether mirror images of both sides have the same kernel.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.serial(nn.Conv(3, strides=2), nn.Relu(), nn.Flatten())
    >>> [keeps_mirror(nn.serial(nn.Unflatten((n, 1)), net).program()) for n in (5, 6)]
    [True, False]
    """
    sizes = program.sizes()

    def of(ops: tuple[ir.Op, ...], before: list[tuple[int, ...]]) -> bool:
        for op in ops:
            # A loop may change the number of positions: its turns are looked at one by one.
            if isinstance(op, ir.Repeat) and not _loop_keeps(op, before[op.x], of):
                return False
            if isinstance(op, ir.Join) and op.axis == len(before[op.xs[0]]) - 1:
                return False
            if isinstance(op, ir.Mix) and not _symmetric(op, before[op.x]):
                return False
        return True

    return of(program.ops, sizes)


def _loop_keeps(op: ir.Repeat, start: tuple[int, ...], of: Callable[..., bool]) -> bool:
    for _ in range(op.count):
        found = Program(op.body, shape=(*start, 1)).sizes()
        if not of(op.body, found):
            return False
        if found[-1] == start:
            break
        start = found[-1]
    return True


def _symmetric(op: ir.Mix, sizes: tuple[int, ...]) -> bool:
    if op.taps.shape is None:
        return True
    axis, size = len(sizes) - 1, sizes[-1]
    rows = op.taps.sources(axis, size)
    mirrored = tuple(
        tuple(size - 1 - p if p >= 0 else p for p in reversed(row)) for row in reversed(rows)
    )
    return rows == mirrored


class FlippedBound:
    """The mean of two or four kernels.

    Parameters
    ----------
    request : Request
        Of a program with ``flips``.
    make : callable
        What binds the program without.
    """

    def __init__(self, request: Request, make: Callable[[Request], Bound]) -> None:
        program = replace(request.program, flips=False)
        assert program.shape is not None
        shape = program.shape

        def flipped(X: Tensor) -> Tensor:
            return X.reshape(len(X), *shape).flip(len(shape) - 1).reshape(X.shape)

        X1, X2 = request.X1, request.X2
        other = X1 if X2 is None else X2
        self._symmetric, self._n = X2 is None, len(X1)
        sides = [(X1, X2), (X1, flipped(other))]
        if not keeps_mirror(program):
            mirror = flipped(X1)
            sides += [(mirror, other), (mirror, None if X2 is None else flipped(X2))]
        self._bounds = [make(replace(request, program=program, X1=a, X2=b)) for a, b in sides]
        self.arithmetic = self._bounds[0].arithmetic
        self._diagonals: dict[str, NDArray[np.float64]] = {}

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        if kernel not in self._diagonals:
            if not self._symmetric:
                raise ValueError("only a symmetric matrix has a diagonal")
            total = sum(b.diagonal(kernel) for b in self._bounds[::3])
            crossed = [self._bounds[1], *self._bounds[2:3]]
            for bound in crossed:
                total = total + np.array([_entry(bound, kernel, i) for i in range(self._n)])
            self._diagonals[kernel] = np.asarray(total / len(self._bounds))
        return self._diagonals[kernel]

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        """Write a part for each kernel named in ``out``."""
        if not self._symmetric:
            self._mean(part, out)
            return
        rows, columns = _steps(part.i0, part.i1), _steps(part.j0, part.j1)
        done: set[tuple[int, int]] = set()
        for i in rows:
            for j in columns:
                if (i[0], j[0]) in done:
                    continue
                tile = self._lower(i, j, out)
                _put(out, part, i, j, tile)
                if j in rows and i in columns:
                    _put(out, part, j, i, {k: v.T for k, v in tile.items()})
                    done.add((j[0], i[0]))
        low, high = max(part.i0, part.j0), min(part.i1, part.j1)
        k = torch.arange(low, max(low, high))
        for kernel, target in out.items() if low < high else ():
            known = torch.from_numpy(self.diagonal(kernel)[low:high])
            target[k - part.i0, k - part.j0] = known.to(target.dtype)

    def _lower(
        self, i: tuple[int, int], j: tuple[int, int], out: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """A tile whose entries all come from below the diagonal."""
        if i[1] <= j[0]:
            return {k: v.T for k, v in self._lower(j, i, out).items()}
        square = ((min(i[0], j[0]), max(i[1], j[1])),) * 2
        low = (i, j) if j[1] <= i[0] else square
        (a0, a1), (b0, b1) = low
        room = {k: t.new_empty((a1 - a0, b1 - b0)) for k, t in out.items()}
        self._mean(Part(a0, a1, b0, b1), room)
        if j[1] <= i[0]:
            return room
        both = {k: torch.tril(v) + torch.tril(v, -1).T for k, v in room.items()}
        return {k: v[i[0] - a0 : i[1] - a0, j[0] - b0 : j[1] - b0] for k, v in both.items()}

    def _mean(self, part: Part, out: Mapping[str, Tensor]) -> None:
        room = {
            k: torch.empty_like(t, memory_format=torch.contiguous_format) for k, t in out.items()
        }
        for target in out.values():
            target.zero_()
        for bound in self._bounds:
            bound.fill(part, room)
            for kernel, target in out.items():
                target.add_(room[kernel], alpha=1.0 / len(self._bounds))


def _entry(bound: Bound, kernel: str, i: int) -> float:
    room = torch.empty((1, 1), dtype=torch.float64)
    if bound.arithmetic == np.float32:
        room = room.to(torch.float32)
    bound.fill(Part(i, i + 1, i, i + 1), {kernel: room})
    return float(room)


def _steps(start: int, stop: int) -> list[tuple[int, int]]:
    cuts = [start, *range((start // _STEP + 1) * _STEP, stop, _STEP), stop]
    return list(itertools.pairwise(cuts)) if start < stop else []


def _put(
    out: Mapping[str, Tensor],
    part: Part,
    i: tuple[int, int],
    j: tuple[int, int],
    tile: dict[str, Tensor],
) -> None:
    for kernel, values in tile.items():
        target = out[kernel][i[0] - part.i0 : i[1] - part.i0, j[0] - part.j0 : j[1] - part.j0]
        target.copy_(values)
