"""Fixed points of norms and of correlations, and how fast they are approached."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.nn.base import Nonlinearity
from kernreg.numerics.quadrature import pair_moments
from kernreg.theory.averages import as_nonlinearity, line
from kernreg.theory.checks import check_number
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.single_input import average_table, averages, check_initialization

__all__ = [
    "ONE",
    "FixedPoint",
    "correlation_fixed_point",
    "correlation_gaps",
    "depth_scale",
    "fixed_points",
    "settled_variances",
]

Array = NDArray[np.float64]

ONE = 1e-9
"""A susceptibility this close to 1 counts as 1; each is good to about 1e-13."""

# Relative agreement of C_b, C_W with a critical point, whose fixed point is a double root.
_SAME = 1e-12
# On this share of both sides of a double root the variance hardly moves.
_BESIDE = 1e-3
# Layers after which a variance has found its fixed point, or is on its way to it.
_STEPS = 60


@dataclass(frozen=True)
class FixedPoint:
    """A variance that a layer does not change.

    Parameters
    ----------
    K : float
        The variance.
    chi_par, chi_perp : float
        Susceptibilities there.
    stability : str
        "stable", "unstable", "stable from above", "stable from below", or "neutral": every
        variance is a fixed point, and ``K = 1`` stands for all.

    Examples
    --------
    >>> from kernreg import nn
    >>> (point,) = fixed_points(nn.Erf(), 0.1, 3.0)
    >>> round(point.K, 4), round(point.chi_perp, 4), point.stability
    (1.8234, 1.3264, 'stable')
    """

    K: float
    chi_par: float
    chi_perp: float
    stability: str


def depth_scale(slope: float) -> float:
    """Layers in which a deviation falls by ``e``: ``-1 / ln |slope|``; infinite from 1 on.

    Examples
    --------
    >>> round(depth_scale(0.9), 3), depth_scale(1.0), depth_scale(0.0)
    (9.491, inf, 0.0)
    """
    size = abs(slope)
    if size >= 1.0 - ONE * 1e-3:
        return math.inf
    return 0.0 if size == 0 else -1.0 / math.log(size)


def fixed_points(sigma: Any, C_b: float, C_W: float) -> tuple[FixedPoint, ...]:
    """Every fixed point of ``g(K) = C_b + C_W <sigma^2>_K``.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b, C_W : float
        Variances of biases and weights.

    Returns
    -------
    tuple of FixedPoint
        With growing ``K``, up to ``K = 1e6`` or as far as ``sigma`` can be averaged.

    Raises
    ------
    InvalidInputError
        If an argument is out of range, or ``sigma`` has no such averages.

    Notes
    -----
    Sign changes of ``g(K) - K`` on a grid of 60 variances per decade, refined by Newton's method;
    of double roots only those of :func:`kernreg.theory.criticality.critical` are known. Since
    ``<sigma^2>_K`` falls no faster than ``K^(-1/2)``, ``chi_par >= -1/2`` at every fixed point, and
    the variance never oscillates for ever.

    Examples
    --------
    >>> from kernreg import nn
    >>> [(round(p.K, 6), p.stability) for p in fixed_points(nn.Gelu(), 0.0, 3.0)]
    [(0.0, 'stable'), (0.247067, 'unstable')]
    """
    C_b, C_W = check_initialization(C_b, C_W)
    fn = as_nonlinearity(sigma)
    map_ = _Map(fn, C_b, C_W)
    spans = [_Span(1.0, 1.0, True, True)] if map_.neutral else map_.spans()
    K = _polish(fn, C_b, C_W, spans)
    at = averages(fn, K)
    return tuple(
        FixedPoint(k, par, perp, "neutral" if map_.neutral else _stability(span))
        for span, k, par, perp in zip(
            spans,
            K.tolist(),
            (C_W * at.drift).tolist(),
            (C_W * at.slope_square).tolist(),
            strict=True,
        )
    )


@dataclass(frozen=True)
class _Span:
    """Where a fixed point lies, and whether the variance grows below and above it."""

    low: float
    high: float
    grows_below: bool
    grows_above: bool


def _stability(span: _Span) -> str:
    if span.grows_below == span.grows_above:
        return "stable from below" if span.grows_below else "stable from above"
    # chi_par < -1, the other way to be unstable, does not occur.
    return "unstable" if span.grows_above else "stable"


class _Map:
    """``g`` on the grid of variances."""

    def __init__(self, fn: Nonlinearity, C_b: float, C_W: float) -> None:
        self.fn, self.C_b, self.C_W = fn, C_b, C_W
        self.table = average_table(fn)
        self.excess = (C_b + C_W * self.table.square) / self.table.K - 1.0
        self.neutral = bool((np.abs(self.excess) <= _SAME).all())

    def spans(self, start: float | None = None, excess: float = 0.0) -> list[_Span]:
        """All fixed points, ascending; those beside ``start`` are found in any case."""
        K, grows = self.table.K, self.excess > 0
        if start is not None:
            at = int(np.searchsorted(K, start))
            K, grows = np.insert(K, at, start), np.insert(grows, at, excess > 0)
        found = []
        if self.C_b + self.C_W * _at_zero(self.fn) ** 2 == 0:
            found.append(_Span(0.0, 0.0, not grows[0], bool(grows[0])))
        elif not grows[0]:
            found.append(_Span(0.0, float(K[0]), True, False))
        found += [
            _Span(float(K[i]), float(K[i + 1]), bool(grows[i]), bool(grows[i + 1]))
            for i in np.flatnonzero(grows[1:] != grows[:-1])
        ]
        for double, grows_beside in self._double_roots():
            found = [_beside(span, double, grows_beside) for span in found]
            found.append(_Span(double, double, grows_beside, grows_beside))
        return sorted(found, key=lambda span: span.low)

    def _double_roots(self) -> list[tuple[float, bool]]:
        """Those of the half-stable critical point, and whether the variance grows beside them."""
        roots = []
        for c in critical(self.fn).candidates:
            same = abs(self.C_W - c.C_W) <= _SAME * c.C_W and abs(self.C_b - c.C_b) <= _SAME
            if c.kind == "half-stable" and c.accepted and c.K is not None and same:
                beside = np.array([1.0 - _BESIDE, 1.0 + _BESIDE]) * c.K
                excess = self.C_b + self.C_W * averages(self.fn, beside).square - beside
                roots.append((c.K, bool(excess.sum() > 0)))
        return roots

    def settled(self, start: float, excess: float) -> _Span | None:
        """The fixed point that the variance ``start`` moves to; None if it grows without one."""
        if abs(excess) <= _SAME * start:
            return _Span(start, start, True, True)
        spans = self.spans(start, excess)
        if len(spans) > 1 and (self.table.drift < 0).any():
            # Where g falls, a step may lead past a fixed point.
            for _ in range(_STEPS):
                start += excess
                if start > self.table.K[-1]:
                    return None
                excess = self._excess(start)
            return self._next(self.spans(start, excess), start, excess)
        return self._next(spans, start, excess)

    def _excess(self, K: float) -> float:
        return self.C_b + self.C_W * float(averages(self.fn, K).square[0]) - K

    def _next(self, spans: list[_Span], start: float, excess: float) -> _Span | None:
        if excess > 0:
            return next((s for s in spans if s.grows_below and s.high >= start), None)
        return [s for s in spans if not s.grows_above and s.low <= start][-1]


@functools.lru_cache(maxsize=16)
def _at_zero(fn: Nonlinearity) -> float:
    value = float(line(fn, 0.0).value.mean())
    return value if abs(value) > 1e-100 else 0.0  # a kink is looked at from 1e-150 off


def _beside(span: _Span, double: float, grows_beside: bool) -> _Span:
    """``span`` without the double root, which Newton's method would take for the simple one."""
    if not span.low < double < span.high:
        return span
    if span.grows_below == grows_beside:
        return replace(span, low=max(span.low, double * (1.0 + _BESIDE)))
    return replace(span, high=min(span.high, double * (1.0 - _BESIDE)))


