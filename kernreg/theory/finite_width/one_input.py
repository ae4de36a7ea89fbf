"""Corrections of order 1/width to kernels at initialisation, for one input.

A network of hidden widths n draws its weights at random, so its kernels are random: the mean of
the NNGP kernel is ``K + G1/n``, that of the NTK ``Theta + H1/n``, and their fluctuations are of
order 1/n as well. The coefficients obey recursions in depth, one Gaussian average over one
variable per term.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer, Nonlinearity
from kernreg.theory.averages import line
from kernreg.theory.finite_width.plain import Affine, Plain, plain_layers, uniform, width_ratios
from kernreg.wording import aligned

__all__ = ["Coefficients", "coefficients", "from_network", "run"]

Array = NDArray[np.float64]

# Stein's lemma <z sigma> = K <sigma'> holds to rounding unless sigma jumps.
_STEIN = 1e-8
_CHUNK = 256  # variances at once; 12 arrays of as many times some 800 numbers


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Kernels and their coefficients of 1/n, layer by layer; made by :func:`coefficients`.

    Every field has shape (depth + 1,), or (depth + 1, m) for m variances. Entry l belongs to the
    output of layer l + 1, and there n is the width of the hidden layer before it. Entry 0 is
    exact: its coefficients are 0.

    Parameters
    ----------
    K, Theta : ndarray
        NNGP kernel and NTK of infinite width.
    G1, H1 : ndarray
        ``E[z_i^2] = K + G1/n`` and ``E[H_ii] = Theta + H1/n`` for the NTK H of the network.
    V : ndarray
        ``E[z_i^2 z_j^2] - E[z_i^2]^2 = V/n``, i != j: the four-point vertex.
    A, B : ndarray
        ``Cov(H_ii, H_jj) = A/n`` and ``E[H_ij^2] = B/n``.
    D, F : ndarray
        ``Cov(z_i^2, H_jj) = D/n`` and ``E[z_i z_j H_ij] = F/n``.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, depth=2, K1=1.0)
    >>> found.V.round(6).tolist(), found.ntk_variance.round(6).tolist()
    ([0.0, 5.0, 10.0], [0.0, 3.0, 6.444444])
    >>> found.ntk(width=100).round(6).tolist()
    [1.0, 2.0, 3.0]
    """

    K: Array
    Theta: Array
    V: Array
    G1: Array
    A: Array
    B: Array
    D: Array
    F: Array
    H1: Array

    def kernel(self, width: float) -> Array:
        """Mean of ``z_i^2`` at a width: ``K + G1/width``."""
        return self.K + self.G1 / width

    def ntk(self, width: float) -> Array:
        """Mean of ``H_ii`` at a width: ``Theta + H1/width``."""
        return self.Theta + self.H1 / width

    @property
    def ntk_variance(self) -> Array:
        """Coefficient of 1/n in the variance of ``H_ii`` over ``Theta^2``: (A + 2 B)/Theta^2."""
        return (self.A + 2.0 * self.B) / self.Theta**2

    def __str__(self) -> str:
        if self.K.ndim > 1:
            return f"Coefficients of {self.K.shape[0]} layers for {self.K.shape[1]} inputs"
        names = [field.name for field in fields(self)]
        columns = [getattr(self, name) for name in names]
        rows = [
            (str(layer), *(f"{value:.4g}" for value in values))
            for layer, values in enumerate(zip(*columns, strict=True), start=1)
        ]
        return "\n".join(aligned(("layer", *names), rows, numbers=True))


def coefficients(
    sigma: Any,
    C_b: float,
    C_W: float,
    lambda_b: float,
    lambda_W: float,
    depth: int,
    *,
    K1: ArrayLike,
    widths: Sequence[int] | None = None,
) -> Coefficients:
    """Coefficients of 1/width of a network whose layers are all alike.

    Layer l is ``z^(l+1) = b + W sigma(z^(l))`` with ``W ~ N(0, C_W/n_l)`` and ``b ~ N(0, C_b)``;
    the NTK weighs the gradients of biases by ``lambda_b`` and of weights by ``lambda_W/n_l``.
    ``lambda_b = C_b, lambda_W = C_W`` is the "ntk" parameterization of :class:`kernreg.nn.Dense`.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        A nonlinearity of :mod:`kernreg.nn`, or a function of torch tensors; continuous.
    C_b, C_W, lambda_b, lambda_W : float
        See above; ``C_W > 0``, the others at least 0.
    depth : int
        Number of hidden layers.
    K1 : float or array_like of shape (m,)
        Variance of the first layer, ``C_b + C_W |x|^2 / d``, for one input or several, each on
        its own.
    widths : sequence of int, optional
        Hidden widths if they differ; only their ratios count. The coefficients of layer l + 1
        are those of ``1 / widths[l-1]``.

    Returns
    -------
    Coefficients

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or ``sigma`` jumps or grows too fast to be averaged.

    Notes
    -----
    Some 800 evaluations of ``sigma`` and its derivative per layer. What is left out is of
    relative order (depth/n)^2, with sizeable constants: at depth 5 and n = 50 about 20 % of V of
    a ReLU network.

    References
    ----------
    D. Roberts, S. Yaida, B. Hanin, The Principles of Deep Learning Theory (2022), chapters 4
    and 8.

    Examples
    --------
    >>> from kernreg import nn
    >>> print(coefficients(nn.Tanh(), 0.0, 1.0, 0.0, 1.0, depth=2, K1=1.0))
    layer       K   Theta        V        G1         A       B          D        F        H1
    1           1       1        0         0         0       0          0        0         0
    2      0.3943  0.8587  0.09752         0  0.007242  0.3415   -0.01054  0.07505         0
    3      0.2365   0.783  0.06781  -0.03093   0.00615  0.5065  -0.009682  0.08025  -0.05189
    """
    return run(uniform(sigma, C_b, C_W, lambda_b, lambda_W, depth), K1, widths)


