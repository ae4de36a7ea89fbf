"""What the instructions of a kernel program do to a tile of pairs, in Triton.

The state of a pair is its correlation ``rho``, ``gap = 1 - |rho|`` and ``tau = ntk / (standard
deviations)``. Numbers of rows come as columns ``(BM, 1)``, those of columns as ``(1, BN)``. The
formulas are those of :mod:`kernreg.backends.reference`.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = [
    "angles",
    "column",
    "dense",
    "dense_bias",
    "dense_bias_positive",
    "dropout",
    "gap_of",
    "product",
    "profile",
    "row",
    "series",
    "sides",
    "slots",
    "standard",
    "weighted_sum",
]


@triton.jit
def slots(table, slot, ld):
    """Where a table's slots from number ``slot`` on begin."""
    return table + slot * ld.to(tl.int64)


@triton.jit
def row(table, slot, ld, i):
    """Slot of a table for the rows of a tile."""
    return tl.load(slots(table, slot, ld) + i)[:, None]


@triton.jit
def column(table, slot, ld, j):
    """Slot of a table for the columns of a tile."""
    return tl.load(slots(table, slot, ld) + j)[None, :]


@triton.jit
def gap_of(rho):
    """``1 - |rho|``."""
    return tl.maximum(1.0 - tl.abs(rho), 0.0)


@triton.jit
def _from_sides(below, above):
    """Correlation and gap from ``1 - rho`` and ``1 + rho``, of which the smaller is exact."""
    gap = tl.minimum(below, above)
    return tl.where(below < above, 1.0 - below, above - 1.0), gap


@triton.jit
def sides(rho, gap):
    """``1 - rho`` and ``1 + rho``."""
    far = 2.0 - gap
    return tl.where(rho > 0, gap, far), tl.where(rho > 0, far, gap)


@triton.jit
def dense(rho, gap, tau, ui, uj):
    """A dense layer without bias."""
    return rho, gap, rho + ui * uj * tau


@triton.jit
def dense_bias(rho, gap, tau, ui, uj, vi, vj):
    """A dense layer with bias."""
    below, above = sides(rho, gap)
    uu = ui * uj
    du, dv, sv = ui - uj, vi - vj, vi + vj
    below = uu * below + 0.5 * (du * du + dv * dv)
    above = uu * above + 0.5 * (du * du + sv * sv)
    rho, gap = _from_sides(below, above)
    return rho, gap, rho + uu * tau


@triton.jit
def dense_bias_positive(rho, gap, tau, ui, uj, vi, vj):
    """A dense layer with bias, where no correlation is negative."""
    uu = ui * uj
    du, dv = ui - uj, vi - vj
    gap = uu * gap + 0.5 * (du * du + dv * dv)
    rho = 1.0 - gap
    return rho, gap, rho + uu * tau


@triton.jit
def standard(before, trained, ui, uj, gi, gj, hi, hj):
    """Tangent kernel behind a dense layer in the "standard" parameterization."""
    return ui * uj * trained + gi * gj * before + hi * hj


@triton.jit
def weighted_sum(rho, gap, tau, rho2, gap2, tau2, ui, uj, vi, vj):
    """A sum of two branches."""
    uu, vv, du, dv = ui * uj, vi * vj, ui - uj, vi - vj
    apart = 0.5 * (du * du + dv * dv)
    below1, above1 = sides(rho, gap)
    below2, above2 = sides(rho2, gap2)
    out, gap_out = _from_sides(uu * below1 + vv * below2 + apart, uu * above1 + vv * above2 + apart)
    return out, gap_out, uu * tau + vv * tau2


@triton.jit
def product(rho, gap, tau, rho2, gap2, tau2):
    """A product of two branches."""
    return rho * rho2, gap + gap2 - gap * gap2, tau * rho2 + rho * tau2


@triton.jit
def dropout(rho, gap, tau, keep):
    """A dropout between different rows."""
    return keep * rho, (1.0 - keep) + keep * gap, keep * tau


@triton.jit
def _series_at(rho, parity):
    """Where a series is summed: odd and even functions (-1, 1) differ below 0 by signs only."""
    return rho + tl.abs(parity) * (tl.abs(rho) - rho)


@triton.jit
def _behind_series(rho, gap, tau, parity, value, slope, growth, apart):
    """A pair behind a series, of which the gap of close rows is exact.

    ``apart`` is the gap of parallel rows, ``growth`` the factor on the gap.
    """
    below = apart + tl.maximum(growth, 0.0) * gap
    mirrored = tl.abs(parity) * rho < 0
    close = (_series_at(rho, parity) > 0) & (below < 0.5)
    out = tl.where(close, 1.0 - below, value)
    tau *= slope
    return (
        tl.where(mirrored, parity * out, out),
        tl.where(close, below, gap_of(value)),
        tl.where(mirrored, -parity * tau, tau),
    )


