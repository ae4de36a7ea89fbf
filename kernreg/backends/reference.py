"""The reference: every rule of the engine on torch tensors in float64, slow and clear.

A pair is kept as correlation, gap and normalised tangent kernel (:mod:`kernreg.ir.pair`), so that
also nearly parallel rows have all their digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.distinct import Distinct
from kernreg.ir import program as ir
from kernreg.ir.pair import Dual, Pair, normalised
from kernreg.numerics.quadrature import pair_moments
from kernreg.numerics.torchmath import TorchMath

__all__ = ["NEAR", "PairState", "evaluate", "input_pairs"]

NEAR = 1e-3
"""Pairs with a smaller gap are taken from the difference of their rows."""


@dataclass(frozen=True)
class PairState:
    """Correlation, gap and normalised tangent kernel of pairs, each of shape (n1, n2)."""

    rho: Tensor
    gap: Tensor
    tau: Tensor

    def opposite_gaps(self) -> tuple[Tensor, Tensor]:
        """``1 - rho`` and ``1 + rho``."""
        positive, far = self.rho > 0, 2.0 - self.gap
        return torch.where(positive, self.gap, far), torch.where(positive, far, self.gap)

    @staticmethod
    def from_gaps(below: Tensor, above: Tensor, tau: Tensor) -> PairState:
        """From ``1 - rho`` and ``1 + rho``, of which the smaller one is exact."""
        rho = torch.where(below < above, 1.0 - below, above - 1.0)
        return PairState(rho, torch.minimum(below, above), tau)


def input_pairs(unit1: Tensor, unit2: Tensor) -> PairState:
    """Correlations of rows of unit length, those near +-1 from differences."""
    rho = unit1 @ unit2.T
    gap = torch.clamp(1.0 - rho.abs(), min=0.0)
    close = torch.nonzero(gap < NEAR)
    for part in close.split(max(1, 2**22 // max(1, unit1.shape[1]))):
        i, j = part[:, 0], part[:, 1]
        sign = torch.where(rho[i, j] > 0, 1.0, -1.0)
        apart = unit1[i] - sign[:, None] * unit2[j]
        gap[i, j] = 0.5 * (apart * apart).sum(dim=1)
        rho[i, j] = sign * (1.0 - gap[i, j])
    return PairState(rho, gap, torch.zeros_like(rho))


@dataclass(frozen=True)
class _Value:
    """A value of the program: pairs, and the different rows among those of both sides."""

    pair: PairState
    row: R.Row


def evaluate(
    ops: tuple[ir.Op, ...],
    params: tuple[float, ...],
    pair: PairState,
    row1: R.Row,
    row2: R.Row,
    first: int = 0,
) -> tuple[PairState, R.Row, R.Row]:
    """Run a program, or a loop body, on pairs.

    Parameters
    ----------
    ops : tuple of Op
        What to run.
    params : tuple of float
        Run-time parameters.
    pair : PairState
        Pairs at operation ``first``, shape (n1, n2).
    row1, row2 : Row
        Rows there, shapes (n1,) and (n2,); shape (1,) stands for rows that are alike.
    first : int
        Where to begin; nothing behind it may refer to what comes before.

    Returns
    -------
    tuple of PairState, Row, Row
        The same behind the last operation.
    """
    distinct = Distinct.of(row1, row2)
    last = _Run(params, distinct)(ops, _Value(pair, distinct.row), first)
    return last.pair, distinct.rows(last.row, 0), distinct.rows(last.row, 1)


@dataclass(frozen=True)
class _Run:
    """A program on some rows."""

    params: tuple[float, ...]
    distinct: Distinct

    def __call__(self, ops: tuple[ir.Op, ...], start: _Value, first: int = 0) -> _Value:
        values = {first: start}
        for i, op in enumerate(ops[first + 1 :], first + 1):
            values[i] = self._step(op, values)
        return values[len(ops) - 1]

    def _step(self, op: ir.Op, values: dict[int, _Value]) -> _Value:
        match op:
            case ir.Dense():
                return self._dense(values[op.x], op)
            case ir.Apply():
                return self._apply(values[op.x], R.bound(op, self.params))
            case ir.Sum():
                return self._sum([values[x] for x in op.xs], R.sum_weights(op, self.params))
            case ir.Product():
                return _product([values[x] for x in op.xs])
            case ir.Normalize():
                x = values[op.x]
                return _Value(x.pair, R.normalize_row(x.row, self.params[op.eps]))
            case ir.Dropout():
                return _dropout(values[op.x], self.params[op.keep])
            case ir.Repeat():
                x = values[op.x]
                for _ in range(op.count):
                    x = self(op.body, x)
                return x
            case _:
                raise TypeError(f"unexpected operation {op!r}")

    def _sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Values of rows as a column for the first side and a line for the second."""
        return self.distinct.all(values, 0)[:, None], self.distinct.all(values, 1)[None, :]

    def _cross(self, values: Tensor) -> Tensor:
        a, b = self._sides(values)
        return a * b

    def _half_square(self, values: Tensor, sign: float = 1.0) -> Tensor:
        a, b = self._sides(values)
        return 0.5 * (a - sign * b) ** 2

    def _dense(self, x: _Value, op: ir.Dense) -> _Value:
        row, c = R.dense_row(x.row, op, self.params)
        uu = self._cross(c.u)
        pair = x.pair
        if c.v is not None:
            below, above = pair.opposite_gaps()
            apart = self._half_square(c.u)
            pair = PairState.from_gaps(
                uu * below + apart + self._half_square(c.v),
                uu * above + apart + self._half_square(c.v, -1.0),
                pair.tau,
            )
        tau = pair.rho + uu * x.pair.tau
        if c.g is not None and c.h is not None:
            tau = self._cross(c.g) * x.pair.rho + self._cross(c.h) + uu * x.pair.tau
        return _Value(PairState(pair.rho, pair.gap, tau), row)

    def _apply(self, x: _Value, fn: Dual) -> _Value:
        row, _ = R.apply_row(x.row, fn)
        rho, gap = x.pair.rho, x.pair.gap
        if fn.closed_form and fn.homogeneous is not None:
            pair = Pair(rho, gap, 1.0, 1.0)
            m = fn.dual(TorchMath, pair)
            size = R.unit_moments(fn)[0]
            kappa, dot = m.kappa / size, m.kappa_dot / size
        else:
            s1, s2 = self._sides(x.row.s)
            pair = Pair(rho, gap, s1, s2)
            m = fn.dual(TorchMath, pair) if fn.closed_form else pair_moments(fn, rho, gap, s1, s2)
            out1, out2 = self._sides(row.s)
            zero = (out1 == 0) | (out2 == 0)
            out1, out2 = torch.where(out1 == 0, 1.0, out1), torch.where(out2 == 0, 1.0, out2)
            kappa = torch.where(zero, 0.0, m.kappa / out1 / out2)
            dot = torch.where(zero, 0.0, m.kappa_dot * (s1 / out1) * (s2 / out2))
        kappa, new_gap = normalised(TorchMath, pair, m, kappa)
        return _Value(PairState(*torch.broadcast_tensors(kappa, new_gap, dot * x.pair.tau)), row)

    def _sum(self, xs: list[_Value], weights: list[float]) -> _Value:
        row, shares = R.sum_row([x.row for x in xs], weights)
        zero = xs[0].pair.tau.new_zeros(())
        below, above, tau = zero, zero, zero
        for x, u in zip(xs, shares, strict=True):
            uu, apart = self._cross(u), self._half_square(u)
            low, high = x.pair.opposite_gaps()
            below, above = below + uu * low + apart, above + uu * high + apart
            tau = tau + uu * x.pair.tau
        return _Value(PairState.from_gaps(*torch.broadcast_tensors(below, above, tau)), row)


def _product(xs: list[_Value]) -> _Value:
    p = xs[0].pair
    for x in xs[1:]:
        q = x.pair
        p = PairState(p.rho * q.rho, p.gap + q.gap - p.gap * q.gap, p.tau * q.rho + p.rho * q.tau)
    return _Value(p, R.product_row([x.row for x in xs]))


def _dropout(x: _Value, keep: float) -> _Value:
    p = x.pair
    pair = PairState(keep * p.rho, (1.0 - keep) + keep * p.gap, keep * p.tau)
    return _Value(pair, R.Row(x.row.s / keep**0.5, x.row.tau))
