"""Corrections of order 1/width for two inputs: covariances and off-diagonal kernels.

Given the layers before it, a preactivation is Gaussian with a random covariance. Its fluctuation
is of order 1/n, so every correction is a derivative of a Gaussian average in the covariance
``y = (K_11, K_12, K_22)``, contracted with the covariance V of y over networks. Two inputs are
closed under the recursion: what happens to a pair depends on no third input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.one_input import Coefficients, run
from kernreg.theory.finite_width.pair_averages import NodeSource, Pairs, Source, pair_averages
from kernreg.theory.finite_width.pair_rules import pair_rule
from kernreg.theory.finite_width.plain import Affine, Plain, uniform, width_ratios

__all__ = ["PairState", "TwoInputs", "first_state", "next_state", "run_pair", "two_inputs"]

# Error of the averages in :func:`two_inputs`, relative.
_TOLERANCE = 1e-11
# Where V_(ab)(cd) stands in the covariance of (K_11, K_12, K_22).
_INDEX = np.array([[0, 1], [1, 2]])


@dataclass(frozen=True, eq=False)
class TwoInputs:
    """Kernels of two inputs and their coefficients of 1/n; made by :func:`two_inputs`.

    The first axis is the layer, as in :class:`kernreg.theory.finite_width.Coefficients`; the
    others are inputs.

    Parameters
    ----------
    K, Theta : ndarray of shape (depth + 1, 2, 2)
        NNGP kernel and NTK of infinite width.
    G1, H1 : ndarray of shape (depth + 1, 2, 2)
        ``E[z_ia z_ib] = K_ab + G1_ab/n`` and ``E[H_ii,ab] = Theta_ab + H1_ab/n``.
    V : ndarray of shape (depth + 1, 2, 2, 2, 2)
        ``Cov(z_ia z_ib, z_jc z_jd) = V[a, b, c, d]/n``, i != j.
    D, F : ndarray of shape (depth + 1, 2, 2)
        ``Cov(z_ia z_ib, H_jj,12) = D_ab/n`` and ``E[z_ia z_jb H_ij,12] = F_ab/n``, i != j, with
        the NTK of both inputs.

    Examples
    --------
    >>> from kernreg import nn
    >>> two = two_inputs(nn.Erf(), 0.0, 2.0, 0.0, 2.0, depth=2, K1=[[1.0, 0.5], [0.5, 1.0]])
    >>> two.K.shape, two.V.shape, two.kernel(width=100)[-1].round(4).tolist()
    ((3, 2, 2), (3, 2, 2, 2, 2), [[0.9, 0.3913], [0.3913, 0.9]])
    """

    K: NDArray[np.float64]
    Theta: NDArray[np.float64]
    G1: NDArray[np.float64]
    H1: NDArray[np.float64]
    V: NDArray[np.float64]
    D: NDArray[np.float64]
    F: NDArray[np.float64]

    def kernel(self, width: float) -> NDArray[np.float64]:
        """Mean of ``z_ia z_ib`` at a width: ``K + G1/width``."""
        return self.K + self.G1 / width

    def ntk(self, width: float) -> NDArray[np.float64]:
        """Mean of ``H_ii,ab`` at a width: ``Theta + H1/width``."""
        return self.Theta + self.H1 / width


def two_inputs(
    sigma: Any,
    C_b: float,
    C_W: float,
    lambda_b: float,
    lambda_W: float,
    depth: int,
    *,
    K1: ArrayLike,
    widths: Sequence[int] | None = None,
) -> TwoInputs:
    """Coefficients of 1/width for two inputs and a network whose layers are all alike.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        Continuous, and smooth but for 0; a function of torch tensors must have a third
        derivative by autograd.
    C_b, C_W, lambda_b, lambda_W : float
        See :func:`kernreg.theory.finite_width.coefficients`.
    depth : int
        Number of hidden layers.
    K1 : array_like of shape (2, 2)
        Covariance of the first layer, ``C_b + C_W x_a.x_b / d``.
    widths : sequence of int, optional
        Hidden widths if they differ; see :func:`kernreg.theory.finite_width.coefficients`.

    Returns
    -------
    TwoInputs

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or no rule integrates ``sigma``.

    Notes
    -----
    Some thousands to some tens of thousands of nodes per layer. More inputs than two: entries
    with three or four different inputs are not covered; kernel matrices need only pairs, see
    :func:`kernreg.theory.finite_width.corrected_gram`. G1 and H1 off the diagonal are derived here
    and confirmed by simulation; they tend to those of one input as the two come together.

    References
    ----------
    D. Roberts, S. Yaida, B. Hanin, The Principles of Deep Learning Theory (2022), section 4.3.

    Examples
    --------
    >>> from kernreg import nn
    >>> two = two_inputs(nn.Tanh(), 0.1, 1.5, 0.1, 1.5, depth=1, K1=[[1.6, 0.55], [0.55, 1.0]])
    >>> two.V[1, 0, 0, 0].round(6)
    array([0.256449, 0.116972])
    """
    return run_pair(uniform(sigma, C_b, C_W, lambda_b, lambda_W, depth), K1, widths)


def run_pair(net: Plain, K1: ArrayLike, widths: Sequence[int] | None) -> TwoInputs:
    """:func:`two_inputs` of any plain network."""
    covariance = _check_covariance(net, K1)
    alone = run(net, np.diag(covariance), widths)
    s = torch.from_numpy(np.sqrt(alone.K))
    rho = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    rho = torch.tensor([np.clip(rho, -1.0, 1.0)], dtype=torch.float64)
    state = first_state(net, Pairs(rho, 1.0 - rho.abs(), s[0, :1], s[0, 1:]), tangent=True)
    states = [state]
    for layer, ratio in enumerate(width_ratios(widths, net.depth)):
        fn, affine = net.hidden[layer]
        rule = pair_rule(fn, float(s[layer].max()), _TOLERANCE, tangent=True)
        after = s[layer + 1, :1], s[layer + 1, 1:]
        state = next_state(state, NodeSource(fn, rule), affine, *after, ratio)
        states.append(state)
    return _collect(alone, states)


def _check_covariance(net: Plain, K1: ArrayLike) -> NDArray[np.float64]:
    K = np.asarray(K1, dtype=np.float64)
    if K.shape != (2, 2):
        raise InvalidInputError(f"K1 must be of shape (2, 2), found {K.shape}.")
    net.check_variance(np.diag(K))
    product = np.sqrt(K[0, 0] * K[1, 1])
    if not np.isfinite(K).all() or abs(K[0, 1] - K[1, 0]) > 1e-12 * product:
        raise InvalidInputError(f"K1 must be symmetric and finite, found {K.tolist()}.")
    inner = K - net.first.C_b
    if inner[0, 1] ** 2 > inner[0, 0] * inner[1, 1] + 1e-12 * product**2:
        raise InvalidInputError(
            f"K1 - C_b must be positive semidefinite, as every C_W x_a.x_b / d is, found "
            f"{inner.tolist()}."
        )
    return K


def _collect(alone: Coefficients, states: list[PairState]) -> TwoInputs:
    def matrix(diagonal: NDArray[np.float64], off: list[Tensor]) -> NDArray[np.float64]:
        out = np.empty((len(off), 2, 2))
        out[:, 0, 0], out[:, 1, 1] = diagonal.T
        out[:, 0, 1] = out[:, 1, 0] = torch.cat(off).numpy()
        return out

    # From relative changes to those of the covariance.
    changes = [(s, s.to_covariance(), torch.cat([s.pairs.s1, s.pairs.s2])) for s in states]
    V = torch.cat([T @ s.V @ T.mT for s, T, _ in changes]).numpy()
    D = torch.cat([_apply(T, s.D) for s, T, _ in changes]).numpy()
    F = torch.cat([size[:, None] * s.F * size for s, _, size in changes]).numpy()
    return TwoInputs(
        K=matrix(alone.K, [s.pairs.k for s in states]),
        Theta=matrix(alone.Theta, [s.Theta for s in states]),
        G1=matrix(alone.G1, [s.off_diagonal() for s in states]),
        H1=matrix(alone.H1, [s.H1 for s in states]),
        V=V[:, _INDEX[:, :, None, None], _INDEX[None, None]],
        D=D[:, _INDEX],
        F=F,
    )


@dataclass(frozen=True)
class PairState:
    """P pairs of inputs (a, b) at one layer.

    Fluctuations of the covariance are kept in the coordinates of
    :mod:`kernreg.theory.finite_width.pair_averages`: relative changes of both variances, first and
    last, and the change of the correlation.

    Parameters
    ----------
    pairs : Pairs
        Their covariance.
    V : Tensor, shape (P, 3, 3)
        Coefficient of 1/n in the covariance of the three over networks.
    G : Tensor, shape (P, 3)
        The same in their mean.
    Theta, H1 : Tensor, shape (P,)
        NTK of a and b, and the coefficient in its mean.
    D : Tensor, shape (P, 3)
        Of the covariance of the three with the NTK of a and b.
    F : Tensor, shape (P, 2, 2)
        ``E[x_im x_jn H_ij,ab] = F_mn/n``, i != j, for m and n in (a, b) and x the preactivation
        over its standard deviation.
    tangent : bool
        Whether Theta, H1, D and F are followed; else they are 0.
    """

    pairs: Pairs
    V: Tensor
    G: Tensor
    Theta: Tensor
    H1: Tensor
    D: Tensor
    F: Tensor
    tangent: bool

    def to_covariance(self) -> Tensor:
        """Changes of ``(K_aa, K_ab, K_bb)`` from the three coordinates, shape (P, 3, 3)."""
        p = self.pairs
        zero, half = torch.zeros_like(p.k), 0.5 * p.k
        rows = [p.s1**2, zero, zero, half, p.s1 * p.s2, half, zero, zero, p.s2**2]
        return torch.stack(rows, -1).reshape(-1, 3, 3)

    def off_diagonal(self) -> Tensor:
        """Coefficient of 1/n in the mean of ``z_a z_b``, shape (P,)."""
        return (self.to_covariance()[:, 1] * self.G).sum(-1)


def first_state(net: Plain, pairs: Pairs, *, tangent: bool) -> PairState:
    """Pairs at the first layer, where there are no corrections."""
    k, a = pairs.k, net.first
    Theta = a.lambda_b + a.lambda_W / a.C_W * (k - a.C_b) if tangent else torch.zeros_like(k)
    P, zero = len(k), k.new_zeros
    return PairState(
        pairs, zero(P, 3, 3), zero(P, 3), Theta, zero(P), zero(P, 3), zero(P, 2, 2), tangent
    )


def next_state(
    s: PairState, source: Source, a: Affine, s1: Tensor, s2: Tensor, ratio: float
) -> PairState:
    """Pairs through a nonlinearity and an affine layer.

    Parameters
    ----------
    s : PairState
        Before.
    source : Source
        Averages of the nonlinearity.
    a : Affine
        The affine layer.
    s1, s2 : Tensor, shape (P,)
        Standard deviations after the layer.
    ratio : float
        Width of the layer over the width of the one before; 1 for the first.

    Returns
    -------
    PairState
    """
    c1, c2 = math.sqrt(a.C_W) / s1, math.sqrt(a.C_W) / s2
    after = _after(*source.distances(s.pairs, c1, c2), a, s1, s2)
    m = pair_averages(source, s.pairs, c1, c2, after, tangent=s.tangent)
    J = m.jacobian
    V = m.covariance + ratio * (J @ s.V @ J.mT)
    G = ratio * (_apply(J, s.G) + 0.5 * (m.hessian * s.V[:, None]).sum((-2, -1)))
    new = replace(s, pairs=after, V=V, G=G)
    t = m.tangent
    if t is None:
        return new

    q, grow = a.lambda_W / a.C_W, a.C_W / (s.pairs.s1 * s.pairs.s2)
    size = s1 * s2
    gain = size / (s.pairs.s1 * s.pairs.s2)
    perp = gain * m.slopes
    slope, fresh = grow[:, None] * t.gradient, (grow * s.Theta)[:, None]
    off = new.to_covariance()[:, 1]
    D = (
        q * _apply(V, off)
        + fresh * t.covariance
        + ratio * (s.Theta[:, None] * _apply(J @ s.V, slope) + perp[:, None] * _apply(J, s.D))
    )
    # Means of d_m (sigma_a sigma'_a) and the like: how x_m of neuron i goes on with H_ij.
    zero = torch.zeros_like(perp)
    bent = m.crossed - (s.pairs.rho * m.slopes)[:, None]
    left = torch.stack([J[:, 0, 0], zero, bent[:, 0], m.slopes], -1).reshape(-1, 2, 2)
    right = torch.stack([m.slopes, bent[:, 1], zero, J[:, 2, 2]], -1).reshape(-1, 2, 2)
    F = fresh[:, None] * t.products[:, _INDEX] + (ratio * gain)[:, None, None] * (
        left @ s.F @ right.mT
    )
    # x_m x_n with H of the same neuron: F adds two ways to pair their indices.
    own = s.F.diagonal(dim1=1, dim2=2)
    turn = s.F[:, 0, 1] + s.F[:, 1, 0] - s.pairs.rho * own.sum(-1)
    together = s.D + torch.stack([2.0 * own[:, 0], turn, 2.0 * own[:, 1]], -1)
    drift = (slope * s.G).sum(-1) + 0.5 * grow * (t.hessian * s.V).sum((-2, -1))
    H1 = q * new.off_diagonal() + ratio * (
        s.Theta * drift + (slope * together).sum(-1) + perp * s.H1
    )
    Theta = a.lambda_b + q * size * m.overlap + perp * s.Theta
    return replace(new, Theta=Theta, H1=H1, D=D, F=F)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[:, :, None])[:, :, 0]


def _after(near: Tensor, far: Tensor, a: Affine, s1: Tensor, s2: Tensor) -> Pairs:
    """Correlation and gap after an affine layer, from the distance of unit vectors."""
    below = near + a.C_b * 0.5 * (1.0 / s1 - 1.0 / s2) ** 2
    above = far + a.C_b * 0.5 * (1.0 / s1 + 1.0 / s2) ** 2
    rho = torch.where(below < above, 1.0 - below, above - 1.0)
    return Pairs(rho, torch.minimum(below, above), s1, s2)
