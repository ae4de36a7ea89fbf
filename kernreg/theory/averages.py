"""Gaussian averages over one preactivation, for any nonlinearity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.nn.base import Nonlinearity
from kernreg.nn.nonlinearities import Elementwise
from kernreg.numerics import quadrature

__all__ = ["Line", "as_nonlinearity", "line"]

Array = NDArray[np.float64]

# Share of an average that may come from the last of the 14 standard deviations of the rule.
_TAIL = 1e-12
# Of the derivative: the part that the rule does not resolve, relative to its root mean square.
# The error of an average is about its square where the function is analytic.
_UNRESOLVED = 1e-6
# Stands for a variance that tends to 0, on both sides of a kink.
_TINY = 1e-150


def as_nonlinearity(sigma: Any) -> Nonlinearity:
    """A nonlinearity of kernreg, from itself or from a function of torch tensors.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        A callable becomes ``nn.Elementwise(sigma)``, with ``smooth=False`` if it has a kink at 0.
        It must not change, as averages of it are kept: freeze a module's parameters in a copy.

    Returns
    -------
    Nonlinearity

    Raises
    ------
    InvalidInputError
        If ``sigma`` is neither, or :class:`kernreg.nn.Elementwise` does not take it.

    Examples
    --------
    >>> import torch
    >>> from kernreg import nn
    >>> as_nonlinearity(nn.Tanh())
    Tanh()
    >>> as_nonlinearity(torch.relu).smooth
    False
    """
    if isinstance(sigma, Nonlinearity):
        return sigma
    if isinstance(sigma, type) or not callable(sigma):
        hint = " Write it with parentheses." if isinstance(sigma, type) else ""
        raise InvalidInputError(
            "sigma must be a nonlinearity such as nn.Tanh() or a function of torch tensors, "
            f"found {sigma!r}.{hint}"
        )
    try:
        return Elementwise(sigma)
    except NetworkError:
        pass
    try:
        return Elementwise(sigma, smooth=False)
    except NetworkError as error:
        raise InvalidInputError(str(error)) from error


@dataclass(frozen=True)
class Line:
    """A nonlinearity at the nodes of a rule for ``z ~ N(0, K)``; made by :func:`line`.

    Parameters
    ----------
    K : ndarray of shape (1,) or (n, 1)
        Variances, shaped to go with arrays over nodes.
    z, value, slope : ndarray of shape (nodes,) or (n, nodes)
        Nodes, ``sigma(z)`` and ``sigma'(z)``.
    nodes, weights : ndarray of shape (nodes,)
        The rule for the standard normal, of which ``z`` is a multiple; the weights sum to 1.
    name : str
        The nonlinearity, for messages.

    Examples
    --------
    >>> from kernreg import nn
    >>> nodes = line(nn.Relu(), 2.0)
    >>> round(nodes.mean(nodes.value**2), 9), round(nodes.mean(nodes.slope**2), 9)
    (1.0, 0.5)
    """

    K: Array
    z: Array
    value: Array
    slope: Array
    nodes: Array
    weights: Array
    name: str

    def mean(self, f: ArrayLike) -> Any:
        """Average of a function over ``z``.

        Parameters
        ----------
        f : array_like of shape (..., nodes)
            Values at the nodes.

        Returns
        -------
        float or ndarray of shape (...)

        Raises
        ------
        InvalidInputError
            If ``f`` is not finite, or grows so fast that the average is infinite or comes from
            beyond 13 standard deviations, where there are next to no nodes.
        """
        f = np.asarray(f, dtype=np.float64)
        total = np.abs(f) @ self.weights
        if not np.isfinite(total).all():
            raise InvalidInputError(
                f"an average over {self.name} at variance K up to {self.K.max():.3g} is not "
                "finite: it overflows. Use a smaller variance or a nonlinearity that grows slower."
            )
        outer = np.abs(self.nodes) > 13.0
        tail = np.abs(f[..., outer]) @ self.weights[outer]
        if (tail > _TAIL * total).any():
            raise InvalidInputError(
                f"an average over {self.name} at variance K up to {self.K.max():.3g} is infinite "
                "or lies beyond 13 standard deviations: the function grows too fast there. Use a "
                "smaller variance or a nonlinearity that grows slower."
            )
        out = f @ self.weights
        return float(out) if out.ndim == 0 else out


def line(sigma: Any, K: ArrayLike) -> Line:
    """Nodes, values and slopes for averages over ``z ~ N(0, K)``.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`as_nonlinearity`.
    K : float or array_like of shape (n,)
        Variances, at least 0. At ``K = 0`` a kink is seen from both sides, as for ``K -> 0``.

    Returns
    -------
    Line

    Raises
    ------
    InvalidInputError
        If ``K`` is not a finite number or vector >= 0, if ``sigma`` or its derivative is not
        finite, if its mean square is infinite, or if it has a kink elsewhere than at 0 or varies
        too fast for the rule.
    NetworkError
        If ``sigma`` is a map of kernels without an elementwise function.

    Notes
    -----
    Some 800 evaluations of ``sigma`` and its derivative per variance, more above 16, and four
    arrays of that size. Averages are good to about 1e-14 relative for functions that are analytic
    but for 0.

    Examples
    --------
    >>> from kernreg import nn
    >>> nodes = line(nn.Relu(), [1.0, 4.0])
    >>> nodes.mean(nodes.value**2).round(12)
    array([0.5, 2. ])
    >>> nodes.mean(nodes.slope**2 * (nodes.z**2 - nodes.K)).round(12) + 0.0
    array([0., 0.])
    """
    fn = as_nonlinearity(sigma)
    variances = np.asarray(K, dtype=np.float64)
    if variances.ndim > 1 or variances.size == 0:
        raise InvalidInputError(
            f"K must be a number or a vector of variances, found shape {variances.shape}."
        )
    if not np.isfinite(variances).all() or (variances < 0).any():
        raise InvalidInputError(f"K must be finite and >= 0, found {K!r}.")
    deviations = np.sqrt(np.atleast_1d(variances))
    if not fn.smooth:
        deviations = np.maximum(deviations, _TINY)
    found = quadrature.line_values(fn, torch.from_numpy(deviations))
    nodes, value, slope, weights = (part.detach().numpy() for part in found)
    z = deviations[:, None] * nodes
    made = Line(np.atleast_1d(variances)[:, None], z, value, slope, nodes, weights, repr(fn))
    with np.errstate(over="ignore"):  # an overflow is refused with a message of its own
        _check(fn, made)
        made.mean(value**2)
        made.mean(slope**2)
    if variances.ndim == 1:
        return made
    return replace(made, K=made.K[0], z=z[0], value=value[0], slope=slope[0])


def _check(fn: Nonlinearity, made: Line) -> None:
    """Refuse what is not finite, and what the panels of the rule do not resolve."""
    for name, part in (("sigma", made.value), ("its derivative", made.slope)):
        bad = ~np.isfinite(part)
        if bad.any():
            where = made.z[bad][np.argmin(np.abs(made.z[bad]))]
            raise InvalidInputError(
                f"{fn!r}: {name} is not finite at z = {where:.6g}, which an average at variance "
                f"K up to {made.K.max():.3g} needs. Use a smaller variance, or a function without "
                "overflow."
            )
    n = quadrature.PANEL_NODES
    nodes, panel_weights = np.polynomial.legendre.leggauss(n)
    # The two highest Legendre coefficients on every panel, from its own Gauss rule.
    high = np.polynomial.legendre.legvander(nodes, n - 1)[:, -2:]
    project = panel_weights[:, None] * high * (np.arange(n - 2, n) + 0.5)
    coefficients = np.abs(made.slope.reshape(len(made.slope), -1, n) @ project).sum(axis=2)
    unresolved = coefficients @ made.weights.reshape(-1, n).sum(axis=1)
    excess = unresolved - _UNRESOLVED * np.sqrt(made.slope**2 @ made.weights)
    if (excess > 0).any():
        raise InvalidInputError(
            f"{fn!r} cannot be averaged at variance K = {made.K[np.argmax(excess), 0]:.3g}: it "
            "must be smooth except at 0, with a finite slope on both sides of 0, and must not "
            "oscillate fast. Use a smaller variance, or a smooth function close to it."
        )
