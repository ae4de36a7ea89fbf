"""How far rounding in float32 can take the entries of a kernel.

A few rows that stand for all go through the program in pairs, at angles from 0 to pi, each pair
together with bounds on its errors. What an operation makes of an error is seen by moving its input
by that much: no derivative is taken, so that roots at kinks, contraction and growth count as they
are. Then the rounding of the operation itself is added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.reference import PairState
from kernreg.backends.series import SeriesDual, chebyshev_sum, chebyshev_variable
from kernreg.ir import program as ir
from kernreg.ir.pair import Pair, normalised
from kernreg.numerics.angle import AngleSeries
from kernreg.numerics.torchmath import TorchMath

if TYPE_CHECKING:
    from kernreg.backends.analysis import Segment

__all__ = ["float32_error"]

_UNIT = 2.0**-24

# A loop whose error is beyond this is not followed to its end.
_GIVE_UP = 1e-3

# Gaps of the pairs, for positive and for negative correlations.
_POSITIVE = (
    0.0,
    *(10.0**-k for k in range(14, 6, -1)),
    *(10.0 ** (-k / 6) for k in range(36, -1, -1)),
)
_NEGATIVE = (0.0, *(10.0**-k for k in (12, 9, 6, 4, 3, 2, 1.5, 1, 0.6, 0.3, 0.1)))

# Units of rounding in a correlation that a dual gives, and so in its distance from 1.
_SUBTRACTION = 2.0

# Smooth duals are asked for a gap without a subtraction only where it comes out below this.
_CLOSE = 0.1

_ROWS = 4

_MOVED = 7
"""The pairs themselves, both ways for each of two errors, one for the third, one for tables."""


class _Excess(Exception):
    """The error is beyond any use."""


@dataclass(frozen=True)
class _Tracked:
    """Rows, their pairs, and bounds on the errors of what float32 holds in their place.

    ``gap`` bounds the error that correlation and gap share, ``split`` what the correlation has
    beyond that, ``tau`` the error of the tangent kernel, each for every pair.
    """

    row: R.Row
    pair: PairState
    gap: Tensor
    split: Tensor
    tau: Tensor

    def moved(self) -> tuple[R.Row, PairState]:
        """The pairs, and below them those with each error in turn; rows and their neighbours."""
        p = self.pair
        side = torch.where(p.rho > 0, 1.0, -1.0)
        near = p.gap < 0.5
        rhos, gaps = [p.rho], [p.gap]
        for step in (self.gap, -self.gap):
            gap = torch.clamp(p.gap + step, 0.0, 1.0)
            rho = torch.clamp(torch.where(near, p.rho - side * (gap - p.gap), p.rho + step), -1, 1)
            rhos.append(rho)
            gaps.append(torch.where(near, gap, 1.0 - rho.abs()))
        rhos += [torch.clamp(p.rho + step, -1.0, 1.0) for step in (self.split, -self.split)]
        rhos += [p.rho] * 2
        gaps += [p.gap] * 4
        taus = [p.tau] * 5 + [p.tau + self.tau, p.tau]
        # Tables of duals hold rounded numbers: they are those of rows of slightly other size.
        s = torch.cat([self.row.s, self.row.s * (1.0 + 2.0 * _UNIT)])
        pairs = PairState(torch.stack(rhos), torch.stack(gaps), torch.stack(taus))
        return R.Row(s, self.row.tau.repeat(2)), pairs

    @staticmethod
    def behind(row: R.Row, out: PairState) -> _Tracked:
        """Pairs behind an operation and their errors, from those of :meth:`moved`."""
        rho, gap, tau = out.rho, out.gap, out.tau
        # Where the gap is large, the correlation has no fewer digits.
        far = gap[0] > 0.5
        mismatch = gap + rho.abs() - 1.0
        shared, split, other = [], [], []
        for k in range(1, _MOVED):
            change, alone = (gap[k] - gap[0]).abs(), (mismatch[k] - mismatch[0]).abs()
            if k not in (3, 4):  # correlation and gap have moved together, and stay so
                whole = torch.maximum(change, (rho[k] - rho[0]).abs())
                change, alone = torch.where(far, whole, change), torch.zeros_like(alone)
            shared.append(change)
            split.append(alone)
            other.append((tau[k] - tau[0]).abs())

        def total(c: list[Tensor]) -> Tensor:
            return torch.maximum(c[0], c[1]) + torch.maximum(c[2], c[3]) + c[4] + c[5]

        return _Tracked(
            row,
            PairState(rho[0], gap[0], tau[0]),
            total(shared),
            total(split),
            total(other),
        )


@dataclass
class _Walker:
    """``first`` and ``second`` are the rows of each pair."""

    params: tuple[float, ...]
    expansions: Mapping[int, int | AngleSeries | None]
    first: Tensor
    second: Tensor

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of rows, and of their neighbours if they follow, for both rows of each pair."""
        first, second = values[self.first], values[self.second]
        beside = values[self.first + len(values) // 2] if len(values) > self.count else first
        first = torch.cat([first.expand(_MOVED - 1, -1), beside[None]])
        return first, second.expand(_MOVED, -1)

    @property
    def count(self) -> int:
        """Number of rows."""
        return int(self.second.max()) + 1

    def cross(self, values: Tensor) -> Tensor:
        a, b = self.sides(values)
        return a * b

    def half_square(self, values: Tensor, sign: float = 1.0) -> Tensor:
        a, b = self.sides(values)
        return 0.5 * (a - sign * b) ** 2

    def run(self, ops: tuple[ir.Op, ...], start: _Tracked, first: int = 0) -> _Tracked:
        """Walk ``ops``; ``start`` is value ``first``."""
        values = {first: start}
        for i in range(first + 1, len(ops)):
            values[i] = self.step(ops[i], values)
        return values[len(ops) - 1]

    def step(self, op: ir.Op, values: dict[int, _Tracked]) -> _Tracked:
        """One operation."""
        xs = [values[x] for x in ir.inputs(op)]
        match op:
            case ir.Dense():
                return self.dense(op, xs[0])
            case ir.Apply():
                return self.nonlinearity(op, xs[0])
            case ir.Sum():
                return self.sum(xs, R.sum_weights(op, self.params))
            case ir.Product():
                return self.product(xs)
            case ir.Normalize():
                return replace(xs[0], row=R.normalize_row(xs[0].row, self.params[op.eps]))
            case ir.Dropout():
                return self.dropout(xs[0], self.params[op.keep])
            case ir.Repeat():
                return self.repeat(op, xs[0])
            case _:
                raise TypeError(f"unexpected operation {op!r}")

    def rounded(self, x: _Tracked, gap: Tensor, split: float = 1.0) -> _Tracked:
        """The same with the rounding of one operation more, in units of float32."""
        tau = torch.sqrt(x.row.tau[self.first] * x.row.tau[self.second])
        return replace(
            x, gap=x.gap + _UNIT * gap, split=x.split + _UNIT * split, tau=x.tau + _UNIT * tau
        )

    def dense(self, op: ir.Dense, x: _Tracked) -> _Tracked:
        _, p = x.moved()
        row, c = R.dense_row(x.row, op, self.params)
        uu = self.cross(c.u)
        q, apart = p, torch.zeros_like(uu)
        if c.v is not None:
            below, above = p.opposite_gaps()
            apart, opposite = self.half_square(c.u), self.half_square(c.v, -1.0)
            q = PairState.from_gaps(
                uu * below + apart + self.half_square(c.v), uu * above + apart + opposite, p.tau
            )
            apart = apart + self.half_square(c.v)
        tau = q.rho + uu * p.tau
        if c.g is not None and c.h is not None:
            tau = self.cross(c.g) * p.rho + self.cross(c.h) + uu * p.tau
        out = _Tracked.behind(row, PairState(q.rho, q.gap, tau))
        if c.v is None:
            return self.rounded(out, torch.zeros_like(out.gap), 0.0)
        return self.rounded(out, out.pair.gap + _of_tables(apart))

    def nonlinearity(self, op: ir.Apply, x: _Tracked) -> _Tracked:
        fn: Any = R.bound(op, self.params)
        series = not fn.closed_form
        if series:
            expansion = self.expansions[id(op)]
            assert expansion is not None
            fn = SeriesDual(fn, expansion)
        row, p = x.moved()
        after, _ = R.apply_row(row, fn)
        if fn.homogeneous is None:
            (s1, s2), size = self.sides(row.s), self.cross(after.s)
        else:
            s1 = s2 = torch.ones_like(p.rho)
            size = R.unit_moments(fn)[0] * s1
        pair = Pair(p.rho, p.gap, s1, s2)
        m = fn.dual(TorchMath, pair)
        scale = torch.where(size > 0, 1.0 / size, 0.0)
        rho, gap = normalised(TorchMath, pair, m, scale * m.kappa)
        tau = scale * s1 * s2 * m.kappa_dot * p.tau
        after = R.Row(after.s[: self.count], after.tau[: self.count])
        out = _Tracked.behind(after, PairState(*torch.broadcast_tensors(rho, gap, tau)))
        relative = out.pair.gap
        whole = torch.full_like(relative, _SUBTRACTION)
        rounding = whole if m.gap is None else relative
        if m.gap is not None and fn.homogeneous is None:
            rounding = torch.where(relative < _CLOSE, relative, whole)
            rounding = rounding + _of_tables(torch.where(self.first == self.second, 0.0, relative))
        if series:  # gives the gap of nearly equal rows only, and ends at a tail of 1e-8
            both = (x.pair.rho > 0) & (out.pair.rho > 0)
            rounding = torch.where(both, rounding, whole) + 1e-8 / _UNIT
        return self.rounded(out, rounding)

    def sum(self, xs: list[_Tracked], weights: list[float]) -> _Tracked:
        moved = [x.moved()[1] for x in xs]
        row, shares = R.sum_row([x.row for x in xs], weights)
        total = below = above = tau = torch.zeros_like(moved[0].rho)
        for p, u in zip(moved, shares, strict=True):
            uu, apart = self.cross(u), self.half_square(u)
            low, high = p.opposite_gaps()
            below, above = below + uu * low + apart, above + uu * high + apart
            total, tau = total + apart, tau + uu * p.tau
        out = _Tracked.behind(row, PairState.from_gaps(below, above, tau))
        return self.rounded(out, out.pair.gap + _of_tables(total))

    def product(self, xs: list[_Tracked]) -> _Tracked:
        """A product: an error of one factor is multiplied by at most 1, for each of its terms."""
        p = xs[0].pair
        error = xs[0].gap + xs[0].split
        gap, split, moved = xs[0].gap, xs[0].split, xs[0].tau
        for x in xs[1:]:
            q, other = x.pair, x.gap + x.split
            moved = moved + x.tau + p.tau.abs() * other + q.tau.abs() * error
            tau = p.tau * q.rho + p.rho * q.tau
            p = PairState(p.rho * q.rho, p.gap + q.gap - p.gap * q.gap, tau)
            error, gap, split = error + other, gap + x.gap, split + x.split
        row = R.product_row([x.row for x in xs])
        return self.rounded(_Tracked(row, p, gap, split, moved), p.gap)

    def dropout(self, x: _Tracked, keep: float) -> _Tracked:
        p = x.pair
        pair = PairState(keep * p.rho, (1.0 - keep) + keep * p.gap, keep * p.tau)
        row = R.Row(x.row.s / keep**0.5, x.row.tau)
        out = _Tracked(row, pair, keep * x.gap, keep * x.split, keep * x.tau)
        return self.rounded(out, pair.gap)

    def repeat(self, op: ir.Repeat, x: _Tracked) -> _Tracked:
        """A loop, until it is over, settles, or has too large an error."""
        for _ in range(op.count):
            before, x = x, self.run(op.body, x)
            if not self.worst(x) < _GIVE_UP:
                raise _Excess
            if _settled(before, x):
                break
        return x

    def profile(self, x: _Tracked, segment: Segment, row: R.Row) -> _Tracked:
        """Many operations as one function of the angle, which is rounded on the way."""
        theta = torch.acos(x.pair.rho)
        turn = _UNIT * _units_of_angle(theta) * torch.sin(theta)
        _, p = replace(x, gap=x.gap + turn).moved()
        angle = chebyshev_variable(p.rho, p.gap)
        rho, tau = (chebyshev_sum(torch.from_numpy(c), angle) for c in segment.profile.coefficients)
        pair = PairState(rho, torch.clamp(1.0 - rho.abs(), min=0.0), tau)
        out = _Tracked.behind(row, pair)
        return self.rounded(out, torch.full_like(out.gap, 4.0 + segment.profile.error / _UNIT))

    def worst(self, x: _Tracked) -> float:
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


def _of_tables(apart: Tensor) -> Tensor:
    """Rounding of the numbers of two rows whose distance makes a part of the gap, over a unit.

    Rows that are nearly alike come out up to a unit apart, whose square is the least error.
    """
    return torch.sqrt(2.0 * apart[0] if apart.dim() > 1 else 2.0 * apart) + _UNIT


def float32_error(
    program: ir.Program,
    row: R.Row,
    near: float,
    expansions: Mapping[int, int | AngleSeries | None],
    segment: Segment | None = None,
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
    if bool((row.s[some] == row.s[some[0]]).all()):
        some = some[:1]
    x, first, second = _input(R.Row(row.s[some], row.tau[some]), near)
    walker, done = _Walker(program.params, expansions, first, second), 0
    try:
        if segment is not None:
            x = walker.run(program.ops[: segment.start + 1], x)
            rows = R.Row(segment.rows.s[some], segment.rows.tau[some])
            x, done = walker.profile(x, segment, rows), segment.end
        worst = walker.worst(walker.run(program.ops, x, done))
    except _Excess:
        return float("inf")
    # The product with both standard deviations rounds as well.
    return worst + 4.0 * _UNIT if worst < _GIVE_UP else float("inf")


def _input(row: R.Row, near: float) -> tuple[_Tracked, Tensor, Tensor]:
    """Every two rows at every angle, and which rows they are."""
    kind = row.s.dtype
    positive = torch.tensor([*_POSITIVE, 1.01 * near], dtype=kind)
    gap = torch.cat([positive, torch.tensor(_NEGATIVE, dtype=kind)])
    side = torch.ones_like(gap)
    side[len(positive) :] = -1.0
    first, second = torch.combinations(torch.arange(len(row.s)), with_replacement=True).T
    count = len(first)
    # Rows of unit length are rounded, the products of those that are not nearly parallel too.
    error = torch.where(gap < near, torch.sqrt(2.0 * gap) + _UNIT, 1.0) * 2.0 * _UNIT
    gap, side, error = (t.repeat_interleave(count) for t in (gap, side, error))
    zero = torch.zeros_like(gap)
    x = _Tracked(row, PairState(side * (1.0 - gap), gap, zero), error, zero + _UNIT, zero)
    return x, first.repeat(len(gap) // count), second.repeat(len(gap) // count)


def _settled(before: _Tracked, after: _Tracked) -> bool:
    """Whether one more turn of a loop changed nothing to speak of."""

    def numbers(x: _Tracked) -> Tensor:
        parts = (x.row.s, x.row.tau, x.pair.rho, x.pair.gap, x.pair.tau, x.gap, x.split, x.tau)
        return torch.cat(parts)

    return torch.allclose(numbers(before), numbers(after), rtol=1e-6, atol=1e-12)