@triton.jit
def series(rho, gap, tau, consts, px, py, ldx, ldy, i, j, terms):
    """A nonlinearity by the Hermite coefficients of each row, and a factor on the derivative.

    The values of Horner's scheme add up to the factor on the gap.
    """
    parity = tl.load(consts)
    at = _series_at(rho, parity)
    value = tl.zeros_like(rho)
    slope = tl.zeros_like(rho)
    growth = tl.zeros_like(rho)
    apart = tl.zeros_like(rho)
    for k in range(terms):
        m = terms - 1 - k
        a = row(px, m, ldx, i)
        b = column(py, m, ldy, j)
        slope = slope * at + value
        growth += value
        value = value * at + a * b
        apart += 0.5 * (a - b) * (a - b)
    slope *= row(px, terms, ldx, i) * column(py, terms, ldy, j)
    return _behind_series(rho, gap, tau, parity, value, slope, growth, apart)


@triton.jit
def _clenshaw(at, consts, terms):
    """A Chebyshev series at ``at / 2``."""
    p1 = tl.zeros_like(at)
    p2 = tl.zeros_like(at)
    for k in range(terms - 1):
        p = at * p1 + (tl.load(consts + (terms - 1 - k)) - p2)
        p2 = p1
        p1 = p
    return 0.5 * at * p1 + (tl.load(consts) - p2)


@triton.jit
def profile(rho, gap, angle, consts, terms):
    """Many layers as two Chebyshev series in the angle; the gap of equal rows stays 0."""
    at = _chebyshev_argument(rho, angle)
    equal = (rho > 0) & (gap <= 0)
    out = tl.where(equal, 1.0, _clenshaw(at, consts, terms))
    return out, tl.where(equal, 0.0, gap_of(out)), _clenshaw(at, consts + terms, terms)


@triton.jit
def _chebyshev_argument(rho, angle):
    """``2 (1 - 2 theta / pi)``; ``angle`` is theta or pi - theta, whichever is smaller."""
    x = 2.0 - angle * 1.2732395447351628
    return tl.where(rho > 0, x, -x)


@triton.jit
def _bilinear_clenshaw(at, consts, wi, wj, terms, nodes, WIDTH: tl.constexpr):
    """A Chebyshev series whose coefficients are bilinear in the weights of both rows."""
    a = tl.arange(0, WIDTH)
    inside = (a < nodes)[:, None] & (a < nodes)[None, :]
    square = (a * nodes)[:, None] + a[None, :]
    p1 = tl.zeros_like(at)
    p2 = tl.zeros_like(at)
    for k in range(terms):
        m = terms - 1 - k
        C = tl.load(consts + m * nodes * nodes + square, mask=inside, other=0.0)
        mixed = tl.dot(wi, C, input_precision="ieee", out_dtype=at.dtype)
        c = tl.dot(mixed, wj, input_precision="ieee", out_dtype=at.dtype)
        half = tl.where(m > 0, 1.0, 0.5).to(at.dtype)
        p = half * at * p1 + (c - p2)
        p2 = p1
        p1 = p
    return p1


@triton.jit
def _weights(px, py, ldx, ldy, i, j, nodes, WIDTH: tl.constexpr):
    """Weights of the nodes for the rows and columns of a tile, padded by zeros."""
    a = tl.arange(0, WIDTH)
    left = px + a[None, :] * ldx.to(tl.int64) + i[:, None]
    right = py + a[:, None] * ldy.to(tl.int64) + j[None, :]
    return (
        tl.load(left, mask=(a < nodes)[None, :], other=0.0),
        tl.load(right, mask=(a < nodes)[:, None], other=0.0),
    )


@triton.jit
def angles(rho, gap, tau, angle, consts, px, py, ldx, ldy, i, j, terms, nodes, WIDTH: tl.constexpr):
    """A nonlinearity by series in the angle: correlation, derivative and factor on the gap."""
    parity = tl.load(consts)
    consts += 1
    at = _chebyshev_argument(_series_at(rho, parity), angle)
    wi, wj = _weights(px, py, ldx, ldy, i, j, nodes, WIDTH)
    size = terms * nodes * nodes
    value = _bilinear_clenshaw(at, consts, wi, wj, terms, nodes, WIDTH)
    slope = _bilinear_clenshaw(at, consts + size, wi, wj, terms, nodes, WIDTH)
    growth = _bilinear_clenshaw(at, consts + 2 * size, wi, wj, terms, nodes, WIDTH)
    apart = tl.zeros_like(rho)
    for b in range(nodes, 2 * nodes):
        distance = row(px, b, ldx, i) - column(py, b, ldy, j)
        apart += 0.5 * distance * distance
    slope *= row(px, 2 * nodes, ldx, i) * column(py, 2 * nodes, ldy, j)
    return _behind_series(rho, gap, tau, parity, value, slope, growth, apart)
