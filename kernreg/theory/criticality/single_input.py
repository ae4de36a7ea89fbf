"""The kernel of a single input, layer by layer, with its susceptibilities."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.nn.base import Nonlinearity
from kernreg.theory.averages import as_nonlinearity, line
from kernreg.theory.checks import check_count, check_number

__all__ = [
    "Averages",
    "Susceptibilities",
    "Trajectory",
    "average_table",
    "averages",
    "check_initialization",
    "recursion",
    "susceptibilities",
]

Array = NDArray[np.float64]

_CHUNK = 64  # variances that share a rule: few, and close to each other
_K_MIN, _K_MAX = 1e-8, 1e6
_PER_DECADE = 60


def check_initialization(C_b: Any, C_W: Any) -> tuple[float, float]:
    """Both as floats, or :class:`InvalidInputError` unless ``C_b >= 0`` and ``C_W > 0``."""
    return check_number("C_b", C_b), check_number("C_W", C_W, strict=True)


@dataclass(frozen=True)
class Averages:
    """The three averages of one preactivation that the recursion needs.

    Parameters
    ----------
    K : ndarray of shape (n,)
        Variances of the preactivation.
    square : ndarray of shape (n,)
        ``<sigma^2>``.
    slope_square : ndarray of shape (n,)
        ``<sigma'^2>``, which is ``chi_perp / C_W``.
    drift : ndarray of shape (n,)
        ``d<sigma^2>/dK = <z sigma sigma'> / K``, which is ``chi_par / C_W``. Without ``sigma''``,
        so that kinks at 0 are right.
    complete : bool
        Of a table: false if the nonlinearity cannot be averaged at larger variances.
    """

    K: Array
    square: Array
    slope_square: Array
    drift: Array
    complete: bool = True


def averages(sigma: Any, K: ArrayLike) -> Averages:
    """The averages of the recursion at given variances.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    K : array_like of shape (n,)
        Variances, >= 0. At 0, ``drift`` is the limit ``K -> 0`` for ``sigma(0) = 0`` only.

    Returns
    -------
    Averages

    Raises
    ------
    InvalidInputError
        If an average does not exist, or if ``sigma`` jumps at 0: ``<sigma'^2>`` is infinite.

    Notes
    -----
    Some 800 evaluations of ``sigma`` per variance.

    Examples
    --------
    >>> from kernreg import nn
    >>> averages(nn.Relu(), [4.0]).square.round(12)
    array([2.])
    """
    fn = as_nonlinearity(sigma)
    _refuse_jump(fn)
    variances = np.atleast_1d(np.asarray(K, dtype=np.float64))
    out = np.zeros((3, variances.size))
    order = np.argsort(variances)
    for start in range(0, order.size, _CHUNK):
        index = order[start : start + _CHUNK]
        nodes = line(fn, variances[index])
        slope_square = nodes.mean(nodes.slope**2)
        zero = nodes.K[:, 0] == 0
        drift = nodes.mean(nodes.z * nodes.value * nodes.slope) / np.where(zero, 1.0, nodes.K[:, 0])
        out[:, index] = (
            nodes.mean(nodes.value**2),
            slope_square,
            np.where(zero, slope_square, drift),
        )
    return Averages(variances, out[0], out[1], out[2])


@functools.lru_cache(maxsize=256)
def _refuse_jump(fn: Nonlinearity) -> None:
    values = line(fn, 0.0).value
    if np.ptp(values) > 1e-9 * (1.0 + np.abs(values).max()):
        raise InvalidInputError(
            f"{fn!r} jumps at 0: the mean square of its derivative is infinite, and nearby inputs "
            "separate infinitely fast. Use a continuous nonlinearity, such as nn.Erf(b=...)."
        )


@functools.lru_cache(maxsize=16)
def average_table(fn: Nonlinearity) -> Averages:
    """The averages from ``K = 1e-8`` to ``1e6``, 60 per decade, or as far as they exist.

    Parameters
    ----------
    fn : Nonlinearity
        The table of the last few is kept.

    Returns
    -------
    Averages

    Raises
    ------
    InvalidInputError
        If ``fn`` cannot be averaged even at ``K = 1e-8``.

    Notes
    -----
    About a second.

    Examples
    --------
    >>> from kernreg import nn
    >>> bool(average_table(nn.Exp()).K[-1] < 50)  # <exp(z)^2> overflows the rule
    True
    """
    decades = round(math.log10(_K_MAX / _K_MIN))
    grid = np.logspace(math.log10(_K_MIN), math.log10(_K_MAX), decades * _PER_DECADE + 1)
    parts: list[Averages] = []
    complete = True
    for chunk in np.array_split(grid, decades * 6):
        try:
            parts.append(averages(fn, chunk))
        except InvalidInputError:
            if not parts:
                raise
            complete = False
            break
    K, square, slope_square, drift = (
        np.concatenate([getattr(p, name) for p in parts])
        for name in ("K", "square", "slope_square", "drift")
    )
    return Averages(K, square, slope_square, drift, complete)


@dataclass(frozen=True)
class Susceptibilities:
    """How a layer answers to changes of its input, at one or several variances.

    Parameters
    ----------
    K : float or ndarray of shape (n,)
        Variance of the preactivation.
    g : float or ndarray of shape (n,)
        Variance in the next layer, ``C_b + C_W <sigma^2>_K``.
    chi_par : float or ndarray of shape (n,)
        ``g'(K)``: growth of a change of the norm.
    chi_perp : float or ndarray of shape (n,)
        ``C_W <sigma'^2>_K``: growth of the squared distance of nearby inputs, and of gradients.
    h : float or ndarray of shape (n,)
        Half of ``d chi_perp / dK``.

    Examples
    --------
    >>> from kernreg import nn
    >>> s = susceptibilities(nn.Tanh(), 0.0, 1.5, [0.1, 1.0])
    >>> s.chi_perp.round(4)  # above 1: gradients grow
    array([1.2738, 0.6966])
    """

    K: Any
    g: Any
    chi_par: Any
    chi_perp: Any
    h: Any


def susceptibilities(sigma: Any, C_b: float, C_W: float, K: ArrayLike) -> Susceptibilities:
    """Next variance and susceptibilities of a layer.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b, C_W : float
        Variances of biases and weights: ``b_std^2`` and ``W_std^2``.
    K : float or array_like of shape (n,)
        Variances of the preactivation, > 0.

    Returns
    -------
    Susceptibilities

    Raises
    ------
    InvalidInputError
        If an argument is out of range, or ``sigma`` has no such averages.

    Notes
    -----
    ``chi_par = C_W <z sigma sigma'> / K`` and ``h = C_W <sigma'^2 (z^2 - K)> / (4 K^2)``, which
    hold with a kink at 0. Relative error about 1e-14; ``h`` is a difference, with an error of
    about ``1e-16 chi_perp / K``.

    References
    ----------
    Roberts, Yaida, Hanin, "The Principles of Deep Learning Theory" (2022), chapter 5; Schoenholz,
    Gilmer, Ganguli, Sohl-Dickstein, "Deep information propagation" (2017).

    Examples
    --------
    >>> from kernreg import nn
    >>> s = susceptibilities(nn.Relu(), 0.0, 2.0, 3.0)
    >>> round(s.g, 12), round(s.chi_par, 12), round(s.chi_perp, 12)
    (3.0, 1.0, 1.0)
    """
    C_b, C_W = check_initialization(C_b, C_W)
    variances = np.asarray(K, dtype=np.float64)
    if variances.ndim > 1 or not np.isfinite(variances).all() or (variances <= 0).any():
        raise InvalidInputError(f"K must be a finite number or vector > 0, found {K!r}.")
    fn = as_nonlinearity(sigma)
    found = averages(fn, variances)
    nodes = line(fn, found.K)
    h = C_W * nodes.mean(nodes.slope**2 * ((nodes.z / nodes.K) ** 2 - 1.0 / nodes.K)) / 4.0
    parts = (found.K, C_b + C_W * found.square, C_W * found.drift, C_W * found.slope_square, h)
    return Susceptibilities(*(float(p[0]) if variances.ndim == 0 else p for p in parts))


@dataclass(frozen=True)
class Trajectory:
    """The variance of a single input through the layers.

    Parameters
    ----------
    K : ndarray of shape (depth + 1,)
        Of the preactivations of layers 1 to ``depth + 1``.
    chi_par, chi_perp : ndarray of shape (depth,)
        At the first ``depth`` of them.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = recursion(nn.Relu(), 0.0, 1.0, 8.0, depth=3)
    >>> found.K.round(6), found.chi_par.round(6)  # half of the critical variance of weights
    (array([8., 4., 2., 1.]), array([0.5, 0.5, 0.5]))
    """

    K: Array
    chi_par: Array
    chi_perp: Array


def recursion(sigma: Any, C_b: float, C_W: float, K: float, depth: int) -> Trajectory:
    """Iterate ``K -> C_b + C_W <sigma^2>_K``.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.
    C_b, C_W : float
        Variances of biases and weights.
    K : float
        Variance in the first layer, >= 0: ``C_b + C_W <x, x> / d`` for an input ``x``.
    depth : int
        Number of hidden layers.

    Returns
    -------
    Trajectory

    Raises
    ------
    InvalidInputError
        If an argument is out of range, or the variance grows beyond what can be averaged.

    Notes
    -----
    About 3 milliseconds per layer.

    Examples
    --------
    >>> import torch
    >>> recursion(torch.tanh, 0.0, 1.0, 0.01, depth=3).K.round(5)
    array([0.01   , 0.00981, 0.00962, 0.00944])
    """
    C_b, C_W = check_initialization(C_b, C_W)
    fn = as_nonlinearity(sigma)
    layers = check_count("depth", depth)
    variances = [check_number("K", K)]
    slopes: list[tuple[float, float]] = []
    for _ in range(layers):
        found = averages(fn, variances[-1])
        slopes.append((C_W * float(found.drift[0]), C_W * float(found.slope_square[0])))
        variances.append(C_b + C_W * float(found.square[0]))
    chi = np.array(slopes).reshape(-1, 2)
    return Trajectory(np.array(variances), chi[:, 0].copy(), chi[:, 1].copy())