def settled_variances(fn: Nonlinearity, C_b: Array, C_W: Array, first: Array) -> Array:
    """The fixed points that layers lead to from variances ``first``; infinite where there is none.

    All arrays have shape (n,).
    """
    excess = C_b + C_W * averages(fn, first).square - first
    spans = [
        _Map(fn, b, w).settled(k, e)
        for b, w, k, e in zip(*(v.tolist() for v in (C_b, C_W, first, excess)), strict=True)
    ]
    found = np.flatnonzero([span is not None for span in spans])
    K = np.full(first.shape, math.inf)
    K[found] = _polish(fn, C_b[found], C_W[found], [span for span in spans if span is not None])
    return K


def _polish(fn: Nonlinearity, C_b: Any, C_W: Any, spans: list[_Span]) -> Array:
    """The fixed points in ``spans``, all at once, by Newton's method kept inside of them."""
    low, high = np.array([s.low for s in spans]), np.array([s.high for s in spans])
    grows_below = np.array([s.grows_below for s in spans])
    K = np.where(low > 0, np.sqrt(low * high), 0.5 * high)
    C_b, C_W = np.broadcast_to(C_b, K.shape), np.broadcast_to(C_W, K.shape)
    for _ in range(100):
        todo = np.flatnonzero(high - low > 4e-16 * high)
        if todo.size == 0:
            break
        found = averages(fn, K[todo])
        excess = C_b[todo] + C_W[todo] * found.square - K[todo]
        is_below = (excess > 0) == grows_below[todo]
        low[todo] = np.where(is_below, K[todo], low[todo])
        high[todo] = np.where(is_below, high[todo], K[todo])
        slope = C_W[todo] * found.drift - 1.0
        step = excess / np.where(slope == 0, 1.0, slope)
        new = K[todo] - step
        outside = (new <= low[todo]) | (new >= high[todo])
        new = np.where(outside, 0.5 * (low[todo] + high[todo]), new)
        done = ~outside & (np.abs(new - K[todo]) <= 4e-16 * K[todo])
        K[todo] = new
        low[todo[done]] = high[todo[done]] = new[done]
    return K


