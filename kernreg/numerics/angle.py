"""Nonlinearities without a closed form as series in the angle, for rows of different norms.

The kernel behind a nonlinearity is analytic in the angle ``theta = acos(rho)`` on [0, pi], also
with a kink at 0 or at large variances, where the Hermite series in ``rho`` converges slowly. Its
dependence on the two standard deviations is interpolated between few of them.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernreg.ir.pair import Dual
from kernreg.numerics.quadrature import line_values, moment_table, row_moments

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_NODES", "MAX_TERMS", "AngleSeries", "fit_angle_series"]

MAX_TERMS = 8192
"""Terms in the angle times nodes in the standard deviation; the C++ backend has room for these."""

MAX_NODES = 48
"""Nodes in the standard deviation; the same."""

# The terms grow with the root of the deviation, and the cost of one with its square.
_MAX_DEVIATION = 64.0


@dataclass(frozen=True)
class AngleSeries:
    """Normalised moments of a nonlinearity as sums over ``T_m(1 - 2 theta / pi)``.

    Parameters
    ----------
    low, high : float
        Range of the standard deviations.
    coefficients : ndarray of shape (3, terms, nodes, nodes)
        At every two nodes, with the root mean squares ``r`` of the nonlinearity: of
        ``rho = kappa / (r1 r2)``, of its derivative ``s1 s2 kappa_dot / (r1 r2)``, and of
        ``(rho(0) - rho(theta)) / (1 - cos(theta))``, which gives ``1 - rho`` without cancellation.
    embedding : ndarray of shape (nodes, nodes)
        ``1 - rho`` at angle 0 is half the squared distance of ``embedding @ weights``.
    """

    low: float
    high: float
    coefficients: NDArray[np.float64]
    embedding: NDArray[np.float64]

    def weights(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights of the nodes for standard deviations ``s`` of shape (n,), shape (n, nodes)."""
        return _weights(s, self.low, self.high, self.coefficients.shape[-1])


def fit_angle_series(fn: Dual, low: float, high: float, tol: float) -> AngleSeries | None:
    """Fit a series for standard deviations from ``low`` to ``high``.

    Parameters
    ----------
    fn : Dual
        The nonlinearity; only ``phi`` is used, with its derivative from autograd.
    low, high : float
        Standard deviations, not negative.
    tol : float
        Error allowed in the normalised moments, relative to the second at angle 0 if that is
        larger than 1.

    Returns
    -------
    AngleSeries or None
        None if it would be too long.

    Notes
    -----
    The interpolation error is bounded for all angles at once: by Cauchy-Schwarz it is at most the
    mean-square error of interpolating the functions ``phi(s z)`` in ``s``, an integral in one
    dimension. Time: about 50,000 evaluations of ``phi`` for each term and node; results are kept.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import nn
    >>> series = fit_angle_series(nn.Elu(), 0.5, 2.0, 1e-10)
    >>> series.weights(np.array([1.0])).sum().round(12)
    np.float64(1.0)
    """
    # Ranges on a grid, so that similar data share a series.
    low = math.sinh(math.floor(8.0 * math.asinh(low)) / 8.0)
    high = math.sinh(max(1, math.ceil(8.0 * math.asinh(high))) / 8.0)
    return _fit(fn, low, high, tol)


@functools.lru_cache(maxsize=64)
def _fit(fn: Dual, low: float, high: float, tol: float) -> AngleSeries | None:
    import numpy as np

    nodes = _node_count(fn, low, high, tol) if high <= _MAX_DEVIATION else None
    if nodes is None:
        return None
    terms = 32
    while True:
        if terms * nodes > MAX_TERMS:
            return None
        # The largest deviation needs the longest series: it tells the length for all.
        kept = _kept(_coefficients(fn, np.array([high]), terms), tol)
        if kept < terms:
            break
        terms *= 2
    terms = min(terms, kept + 8)
    s = _nodes(low, high, nodes)
    c = _coefficients(fn, s, terms)
    # Orthonormal columns times a triangle: the functions phi(s z) / r as vectors.
    functions, weight = _normalised(fn, s)
    embedding = np.linalg.qr((functions * np.sqrt(weight)).T)[1]
    return AngleSeries(low, high, np.ascontiguousarray(c[:, : _kept(c, tol)]), embedding)