def from_network(
    net: Layer | str, x: ArrayLike, widths: Sequence[int] | None = None
) -> Coefficients:
    """Coefficients of 1/width of a network written in :mod:`kernreg.nn`.

    Parameters
    ----------
    net : Layer
        Dense layers with one nonlinearity between two of them, as :func:`kernreg.nn.mlp` makes.
    x : array_like of shape (d,) or (m, d)
        One input or several, each on its own.
    widths : sequence of int, optional
        See :func:`coefficients`.

    Returns
    -------
    Coefficients

    Raises
    ------
    NetworkError
        If the network is not such a one.
    InvalidInputError
        If ``x`` or ``widths`` cannot be used.

    Examples
    --------
    >>> from kernreg import nn
    >>> net = nn.mlp(depth=3, activation=nn.Tanh(), W_std=1.0, b_std=0.0)
    >>> from_network(net, [1.0, -1.0]).G1.round(4)
    array([ 0.    ,  0.    , -0.0309, -0.0527])
    """
    plain = plain_layers(net)
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim not in (1, 2) or rows.size == 0 or not np.isfinite(rows).all():
        raise InvalidInputError(
            f"x must be finite numbers of shape (d,) or (m, d), found {rows.shape}."
        )
    mean_square = (rows**2).mean(axis=-1)
    return run(plain, plain.first.C_b + plain.first.C_W * mean_square, widths)


class _State(NamedTuple):
    """The fields of :class:`Coefficients` at one layer."""

    K: Any
    Theta: Any
    V: Any
    G1: Any
    A: Any
    B: Any
    D: Any
    F: Any
    H1: Any


def run(net: Plain, K1: ArrayLike, widths: Sequence[int] | None) -> Coefficients:
    """:func:`coefficients` of any plain network."""
    K = net.check_variance(K1)
    if K.ndim > 1 or K.size == 0:
        raise InvalidInputError(f"K1 must be a number or a vector, found shape {K.shape}.")
    if K.size > _CHUNK:
        parts = [run(net, part, widths) for part in np.array_split(K, -(-K.size // _CHUNK))]
        names = [field.name for field in fields(Coefficients)]
        return Coefficients(
            *(np.concatenate([getattr(p, name) for p in parts], axis=1) for name in names)
        )
    state = _State(K, net.first_kernels(K), *np.zeros((7, *K.shape)))
    states = [state]
    ratios = width_ratios(widths, net.depth)
    for (sigma, affine), ratio in zip(net.hidden, ratios, strict=True):
        state = _step(state, sigma, affine, ratio)
        states.append(state)
    return Coefficients(*(np.array(field) for field in zip(*states, strict=True)))


def _step(s: _State, sigma: Nonlinearity, a: Affine, ratio: float) -> _State:
    """Through a nonlinearity and an affine layer; what is handed on is weighed by ``ratio``."""
    nodes = line(sigma, s.K)
    mean, z, K = nodes.mean, nodes.z, nodes.K
    square, slope = nodes.value**2, nodes.slope**2
    m2, d2 = mean(square), mean(slope)
    stein = np.abs(mean(z * nodes.value) - s.K * mean(nodes.slope))
    if (stein > _STEIN * np.sqrt(s.K * m2)).any():
        raise InvalidInputError(
            f"{sigma!r} jumps, or its derivative is not what autograd says: finite-width theory "
            "needs a continuous nonlinearity."
        )
    unit = nodes.nodes**2
    h4 = (unit**2 - 6.0 * unit + 3.0) / K**2
    par = a.C_W * mean(z * nodes.value * nodes.slope) / s.K
    perp = a.C_W * d2
    h = a.C_W * mean(slope * (unit - 1.0)) / (4.0 * s.K)
    q = a.lambda_W / a.C_W
    centred, centred_slope = square - np.expand_dims(m2, -1), slope - np.expand_dims(d2, -1)
    C2 = a.C_W**2

    V = C2 * mean(centred**2) + ratio * par**2 * s.V
    G1 = ratio * (par * s.G1 + a.C_W / 8.0 * mean(square * h4) * s.V)
    F = C2 * mean(square * slope) * s.Theta + ratio * par**2 * s.F
    fresh = C2 * mean(centred * centred_slope) * s.Theta + ratio * (
        2.0 * h * par * s.Theta * s.V + par * perp * s.D
    )
    B = C2 * mean(slope**2) * s.Theta**2 + ratio * perp**2 * s.B
    A = (
        q**2 * V
        + 2.0 * q * fresh
        + C2 * mean(centred_slope**2) * s.Theta**2
        + ratio * (4.0 * h**2 * s.Theta**2 * s.V + 4.0 * h * perp * s.Theta * s.D + perp**2 * s.A)
    )
    H1 = q * G1 + ratio * (
        s.Theta * (2.0 * h * s.G1 + a.C_W / 8.0 * mean(slope * h4) * s.V)
        + 2.0 * h * (s.D + 2.0 * s.F)
        + perp * s.H1
    )
    K_next = a.C_b + a.C_W * m2
    Theta = a.lambda_b + a.lambda_W * m2 + perp * s.Theta
    return _State(K_next, Theta, V, G1, A, B, q * V + fresh, F, H1)
