"""Nodes for averages over two correlated preactivations, as few as a tolerance allows."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Nonlinearity
from kernreg.numerics import quadrature
from kernreg.numerics.torchmath import TorchMath
from kernreg.theory.averages import line

__all__ = ["PairRule", "check_derivatives", "count", "derivatives", "jumps", "pair_rule"]

PairRule = quadrature.Rule
"""Gives nodes for pairs of unit variance, their weights, and a factor for each pair."""

_STEPS = (1.0, 0.8, 0.65, 0.5, 0.4, 0.32, 0.25, 0.2, 0.16, 0.1125, 0.08, 0.056, 0.04, 0.028)
# Nodes of the trapezoid rule that weigh less than this share of the heaviest are left out.
_LIGHT = 1e-4
# Stands for both sides of a kink.
_TINY = 1e-30
# Error of integration by parts, relative to what it sums.
_BY_PARTS = 1e-8


def derivatives(fn: Nonlinearity, z: Tensor, order: int) -> list[Tensor]:
    """``sigma`` and its derivatives up to ``order`` by autograd, without what a kink adds at 0."""
    with torch.enable_grad():
        z = z.detach().requires_grad_()
        out = [fn.phi(TorchMath, z)]
        for n in range(order):
            last = out[-1]
            slope = None
            if last.requires_grad:
                try:
                    (slope,) = torch.autograd.grad(
                        last.sum(), z, create_graph=n + 1 < order, allow_unused=True
                    )
                except RuntimeError as error:
                    raise InvalidInputError(
                        f"{fn!r} must have {order} derivatives by autograd; number {n + 1} failed "
                        f"with: {error}"
                    ) from error
            out.append(torch.zeros_like(z) if slope is None else slope)
    return [f.detach() for f in out]


def jumps(fn: Nonlinearity, order: int) -> list[float]:
    """Jumps at 0 of ``sigma`` and its derivatives up to ``order``; all 0 if it is smooth."""
    if fn.smooth:
        return [0.0] * (order + 1)
    sides = derivatives(fn, torch.tensor([-_TINY, _TINY], dtype=torch.float64), order)
    return [float(part[1] - part[0]) for part in sides]


def check_derivatives(fn: Nonlinearity, s: float, order: int) -> None:
    """Raise :class:`InvalidInputError` unless autograd gives the derivatives up to ``order``.

    A function may cut its graph, and autograd takes what is cut off for a constant. Integration by
    parts against 1 and x tells.
    """
    nodes = line(fn, s * s)
    x, weights = torch.from_numpy(nodes.nodes), torch.from_numpy(nodes.weights)
    f = [s**n * part for n, part in enumerate(derivatives(fn, s * x, order))]
    for n, jump in enumerate(jumps(fn, order)[:-1]):
        # Only derivatives may jump.
        kink = s**n * jump / math.sqrt(2.0 * math.pi) if n else 0.0
        parts = [x * f[n] - f[n + 1], (x * x - 1.0) * f[n] - x * f[n + 1]]
        wrong = [
            abs(float(part @ weights) - extra)
            for part, extra in zip(parts, (kink, 0.0), strict=True)
        ]
        size = float(((1.0 + x**2) * f[n].abs() + f[n + 1].abs()) @ weights)
        if not max(wrong) <= _BY_PARTS * size:
            raise InvalidInputError(
                f"{fn!r} must be continuous, with {order} derivatives by autograd but for a kink "
                f"at 0: derivative {n + 1} is not that of what it comes from. Write it with "
                "differentiable torch functions."
            )


def pair_rule(fn: Nonlinearity, s: float, tolerance: float, *, tangent: bool) -> PairRule:
    """The cheapest rule that is good for standard deviations up to ``s``.

    Parameters
    ----------
    fn : Nonlinearity
        The nonlinearity.
    s : float
        Largest standard deviation.
    tolerance : float
        Relative error allowed, seen on squares of what is averaged.
    tangent : bool
        Whether third derivatives are averaged, too.

    Returns
    -------
    PairRule

    Raises
    ------
    InvalidInputError
        If there is no such rule, or autograd does not give the derivatives.

    Notes
    -----
    The trapezoid rule for a smooth nonlinearity, from some 150 nodes per pair up; else Gauss
    rules in polar coordinates between the lines where one variable is 0, 160 nodes and more for
    two half-lines and 500 and more for others.

    Examples
    --------
    >>> from kernreg import nn
    >>> [count(pair_rule(fn, 1.0, 1e-4, tangent=False)) for fn in (nn.Erf(), nn.Relu())]
    [725, 160]
    """
    check_derivatives(fn, s, 3 if tangent else 2)
    nodes = line(fn, s * s)
    exact = _checks(fn, s, torch.from_numpy(nodes.nodes), tangent) @ torch.from_numpy(nodes.weights)
    one = torch.ones(1, dtype=torch.float64)
    for rule in _rules(fn, s, tolerance):
        found = torch.zeros_like(exact)
        # Equal inputs are the worst case: the function varies along one coordinate alone.
        for x, _, weight, factor in rule(one, 0.0 * one):
            found += factor * (_checks(fn, s, x[0], tangent) @ weight)
        if bool(((found - exact).abs() <= tolerance * exact).all()):
            return rule
    raise InvalidInputError(
        f"{fn!r} cannot be averaged over pairs at standard deviation {s:.3g} to {tolerance:.0e}. "
        "It must be smooth except at 0, and must not oscillate fast or grow exponentially; scale "
        "the weights down."
    )


def count(rule: PairRule) -> int:
    """Number of nodes per pair."""
    one = torch.ones(1, dtype=torch.float64)
    return sum(x.shape[1] for x, _, _, _ in rule(one, one))


def _checks(fn: Nonlinearity, s: float, x: Tensor, tangent: bool) -> Tensor:
    """Nonnegative functions whose averages a rule must get right, shape (m, nodes)."""
    f = derivatives(fn, s * x, 3 if tangent else 2)
    found = [f[0] ** 4, (f[0] * f[1]) ** 2, f[1] ** 2, f[2] ** 2, (x**2 * f[2]) ** 2]
    if tangent:
        found += [f[3] ** 2, (x**2 * f[3]) ** 2]
    return torch.stack(found)


def _rules(fn: Nonlinearity, s: float, tolerance: float) -> Iterator[PairRule]:
    """Rules from cheap to good."""
    if fn.smooth:
        for step in _STEPS:
            yield functools.partial(_trapezoid, step=step, least=_LIGHT * tolerance)
    orders = (8, 12, 16, 24)
    if fn.homogeneous == 1:
        # Averages are of even powers of the radius, at most the eighth.
        t, w = np.polynomial.laguerre.laggauss(5)
        for m in orders:
            yield functools.partial(_polar, r=np.sqrt(2.0 * t), radial=w, m=m)
    else:
        for m, n, reach in zip(orders, (16, 24, 32, 48), (7.0, 8.0, 9.0, 12.0), strict=True):
            x, w = np.polynomial.legendre.leggauss(n)
            r = 0.5 * reach * (x + 1.0)
            yield functools.partial(
                _polar, r=r, radial=0.5 * reach * w * r * np.exp(-0.5 * r**2), m=m
            )
    for level in range(quadrature.grading_level(s) + 1):
        yield functools.partial(quadrature.polar, level=level)


def _trapezoid(
    rho: Tensor, gap: Tensor, step: float, least: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """The trapezoid rule of the engine without its lightest nodes."""
    for x, y, weight, factor in quadrature.trapezoid(rho, gap, step):
        kept = weight > least * weight.max()
        yield x[:, kept], y[:, kept], weight[kept], factor


def _polar(
    rho: Tensor, gap: Tensor, r: np.ndarray, radial: np.ndarray, m: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Polar coordinates: four sectors between the lines x = 0 and y = 0, ``m`` angles in each."""
    node, weight = np.polynomial.legendre.leggauss(m)
    # The second half mirrors the first: the distance to its own end is exact.
    share = torch.from_numpy(0.5 * (node + 1.0))
    weights = torch.from_numpy(np.outer(0.5 * weight, radial).reshape(-1) / (2.0 * math.pi))
    radius = torch.from_numpy(r)
    acute = 2.0 * torch.asin(torch.sqrt(0.5 * gap))
    angle = torch.where(rho > 0, acute, math.pi - acute)
    for width, sign in ((math.pi - angle, 1.0), (angle, -1.0)):
        x = (torch.sin(width[:, None] * share)[:, :, None] * radius).flatten(1)
        y = sign * (torch.sin(width[:, None] * share.flip(0))[:, :, None] * radius).flatten(1)
        yield torch.cat([x, -x], 1), torch.cat([y, -y], 1), torch.cat([weights, weights]), width