def _coefficients(fn: Dual, s: NDArray[np.float64], terms: int) -> NDArray[np.float64]:
    """Chebyshev coefficients in the angle, shape (3, terms, len(s), len(s))."""
    import numpy as np

    angle = 0.5 * np.pi * (1.0 - np.cos(np.pi * (np.arange(terms) + 0.5) / terms))
    # The nearer end of [0, pi] gives the gap without cancellation.
    gap = 2.0 * np.sin(0.5 * np.minimum(angle, np.pi - angle)) ** 2
    moments = moment_table(fn, np.where(angle < 0.5 * np.pi, 1.0 - gap, gap - 1.0), gap, s)
    root = np.sqrt(row_moments(fn, s)[0].numpy())
    value = _transform(moments.kappa.numpy() / np.outer(root, root))
    slope = _transform(moments.kappa_dot.numpy() * np.outer(s / root, s / root))
    # rho(0) - rho(theta) is the integral of the derivative over cos(theta).
    x, weight = np.polynomial.legendre.leggauss(terms)
    inner = 0.5 * angle[:, None] * (1.0 + x)
    weight = (
        0.5 * angle[:, None] * weight * np.sin(inner) / (2.0 * np.sin(0.5 * angle) ** 2)[:, None]
    )
    basis = np.cos(np.arange(terms)[:, None, None] * np.arccos(1.0 - 2.0 * inner / np.pi))
    operator = np.einsum("maq,aq->am", basis, weight)
    return np.stack([value, slope, _transform(np.tensordot(operator, slope, axes=1))])


def _transform(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chebyshev coefficients from values at the nodes along the first axis."""
    from scipy.fft import dct

    c = dct(values, type=2, axis=0) / len(values)
    c[0] *= 0.5
    return c


def _kept(c: NDArray[np.float64], tol: float) -> int:
    """Terms that are needed: those behind add up to less than a tenth of the tolerance."""
    import numpy as np

    size = np.abs(c).max(axis=(2, 3))
    size /= np.maximum(1.0, np.abs(c.sum(axis=1)).max(axis=(1, 2)))[:, None]
    tail = np.cumsum(size[:, ::-1], axis=1)[:, ::-1].max(axis=0)
    return max(2, int(np.count_nonzero(tail > 0.1 * tol)))


def _node_count(fn: Dual, low: float, high: float, tol: float) -> int | None:
    """Nodes after which interpolation in the standard deviation is accurate."""
    import numpy as np

    for count in range(2, MAX_NODES + 1, 2):
        nodes = _nodes(low, high, count)
        tests = _nodes(low, high, 2 * count)
        s = np.concatenate([nodes, tests, [high, low] if low > 0 else [high]])
        value, slope, weight = _line_values(fn, s)
        root = np.sqrt(value**2 @ weight)[:, None]
        L = _weights(s[count:], low, high, count)
        for f in (value / root, s[:, None] * slope / root):
            error = np.sqrt((f[count:] - L @ f[:count]) ** 2 @ weight)
            size = np.maximum(1.0, np.sqrt(f[count:] ** 2 @ weight))
            if not bool((error <= 0.5 * tol * size).all()):
                break
        else:
            return count
    return None


def _line_values(fn: Dual, s: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    import torch

    return [t.numpy() for t in line_values(fn, torch.from_numpy(s))[1:]]


def _normalised(
    fn: Dual, s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """``phi(s z) / r`` at the nodes of a rule, shape (len(s), nodes), and its weights."""
    import numpy as np

    value, _, weight = _line_values(fn, s)
    return value / np.sqrt(value**2 @ weight)[:, None], weight


def _nodes(low: float, high: float, count: int) -> NDArray[np.float64]:
    """Chebyshev nodes in ``asinh(s)``: even on a logarithmic scale, and regular at 0."""
    import numpy as np

    a, b = math.asinh(low), math.asinh(high)
    x = np.cos(np.pi * (np.arange(count) + 0.5) / count)
    return np.sinh(0.5 * (a + b) + 0.5 * (b - a) * x)


def _weights(s: NDArray[np.float64], low: float, high: float, count: int) -> NDArray[np.float64]:
    """Lagrange polynomials of the nodes at ``s``."""
    import numpy as np

    a, b = math.asinh(low), math.asinh(high)
    x = np.clip((2.0 * np.arcsinh(s) - a - b) / ((b - a) or 1.0), -1.0, 1.0)
    order = np.arange(count)
    at_nodes = np.cos(np.pi * np.outer(np.arange(count) + 0.5, order) / count)
    at_nodes[:, 0] *= 0.5
    return (2.0 / count) * np.cos(np.arccos(x)[:, None] * order) @ at_nodes.T
