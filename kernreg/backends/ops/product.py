"""A product of branches: kernels are multiplied, entry by entry."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.derivatives import DERIVATIVES, Derivatives, Jet, Slope
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.reference import PAIRS, Evaluated, Evaluation, PairState
from kernreg.backends.rounding import ROUNDING, Tracked, Walker
from kernreg.backends.rows import ROWS, Row, row_behind
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import INSTRUCTIONS, State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.ir.operations import Product

SIGNS.of(Product)(all_nonnegative)


@ROWS.of(Product)
def _rows(params: tuple[float, ...], op: Product, *xs: Row) -> tuple[Row, tuple[Tensor, ...]]:
    s = xs[0].s
    for x in xs[1:]:
        s = s * x.s
    return Row(s, sum((x.tau for x in xs[1:]), xs[0].tau)), ()


def _between(p: PairState, q: PairState) -> PairState:
    return PairState(p.rho * q.rho, p.gap + q.gap - p.gap * q.gap, p.tau * q.rho + p.rho * q.tau)


@PAIRS.of(Product)
def _pairs(run: Evaluation, op: Product, *xs: Evaluated) -> Evaluated:
    p = xs[0].pair
    for x in xs[1:]:
        p = _between(p, x.pair)
    return run.behind(op, p, *xs)


@DERIVATIVES.of(Product)
def _derivatives(run: Derivatives, op: Product, *xs: Jet) -> Jet:
    pair, slopes = xs[0].pair, xs[0].slopes
    for x in xs[1:]:
        q, p = x.pair, pair
        slopes = tuple(
            Slope(
                a.rho * q.rho + p.rho * b.rho,
                a.tau * q.rho + p.tau * b.rho + a.rho * q.tau + p.rho * b.tau,
            )
            for a, b in zip(slopes, x.slopes, strict=True)
        )
        pair = _between(p, q)
    row = row_behind(op, run.params, *(x.row for x in xs))
    growth = torch.stack([x.growth for x in xs]).sum(0)
    return Jet(pair, row, growth, torch.stack([x.trained for x in xs]).sum(0), slopes)


@ROUNDING.of(Product)
def _rounding(walk: Walker, op: Product, *xs: Tracked) -> Tracked:
    """An error of one factor is multiplied by at most 1, for each of its terms."""
    p = xs[0].pair
    error = xs[0].gap + xs[0].split
    gap, split, moved = xs[0].gap, xs[0].split, xs[0].tau
    for x in xs[1:]:
        q, other = x.pair, x.gap + x.split
        moved = moved + x.tau + p.tau.abs() * other + q.tau.abs() * error
        p = _between(p, q)
        error, gap, split = error + other, gap + x.gap, split + x.split
    row = row_behind(op, walk.params, *(x.row for x in xs))
    return walk.rounded(Tracked(row, p, gap, split, moved), p.gap)


@INSTRUCTIONS.of(Product)
def _instructions(t: Translator, op: Product, *xs: State) -> State:
    return t.behind(op, t.in_pairs("product", xs), *xs)


@PLANES.of(Product)
def _planes(t: PlaneTranslator, op: Product, *xs: Spatial) -> Spatial:
    dst, stage = t.place(xs[0].stage), xs[0].stage
    so_far = xs[0]
    if len(xs) == 1:
        t.emit(stage, "copy", dst, so_far.slot)
    for x in xs[1:]:
        t.emit(stage, "product", dst, so_far.slot, x.slot)
        t.both(stage, *t.scaled(so_far), *t.scaled(x))
        row = Row(so_far.row.s * x.row.s, so_far.row.tau + x.row.tau)
        so_far = replace(so_far, slot=dst, unit=so_far.unit * x.unit, row=row)
    return t.behind(op, dst, so_far.unit, *xs, clean=len(xs) > 1 or xs[0].clean)


@TRITON.of("product")
def _triton(w: TritonWriter, i: Instruction) -> None:
    w.comment("Product of branches")
    w.call(i.dst, "product", f"{w.state(i.a)}, {w.state(i.b)}")


@CUDA.of("product")
def _cuda(w: CudaWriter, i: Instruction) -> None:
    w.call(i.dst, "product_pair", f"{w.state(i.a)}, {w.state(i.b)}")
