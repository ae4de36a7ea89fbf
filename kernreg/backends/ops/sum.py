"""A weighted sum of independent branches: kernels are added."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.derivatives import DERIVATIVES, Derivatives, Jet, Slope
from kernreg.backends.planes.tail import COVARIANCES, Covariance
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.reference import PAIRS, Evaluated, Evaluation, PairState
from kernreg.backends.rounding import ROUNDING, Tracked, Walker
from kernreg.backends.rows import ROWS, Row, ratio
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import INSTRUCTIONS, State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.ir.operations import Sum

__all__ = ["sum_row"]

SIGNS.of(Sum)(all_nonnegative)


def sum_row(rows: list[Row], weights: list[float]) -> tuple[Row, list[Tensor]]:
    """A weighted sum of branches; also each branch's share ``u`` of the standard deviation."""
    parts = [w**0.5 * r.s for w, r in zip(weights, rows, strict=True)]
    top = functools.reduce(torch.maximum, parts)  # whose square may be beyond float64
    size = torch.where(top == 0, 1.0, top)
    s = top * torch.sqrt(sum((p / size) ** 2 for p in parts))
    shares = [ratio(p, s, 1.0 if i == 0 else 0.0) for i, p in enumerate(parts)]
    tau = sum((u * u * r.tau for u, r in zip(shares, rows, strict=True)), torch.zeros_like(s))
    return Row(s, tau), shares


@ROWS.of(Sum)
def _rows(params: tuple[float, ...], op: Sum, *xs: Row) -> tuple[Row, tuple[Tensor, ...]]:
    row, shares = sum_row(list(xs), op.weights(params))
    return row, tuple(shares)


def _merged(run: Evaluation, shares: list[Tensor], pairs: list[PairState]) -> PairState:
    below: Any = 0.0
    above: Any = 0.0
    tau: Any = 0.0
    for p, u in zip(pairs, shares, strict=True):
        uu, apart = run.cross(u), run.half_square(u)
        low, high = p.opposite_gaps()
        below, above = below + uu * low + apart, above + uu * high + apart
        tau = tau + uu * p.tau
    return PairState.from_gaps(below, above, tau)


@PAIRS.of(Sum)
def _pairs(run: Evaluation, op: Sum, *xs: Evaluated) -> Evaluated:
    row, shares = sum_row([x.row for x in xs], op.weights(run.params))
    return Evaluated(_merged(run, shares, [x.pair for x in xs]), row)


@DERIVATIVES.of(Sum)
def _derivatives(run: Derivatives, op: Sum, *xs: Jet) -> Jet:
    row, shares = sum_row([x.row for x in xs], op.weights(run.params))
    pair = _merged(run, shares, [x.pair for x in xs])
    growth = torch.stack([u * u * x.growth for u, x in zip(shares, xs, strict=True)]).sum(0)
    trained, slopes = torch.zeros_like(growth), []
    for k in range(len(xs[0].slopes)):
        rho: Any = 0.0
        tau: Any = 0.0
        for u, x in zip(shares, xs, strict=True):
            d, uu = x.slopes[k], run.cross(u)
            turned = run.sides(x.growth - growth)[k - 1] if k else 0.0  # of the logarithm of u
            rho = rho + uu * (d.rho + turned * x.pair.rho)
            tau = tau + uu * (d.tau + turned * x.pair.tau)
        slopes.append(Slope(rho, tau))
    for u, x in zip(shares, xs, strict=True):
        trained = trained + u * u * (x.trained + 2.0 * (x.growth - growth) * x.row.tau)
    return Jet(pair, row, growth, trained, tuple(slopes))


@ROUNDING.of(Sum)
def _rounding(walk: Walker, op: Sum, *xs: Tracked) -> Tracked:
    row, shares = sum_row([x.row for x in xs], op.weights(walk.params))
    pairs = _merged(walk.moving, shares, [x.moved_pairs() for x in xs])
    out = Tracked.behind(row, pairs)
    return walk.rounded(out, out.pair.gap + walk.of_tables(*shares))


@INSTRUCTIONS.of(Sum)
def _instructions(t: Translator, op: Sum, *xs: State) -> State:
    weights = op.weights(t.params)

    def merged(row: Row, k: int) -> tuple[Row, list[Tensor]]:
        """What is merged so far has its weight already, but for the first branch."""
        before = weights[0] if k == 1 else 1.0
        return sum_row([row, xs[k].row], [before, weights[k]])

    # The rows of all branches at once, so that the diagonal is `diag` to the last bit.
    return t.behind(op, t.in_pairs("sum", xs, merged), *xs)


@PLANES.of(Sum)
def _planes(t: PlaneTranslator, op: Sum, *xs: Spatial) -> Spatial:
    unit = t.unit_near(op, t.size_of(op))
    factors = [w * x.unit / unit for w, x in zip(op.weights(t.params), xs, strict=True)]
    dst, stage = t.place(xs[0].stage), xs[0].stage
    at, first = xs[0].slot, factors[0]
    for x, factor in zip(xs[1:], factors[1:], strict=True):
        t.emit(stage, "sum", dst, at, x.slot, c=t.constants([first, factor]))
        at, first = dst, 1.0
    if len(xs) == 1:
        t.emit(stage, "sum", dst, at, at, c=t.constants([first, 0.0]))
    return t.behind(op, dst, unit, *xs, clean=all(x.clean for x in xs))


@COVARIANCES.of(Sum)
def _covariances(walk: Any, op: Sum, *xs: Covariance) -> Covariance:
    weights = op.weights(walk.params)
    k = sum(w * x.k for w, x in zip(weights[1:], xs[1:], strict=True)) + weights[0] * xs[0].k
    t = sum(w * x.t for w, x in zip(weights[1:], xs[1:], strict=True)) + weights[0] * xs[0].t
    return Covariance(k, t)


@TRITON.of("sum")
def _triton(w: TritonWriter, i: Instruction) -> None:
    w.comment("Sum of branches")
    w.call(i.dst, "weighted_sum", w.state(i.a), w.state(i.b), *w.pairs(i.x, i.y, 2))


@CUDA.of("sum")
def _cuda(w: CudaWriter, i: Instruction) -> None:
    w.call(i.dst, "sum_step", w.state(i.a), w.state(i.b), w.tables(i.x, i.y))
