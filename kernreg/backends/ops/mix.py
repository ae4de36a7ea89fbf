"""Sums over positions: convolution, pooling, and the readouts that leave a vector."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernreg.backends.blocks import Blocks
from kernreg.backends.planes.filters import filter_planes, land, read_out
from kernreg.backends.planes.stages import lands, offsets
from kernreg.backends.planes.translate import PLANES, Spatial, Translator, Vector
from kernreg.backends.reference import PAIRS, Evaluated, PairState
from kernreg.backends.rows import ROWS, Row, ratio
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.windows import pooling, windows
from kernreg.exceptions import BackendError
from kernreg.ir.operations import Mix
from kernreg.ir.taps import Taps

__all__ = ["filter_row", "tap_weights"]

SIGNS.of(Mix)(all_nonnegative)


def tap_weights(row: Row, op: Mix, params: tuple[float, ...]) -> tuple[Row, Tensor, Tensor]:
    """A filter on rows of shape (n, *sizes).

    Returns
    -------
    Row
        Of shape (n, *sizes behind).
    Tensor of shape (n, taps, positions)
        The share of each tap in the standard deviation behind.
    Tensor of shape (n, positions)
        That of the bias.
    """
    sizes = tuple(row.s.shape[1:])
    source = windows(op.taps, sizes)
    W, b = op.numbers(params)
    behind = op.taps.out(sizes, op.label)
    inside, at = source >= 0, source.clamp(min=0)
    flat, tau = row.s.reshape(len(row.s), -1), row.tau.reshape(len(row.s), -1)
    parts = torch.where(inside, W / len(source) ** 0.5 * flat[:, at], 0.0)
    top = torch.maximum(parts.amax(dim=1), flat.new_tensor(b))  # its square may overflow
    unit = torch.where(top == 0, 1.0, top)
    square = ((parts / unit[:, None]) ** 2).sum(1) + (b / unit) ** 2
    s = unit * torch.sqrt(square)
    u, v = ratio(parts, s[:, None].expand_as(parts), 0.0), ratio(torch.full_like(s, b), s, 0.0)
    g, h = op.own(params)
    own = g + ratio(torch.full_like(s, h), s * s, 0.0)
    out = own + (u * u * tau[:, at]).sum(1)
    shape = (len(s), *behind)
    return Row(s.reshape(shape), torch.where(s == 0, g, out).reshape(shape)), u, v


def filter_row(row: Row, op: Mix, params: tuple[float, ...]) -> Row:
    """Standard deviations behind a filter, without what each tap has a share of.

    Sums along one axis after the other; ``tau`` is left out.
    """
    sizes, (W, b) = tuple(row.s.shape[1:]), op.numbers(params)
    top = max(float(row.s.max()), b) or 1.0
    top = 1.0 if 1e-100 < top < 1e100 else top  # else the square may overflow
    total = row.s * row.s if top == 1.0 else (row.s / top) ** 2
    for axis, size in enumerate(sizes):
        total = _line_sums(total, op.taps, axis, size)
    square = total * (W * W / op.taps.count(sizes))
    s = torch.sqrt(square + (b / top) ** 2) if b else torch.sqrt(square)
    s = s if top == 1.0 else top * s
    return Row(s, s.new_zeros(()).expand_as(s))


def _line_sums(x: Tensor, taps: Taps, axis: int, size: int) -> Tensor:
    """Sums over the windows along an axis of positions."""
    assert taps.shape is not None
    k, s, d = taps.shape[axis], taps.strides[axis], taps.dilation[axis]
    count, low = len(taps.sources(axis, size)), taps.low(axis, size)
    high = (count - 1) * s + (k - 1) * d + 1 - low - size
    if taps.padding == "CIRCULAR":
        x = x.index_select(1 + axis, torch.arange(-low, size + max(0, high)) % size)
    elif low or high > 0:
        edges = [(n, *x.shape[1 : 1 + axis]) for n in (low, max(0, high))]
        before, after = (
            x.new_zeros((x.shape[0], *e[1:], e[0], *x.shape[2 + axis :])) for e in edges
        )
        x = torch.cat([before, x, after], dim=1 + axis)
    parts = []
    for a in range(k):
        at = [slice(None)] * x.ndim
        at[1 + axis] = slice(a * d, a * d + (count - 1) * s + 1, s)
        parts.append(x[tuple(at)])
    total = parts[0].clone() if k > 1 else parts[0]
    for part in parts[1:]:
        total += part
    return total


@ROWS.of(Mix)
def _rows(params: tuple[float, ...], op: Mix, x: Row) -> tuple[Row, tuple[Tensor, ...]]:
    if op.shared is not None:
        raise BackendError(f"{op.label}: variances behind it need covariances of positions")
    row, u, v = tap_weights(x, op, params)
    return row, (u, v)


@PAIRS.of(Mix)
def _pairs(run: Blocks, op: Mix, x: Evaluated) -> Evaluated:
    return _filtered(run, op, x) if op.shared is None else _pooled(run, op, x)


def _filtered(run: Blocks, op: Mix, x: Evaluated) -> Evaluated:
    """Independent taps: the formula of dense layers, a term for each tap."""
    row, u, v = tap_weights(x.row, op, run.params)
    source = windows(op.taps, tuple(x.row.s.shape[1:])).clamp(min=0)
    low, high = x.pair.opposite_gaps()
    first, second = run.first, run.second
    below = _apart(v[first], v[second])
    above = _apart(v[first], -v[second])
    tau = torch.zeros_like(below)
    if source.shape[1] == 1:  # one position behind: all taps at once
        at = source[:, 0]
        a, b = u[first][:, :, 0], u[second][:, :, 0]
        uu, apart = a * b, (0.5 * (a - b) ** 2).sum(1)
        below = below + ((uu * low[:, at, at]).sum(1) + apart)[:, None, None]
        above = above + ((uu * high[:, at, at]).sum(1) + apart)[:, None, None]
        tau = (uu * x.pair.tau[:, at, at]).sum(1)[:, None, None]
    else:
        for k, at in enumerate(source):
            a, b = u[first, k], u[second, k]
            uu, apart = a[:, :, None] * b[:, None, :], _apart(a, b)
            below += uu * low[:, at][:, :, at] + apart
            above += uu * high[:, at][:, :, at] + apart
            tau += uu * x.pair.tau[:, at][:, :, at]
    pair = PairState.from_gaps(below, above, tau)
    g, h = op.own(run.params)
    s = row.s.reshape(len(row.s), -1)
    one = ratio(torch.ones_like(s), s, 0.0)
    own = g * pair.rho + h * one[first][:, :, None] * one[second][:, None, :]
    pair = PairState(pair.rho, pair.gap, own + tau)
    return Evaluated(_still(pair) if op.local else pair, row)


def _apart(a: Tensor, b: Tensor) -> Tensor:
    """Half the square of differences, of shape (blocks, positions, positions)."""
    return 0.5 * (a[:, :, None] - b[:, None, :]) ** 2


def _still(p: PairState) -> PairState:
    """Without covariance between different positions."""
    same = torch.eye(p.rho.shape[1], dtype=torch.bool)
    return PairState(
        torch.where(same, p.rho, 0.0), torch.where(same, p.gap, 1.0), torch.where(same, p.tau, 0.0)
    )


def _pooled(run: Blocks, op: Mix, x: Evaluated) -> Evaluated:
    """Shared sums: variances come from an image with itself, gaps from squares of distances."""
    sizes = tuple(x.row.s.shape[1:])
    A = pooling(op.taps, sizes, str(op.shared))
    s = x.row.s.reshape(len(x.row.s), -1)
    a, b = s[run.first][:, :, None], s[run.second][:, None, :]
    low, _ = x.pair.opposite_gaps()
    distance = A @ ((a - b) ** 2 + 2.0 * a * b * low) @ A.T
    trained = A @ (a * b * x.pair.tau) @ A.T
    own = run.own
    within = torch.diagonal(distance[own], dim1=1, dim2=2)  # of the parts of one pool
    share, size = A.sum(1), (s * s) @ A.T
    square = share * size - 0.5 * within
    out = torch.sqrt(torch.clamp(square, min=0.0))
    lost = (share[:, None] - share[None, :]) * (
        size[run.first][:, :, None] - size[run.second][:, None, :]
    )
    distance = distance - 0.5 * within[run.first][:, :, None]
    distance = torch.clamp(distance - 0.5 * within[run.second][:, None, :] + lost, min=0.0)
    p, q = out[run.first][:, :, None], out[run.second][:, None, :]
    twice = 2.0 * p * q
    below = ratio(torch.clamp(distance - (p - q) ** 2, min=0.0), twice, 1.0).clamp(max=2.0)
    tau = ratio(2.0 * trained, twice, 0.0)
    pair = PairState.from_gaps(below, 2.0 - below, tau)
    shape = (len(s), *op.taps.out(sizes, op.label))
    row = Row(out.reshape(shape), torch.diagonal(tau[own], dim1=1, dim2=2).reshape(shape))
    return Evaluated(pair, row)


@PLANES.of(Mix)
def _planes(t: Translator, op: Mix, x: Spatial) -> Spatial | Vector:
    if op.taps.shape is None:
        return read_out(t, op, x)
    if id(op) in t.plan.lazy:
        slot = x.slot
        if not t.last(x):
            t.emit(x.stage, "copy", slot := t.place(x.stage), x.slot)
        return replace(x, slot=slot, pool=op, filtered=None)
    if lands(op):
        return land(t, op, x, filter_row(x.row, op, t.params) if op.shared is None else None)
    W, _ = op.numbers(t.params)
    scale = W * W / op.taps.count(x.sizes)
    row = filter_row(x.row, op, t.params)
    return filter_planes(t, op, x, offsets(op.taps, x.sizes), scale, op.own(t.params), row)
