"""Translate a spatial program and a block of images for planes.

As for tiles (:mod:`kernreg.backends.tiles`), instructions depend on the program and the number of
positions only; tables hold a number for each position of each image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.planes.grid import Grid, Sizes2
from kernreg.backends.planes.stages import Plan, in_lines
from kernreg.backends.signs import is_nonnegative
from kernreg.backends.tiles import Machine
from kernreg.codegen.instructions import CODES
from kernreg.exceptions import BackendError
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.taps import Sizes

__all__ = [
    "PLANES",
    "Block",
    "Filtered",
    "Numbers",
    "Readout",
    "Spatial",
    "Stage",
    "Translator",
    "Vector",
]

PLANES = Rules("planes of images")
"""Rules ``(translator, operation, *values) -> value``, which write instructions and tables."""

SUMS = -1
"""The place of sums that a filter has begun with."""

_FURTHEST = 1e10
"""How far the unit of a value may be from its size."""


Numbers = tuple[float, float, float, float]
"""How a filter scales sums, with what its rounding leaves, and its own part of tangent kernels."""


@dataclass(frozen=True)
class Filtered:
    """Instructions of a filter: where they begin and end, what it reads, how it scales that, and
    where its offsets stand if it is three by three, 0 for a single position."""

    begin: int
    end: int
    slot: int
    numbers: Numbers
    offsets: int


@dataclass(frozen=True, eq=False)
class Spatial:
    """A value of the program: where the engine keeps it, in which unit, and its variances.

    ``clean`` says that dead cells hold what they should, ``positive`` that no correlation of it is
    negative. ``filtered`` is a filter that a nonlinearity may join. ``pool`` stands for a pooling
    of this value that only readouts read.
    """

    stage: int
    slot: int
    unit: float
    row: R.Row
    clean: bool
    positive: bool
    filtered: Filtered | None = None
    pool: ir.Mix | None = None

    @property
    def sizes(self) -> Sizes:
        """Positions along each axis."""
        return tuple(self.row.s.shape[1:])


@dataclass(frozen=True)
class Vector:
    """A value behind a readout, which is worked out elsewhere."""


@dataclass
class Stage:
    """What runs on images of one size."""

    grid: Grid
    code: list[list[int]] = field(default_factory=list)
    tables: tuple[list[Tensor], list[Tensor]] = field(default_factory=lambda: ([], []))
    used: set[int] = field(default_factory=set)
    landed: int = 0


@dataclass(frozen=True)
class Readout:
    """A weighted sum over pairs of positions, the weights a product of those of both axes.

    ``op`` is its operation, ``sums`` what each position of an image weighs in it times its
    variance; ``shared`` says that positions share weights.
    """

    op: int
    stage: int
    unit: float
    weights: tuple[NDArray[np.float64], NDArray[np.float64]]
    sums: Tensor
    shared: bool


@dataclass
class Block:
    """A block of images as the engine takes it."""

    stages: list[Stage]
    consts: list[float]
    numbers: list[int]
    readouts: list[Readout]


@dataclass
class Translator(Pass[Spatial | Vector]):
    """Walks a program on a block of images.

    Parameters
    ----------
    params : tuple of float
        Those of the program.
    plan : Plan
        Where its operations run.
    machine : Machine
        What the engine offers.
    sizes : dict
        Of the variances of each value, by ``id`` of its operation, to choose units.
    terms : dict
        Lengths of series, by ``id`` of the operation; the translator makes them longer.
    within : callable
        ``(stage, slot) -> array of shape (images, cells)``: sums of squares of distances within the
        pools of each image, worked out with what is written so far.
    dtype : dtype
        Of the arithmetic.
    survey : bool
        Whether only the sizes of values are wanted, and of tables of series only their number,
        which ``left_out`` tells.
    """

    params: tuple[float, ...]
    plan: Plan
    machine: Machine
    sizes: dict[int, float]
    terms: dict[int, int]
    within: Callable[[Block, int, int], NDArray[np.float64]]
    dtype: np.dtype
    block: Block = field(init=False)
    done: list[Spatial | Vector] = field(default_factory=list)
    writing: bool = True
    looping: bool = False
    survey: bool = False
    seen: dict[int, tuple[float, float]] = field(default_factory=dict)
    left_out: int = 0
    rules = PLANES

    def __post_init__(self) -> None:
        stages = [Stage(grid) for grid in self.plan.grids]
        # Four zeros for instructions that have no constants of their own.
        self.block = Block(stages, [0.0] * 4, [0, 0], [])

    def step(
        self, op: ir.Op, xs: list[Spatial | Vector], done: list[Spatial | Vector]
    ) -> Spatial | Vector:
        """Translate one operation."""
        if xs and all(isinstance(x, Vector) for x in xs):
            return Vector()
        self.done = done
        value: Spatial | Vector = self.rules.find(op)(self, op, *xs)
        kept = None
        if isinstance(value, Spatial):
            kept = value.slot
            self.note(op, value)
        for x in done:
            if isinstance(x, Spatial) and x.slot != kept:
                self.block.stages[x.stage].used.discard(x.slot)
        return value

    def last(self, x: Spatial) -> bool:
        """Whether nothing else reads a value."""
        return any(x is done for done in self.done)

    def note(self, op: ir.Op, x: Spatial) -> None:
        """How large variances behind an operation are, and how large in the unit."""
        top = float(x.row.s.max()) ** 2
        before = self.seen.get(id(op), (0.0, 0.0))
        self.seen[id(op)] = max(before[0], top), max(before[1], top / x.unit)

    def images(self, X: Tensor) -> Spatial:
        """The first value: images of shape (images, *sizes, channels), in float64."""
        channels = X.shape[-1]
        s = torch.linalg.vector_norm(X, dim=-1) / channels**0.5
        row = R.Row(s, torch.zeros_like(s))
        unit = self.size_of(self.plan.ops[0])
        slot = self.place(0)
        self.emit(0, "pixels", slot, n=channels)
        for c in range(channels):
            self.both(0, X[..., c] / (channels * unit) ** 0.5)
        value = Spatial(0, slot, unit, row, True, False)
        self.note(self.plan.ops[0], value)
        return value

    def size_of(self, op: ir.Op) -> float:
        """A power of two near the variances behind an operation."""
        return float(2.0 ** np.round(np.log2(self.sizes.get(id(op), 1.0))))

    def unit_near(self, op: ir.Op, plain: float) -> float:
        """The unit ``plain`` where it is near enough to the variances behind an operation."""
        size = self.size_of(op)
        if self.looping or not 1.0 / _FURTHEST < plain / size < _FURTHEST:
            return size
        return plain

    def emit(
        self,
        stage: int,
        op: str,
        dst: int = 0,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        n: int = 0,
        plus: int = 0,
    ) -> None:
        """Append an instruction; tables that are added next belong to it."""
        s = self.block.stages[stage]
        x, y = (len(side) for side in s.tables)
        if self.writing:
            s.code.append([CODES[op] + plus, dst, a, b, c, x, y, n])

    def constants(self, values: list[float]) -> int:
        """Append constants and say where they begin."""
        if self.writing:
            self.block.consts += [float(v) for v in values]
        return len(self.block.consts) - len(values)

    def numbers(self, scale: float, own: float, bias: float) -> Numbers:
        """How a filter scales, in the arithmetic of the engine."""
        rounded = float(self.dtype.type(scale))
        return rounded, scale - rounded, own, bias

    def integers(self, values: list[int]) -> int:
        """Append offsets and sizes and say where they begin."""
        if self.writing:
            self.block.numbers += [int(v) for v in values]
        return len(self.block.numbers) - len(values)

    def table(self, stage: int, side: int, values: Tensor) -> None:
        """Append a table of one side."""
        self.block.stages[stage].tables[side].append(values)

    def both(self, stage: int, *tables: Tensor) -> None:
        """Append tables to both sides."""
        for values in tables:
            self.table(stage, 0, values)
            self.table(stage, 1, values)

    def place(self, stage: int) -> int:
        """A free place for a value."""
        used = self.block.stages[stage].used
        for slot in range(self.machine.registers):
            if slot not in used:
                used.add(slot)
                return slot
        raise BackendError(
            f"the network has more than {self.machine.registers} branches alive at once; use "
            "backend='reference'"
        )

    def scaled(self, x: Spatial, row: R.Row | None = None) -> tuple[Tensor, Tensor]:
        """Standard deviations in the unit of a value, and the inverse of each over root 2."""
        s = (x.row if row is None else row).s
        s = s if x.unit == 1.0 else s / x.unit**0.5
        if float(s.min()) < 1e-150:
            return s, torch.where(s < 1e-150, 0.0, 0.5**0.5 / torch.where(s == 0, 1.0, s))
        return s, 0.5**0.5 / s

    def clean(self, x: Spatial) -> Spatial:
        """The same value with dead cells as they should be."""
        if x.clean or self.block.stages[x.stage].grid.circular:
            return replace(x, clean=True)
        s, inverse = self.scaled(x)
        self.emit(x.stage, "reset", x.slot, x.slot)
        self.both(x.stage, s, inverse, s)
        return replace(x, clean=True, filtered=None)

    def in_unit(self, x: Spatial, unit: float) -> Spatial:
        """The same value in another unit."""
        if x.unit == unit:
            return x
        self.emit(x.stage, "sum", x.slot, x.slot, x.slot, c=self.constants([x.unit / unit, 0.0]))
        return replace(x, unit=unit, filtered=None)

    def behind(
        self,
        op: ir.Op,
        slot: int,
        unit: float,
        *xs: Spatial,
        clean: bool,
        row: R.Row | None = None,
    ) -> Spatial:
        """The value behind an operation on one size of images; ``row`` if it is known."""
        row = R.row_behind(op, self.params, *(x.row for x in xs)) if row is None else row
        positive = is_nonnegative(op, *(x.positive for x in xs))
        return Spatial(xs[0].stage, slot, unit, row, clean, positive)

    def lines(self, row: R.Row) -> Sizes2:
        """Positions along lines and within them."""
        return in_lines(tuple(row.s.shape[1:]))