def correlation_fixed_point(sigma: Any, C_b: float, C_W: float, K: float) -> tuple[float, float]:
    """The correlation that two inputs of variance ``K`` tend to, and the slope of the map there.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b, C_W : float
        Variances of biases and weights.
    K : float
        Variance of the preactivation, > 0, usually a fixed point; any other one is held fixed, as
        layer normalisation does.

    Returns
    -------
    c_star : float
        Stable fixed point in [0, 1] of ``c -> (C_b + C_W kappa(K, c K)) / g(K)``.
    slope : float
        ``C_W kappa_dot K / g(K)`` there.

    Raises
    ------
    InvalidInputError
        If an argument is out of range, or ``sigma`` has no such averages.
    NetworkError
        If no rule integrates ``sigma`` over pairs.

    Notes
    -----
    The map is convex on [0, 1], so Newton's method from ``c = 0`` climbs to the fixed point
    without a bracket. It works on ``1 - c``, so ``1 - c_star`` keeps its digits near the edge of
    chaos: a relative error of about ``1e-12 / (chi_perp - 1)``. Some 10 steps of 10 milliseconds.

    References
    ----------
    Poole, Lahiri, Raghu, Sohl-Dickstein, Ganguli, "Exponential expressivity in deep neural
    networks through transient chaos" (2016).

    Examples
    --------
    >>> from kernreg import nn
    >>> c, slope = correlation_fixed_point(nn.Erf(), 0.1, 3.0, 1.8234005875)
    >>> round(c, 6), round(slope, 6)
    (0.324872, 0.850105)
    """
    C_b, C_W = check_initialization(C_b, C_W)
    variance = check_number("K", K, strict=True)
    fn = as_nonlinearity(sigma)
    gap, slope = correlation_gaps(fn, np.array([C_b]), np.array([C_W]), np.array([variance]))
    return 1.0 - float(gap[0]), float(slope[0])


def correlation_gaps(fn: Nonlinearity, C_b: Array, C_W: Array, K: Array) -> tuple[Array, Array]:
    """``1 - c_star`` and the slope there, for many points at once."""
    at = averages(fn, K)
    g = C_b + C_W * at.square
    slope = C_W * at.slope_square * K / g
    gap = np.where(slope > 1.0 + ONE, 1.0, 0.0)
    todo = np.flatnonzero(gap)
    for _ in range(200):
        if todo.size == 0:
            break
        deviation = np.sqrt(K[todo])
        m = pair_moments(fn, 1.0 - gap[todo], gap[todo], deviation, deviation)
        # 1 - kappa / <sigma^2> from the gap, which is 1 - |kappa| / <sigma^2> without cancellation.
        short = np.where(m.kappa.numpy() < 0, 2.0 - m.gap.numpy(), m.gap.numpy())
        mapped = C_W[todo] * at.square[todo] * short / g[todo]
        slope[todo] = C_W[todo] * m.kappa_dot.numpy() * K[todo] / g[todo]
        step = (gap[todo] - mapped) / (1.0 - slope[todo])
        # It only ever shrinks; what does not is rounding.
        moved = step > 1e-12 * gap[todo]
        gap[todo] = np.where(moved, gap[todo] - step, gap[todo])
        todo = todo[moved]
    return gap, slope
