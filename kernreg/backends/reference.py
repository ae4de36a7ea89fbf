"""The reference: every rule of the engine on torch tensors in float64, slow and clear.

A pair is kept as correlation, gap and normalised tangent kernel (:mod:`kernreg.ir.pair`), so that
also nearly parallel rows have all their digits.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.ir import program as ir
from kernreg.ir.pair import Dual, Pair
from kernreg.ir.quadrature import pair_moments
from kernreg.ir.torchmath import TorchMath

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
    """A value of the program: pairs, and the rows on both sides."""

    pair: PairState
    row1: R.Row
    row2: R.Row


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
    values = {first: _Value(pair, row1, row2)}
    for i, op in enumerate(ops[first + 1 :], first + 1):
        values[i] = _step(op, params, values)
    last = values[len(ops) - 1]
    return last.pair, last.row1, last.row2


def _step(op: ir.Op, params: tuple[float, ...], values: dict[int, _Value]) -> _Value:
    match op:
        case ir.Dense():
            return _dense(values[op.x], op, params)
        case ir.Apply():
            return _apply(values[op.x], R.bound(op, params))
        case ir.Sum():
            return _sum([values[x] for x in op.xs], R.sum_weights(op, params))
        case ir.Product():
            return _product([values[x] for x in op.xs])
        case ir.Normalize():
            x, eps = values[op.x], params[op.eps]
            return _Value(x.pair, R.normalize_row(x.row1, eps), R.normalize_row(x.row2, eps))
        case ir.Dropout():
            return _dropout(values[op.x], params[op.keep])
        case ir.Repeat():
            x = values[op.x]
            state = (x.pair, x.row1, x.row2)
            for _ in range(op.count):
                state = evaluate(op.body, params, *state)
            return _Value(*state)
        case _:
            raise TypeError(f"unexpected operation {op!r}")


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[:, None] * b[None, :]


def _half_square(a: Tensor, b: Tensor) -> Tensor:
    return 0.5 * (a[:, None] - b[None, :]) ** 2


def _dense(x: _Value, op: ir.Dense, params: tuple[float, ...]) -> _Value:
    row1, c1 = R.dense_row(x.row1, op, params)
    row2, c2 = R.dense_row(x.row2, op, params)
    uu = _cross(c1.u, c2.u)
    pair = x.pair
    if c1.v is not None and c2.v is not None:
        below, above = pair.opposite_gaps()
        apart = _half_square(c1.u, c2.u)
        pair = PairState.from_gaps(
            uu * below + apart + _half_square(c1.v, c2.v),
            uu * above + apart + _half_square(c1.v, -c2.v),
            pair.tau,
        )
    tau = pair.rho + uu * x.pair.tau
    if c1.g is not None and c2.g is not None and c1.h is not None and c2.h is not None:
        tau = _cross(c1.g, c2.g) * x.pair.rho + _cross(c1.h, c2.h) + uu * x.pair.tau
    return _Value(PairState(pair.rho, pair.gap, tau), row1, row2)


def _apply(x: _Value, fn: Dual) -> _Value:
    (row1, _), (row2, _) = R.apply_row(x.row1, fn), R.apply_row(x.row2, fn)
    rho, gap = x.pair.rho, x.pair.gap
    if fn.closed_form and fn.homogeneous is not None:
        m = fn.dual(TorchMath, Pair(rho, gap, 1.0, 1.0))
        size = R.unit_moments(fn)[0]
        kappa, dot = m.kappa / size, m.kappa_dot / size
    else:
        s1, s2 = x.row1.s[:, None], x.row2.s[None, :]
        m = (
            fn.dual(TorchMath, Pair(rho, gap, s1, s2))
            if fn.closed_form
            else pair_moments(fn, rho, gap, s1, s2)
        )
        out1, out2 = row1.s[:, None], row2.s[None, :]
        zero = (out1 == 0) | (out2 == 0)
        out1, out2 = torch.where(out1 == 0, 1.0, out1), torch.where(out2 == 0, 1.0, out2)
        kappa = torch.where(zero, 0.0, m.kappa / out1 / out2)
        dot = torch.where(zero, 0.0, m.kappa_dot * (s1 / out1) * (s2 / out2))
    new_gap = torch.clamp(1.0 - abs(kappa), min=0.0) if m.gap is None else m.gap
    return _Value(PairState(*torch.broadcast_tensors(kappa, new_gap, dot * x.pair.tau)), row1, row2)


def _sum(xs: list[_Value], weights: list[float]) -> _Value:
    row1, u1 = R.sum_row([x.row1 for x in xs], weights)
    row2, u2 = R.sum_row([x.row2 for x in xs], weights)
    zero = xs[0].pair.tau.new_zeros(())
    below, above, tau = zero, zero, zero
    for x, a, b in zip(xs, u1, u2, strict=True):
        uu, apart = _cross(a, b), _half_square(a, b)
        low, high = x.pair.opposite_gaps()
        below, above = below + uu * low + apart, above + uu * high + apart
        tau = tau + uu * x.pair.tau
    return _Value(PairState.from_gaps(*torch.broadcast_tensors(below, above, tau)), row1, row2)


def _product(xs: list[_Value]) -> _Value:
    p = xs[0].pair
    for x in xs[1:]:
        q = x.pair
        p = PairState(p.rho * q.rho, p.gap + q.gap - p.gap * q.gap, p.tau * q.rho + p.rho * q.tau)
    row1 = R.product_row([x.row1 for x in xs])
    return _Value(p, row1, R.product_row([x.row2 for x in xs]))


def _dropout(x: _Value, keep: float) -> _Value:
    p = x.pair
    pair = PairState(keep * p.rho, (1.0 - keep) + keep * p.gap, keep * p.tau)
    row1, row2 = (R.Row(r.s / keep**0.5, r.tau) for r in (x.row1, x.row2))
    return _Value(pair, row1, row2)
