"""What the fast backends must know of a program on given rows before they run it.

One pass over the rows finds how long Hermite series must be, and whether a stretch of the program
sees nothing but the angle between inputs, so that the profile pass applies. Whether float32
arithmetic is enough follows from a bound on its rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.base import KERNELS
from kernreg.backends.reference import PairState, evaluate
from kernreg.backends.rounding import FINE_TAIL, TAIL, float32_error
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.numerics.angle import AngleSeries, fit_angle_series
from kernreg.numerics.octaves import length_between
from kernreg.numerics.profile import Profile, fit_profile

__all__ = ["Analysis", "Segment", "analyze", "near_gap", "profile_pays"]

# What float32 results are promised to, of sqrt(K_ii K_jj).
_PROMISE = 5e-6


@dataclass(frozen=True)
class Segment:
    """Operations ``start + 1`` to ``end`` of a program, replaced by a function of the angle.

    ``rows`` are the states behind ``end`` of all rows, those of ``X1`` first.
    """

    start: int
    end: int
    profile: Profile
    rows: R.Row


@dataclass
class Analysis:
    """Findings about a program on given rows.

    Parameters
    ----------
    dtype : dtype
        Of the arithmetic; wider than the result where float32 would not keep its promise.
    near : float
        Pairs with a smaller gap are taken from differences of rows.
    error : float
        Bound on what float32 arithmetic makes wrong, of ``sqrt(K_ii K_jj)``; 0 where it was not
        asked for.
    expansions : dict
        How to expand each nonlinearity without closed form, by ``id`` of the operation: the length
        of its Hermite series, or a series in the angle where that would be too long.
    segment : Segment or None
        What the profile pass replaces.
    reason : str or None
        Why no fast backend can run the program.
    close : Analysis or None
        Of the same program in float64, for pairs closer than ``near`` where float32 would keep its
        promise for all others but not for them.
    """

    dtype: np.dtype
    near: float = 0.0
    error: float = 0.0
    expansions: dict[int, int | AngleSeries | None] = field(default_factory=dict)
    segment: Segment | None = None
    reason: str | None = None
    close: Analysis | None = None


class _Depth(Pass[int]):
    """Counts nonlinearities on the longest path."""

    def step(self, op: ir.Op, xs: list[int], done: list[int]) -> int:
        if isinstance(op, ir.Repeat):
            return self.repeat(op, xs[0])
        return max(xs, default=0) + isinstance(op, ir.Apply)


def near_gap(program: Program, dtype: np.dtype) -> float:
    """Pairs with a smaller gap are taken from differences of rows.

    An error e in a correlation of gap g is one of e / sqrt(2 g) in the angle.
    """
    per_layer, most = (1e-3, 0.02) if dtype == np.float32 else (1e-6, 1e-3)
    return min(most, per_layer * max(1, _Depth().run(program.ops, 0)))


@dataclass
class _Walker(Pass[R.Row]):
    """Follows the rows; also says of each operation how much its numbers vary from row to row."""

    params: tuple[float, ...]
    values: list[R.Row] = field(default_factory=list)
    spreads: list[float] = field(default_factory=list)
    smallest: float = 1.0
    largest: float = 1.0
    range: dict[int, tuple[float, float]] = field(default_factory=dict)
    apply: dict[int, ir.Apply] = field(default_factory=dict)

    def step(self, op: ir.Op, xs: list[R.Row], done: list[R.Row]) -> R.Row:
        if isinstance(op, ir.Repeat):
            row, spread = self.loop(op, xs[0])
        else:
            row, numbers = R.ROWS.find(op)(self.params, op, *xs)
            if isinstance(op, ir.Apply):
                self.nonlinearity(op, xs[0], row)
            spread = _spread(*numbers)
        self.values.append(row)
        self.spreads.append(spread)
        self.largest = max(self.largest, float(row.tau.max()))
        return row

    def loop(self, op: ir.Repeat, x: R.Row) -> tuple[R.Row, float]:
        """All turns; of what they find only the largest spread is kept."""
        outside, spread = (self.values, self.spreads), 0.0
        for _ in range(op.count):
            self.values, self.spreads = [], []
            x = self.run(op.body, x)
            spread = max([spread, *self.spreads])
        self.values, self.spreads = outside
        return x, spread

    def nonlinearity(self, op: ir.Apply, before: R.Row, after: R.Row) -> None:
        """Note what its expansion must know."""
        fn = op.bound(self.params)
        for s in (before.s, after.s):
            if fn.homogeneous is None and bool((s > 0).any()):
                self.smallest = min(self.smallest, float(s[s > 0].min()))
        if not fn.closed_form:
            self.apply[id(op)] = op
            low, high = self.range.get(id(op), (np.inf, 0.0))
            s = before.s
            self.range[id(op)] = (min(low, float(s.min())), max(high, float(s.max())))


def _spread(*vectors: Tensor) -> float:
    """How far values of a vector lie apart, relative to the larger end; 0 if they are one."""
    ends = [(float(low), float(high)) for low, high in map(torch.aminmax, vectors)]
    spreads = [(high - low) / (max(abs(low), abs(high)) or 1.0) for low, high in ends]
    return max(spreads, default=0.0)


def analyze(
    program: Program,
    rows: tuple[R.Row, R.Row],
    dtype: np.dtype,
    pairs: int,
    exact: bool,
    kernels: tuple[str, ...] = KERNELS,
    spare_close: bool = False,
) -> Analysis:
    """Analyze a program on the rows of both sides.

    Parameters
    ----------
    program : Program
        What will be run.
    rows : tuple of Row
        Input rows of both sides.
    dtype : dtype
        Of the result.
    pairs : int
        Number of entries that are wanted: a profile is not worth its while for few.
    exact : bool
        No profile pass.
    kernels : tuple of str
        Those of which entries are wanted.
    spare_close : bool
        The backend can take close pairs in float64 and the others in float32.

    Returns
    -------
    Analysis

    Raises
    ------
    InvalidInputError
        If a kernel overflows or vanishes.
    """
    row = rows[0]
    if rows[1] is not rows[0]:
        row = R.Row(torch.cat([r.s for r in rows]), torch.cat([r.tau for r in rows]))
    walker = _Walker(program.params)
    end = walker.run(program.ops, row)
    R.check_range(end, dtype, row, kernels)
    rows_behind = [row, *walker.values]
    plan = _Planner(program, walker, rows_behind, [0.0, *walker.spreads], 0 if exact else pairs)
    found = Analysis(dtype=np.dtype(dtype))
    plan(found)
    if dtype == np.float32 and found.reason is None:
        bound = functools.partial(
            float32_error, program, row, found.near, found.expansions, found.segment
        )
        found.error = bound()
        # Formulas that depend on the scale square small standard deviations, and divide by them.
        narrow = walker.smallest < 1e-9 or walker.largest > 1e30
        if spare_close and found.segment is None and found.error > _PROMISE and not narrow:
            _spare_close_pairs(found, plan, bound)
        if found.error > _PROMISE or narrow:
            found.dtype = np.dtype(np.float64)
            plan(found)
    return found


def _spare_close_pairs(found: Analysis, plan: _Planner, bound: Callable[..., float]) -> None:
    """Leave close pairs to float64 if the others then keep the promise."""
    close = Analysis(dtype=np.dtype(np.float64))
    dataclasses.replace(plan, pairs=0)(close)  # no profile, which takes all pairs
    error = bound(spare_close=True)
    if close.reason is None and error <= _PROMISE:
        found.close, found.error = close, error


@dataclass
class _Planner:
    """Decides, for the arithmetic of an analysis, what is replaced by series and how long."""

    program: Program
    walker: _Walker
    rows: list[R.Row]
    spreads: list[float]
    pairs: int

    def __call__(self, found: Analysis) -> None:
        single = found.dtype == np.float32
        found.near = near_gap(self.program, found.dtype)
        tol = (4.0 if single else 16.0) * float(np.finfo(found.dtype).eps)
        alike = [spread <= tol for spread in self.spreads]
        found.segment = _segment(self.program, alike, self.rows, found.dtype, self.pairs)
        replaced: set[int] = set()
        if (segment := found.segment) is not None:
            replaced = _ids(self.program.ops[segment.start + 1 : segment.end + 1])
        found.expansions, found.reason = {}, None
        for key, op in self.walker.apply.items():
            if key in replaced:
                continue
            fn = op.bound(self.program.params)
            low, high = self.walker.range[key]
            found.expansions[key] = _expand(fn, low, high, TAIL if single else FINE_TAIL)
            if found.expansions[key] is None:
                found.reason = (
                    f"{fn!r} at standard deviations from {low:.3g} to {high:.3g} needs too long a "
                    "series; integrated numerically instead"
                )


def _ids(ops: tuple[ir.Op, ...]) -> set[int]:
    """Identities of operations, those inside loops too."""
    inner = (_ids(op.body) for op in ops if isinstance(op, ir.Repeat))
    return {id(op) for op in ops}.union(*inner)


def _expand(fn: Dual, low: float, high: float, tol: float) -> int | AngleSeries | None:
    """The Hermite series costs less, but loses the gap that kinks need, and may be too long."""
    if fn.smooth:
        length = length_between(fn, low, high, tol)
        if length is not None:
            return length
    return fit_angle_series(fn, low, high, tol)


def _segment(
    program: Program, alike: list[bool], rows: list[R.Row], dtype: np.dtype, pairs: int
) -> Segment | None:
    """The longest stretch that depends on the angle only, if a series pays."""
    ops = program.ops
    best: tuple[int, int] | None = None
    for start in (0, 1):
        if start == 1 and not (len(ops) > 1 and isinstance(ops[1], ir.Dense) and ops[1].plain):
            break
        end = start
        for i in range(start + 1, len(ops)):
            if not alike[i]:
                break
            if _cut(ops, start, i) and not _kinks_behind(ops, i):
                end = i
        if end > start and (best is None or end - start > best[1] - best[0]):
            best = (start, end)
    if best is None:
        return None
    start, end = best
    body = Program(ops[start : end + 1], program.params)
    depth = max(1, _depth(body.ops))
    if not profile_pays(body.flops(), pairs, depth):
        return None
    profile = _profile(program, start, end, rows[start], depth, dtype)
    return None if profile is None else Segment(start, end, profile, rows[end])


def profile_pays(flops: int, pairs: int, depth: int = 1) -> bool:
    """Whether a series takes less time than a stretch of so many operations per entry.

    The less depth, the sooner.
    """
    terms = 16 * depth**0.5
    return flops >= 8 * terms + 60 and pairs >= 100 * terms


def _cut(ops: tuple[ir.Op, ...], start: int, end: int) -> bool:
    """Whether values flow into (start, end] only from ``start``, and out only from ``end``."""
    inside = all(x >= start for op in ops[start + 1 : end + 1] for x in op.inputs)
    return inside and all(x >= end for op in ops[end + 1 :] for x in op.inputs)


def _kinks_behind(ops: tuple[ir.Op, ...], end: int) -> bool:
    """Whether a later nonlinearity would need the gap, which a series does not give exactly."""
    return any(
        (isinstance(op, ir.Apply) and not op.fn.smooth)
        or (isinstance(op, ir.Repeat) and _kinks_behind(op.body, 0))
        for op in ops[end + 1 :]
    )


def _depth(ops: tuple[ir.Op, ...]) -> int:
    depth = 0
    for op in ops:
        if isinstance(op, ir.Apply):
            depth += 1
        elif isinstance(op, ir.Repeat):
            depth += op.count * _depth(op.body)
    return depth


def _profile(
    program: Program, start: int, end: int, row: R.Row, depth: int, dtype: np.dtype
) -> Profile | None:
    ops, params = program.ops[: end + 1], program.params
    # One row stands for all; not a row of zeros, which homogeneous networks allow beside others.
    k = int(row.s.argmax())
    one = R.Row(row.s[k : k + 1], row.tau[k : k + 1])

    def kernel(theta: NDArray[np.float64]) -> NDArray[np.float64]:
        t = torch.from_numpy(theta)[None, :]
        gap = 2.0 * torch.where(t < np.pi / 2, torch.sin(t / 2), torch.cos(t / 2)) ** 2
        rho = torch.where(t < np.pi / 2, 1.0 - gap, gap - 1.0)
        # Behind one dense layer ntk = nngp.
        tau = torch.zeros_like(rho) if start == 0 else rho
        pair, _, _ = evaluate(ops, params, PairState(rho, gap, tau), one, one, start)
        return torch.stack([pair.rho[0], pair.tau[0]]).numpy()

    return fit_profile(kernel, 2e-7 if dtype == np.float32 else 5e-13, depth)
