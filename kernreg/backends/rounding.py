"""How far rounding in float32 can take the entries of a kernel.

A few rows that stand for all go through the program in pairs, at angles from 0 to pi, each pair
together with bounds on its errors. What an operation makes of an error is seen by moving its input
by that much: no derivative is taken, so that roots at kinks, contraction and growth count as they
are. Then the rounding of the operation itself is added: that of float32, or of float64 for close
pairs where these are worked out in it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.reference import Evaluation, PairState
from kernreg.backends.series import chebyshev_sum, chebyshev_variable
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.program import Program
from kernreg.numerics.angle import AngleSeries

if TYPE_CHECKING:
    from kernreg.backends.analysis import Segment

__all__ = [
    "CLOSE",
    "FINE_TAIL",
    "ROUNDING",
    "SUBTRACTION",
    "TAIL",
    "UNIT",
    "Tracked",
    "Walker",
    "float32_error",
    "of_tables",
]

UNIT = 2.0**-24
"""Of rounding in float32."""

_FINE_UNIT = 2.0**-53

TAIL = 1e-8
"""Of series in float32."""

FINE_TAIL = 1e-13
"""Of series in float64."""

ROUNDING = Rules("errors of float32")
"""Rules ``(walker, operation, *tracked) -> tracked``."""

# A loop whose error is beyond this is not followed to its end.
_GIVE_UP = 1e-3

# Gaps of the pairs, for positive and for negative correlations.
_POSITIVE = (
    0.0,
    *(10.0**-k for k in range(14, 6, -1)),
    *(10.0 ** (-k / 6) for k in range(36, -1, -1)),
)
_NEGATIVE = (0.0, *(10.0**-k for k in (12, 9, 6, 4, 3, 2, 1.5, 1, 0.6, 0.3, 0.1)))

SUBTRACTION = 2.0
"""Units of rounding in a correlation that a dual gives, and so in its distance from 1."""

CLOSE = 0.1
"""Smooth duals are asked for a gap without a subtraction only where it comes out below this."""

_ROWS = 4

_STEPS = 16
"""Steps of an octave in the least size of rows that share a bound."""

_MOVED = 7
"""The pairs themselves, both ways for each of two errors, one for the third, one for tables."""


class _Excess(Exception):
    """The error is beyond any use."""


@dataclass(frozen=True)
class Tracked:
    """Rows, their pairs, and bounds on the errors of what float32 holds in their place.

    ``gap`` bounds the error that correlation and gap share, ``split`` what the correlation has
    beyond that, ``tau`` the error of the tangent kernel, each for every pair.
    """

    row: R.Row
    pair: PairState
    gap: Tensor
    split: Tensor
    tau: Tensor

    def moved_pairs(self) -> PairState:
        """The pairs, and below them those with each error in turn."""
        p = self.pair
        side = torch.where(p.rho > 0, 1.0, -1.0)
        near = p.gap < 0.5
        steps = torch.stack([self.gap, -self.gap])
        gaps = torch.clamp(p.gap + steps, 0.0, 1.0)
        rhos = torch.clamp(torch.where(near, p.rho - side * (gaps - p.gap), p.rho + steps), -1, 1)
        gaps = torch.where(near, gaps, 1.0 - rhos.abs())
        alone = torch.clamp(p.rho + torch.stack([self.split, -self.split]), -1.0, 1.0)
        return PairState(
            torch.stack([p.rho, *rhos, *alone, p.rho, p.rho]),
            torch.stack([p.gap, *gaps, *[p.gap] * 4]),
            torch.stack([*[p.tau] * 5, p.tau + self.tau, p.tau]),
        )

    def moved_rows(self) -> R.Row:
        """The rows, and their neighbours: tables of duals hold rounded numbers, which are those of
        rows of slightly other size."""
        s = torch.cat([self.row.s, self.row.s * (1.0 + 2.0 * UNIT)])
        return R.Row(s, self.row.tau.repeat(2))

    @staticmethod
    def behind(row: R.Row, out: PairState) -> Tracked:
        """Pairs behind an operation and their errors, from those of :meth:`moved_pairs`."""
        rho, gap, tau = out.rho, out.gap, out.tau
        mismatch = gap + rho.abs() - 1.0
        changes = (gap[1:] - gap[0]).abs()
        # Correlation and gap have moved together, and stay so, but for those of `split`. Where the
        # gap is large, the correlation has no fewer digits.
        whole = torch.where(gap[0] > 0.5, torch.maximum(changes, (rho[1:] - rho[0]).abs()), changes)
        split = (mismatch[3:5] - mismatch[0]).abs()
        moved = (tau[1:] - tau[0]).abs()

        def total(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
            return torch.maximum(a[0], a[1]) + torch.maximum(b[0], b[1]) + c[0] + c[1]

        return Tracked(
            row,
            PairState(rho[0], gap[0], tau[0]),
            total(whole[:2], changes[2:4], whole[4:]),
            torch.maximum(split[0], split[1]),
            total(moved[:2], moved[2:4], moved[4:]),
        )


@dataclass(frozen=True)
class _Moved(Evaluation):
    """Pairs as :meth:`Tracked.moved_pairs` has them, by the rules of the reference."""

    first: Tensor
    second: Tensor
    unit: Tensor

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of rows, and of their neighbours if they follow, for both rows of each pair."""
        first, second = values[self.first], values[self.second]
        beside = values[self.first + len(values) // 2] if len(values) > self.count else first
        # Tables in float64 hold the rows themselves.
        beside = torch.where(self.unit == UNIT, beside, first)
        first = torch.cat([first.expand(_MOVED - 1, -1), beside[None]])
        return first, second.expand(_MOVED, -1)

    @functools.cached_property
    def count(self) -> int:
        """Number of rows."""
        return int(self.second.max()) + 1


@dataclass
class Walker(Pass[Tracked]):
    """A program on pairs and their errors; ``first`` and ``second`` are the rows of each pair, and
    ``unit`` is that of their rounding."""

    params: tuple[float, ...]
    expansions: Mapping[int, int | AngleSeries | None]
    first: Tensor
    second: Tensor
    unit: Tensor
    rules = ROUNDING

    @functools.cached_property
    def moving(self) -> _Moved:
        """What evaluates the moved pairs."""
        return _Moved(self.params, self.first, self.second, self.unit)

    @property
    def count(self) -> int:
        """Number of rows."""
        return self.moving.count

    def of_tables(self, *tables: Tensor) -> Tensor:
        """:func:`of_tables` of rows whose numbers in some tables make a part of the gap."""
        apart = [0.5 * (t[self.first] - t[self.second]) ** 2 for t in tables]
        return of_tables(sum(apart[1:], apart[0]), self.unit)

    def rounded(self, x: Tracked, gap: Tensor, split: float = 1.0) -> Tracked:
        """The same with the rounding of one operation more, in units."""
        tau = torch.sqrt(x.row.tau[self.first] * x.row.tau[self.second])
        unit = self.unit
        return replace(
            x, gap=x.gap + unit * gap, split=x.split + unit * split, tau=x.tau + unit * tau
        )

    def repeat(self, op: ir.Repeat, x: Tracked) -> Tracked:
        """A loop, until it is over, settles, or has too large an error."""
        for _ in range(op.count):
            before, x = x, self.run(op.body, x)
            if not self.worst(x) < _GIVE_UP:
                raise _Excess
            if _settled(before, x):
                break
        return x

    def profile(self, x: Tracked, segment: Segment, row: R.Row) -> Tracked:
        """Many operations as one function of the angle, which is rounded on the way."""
        theta = torch.acos(x.pair.rho)
        turn = UNIT * _units_of_angle(theta) * torch.sin(theta)
        p = replace(x, gap=x.gap + turn).moved_pairs()
        angle = chebyshev_variable(p.rho, p.gap)
        rho, tau = (chebyshev_sum(torch.from_numpy(c), angle) for c in segment.profile.coefficients)
        pair = PairState(rho, torch.clamp(1.0 - rho.abs(), min=0.0), tau)
        out = Tracked.behind(row, pair)
        return self.rounded(out, torch.full_like(out.gap, 4.0 + segment.profile.error / UNIT))

    def worst(self, x: Tracked) -> float:
        """Largest error of both kernels, relative to the diagonals; rows of zeros have none."""
        s, tau = (v[self.first] * v[self.second] for v in (x.row.s, x.row.tau))
        ntk = torch.where(tau > 0, x.tau / torch.sqrt(torch.where(tau > 0, tau, 1.0)), 0.0)
        return float(torch.where(s > 0, torch.maximum(x.gap + x.split, ntk), 0.0).max())


def _units_of_angle(theta: Tensor) -> Tensor:
    """Error of an angle in float32, in units of rounding.

    Four relative ones on the way to the angle between lines, and that of ``2 - 4 theta / pi``,
    which ends near 2 for close rows; near opposite ones pi - theta and its product round too.
    """
    return torch.clamp(1.0 + 4.0 * theta, max=7.0)


def of_tables(apart: Tensor, unit: Tensor) -> Tensor:
    """Rounding of the numbers of two rows whose distance makes a part of the gap, over a unit.

    Rows that are nearly alike come out up to a unit apart, whose square is the least error.
    """
    return torch.sqrt(2.0 * apart) + unit


def float32_error(
    program: Program,
    row: R.Row,
    near: float,
    expansions: Mapping[int, int | AngleSeries | None],
    segment: Segment | None = None,
    spare_close: bool = False,
) -> float:
    """Bound on the error of float32 arithmetic, ``|K32 - K| / sqrt(K_ii K_jj)`` of both kernels.

    Parameters
    ----------
    program : Program
        What will be run.
    row : Row
        Input rows.
    near : float
        Pairs with a smaller gap are taken from differences of rows.
    expansions : dict
        How nonlinearities without closed form are expanded, by ``id`` of the operation.
    segment : Segment, optional
        What a function of the angle replaces.
    spare_close : bool
        Pairs closer than ``near`` are worked out in float64, from rows in float32.

    Returns
    -------
    float
        Infinite if the rounding grows beyond any use.

    Notes
    -----
    Time O(layers), with some thousand pairs in each; loops end early where nothing changes, or
    where the error is too large.
    """
    order = torch.argsort(row.s)
    some = order[torch.linspace(0, len(order) - 1, min(_ROWS, len(order))).round().long()]
    if segment is None and all(isinstance(n, int) for n in expansions.values()):
        lengths = tuple(int(expansions[id(op)]) for op in _expanded(program))  # type: ignore[arg-type]
        return _error_of(program, _on_grid(row.s[some]), near, lengths, spare_close)
    sample = R.Row(row.s[some], row.tau[some])
    if segment is not None:
        ends = R.Row(segment.rows.s[some], segment.rows.tau[some])
        segment = replace(segment, rows=ends)
    return _followed(program, sample, near, expansions, segment, spare_close)


def _on_grid(s: Tensor) -> tuple[float, ...]:
    """Nearby standard deviations that other data share: the least is moved by at most 2 %, and how
    far the others lie above it by at most a fifth. Rows that differ stay different."""
    positive = s[s > 0]
    if not len(positive):
        return (0.0,)
    low = positive.min()
    above = positive / low - 1.0
    above = torch.where(above > 0, torch.exp2(torch.round(2.0 * torch.log2(above)) / 2.0), 0.0)
    sizes = torch.exp2(torch.round(_STEPS * torch.log2(low)) / _STEPS) * (1.0 + above)
    return tuple(sorted({*sizes.tolist(), *([0.0] if len(positive) < len(s) else [])}))


def _expanded(program: Program) -> list[ir.Op]:
    """Nonlinearities without a closed form."""
    applied = (op for op in ir.all_ops(program.ops) if isinstance(op, ir.Apply))
    return [op for op in applied if not op.bound(program.params).closed_form]


@functools.lru_cache(maxsize=256)
def _error_of(
    program: Program, s: tuple[float, ...], near: float, lengths: tuple[int, ...], spare_close: bool
) -> float:
    """The bound for rows of these sizes; ``lengths`` are those of Hermite series."""
    sizes = torch.tensor(s, dtype=torch.float64)
    expansions = {id(op): n for op, n in zip(_expanded(program), lengths, strict=True)}
    row = R.Row(sizes, torch.zeros_like(sizes))
    return _followed(program, row, near, expansions, None, spare_close)


def _followed(
    program: Program,
    row: R.Row,
    near: float,
    expansions: Mapping[int, int | AngleSeries | None],
    segment: Segment | None,
    spare_close: bool,
) -> float:
    """The bound for the few rows that stand for all."""
    if bool((row.s == row.s[0]).all()):
        row = R.Row(row.s[:1], row.tau[:1])
    x, first, second = _input(row, near)
    unit = torch.where(x.pair.gap < near, _FINE_UNIT if spare_close else UNIT, UNIT)
    walker, done = Walker(program.params, expansions, first, second, unit), 0
    try:
        if segment is not None:
            x = walker.run(program.ops[: segment.start + 1], x)
            count = len(row.s)
            x = walker.profile(x, segment, R.Row(segment.rows.s[:count], segment.rows.tau[:count]))
            done = segment.end
        worst = walker.worst(walker.run(program.ops, x, done))
    except _Excess:
        return float("inf")
    # The product with both standard deviations rounds as well.
    return worst + 4.0 * UNIT if worst < _GIVE_UP else float("inf")


def _input(row: R.Row, near: float) -> tuple[Tracked, Tensor, Tensor]:
    """Every two rows at every angle, and which rows they are."""
    kind = row.s.dtype
    positive = torch.tensor([*_POSITIVE, 1.01 * near], dtype=kind)
    gap = torch.cat([positive, torch.tensor(_NEGATIVE, dtype=kind)])
    side = torch.ones_like(gap)
    side[len(positive) :] = -1.0
    first, second = torch.combinations(torch.arange(len(row.s)), with_replacement=True).T
    count = len(first)
    # Rows of unit length are rounded, the products of those that are not nearly parallel too.
    error = torch.where(gap < near, torch.sqrt(2.0 * gap) + UNIT, 1.0) * 2.0 * UNIT
    gap, side, error = (t.repeat_interleave(count) for t in (gap, side, error))
    zero = torch.zeros_like(gap)
    x = Tracked(row, PairState(side * (1.0 - gap), gap, zero), error, zero + UNIT, zero)
    return x, first.repeat(len(gap) // count), second.repeat(len(gap) // count)


def _settled(before: Tracked, after: Tracked) -> bool:
    """Whether one more turn of a loop changed nothing to speak of."""

    def numbers(x: Tracked) -> Tensor:
        parts = (x.row.s, x.row.tau, x.pair.rho, x.pair.gap, x.pair.tau, x.gap, x.split, x.tau)
        return torch.cat(parts)

    return torch.allclose(numbers(before), numbers(after), rtol=1e-6, atol=1e-12)
