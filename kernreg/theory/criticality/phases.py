"""The edge of chaos and the phase diagram of networks of equal layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq

from kernreg.exceptions import InvalidInputError
from kernreg.nn.base import Nonlinearity
from kernreg.theory.averages import as_nonlinearity
from kernreg.theory.checks import check_number
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.fixed_points import (
    ONE,
    correlation_gaps,
    depth_scale,
    settled_variances,
)
from kernreg.theory.criticality.single_input import (
    Averages,
    average_table,
    averages,
    check_initialization,
)

__all__ = [
    "Edge",
    "Phase",
    "PhaseDiagram",
    "edge_of_chaos",
    "phase",
    "phase_diagram",
    "phase_from",
]

Array = NDArray[np.float64]

_SYMBOLS = {"ordered": ".", "chaotic": "#", "edge": "|", "critical": "*", "unstable": "~"}


@dataclass(frozen=True)
class Edge:
    """The edge of chaos: ``chi_perp = 1`` at the fixed point.

    Parameters
    ----------
    C_b, C_W : float
        Variances of biases and weights.
    K : float
        The fixed point.
    chi_par : float
        Its other susceptibility; below 1 unless the point is critical.
    xi_par : float
        Depth scale of the norm.

    Examples
    --------
    >>> from kernreg import nn
    >>> edge = edge_of_chaos(nn.Erf(), 0.05)
    >>> round(edge.C_W, 4), round(edge.K, 4), round(edge.xi_par, 2)
    (1.3758, 0.5172, 1.41)
    >>> phase(nn.Erf(), 0.05, edge.C_W).phase
    'edge'
    """

    C_b: float
    C_W: float
    K: float
    chi_par: float
    xi_par: float


def edge_of_chaos(sigma: Any, C_b: float) -> Edge:
    """The variance of the weights on the edge of chaos, given that of the biases.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b : float
        Variance of the biases.

    Returns
    -------
    Edge
        That with the smallest ``K`` which is stable.

    Raises
    ------
    InvalidInputError
        If there is none.

    Notes
    -----
    Along the edge ``C_W = 1 / <sigma'^2>_K`` and ``C_b = K - C_W <sigma^2>_K``.

    References
    ----------
    Schoenholz, Gilmer, Ganguli, Sohl-Dickstein, "Deep information propagation" (2017).

    Examples
    --------
    >>> from kernreg import nn
    >>> round(edge_of_chaos(nn.Tanh(), 0.05).C_W, 8)
    1.76095464
    """
    target = check_number("C_b", C_b)
    fn = as_nonlinearity(sigma)
    point = critical(fn)
    if target == 0 and point.kind in ("scale-invariant", "K*=0") and point.C_W is not None:
        return Edge(0.0, point.C_W, 1.0 if point.K is None else 0.0, 1.0, math.inf)
    if point.kind == "scale-invariant":
        raise InvalidInputError(
            f"{fn!r} has an edge of chaos at C_b = 0 only, C_W = {point.C_W:.6g}: with "
            f"C_b = {target:g} the variance grows by that much in every layer. Set C_b = 0."
        )
    table = average_table(fn)
    usable = table.slope_square > 0
    ratio = np.divide(table.square, table.slope_square, where=usable, out=table.K * 0.0)
    bias = np.where(usable, table.K - ratio, -math.inf)
    growth = math.inf
    for i in np.flatnonzero((bias[:-1] < target) != (bias[1:] < target)):
        if not (usable[i] and usable[i + 1]):
            continue
        K = brentq(_bias_excess, table.K[i], table.K[i + 1], (fn, target), xtol=1e-300, rtol=1e-15)
        at = averages(fn, K)
        chi_par = float(at.drift[0] / at.slope_square[0])
        if chi_par <= 1.0 + ONE:
            C_W = 1.0 / float(at.slope_square[0])
            return Edge(target, C_W, float(K), chi_par, depth_scale(chi_par))
        growth = min(growth, chi_par)
    if math.isfinite(growth):
        why = f"where chi_perp = 1 the fixed point is unstable, chi_par = {growth:.4g}"
    else:
        why = (
            f"along chi_perp = 1, C_b lies between {bias[usable].min():.4g} and "
            f"{bias[usable].max():.4g} for K from {table.K[0]:.4g} to {table.K[-1]:.4g}"
        )
    raise InvalidInputError(
        f"{fn!r} has no stable edge of chaos at C_b = {target:g}: {why}. Choose another C_b or "
        "another nonlinearity."
    )


def _bias_excess(K: float, fn: Nonlinearity, target: float) -> float:
    at = averages(fn, K)
    return float(K - at.square[0] / at.slope_square[0]) - target


@dataclass(frozen=True)
class Phase:
    """What becomes of signals deep in a network.

    Parameters
    ----------
    C_b, C_W : float
        Variances of biases and weights.
    phase : str
        "ordered": ``chi_perp < 1``, inputs become alike and gradients vanish. "chaotic":
        ``chi_perp > 1``, inputs become unlike and gradients explode. "edge": ``chi_perp = 1``.
        "critical": ``chi_par = 1`` as well. "unbounded": the variance grows for ever, or beyond
        1e6. "unstable": it starts at an unstable fixed point.
    K_star : float
        The fixed point of the variance that the first layer leads to; infinite if unbounded.
    chi_par, chi_perp : float
        Susceptibilities there; if unbounded, at the largest variance looked at.
    c_star : float
        The correlation that two inputs tend to; 1 where ``K_star = 0``, as all signals meet at 0;
        NaN if unbounded.
    slope : float
        Of the map of correlations at ``c_star``; ``chi_perp`` where ``K_star = 0``; NaN if
        unbounded.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = phase(nn.Erf(), 0.1, 1.0)
    >>> found.phase, round(found.K_star, 4), round(found.xi_c, 2)
    ('ordered', 0.3878, 4.41)
    """

    C_b: float
    C_W: float
    phase: str
    K_star: float
    chi_par: float
    chi_perp: float
    c_star: float
    slope: float

    @property
    def xi_par(self) -> float:
        """Depth scale of the norm, in layers."""
        return depth_scale(self.chi_par)

    @property
    def xi_c(self) -> float:
        """Depth scale of correlations, in layers; NaN if unbounded.

        Where ``K_star = 0``, that of distances: correlations freeze, or tend to 1 as a power.
        """
        return math.nan if math.isnan(self.slope) else depth_scale(self.slope)

    def __str__(self) -> str:
        return (
            f"{self.phase} at C_b = {self.C_b:.6g}, C_W = {self.C_W:.6g}: K* = {self.K_star:.6g}, "
            f"chi_par = {self.chi_par:.6g}, chi_perp = {self.chi_perp:.6g}, "
            f"c* = {self.c_star:.6g}, xi_par = {self.xi_par:.4g}, xi_c = {self.xi_c:.4g}"
        )


@dataclass(frozen=True)
class PhaseDiagram:
    """:class:`Phase` over a grid; rows are ``C_b``, columns ``C_W``.

    Parameters
    ----------
    C_b : ndarray of shape (m,)
        Variances of biases.
    C_W : ndarray of shape (n,)
        Variances of weights.
    phase : ndarray of str, shape (m, n)
        As in :class:`Phase`, and so are the others.
    K_star, chi_par, chi_perp, c_star, slope, xi_par, xi_c : ndarray of shape (m, n)
        Fixed points, susceptibilities and depth scales.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = phase_diagram(nn.Tanh(), [0.0, 0.1], [0.5, 1.0, 2.0])
    >>> found.phase.tolist()
    [['ordered', 'critical', 'chaotic'], ['ordered', 'ordered', 'chaotic']]
    """

    C_b: Array
    C_W: Array
    phase: NDArray[np.str_]
    K_star: Array
    chi_par: Array
    chi_perp: Array
    c_star: Array
    slope: Array
    xi_par: Array
    xi_c: Array

    def __str__(self) -> str:
        lines = ["phase diagram: . ordered  # chaotic  | edge  * critical  ~ unstable  ! unbounded"]
        lines += [
            f"C_b = {b:<10.4g} " + "".join(_SYMBOLS.get(str(p), "!") for p in row)
            for b, row in zip(self.C_b, self.phase, strict=True)
        ]
        return "\n".join([*lines, f"C_W = {self.C_W[0]:.4g} to {self.C_W[-1]:.4g}"])


def phase(sigma: Any, C_b: float, C_W: float, *, input_norm: float = 1.0) -> Phase:
    """The phase of a deep network of equal layers.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b, C_W : float
        Variances of biases and weights.
    input_norm : float
        ``<x, x> / d`` of the input, > 0, which decides where there are several fixed points.

    Returns
    -------
    Phase

    Raises
    ------
    InvalidInputError
        If an argument is out of range, if ``sigma`` has no such averages, or if the fixed point
        lies beyond the variances at which it can be averaged.

    Notes
    -----
    About a second for a new nonlinearity, then up to 0.2 seconds.

    References
    ----------
    Poole et al., "Exponential expressivity in deep neural networks through transient chaos"
    (2016); Schoenholz et al., "Deep information propagation" (2017).

    Examples
    --------
    >>> from kernreg import nn
    >>> print(phase(nn.Tanh(), 0.05, 3.0))
    chaotic at C_b = 0.05, C_W = 3: K* = 1.42801, chi_par = 0.38282, chi_perp = 1.20893, c* =
    0.299318, xi_par = 1.041, xi_c = 9.051
    """
    C_b, C_W = check_initialization(C_b, C_W)
    fn, norm = as_nonlinearity(sigma), check_number("input_norm", input_norm, strict=True)
    return phase_from(fn, C_b, C_W, C_b + C_W * norm)


def phase_from(fn: Nonlinearity, C_b: float, C_W: float, K: float) -> Phase:
    """The phase of a network whose first preactivations have variance ``K``."""
    return _phases(fn, np.array([C_b]), np.array([C_W]), np.array([K]))[0]


def phase_diagram(
    sigma: Any, C_b: ArrayLike, C_W: ArrayLike, *, input_norm: float = 1.0
) -> PhaseDiagram:
    """The phases over a grid of variances of biases and weights.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b : array_like of shape (m,)
        Variances of biases.
    C_W : array_like of shape (n,)
        Variances of weights.
    input_norm : float
        As in :func:`phase`.

    Returns
    -------
    PhaseDiagram

    Raises
    ------
    InvalidInputError
        As :func:`phase`.

    Notes
    -----
    A few milliseconds per point, some 30 in the chaotic phase.

    Examples
    --------
    >>> from kernreg import nn
    >>> print(phase_diagram(nn.Erf(), [0.0, 0.2], [0.5, 1.0, 2.0, 3.0]))
    phase diagram: . ordered  # chaotic  | edge  * critical  ~ unstable  ! unbounded
    C_b = 0          .###
    C_b = 0.2        ..##
    C_W = 0.5 to 3
    """
    fn, norm = as_nonlinearity(sigma), check_number("input_norm", input_norm, strict=True)
    rows, columns = (np.asarray(v, dtype=np.float64) for v in (C_b, C_W))
    for name, values in (("C_b", rows), ("C_W", columns)):
        if values.ndim != 1 or values.size == 0:
            raise InvalidInputError(
                f"{name} must be a vector of variances, found shape {values.shape}."
            )
    for b, w in [(b, columns[0]) for b in rows] + [(rows[0], w) for w in columns]:
        check_initialization(b, w)
    grid_b, grid_W = (v.ravel() for v in np.meshgrid(rows, columns, indexing="ij"))
    points = _phases(fn, grid_b, grid_W, grid_b + grid_W * norm)
    names = ("phase", "K_star", "chi_par", "chi_perp", "c_star", "slope", "xi_par", "xi_c")
    shape = (rows.size, columns.size)
    return PhaseDiagram(
        rows, columns, *(np.array([getattr(p, n) for p in points]).reshape(shape) for n in names)
    )


def _phases(fn: Nonlinearity, C_b: Array, C_W: Array, first: Array) -> list[Phase]:
    K = settled_variances(fn, C_b, C_W, first)
    table = average_table(fn)
    at = averages(fn, np.where(np.isfinite(K), K, table.K[-1]))
    chi_par, chi_perp = C_W * at.drift, C_W * at.slope_square
    for i in np.flatnonzero(np.isinf(K)):
        _require_growth(fn, table, float(C_b[i]), float(C_W[i]), float(chi_par[i]))
    gap, slope = np.full(first.shape, math.nan), np.full(first.shape, math.nan)
    gap[K == 0], slope[K == 0] = 0.0, chi_perp[K == 0]
    inside = np.flatnonzero((K > 0) & np.isfinite(K))
    gap[inside], slope[inside] = correlation_gaps(fn, C_b[inside], C_W[inside], K[inside])
    columns = (C_b, C_W, K, chi_par, chi_perp, 1.0 - gap, slope)
    return [
        Phase(b, w, _name(k, par, perp), k, par, perp, c, s)
        for b, w, k, par, perp, c, s in zip(*(v.tolist() for v in columns), strict=True)
    ]


def _require_growth(
    fn: Nonlinearity, table: Averages, C_b: float, C_W: float, chi_par: float
) -> None:
    """Tell a variance that grows for ever from one whose fixed point cannot be reached."""
    if not table.complete and chi_par < 1.0:
        raise InvalidInputError(
            f"{fn!r} at C_b = {C_b:g}, C_W = {C_W:g} has no fixed point up to K = "
            f"{table.K[-1]:.4g}, beyond which it cannot be averaged: it oscillates too fast, or "
            "has a kink elsewhere than at 0. Use smaller variances or a smooth function close to "
            "it."
        )


def _name(K: float, chi_par: float, chi_perp: float) -> str:
    if math.isinf(K):
        return "unbounded"
    if chi_par > 1.0 + ONE:
        return "unstable"
    if abs(chi_perp - 1.0) <= ONE:
        return "critical" if abs(chi_par - 1.0) <= ONE else "edge"
    return "ordered" if chi_perp < 1.0 else "chaotic"
