"""Jobs for the engine: which planes of which stages, for which pairs of images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernreg.backends.planes.grid import behind_window, planes_of
from kernreg.backends.planes.stages import Plan, in_lines, lands
from kernreg.backends.planes.translate import Block, Readout
from kernreg.ir import operations as ir

__all__ = ["ALL_PAIRS", "LOWER_PAIRS", "SAME_IMAGE", "Engine", "Tables", "tables_of"]

ALL_PAIRS, LOWER_PAIRS, SAME_IMAGE = range(3)
"""Which pairs of two blocks; the lower ones without those of an image with itself."""

Arrays = list[NDArray[np.floating]]


@dataclass(frozen=True)
class Tables:
    """A block of images as arrays, for either side of pairs; ``seen`` says how large values are."""

    block: Block
    seen: dict[int, tuple[float, float]]
    sides: tuple[Arrays, Arrays]

    @property
    def nbytes(self) -> int:
        """Bytes of both sides."""
        arrays = {id(a): a.nbytes for side in self.sides for a in side}
        return sum(arrays.values())


def tables_of(
    block: Block, seen: dict[int, tuple[float, float]], images: int, dtype: np.dtype
) -> Tables:
    """The tables of a block as the engine takes them."""
    sides: tuple[Arrays, Arrays] = ([], [])
    for stage in block.stages:
        made: list[NDArray[np.floating]] = []
        for tables in stage.tables:
            alike = (
                made
                and len(tables) == len(stage.tables[0])
                and all(a is b for a, b in zip(tables, stage.tables[0], strict=True))
            )
            if alike:
                made.append(made[0])
                continue
            lines = [t.numpy().reshape(images, -1, t.shape[-1]) for t in tables]
            made.append(stage.grid.scatter(lines, images, dtype))
        for side, array in zip(sides, made, strict=True):
            side.append(array)
    return Tables(block, seen, sides)


def _around(needed: NDArray[np.bool_], sizes: tuple[int, int]) -> NDArray[np.bool_]:
    """Displacements with those that are the same where positions wrap around."""
    once = np.zeros(sizes, dtype=bool)
    places = [np.arange(1 - n, n) % n for n in sizes]
    np.logical_or.at(once, np.ix_(*places), needed)
    return np.asarray(once[np.ix_(*places)])


@dataclass
class Engine:
    """Runs a plan on pairs of blocks of images; ``run`` is the function of the extension."""

    plan: Plan
    dtype: np.dtype
    run: Callable[..., None]
    _planes: dict[int, list[NDArray[np.int64]]] = field(default_factory=dict)

    @functools.cached_property
    def _landings(self) -> list[list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]]:
        """For each stage what is made of it: positions before, windows and strides."""
        found: list[list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]] = [
            [] for _ in self.plan.grids
        ]
        for op in self.plan.ops:
            if not isinstance(op, ir.Mix) or op.taps.shape is None:
                continue
            if id(op) in self.plan.lazy or not lands(op):
                continue
            stage = self.plan.stage[op.x]
            assert stage is not None
            window = in_lines(op.taps.shape) if op.shared is not None else (1, 1)
            found[stage].append(
                (in_lines(self.plan.sizes[op.x]), window, in_lines(op.taps.strides))
            )
        return found

    def _needed(self, last: int, readouts: list[Readout] | None) -> list[NDArray[np.int64]]:
        """The planes of each stage up to ``last``: for readouts, or for no displacement there."""
        needed = [
            np.zeros((2 * g.sizes[0] - 1, 2 * g.sizes[1] - 1), dtype=bool)
            for g in self.plan.grids[: last + 1]
        ]
        if readouts is None:
            high, wide = self.plan.grids[last].sizes
            needed[last][high - 1, wide - 1] = True
        for r in readouts or ():
            axes = []
            for w in r.weights:
                n = len(w)
                axes.append(np.array([np.diagonal(w, d).any() for d in range(1 - n, n)]))
            (high, wide), full = map(len, r.weights), needed[r.stage]
            sizes = self.plan.grids[r.stage].sizes
            y, x = sizes[0] - high, sizes[1] - wide
            full[y : y + 2 * high - 1, x : x + 2 * wide - 1] |= np.outer(*axes)
        for k in range(last, 0, -1):
            if self.plan.grids[k].circular:
                needed[k] = _around(needed[k], self.plan.grids[k].sizes)
            for sizes, window, strides in self._landings[k - 1]:
                part = behind_window(needed[k], sizes, window, strides)
                y, x = (g - s for g, s in zip(self.plan.grids[k - 1].sizes, sizes, strict=True))
                whole = needed[k - 1]
                whole[y : whole.shape[0] - y, x : whole.shape[1] - x] |= part
        return [planes_of(g, n) for g, n in zip(self.plan.grids, needed, strict=False)]

    def _stages(
        self, block: Block, last: int, planes: list[NDArray[np.int64]], running: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int64]]:
        rows: list[list[int]] = []
        code: list[list[int]] = []
        at = 0
        for k, stage in enumerate(block.stages[: last + 1]):
            grid, mine = stage.grid, stage.code if k < running else []
            shape = [
                grid.line,
                grid.lines,
                grid.ring[1],
                grid.origin,
                grid.halo,
                int(grid.circular),
            ]
            rows.append([*shape, len(code), len(mine), at, len(planes[k]), stage.landed])
            code += mine
            at += len(planes[k])
        return (
            np.array(rows, dtype=np.int64),
            np.array(code, dtype=np.int32).reshape(-1, 8),
            np.concatenate(planes),
        )

    def within(self, tables: Tables, stage: int, slot: int) -> NDArray[np.float64]:
        """Sums of squares of distances within pools of each image, of what is written so far."""
        if stage not in self._planes:
            self._planes[stage] = self._needed(stage, None)
        planes = self._planes[stage]
        images = len(tables.sides[0][0])
        stages, code, shifts = self._stages(tables.block, stage, planes, stage)
        out = np.zeros((images, tables.block.stages[stage].landed, self.plan.grids[stage].cells))
        part = [0, images, 0, images]
        self._run(tables, tables, stage, stages, code, shifts, part, SAME_IMAGE, None, out)
        return out[:, slot]

    def readouts(
        self, rows: Tables, cols: Tables, part: list[int], mode: int = ALL_PAIRS
    ) -> NDArray[np.float64]:
        """Squares of distances and twice the tangent kernels, (pairs, readouts, 2).

        Times their units.
        """
        block = rows.block
        last = len(block.stages) - 1
        if -1 not in self._planes:
            self._planes[-1] = self._needed(last, block.readouts)
        stages, code, shifts = self._stages(block, last, self._planes[-1], last + 1)
        wide = 1 if mode == SAME_IMAGE else part[3] - part[2]
        out = np.zeros(((part[1] - part[0]) * wide, len(block.readouts), 2))
        self._run(rows, cols, last, stages, code, shifts, part, mode, out, None)
        return out * np.array([r.unit for r in block.readouts])[:, None]

    def _run(
        self,
        rows: Tables,
        cols: Tables,
        last: int,
        stages: NDArray[np.int64],
        code: NDArray[np.int32],
        shifts: NDArray[np.int64],
        part: list[int],
        mode: int,
        readouts: NDArray[np.float64] | None,
        still: NDArray[np.float64] | None,
    ) -> None:
        self.run(
            rows.sides[0][: last + 1],
            cols.sides[1][: last + 1],
            stages,
            code,
            np.array(rows.block.consts, dtype=np.float64),
            np.array(rows.block.numbers, dtype=np.int64),
            shifts,
            part,
            mode,
            readouts,
            still,
        )
