"""A nonlinearity: kernels become its dual."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.derivatives import DERIVATIVES, Derivatives, Jet, Partials
from kernreg.backends.ops.expansion import inverse, write_expansion
from kernreg.backends.ops.primitives import write_primitives
from kernreg.backends.planes.filters import join
from kernreg.backends.planes.series import plane_series
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.reference import PAIRS, Evaluated, Evaluation, PairState
from kernreg.backends.rounding import (
    CLOSE,
    FINE_TAIL,
    ROUNDING,
    SUBTRACTION,
    TAIL,
    UNIT,
    Tracked,
    Walker,
    of_tables,
)
from kernreg.backends.rows import ROWS, SMALLER, Row, ratio
from kernreg.backends.series import SeriesDual
from kernreg.backends.signs import SIGNS
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import INSTRUCTIONS, STATES, State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.codegen.instructions import LINEAR, NONNEGATIVE, POSITIVE
from kernreg.exceptions import BackendError, InvalidInputError
from kernreg.ir.derivative import slopes
from kernreg.ir.graph import evaluate
from kernreg.ir.operations import Apply
from kernreg.ir.pair import Dual, Pair, normalised
from kernreg.ir.trace import DualCode, trace_dual
from kernreg.numerics.hermite import hermite_coefficients, series_length
from kernreg.numerics.octaves import moments_at
from kernreg.numerics.quadrature import line_values, pair_moments, row_moments
from kernreg.numerics.torchmath import TorchMath

__all__ = ["apply_row", "unit_moments"]

# Of standard deviations whose variance is asked for: with room for factors in float64.
_LARGEST = 1e148

# Rows that are integrated at once.
_BLOCK = 256

# Standard deviations whose inverse squares leave too little room in float32.
_LARGE = 1e9


@SIGNS.of(Apply)
def _signs(walk: object, op: Apply, known: bool) -> bool:
    return op.fn.nonnegative


@functools.lru_cache(maxsize=1024)
def unit_moments(fn: Dual) -> tuple[float, float]:
    """``E[phi^2]`` and ``E[phi'^2]`` at unit variance, of a homogeneous nonlinearity."""
    one = torch.ones(1, dtype=torch.float64)
    m = fn.dual(TorchMath, Pair(one, 0.0 * one, 1.0, 1.0))
    return float(m.kappa), float(m.kappa_dot)


def apply_row(row: Row, fn: Dual, exact: bool = False) -> tuple[Row, Tensor]:
    """A nonlinearity on rows; also the factor that it puts on ``tau``.

    ``exact`` integrates at each standard deviation, as the reference does.
    """
    s = row.s
    if not bool(torch.isfinite(s).all()):
        raise InvalidInputError(
            f"The kernel overflows before {fn!r}: a standard deviation there is beyond float64. "
            f"{SMALLER}"
        )
    if fn.homogeneous is None and bool((s > _LARGEST).any()):
        raise InvalidInputError(
            f"The rows are too large for {fn!r}: a standard deviation before it is "
            f"{float(s.max()):.3g}, expected at most {_LARGEST:g}. Scale the rows down. {SMALLER}"
        )
    if fn.closed_form and fn.homogeneous is not None:
        kappa, kappa_dot = unit_moments(fn)
        power = s**fn.homogeneous if fn.homogeneous else (s > 0).to(s.dtype)
        dot = torch.full_like(s, kappa_dot / kappa)
        return Row(kappa**0.5 * power, dot * row.tau), dot
    if fn.closed_form:
        m = fn.dual(TorchMath, Pair(torch.ones_like(s), torch.zeros_like(s), s, s))
        square = torch.as_tensor(m.kappa, dtype=s.dtype).expand_as(s)
        slope = torch.as_tensor(m.kappa_dot, dtype=s.dtype).expand_as(s)
    else:
        moments = (row_moments if exact else moments_at)(fn, s.reshape(-1))
        square, slope = (m.reshape(s.shape) for m in moments)
    out = torch.sqrt(square)
    share = ratio(s, out, 0.0)
    dot = slope * share * share
    return Row(out, dot * row.tau), dot


@ROWS.of(Apply)
def _rows(params: tuple[float, ...], op: Apply, x: Row) -> tuple[Row, tuple[Tensor, ...]]:
    fn = op.bound(params)
    row, _ = apply_row(x, fn)
    return row, ((x.s,) if fn.homogeneous is None else ())


@PAIRS.of(Apply)
def _pairs(run: Evaluation, op: Apply, x: Evaluated) -> Evaluated:
    fn = op.bound(run.params)
    row, _ = apply_row(x.row, fn, exact=True)
    rho, gap = x.pair.rho, x.pair.gap
    if fn.closed_form and fn.homogeneous is not None:
        pair = Pair(rho, gap, 1.0, 1.0)
        m = fn.dual(TorchMath, pair)
        size = unit_moments(fn)[0]
        kappa, dot = m.kappa / size, m.kappa_dot / size
    else:
        s1, s2 = run.sides(x.row.s)
        pair = Pair(rho, gap, s1, s2)
        m = fn.dual(TorchMath, pair) if fn.closed_form else pair_moments(fn, rho, gap, s1, s2)
        out1, out2 = run.sides(row.s)
        zero = (out1 == 0) | (out2 == 0)
        out1, out2 = torch.where(out1 == 0, 1.0, out1), torch.where(out2 == 0, 1.0, out2)
        kappa = torch.where(zero, 0.0, m.kappa / out1 / out2)
        dot = torch.where(zero, 0.0, m.kappa_dot * (s1 / out1) * (s2 / out2))
    kappa, new_gap = normalised(TorchMath, pair, m, kappa)
    return Evaluated(PairState(*torch.broadcast_tensors(kappa, new_gap, dot * x.pair.tau)), row)


@DERIVATIVES.of(Apply)
def _derivatives(run: Derivatives, op: Apply, x: Jet) -> Jet:
    fn = op.bound(run.params)
    row, _ = apply_row(x.row, fn)
    dot = _derivatives_of_rows(fn, x.row)
    trained = dot.value * x.trained + dot.slope * x.growth * x.row.tau
    if not fn.closed_form:
        pair = run.of_torch(fn, lambda: _pairs(run, op, x).pair)
        partials = _series_partials(run, fn, x)
        return run.chained(x, pair, row, dot.growth * x.growth, trained, partials)
    made, tau = slopes(op.fn), x.pair.tau
    leaves = _leaves(op, fn, run.params, x.row, row) | {"growth": dot.growth}
    at_once = run.nonlinearity(x, made.straight, leaves)
    if at_once is not None:
        return Jet(at_once[0], row, dot.growth * x.growth, trained, at_once[1])
    given: dict[str, Any] = {k: float(v) for k, v in leaves.items() if v.ndim == 0}
    for name in ("s", "u", "growth"):
        given[name], given[f"{name}'"] = run.sides(leaves[name])
    given |= {"rho": x.pair.rho, "gap": x.pair.gap}
    count = len(x.slopes) - 1 if made.rho_log else 0
    logs = (*made.rho_log[:count], *made.dot_log[:count])
    wanted = (made.code.rho, made.code.gap, made.code.dot, made.dot_rho, *logs)
    rho, gap, factor, by_rho, *by_log = run.full(*evaluate(wanted, given, run.xp))
    partials = Partials(factor, by_rho * tau, factor)
    if count:
        tau_log = [v * tau for v in by_log[count:]]
        partials = Partials(factor, by_rho * tau, factor, by_log[:count], tau_log)
    pair = PairState(rho, gap, factor * tau)
    return run.chained(x, pair, row, dot.growth * x.growth, trained, partials)


@dataclass(frozen=True)
class _OfRows:
    """Derivatives of a nonlinearity on rows, by ``log s``.

    ``growth`` is that of ``log s``; ``value`` is the factor on ``tau``, and ``slope`` its own.
    """

    growth: Tensor
    value: Tensor
    slope: Tensor


def _derivatives_of_rows(fn: Dual, row: Row) -> _OfRows:
    s = row.s
    if fn.homogeneous is not None:
        value = apply_row(row, fn)[1]
        return _OfRows(torch.full_like(s, float(fn.homogeneous)), value, torch.zeros_like(s))
    growths, values, changes = [], [], []
    for block in s.split(_BLOCK):
        nodes, value, slope, weights = line_values(fn, block)
        square, steep = (value * value) @ weights, (slope * slope) @ weights
        # E[f(s z)] changes by E[f(s z) (z^2 - 1)] with log s.
        # Where nothing is left of a row, nothing changes it.
        growth = (value * slope * nodes * block[:, None]) @ weights
        growths.append(ratio(growth, square, 0.0))
        values.append(ratio(steep * block * block, square, 0.0))
        change = (slope * slope * (nodes * nodes - 1.0)) @ weights
        changes.append(ratio(change, steep, 0.0))
    growth, value, change = (torch.cat(v) for v in (growths, values, changes))
    return _OfRows(growth, value, value * (change + 2.0 - 2.0 * growth))


def _series_partials(run: Derivatives, fn: Dual, x: Jet) -> Partials:
    """Of a Hermite series ``sum_m a_m(s) a_m(s') rho^m``, of which ``a_m`` changes by
    ``m a_m + ((m + 1)(m + 2))^(1/2) a_(m + 2)`` with ``log s``."""
    s = x.row.s
    terms = series_length(fn, torch.stack(torch.aminmax(s)), 1e-13) if fn.smooth else None
    if terms is None:
        raise BackendError(
            f"{fn!r} has no derivatives: it has a kink and no closed form, or needs too long a "
            "series. Use another nonlinearity, or differences of kernels."
        )
    table = hermite_coefficients(fn, s, terms + 2).coefficients
    order = torch.arange(terms, dtype=s.dtype)
    a = table[:, :terms]
    b = order * a + torch.sqrt((order + 1.0) * (order + 2.0)) * table[:, 2:]
    size = torch.linalg.vector_norm(a, dim=1)
    growth = (a * b).sum(1) / size**2
    a, b = a / size[:, None], b / size[:, None]
    b = b - growth[:, None] * a
    (a1, a2), (b1, b2), rho = run.sides(a), run.sides(b), x.pair.rho
    zero = torch.zeros_like(rho)
    first, second, third = zero, zero, zero
    logs, dots = [zero, zero], [zero, zero]
    for m in range(terms - 1, -1, -1):
        c = a1[..., m] * a2[..., m]
        # Horner's scheme for a polynomial and its first two derivatives.
        third, second, first = third * rho + second, second * rho + first, first * rho + c
        for k, part in enumerate((b1[..., m] * a2[..., m], a1[..., m] * b2[..., m])):
            dots[k] = dots[k] * rho + logs[k]
            logs[k] = logs[k] * rho + part
    tau = x.pair.tau
    return Partials(second, 2.0 * third * tau, second, logs, [d * tau for d in dots])


@ROUNDING.of(Apply)
def _rounding(walk: Walker, op: Apply, x: Tracked) -> Tracked:
    fn: Any = op.bound(walk.params)
    series, pairs = not fn.closed_form, walk.moving
    if series:
        expansion = walk.expansions[id(op)]
        assert expansion is not None
        fn = SeriesDual(fn, expansion)
    row, p = x.moved_rows(), x.moved_pairs()
    after, _ = apply_row(row, fn)
    if fn.homogeneous is None:
        (s1, s2), size = pairs.sides(row.s), pairs.cross(after.s)
    else:
        s1 = s2 = torch.ones_like(p.rho)
        size = unit_moments(fn)[0] * s1
    pair = Pair(p.rho, p.gap, s1, s2)
    m = fn.dual(TorchMath, pair)
    scale = torch.where(size > 0, 1.0 / size, 0.0)
    rho, gap = normalised(TorchMath, pair, m, scale * m.kappa)
    tau = scale * s1 * s2 * m.kappa_dot * p.tau
    after = Row(after.s[: walk.count], after.tau[: walk.count])
    out = Tracked.behind(after, PairState(*torch.broadcast_tensors(rho, gap, tau)))
    relative = out.pair.gap
    whole = torch.full_like(relative, SUBTRACTION)
    rounding = whole if m.gap is None else relative
    if m.gap is not None and fn.homogeneous is None:
        rounding = torch.where(relative < CLOSE, relative, whole)
        apart = torch.where(walk.first == walk.second, 0.0, relative)
        rounding = rounding + of_tables(apart, walk.unit)
    if series:  # gives the gap of nearly equal rows only, and ends at a tail
        both = (x.pair.rho > 0) & (out.pair.rho > 0)
        tail = torch.where(walk.unit == UNIT, TAIL, FINE_TAIL)
        rounding = torch.where(both, rounding, whole) + tail / walk.unit
    return walk.rounded(out, rounding)


@INSTRUCTIONS.of(Apply)
def _instructions(t: Translator, op: Apply, x: State) -> State:
    fn = op.bound(t.params)
    if fn.homogeneous is None:
        t.outside = t.outside or bool((x.row.s > _LARGE).any())
    after, dot = apply_row(x.row, fn)
    dst = t.place()
    if not fn.closed_form:
        write_expansion(t, t.analysis.expansions[id(op)], fn, x, after, dot, dst)
        return t.behind(op, dst, x, row=after)
    code = _code(op.fn)
    leaves = _leaves(op, fn, t.params, x.row, after)
    scalars = evaluate(code.scalars, leaves, TorchMath)
    number = t.machine.number(op.fn, code)
    if number is None:
        spare = range(3 * STATES, t.machine.registers)
        write_primitives(t, code, scalars, leaves, x.slot, dst, spare)
        return t.behind(op, dst, x, row=after)
    signs = NONNEGATIVE * fn.nonnegative + POSITIVE * x.positive
    dual = t.emit("dual", dst, x.slot, c=t.constants(scalars), n=signs, plus=number)
    for side, slots in enumerate((code.rows1, code.rows2)):
        for values in evaluate(slots, leaves, TorchMath):
            t.table(side, values)
    return t.behind(op, dst, x, row=after, dual=dual)


@PLANES.of(Apply)
def _planes(t: PlaneTranslator, op: Apply, x: Spatial) -> Spatial:
    fn = op.bound(t.params)
    after, dot = apply_row(x.row, fn)
    number = t.machine.number(op.fn, code := _code(op.fn)) if fn.closed_form else None
    if number is None:
        return plane_series(t, op, fn, x, after, dot)
    linear = fn.homogeneous == 1
    plain = x.unit * unit_moments(fn)[0] if linear else t.size_of(op)
    unit = plain if linear else t.unit_near(op, plain)
    leaves = _leaves(op, fn, t.params, x.row, after)
    signs = NONNEGATIVE * fn.nonnegative + POSITIVE * x.positive + LINEAR * linear
    dst, a, fused, numbers = join(t, x)
    scalars = [float(v) for v in evaluate(code.scalars, leaves, TorchMath)]
    start = t.constants([*numbers, *scalars])
    t.emit(x.stage, "dual", dst, a, fused, start, signs, number)
    out = t.behind(op, dst, unit, x, clean=True, row=after)
    t.both(x.stage, *t.scaled(x))
    if not linear:
        t.both(x.stage, t.scaled(out)[0])
    for side, slots in enumerate((code.rows1, code.rows2)):
        for values in evaluate(slots, leaves, TorchMath):
            t.table(x.stage, side, values)
    return out


def _leaves(
    op: Apply, fn: Dual, params: tuple[float, ...], row: Row, after: Row
) -> dict[str, Tensor]:
    """Values of the leaves of a traced dual."""
    shared = {f"p{i}": torch.tensor(params[s], dtype=torch.float64) for i, s in enumerate(op.slots)}
    if fn.homogeneous is not None:
        shared["norm"] = torch.tensor(1.0 / unit_moments(fn)[0], dtype=torch.float64)
    return shared | {"s": row.s, "u": inverse(after.s)}


_CODES: dict[tuple, DualCode] = {}


def _code(fn: Dual) -> DualCode:
    key = fn.structure()
    if key not in _CODES:
        _CODES[key] = trace_dual(fn)
    return _CODES[key]


@TRITON.of("dual")
def _triton(w: TritonWriter, k: int, i: Instruction) -> None:
    title, code = w.duals[k]
    w.comment(title + (", Dense" if i.b else ""))
    rows1, rows2 = len(code.rows1), len(code.rows2)
    slots = w.rows(i.x, rows1) + w.columns(i.y, rows2)
    arguments = ", ".join([f"rho{i.a}", f"gap{i.a}", f"consts + {i.c}", *slots])
    w.line(f"rho{i.dst}, gap{i.dst}, dot = dual{k}({arguments})")
    w.line(f"tau{i.dst} = dot * tau{i.a}")
    if i.b:
        positive = i.b == 2 and i.n & NONNEGATIVE
        name = "dense" if i.b == 1 else "dense_bias_positive" if positive else "dense_bias"
        w.call(i.dst, name, w.state(i.dst), *w.pairs(i.x + rows1, i.y + rows2, i.b))


@CUDA.of("dual")
def _cuda(w: CudaWriter, k: int, i: Instruction) -> None:
    title, _ = w.duals[k]
    nonnegative = str(i.b == 2 and bool(i.n & NONNEGATIVE)).lower()
    positive = str(bool(i.n & POSITIVE)).lower()
    w.line(f"// {title}" + (", Dense" if i.b else ""))
    step = f"dual_step<Dual{k}<double>, {i.b}, {nonnegative}, {positive}>"
    w.call(i.dst, step, w.state(i.a), w.tables(i.x, i.y), f"consts + {i.c}")
