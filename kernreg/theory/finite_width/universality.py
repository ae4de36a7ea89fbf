"""Coefficients of 1/width in closed form, and how they grow with depth at criticality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from kernreg.exceptions import InvalidInputError
from kernreg.nn import ABRelu
from kernreg.theory.checks import check_count, check_number
from kernreg.theory.finite_width.one_input import Coefficients
from kernreg.theory.finite_width.plain import uniform

__all__ = ["Growth", "growth", "optimal_aspect_ratio", "scale_invariant"]


def scale_invariant(
    depth: int, *, K1: ArrayLike, a: float = 0.0, b: float = 1.0, lambda_W: float | None = None
) -> Coefficients:
    """Coefficients of 1/width at criticality for ``a min(z, 0) + b max(z, 0)``, exactly.

    Parameters
    ----------
    depth : int
        Number of hidden layers.
    K1 : float or array_like of shape (m,)
        Variance of the first layer.
    a, b : float
        Slopes; the default is ReLU.
    lambda_W : float, optional
        Factor of the weights in the NTK; C_W = 2/(a^2 + b^2) if left out. There are no biases.

    Returns
    -------
    Coefficients
        What :func:`kernreg.theory.finite_width.coefficients` finds by recursion. G1 and H1 are 0:
        the mean kernel and the mean NTK of one input are those of infinite width.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used.

    Notes
    -----
    With ``c = 2 (a^4 + b^4)/(a^2 + b^2)^2`` (2 for ReLU), ``q = lambda_W/C_W`` and layer l:
    ``Theta = l q K, V = (3c - 1)(l - 1) K^2, D = (2c - 1) l (l - 1) q K^2,
    F = (c/2) l (l - 1) q K^2, B = (c/6) l (l - 1)(2l - 1) q^2 K^2,
    A = l (l - 1)((10c - 6) l - 2c) q^2 K^2 / 6``.

    Examples
    --------
    >>> c = scale_invariant(2, K1=1.0)
    >>> c.V.tolist(), c.A.tolist()
    ([0.0, 5.0, 10.0], [0.0, 8.0, 38.0])
    """
    sigma = ABRelu(a, b)
    C_W = 2.0 / (a * a + b * b)
    net = uniform(sigma, 0.0, C_W, 0.0, C_W if lambda_W is None else lambda_W, depth)
    K = net.check_variance(K1)
    c, q = _kurtosis(a, b), net.first.lambda_W / C_W
    layer = np.arange(1.0, net.depth + 2).reshape(-1, *(1,) * K.ndim)
    K = np.broadcast_to(K, (net.depth + 1, *K.shape))
    zero, steps = np.zeros_like(K), layer - 1.0
    pairs, square = layer * steps, K**2
    return Coefficients(
        K=K,
        Theta=layer * q * K,
        V=(3.0 * c - 1.0) * steps * square,
        G1=zero,
        A=pairs * ((10.0 * c - 6.0) * layer - 2.0 * c) * q**2 * square / 6.0,
        B=c / 6.0 * pairs * (2.0 * layer - 1.0) * q**2 * square,
        D=(2.0 * c - 1.0) * pairs * q * square,
        F=0.5 * c * pairs * q * square,
        H1=zero,
    )


def _kurtosis(a: float, b: float) -> float:
    """``<sigma'^4> / <sigma'^2>^2`` for slopes a and b."""
    return 2.0 * (a**4 + b**4) / (a**2 + b**2) ** 2


@dataclass(frozen=True)
class Growth:
    """How coefficients grow with the layer l, to leading order; made by :func:`growth`.

    Parameters
    ----------
    V, G1, A, B, D, F, H1 : float
        ``V/(l K^2), G1/(l K), A/(l Theta^2), B/(l Theta^2), D/(l K Theta), F/(l K Theta)`` and
        ``H1/(l Theta)`` with K and Theta of the same layer.

    Examples
    --------
    >>> found = growth("scale-invariant")
    >>> round(found.V, 6), round(found.ntk_variance, 2)  # relative, times depth/width
    (5.0, 3.67)
    """

    V: float
    G1: float
    A: float
    B: float
    D: float
    F: float
    H1: float

    @property
    def ntk_variance(self) -> float:
        """``Var(H_ii)/Theta^2`` per layer over width."""
        return self.A + 2.0 * self.B


def growth(kind: str, parameterization: str = "ntk", *, a: float = 0.0, b: float = 1.0) -> Growth:
    """Growth of the coefficients with depth at criticality: one answer per universality class.

    Parameters
    ----------
    kind : {"scale-invariant", "K*=0"}
        The class, as :func:`kernreg.theory.criticality.critical` names it; of the
        second, functions whose gradients do not decay by a power of depth of their own: p_perp = 1,
        as of every odd one.
    parameterization : {"ntk", "unit"}
        ``lambda_b = C_b, lambda_W = C_W``, or ``lambda_b = lambda_W = 1``. In the first class,
        where there are no biases and ``lambda_b`` is 0, both give the same.
    a, b : float
        Slopes in the first class; the default is ReLU.

    Returns
    -------
    Growth

    Raises
    ------
    InvalidInputError
        If a name is unknown.

    Notes
    -----
    In the first class from :func:`scale_invariant`. In the second the values are limits of the
    recursion for tanh, sin and erf, which agree; corrections fall like log(l)/l.

    References
    ----------
    D. Roberts, S. Yaida, B. Hanin, The Principles of Deep Learning Theory (2022), chapters 5
    and 9.

    Examples
    --------
    >>> round(growth("scale-invariant").ntk_variance, 4), round(growth("K*=0").V, 4)
    (3.6667, 0.6667)
    """
    if parameterization not in ("ntk", "unit"):
        raise InvalidInputError(
            f"parameterization must be 'ntk' or 'unit', found {parameterization!r}."
        )
    if kind == "scale-invariant":
        c = _kurtosis(a, b)
        return Growth(V=3 * c - 1, G1=0.0, A=(5 * c - 3) / 3, B=c / 3, D=2 * c - 1, F=c / 2, H1=0.0)
    if kind != "K*=0":
        raise InvalidInputError(
            f"kind must be 'scale-invariant' or 'K*=0', found {kind!r}: at other critical points "
            "the coefficients have no limits of this form. Use coefficients(...)."
        )
    if parameterization == "unit":
        return Growth(V=2 / 3, G1=-1 / 3, A=1 / 15, B=1 / 5, D=-1 / 6, F=1 / 5, H1=1 / 30)
    return Growth(V=2 / 3, G1=-1 / 3, A=0.0, B=1 / 3, D=0.0, F=1 / 4, H1=-1 / 4)


def optimal_aspect_ratio(nu: float, n_outputs: int) -> float:
    """Depth over width at which the mutual information between outputs peaks, to third order.

    Parameters
    ----------
    nu : float
        ``V/K^2`` per layer, :attr:`Growth.V`: 5 for ReLU, 2/3 for the class "K*=0".
    n_outputs : int
        Number of outputs of the network, at least 1.

    Returns
    -------
    float
        ``r* = 4 / ((20 + 3 n_outputs) nu)``.

    Raises
    ------
    InvalidInputError
        If an argument is not positive.

    Notes
    -----
    With r = depth/width, the mutual information between the two halves of n outputs is
    ``n^2 (nu r)^2 / 32 - n^2 (20 + 3 n)(nu r)^3 / 192``, which is largest at r*. Take it as a
    rough scale, not as an optimum:

    - the six-point vertex does not enter at this order, but the next order is not known to be
      small at r*;
    - keeping the square of r in the variance of a lognormal scale turns 20 into 14;
    - for the exact lognormal scale mixture the information grows with r without a maximum (seen
      up to nu r = 3): the peak comes from cutting the series off.

    References
    ----------
    D. Roberts, S. Yaida, B. Hanin, The Principles of Deep Learning Theory (2022), appendix A.

    Examples
    --------
    >>> round(optimal_aspect_ratio(growth("scale-invariant").V, 10), 6)
    0.016
    """
    slope = check_number("nu", nu, strict=True)
    outputs = check_count("n_outputs", n_outputs, 1)
    return 4.0 / ((20.0 + 3.0 * outputs) * slope)
