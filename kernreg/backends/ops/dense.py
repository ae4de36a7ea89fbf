"""A dense layer: kernels are scaled and get the variance of the bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.derivatives import DERIVATIVES, Derivatives, Jet, Partials
from kernreg.backends.planes.filters import filter_planes
from kernreg.backends.planes.tail import COVARIANCES, Covariance
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.reference import PAIRS, Evaluated, Evaluation, PairState
from kernreg.backends.rounding import ROUNDING, Tracked, Walker
from kernreg.backends.rows import ROWS, Row, hypot, ratio
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import INSTRUCTIONS, State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.exceptions import InvalidInputError
from kernreg.ir.operations import Dense

__all__ = ["DenseCoefficients", "dense_row"]

SIGNS.of(Dense)(all_nonnegative)


@dataclass(frozen=True)
class DenseCoefficients:
    """How a dense layer mixes correlations: ``rho' = u_i u_j rho + v_i v_j``.

    ``(u, v)`` has unit length; ``v`` is None without a bias. ``g`` and ``h`` scale the kernel and
    the bias in the tangent kernel of the "standard" parameterization; both are 0 in a layer that is
    not trained, and None in all others.
    """

    u: Tensor
    v: Tensor | None
    g: Tensor | None
    h: Tensor | None

    def tables(self) -> tuple[Tensor, ...]:
        """Those that exist, in the order that tile kernels expect."""
        return tuple(t for t in (self.u, self.v, self.g, self.h) if t is not None)


def dense_row(row: Row, op: Dense, params: tuple[float, ...]) -> tuple[Row, DenseCoefficients]:
    """A dense layer on rows."""
    W, b = params[op.W], None if op.b is None else params[op.b]
    s, u, v = W * row.s, torch.ones_like(row.s), None
    if b is not None:
        weight, s = s, hypot(s, b)
        u, v = ratio(weight, s, 1.0), ratio(torch.full_like(s, b), s, 0.0)
    if not op.trained:
        zero = torch.zeros_like(s)
        return Row(s, u * u * row.tau), DenseCoefficients(u, v, zero, zero)
    if op.fan_in is None:
        return Row(s, 1.0 + u * u * row.tau), DenseCoefficients(u, v, None, None)
    g = op.fan_in**0.5 / W * u
    if op.b is None:
        h = torch.zeros_like(s)
    else:
        if bool((s == 0).any()):
            raise InvalidInputError(
                "A row of zeros has variance 0 behind a Dense layer in the 'standard' "
                "parameterization with b_std=0.0; use b_std=None or b_std > 0, or drop the row."
            )
        h = 1.0 / s
        v = torch.zeros_like(s) if v is None else v
    return Row(s, g * g + h * h + u * u * row.tau), DenseCoefficients(u, v, g, h)


@ROWS.of(Dense)
def _rows(params: tuple[float, ...], op: Dense, x: Row) -> tuple[Row, tuple[Tensor, ...]]:
    row, c = dense_row(x, op, params)
    return row, c.tables()


def _mixed(run: Evaluation, c: DenseCoefficients, p: PairState) -> PairState:
    uu = run.cross(c.u)
    pair = p
    if c.v is not None:
        below, above = p.opposite_gaps()
        apart = run.half_square(c.u)
        pair = PairState.from_gaps(
            uu * below + apart + run.half_square(c.v),
            uu * above + apart + run.half_square(c.v, -1.0),
            p.tau,
        )
    tau = pair.rho + uu * p.tau
    if c.g is not None and c.h is not None:
        tau = run.cross(c.g) * p.rho + run.cross(c.h) + uu * p.tau
    return PairState(pair.rho, pair.gap, tau)


@PAIRS.of(Dense)
def _pairs(run: Evaluation, op: Dense, x: Evaluated) -> Evaluated:
    row, c = dense_row(x.row, op, run.params)
    return Evaluated(_mixed(run, c, x.pair), row)


@DERIVATIVES.of(Dense)
def _derivatives(run: Derivatives, op: Dense, x: Jet) -> Jet:
    row, c = dense_row(x.row, op, run.params)
    uu, vv = c.u * c.u, torch.zeros_like(c.u) if c.v is None else c.v * c.v
    by_row = torch.zeros_like(c.u)
    if c.g is not None and c.h is not None:
        by_row = 2.0 * (c.g * c.g * vv - c.h * c.h * uu)
    growth = uu * x.growth
    trained = by_row * x.growth + uu * (x.trained + 2.0 * vv * x.row.tau * x.growth)
    at_once = run.dense(x, c.tables())
    if at_once is not None:
        return Jet(at_once[0], row, growth, trained, at_once[1])
    pair = _mixed(run, c, x.pair)
    cross, (u1, u2), (v1, v2) = run.cross(c.u), run.sides(uu), run.sides(vv)
    both = 0.0 if c.v is None else run.cross(c.v)
    # The logarithm of u changes by v^2 with that of s, and the logarithm of v by -u^2.
    rho_log = [cross * x.pair.rho * v - both * u for u, v in ((u1, v1), (u2, v2))]
    own_rho, own_log = cross, rho_log
    if c.g is not None and c.h is not None:
        own_rho, h = run.cross(c.g), run.cross(c.h)
        own_log = [own_rho * x.pair.rho * v - h * u for u, v in ((u1, v1), (u2, v2))]
    tau_log = [o + cross * x.pair.tau * v for o, v in zip(own_log, (v1, v2), strict=True)]
    partials = Partials(cross, own_rho, cross, rho_log, tau_log)
    return run.chained(x, pair, row, growth, trained, partials)


@ROUNDING.of(Dense)
def _rounding(walk: Walker, op: Dense, x: Tracked) -> Tracked:
    row, c = dense_row(x.row, op, walk.params)
    out = Tracked.behind(row, _mixed(walk.moving, c, x.moved_pairs()))
    if c.v is None:
        return walk.rounded(out, torch.zeros_like(out.gap), 0.0)
    return walk.rounded(out, out.pair.gap + walk.of_tables(c.u, c.v))


@INSTRUCTIONS.of(Dense)
def _instructions(t: Translator, op: Dense, x: State) -> State:
    row, c = dense_row(x.row, op, t.params)
    joins = x.slot in t.done and x.dual is not None and x.dual is t.latest and op.plain
    if joins and x.dual is not None:  # the nonlinearity before it does both in one pass
        x.dual[3] = 1 + int(op.b is not None)
        slot = x.slot
    else:
        slot = t.place()
        t.emit("dense", slot, x.slot, b=int(op.b is not None), n=int(not op.plain))
    t.both(*c.tables())
    return t.behind(op, slot, x, row=row)


@PLANES.of(Dense)
def _planes(t: PlaneTranslator, op: Dense, x: Spatial) -> Spatial:
    W = t.params[op.W]
    own = op.own(t.params)
    return filter_planes(t, op, x, ([0], [0]), W * W, own)


@COVARIANCES.of(Dense)
def _covariances(walk: Any, op: Dense, x: Covariance) -> Covariance:
    W, b = walk.params[op.W], 0.0 if op.b is None else walk.params[op.b]
    k = W * W * x.k + b * b
    g, h = op.own(walk.params)
    return Covariance(k, g * k + h + W * W * x.t)


@TRITON.of("dense")
def _triton(w: TritonWriter, i: Instruction) -> None:
    """``n`` says that it is in the "standard" parameterization."""
    w.comment("Dense")
    if i.n:
        w.line(f"trained, before = tau{i.a}, rho{i.a}")
    w.call(i.dst, "dense_bias" if i.b else "dense", w.state(i.a), *w.pairs(i.x, i.y, 1 + i.b))
    if i.n:
        scale = w.pairs(i.x, i.y, 1) + w.pairs(i.x + 1 + i.b, i.y + 1 + i.b, 2)
        w.line(f"tau{i.dst} = standard(before, trained, {', '.join(scale)})")


@CUDA.of("dense")
def _cuda(w: CudaWriter, i: Instruction) -> None:
    flags = f"{str(bool(i.b)).lower()}, {str(bool(i.n)).lower()}"
    w.call(i.dst, f"dense_step<{flags}>", w.state(i.a), w.tables(i.x, i.y))
