"""Critical initialisation of any nonlinearity, and the universality class it belongs to."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq

from kernreg.exceptions import InvalidInputError
from kernreg.nn.base import Nonlinearity
from kernreg.numerics.torchmath import TorchMath
from kernreg.theory.averages import as_nonlinearity, line
from kernreg.theory.criticality.single_input import Averages, average_table, averages

__all__ = ["Candidate", "Critical", "PowerLaw", "critical", "derivatives_at_zero"]

# <sigma sigma''> counts as 0 below this share of <sigma'^2>, whose rounding is about 1e-14.
_NOTHING = 1e-10
# Variances at which a scale-invariant nonlinearity must have <sigma sigma''> = 0.
_INVARIANT = (1e-3, 1e3)
# Variances between which fixed points are sought.
_SEARCH = (1e-4, 1e4)
_STEPS = (1e-4, 1e-6)  # to both sides of 0


@dataclass(frozen=True)
class Candidate:
    """A point where both susceptibilities are 1, accepted or not.

    Parameters
    ----------
    kind : {"scale-invariant", "K*=0", "half-stable"}
        The universality class it would make.
    C_b, C_W : float
        Variances of biases and weights; ``C_b < 0`` is a reason to reject it.
    K : float or None
        The fixed point; None where every variance is one.
    accepted : bool
        Whether a network can be initialised there.
    reason : str
        Why, or why not.
    """

    kind: str
    C_b: float
    C_W: float
    K: float | None
    accepted: bool
    reason: str


@dataclass(frozen=True)
class PowerLaw:
    """What is expected deep in a network of class "K*=0"; fields as in ``Trajectory``.

    Parameters
    ----------
    K : float
        ``-1 / (a1 l)``.
    chi_par, chi_perp : float
        ``1 - 2 / l`` and ``1 - p_perp / l``.
    """

    K: float
    chi_par: float
    chi_perp: float


@dataclass(frozen=True)
class Critical:
    """The critical initialisation of a nonlinearity.

    Parameters
    ----------
    sigma : Nonlinearity
        The nonlinearity.
    kind : {"scale-invariant", "K*=0", "half-stable", "none"}
        Its universality class.
    C_b, C_W : float or None
        Critical variances of biases and weights; None for class "none".
    K : float or None
        The fixed point; None where there is none, or every variance is one.
    reason : str
        Why it is this class, in words.
    candidates : tuple of Candidate
        Every point that was considered.
    a1, b1 : float or None
        Coefficients at 0, where the derivatives exist and ``sigma'(0)`` is not 0:
        ``chi_par = 1 + 2 a1 K`` and ``chi_perp = 1 + b1 K`` to first order in ``K``.

    Examples
    --------
    >>> from kernreg import nn
    >>> found = critical(nn.Tanh())
    >>> found.kind, found.C_W, found.C_b, found.K
    ('K*=0', 1.0, 0.0, 0.0)
    >>> net = nn.mlp(depth=50, activation=nn.Tanh(), W_std=found.W_std, b_std=found.b_std)
    """

    sigma: Nonlinearity
    kind: str
    C_b: float | None
    C_W: float | None
    K: float | None
    reason: str
    candidates: tuple[Candidate, ...]
    a1: float | None
    b1: float | None

    @property
    def W_std(self) -> float | None:
        """Standard deviation of the weights, as :class:`kernreg.nn.Dense` takes it."""
        return None if self.C_W is None else math.sqrt(self.C_W)

    @property
    def b_std(self) -> float | None:
        """Standard deviation of the biases, as :class:`kernreg.nn.Dense` takes it."""
        return None if self.C_b is None else math.sqrt(self.C_b)

    @property
    def p_perp(self) -> float | None:
        """Exponent ``b1 / a1`` of the class "K*=0": gradients decay as ``l^-p_perp``."""
        if self.kind != "K*=0" or self.a1 is None or self.b1 is None:
            return None
        return self.b1 / self.a1

    @property
    def rejected(self) -> tuple[Candidate, ...]:
        """The candidates that cannot be used."""
        return tuple(c for c in self.candidates if not c.accepted)

    def power_law(self, layer: int) -> PowerLaw:
        """Variance and susceptibilities expected deep in a network of class "K*=0".

        Parameters
        ----------
        layer : int
            Number of the layer, much greater than ``1 / K^(1)``.

        Returns
        -------
        PowerLaw

        Raises
        ------
        InvalidInputError
            For another class, or ``layer < 1``.

        Notes
        -----
        Relative corrections are of order ``log(layer) / layer``.
        """
        if self.p_perp is None or self.a1 is None:
            raise InvalidInputError(
                f"power_law needs the class 'K*=0', but {self.sigma!r} has class {self.kind!r}."
            )
        if not layer >= 1:
            raise InvalidInputError(f"layer must be at least 1, found {layer!r}.")
        return PowerLaw(-1.0 / (self.a1 * layer), 1.0 - 2.0 / layer, 1.0 - self.p_perp / layer)

    def __str__(self) -> str:
        lines = [f"{self.sigma!r}: class {self.kind}"]
        if self.C_b is not None and self.C_W is not None:
            fixed = "any" if self.K is None else f"{self.K:.10g}"
            lines.append(f"  C_b = {self.C_b:.10g}, C_W = {self.C_W:.10g}, K* = {fixed}")
            lines.append(f"  b_std = {self.b_std:.10g}, W_std = {self.W_std:.10g}")
        lines.append(f"  {self.reason}")
        if self.kind == "none":
            lines.append(
                "  Norms, distances or gradients change exponentially with depth. "
                "edge_of_chaos(sigma, C_b) keeps gradients, if there is one; Tanh, Relu and Gelu "
                "have critical points."
            )
        lines += [
            f"  rejected: {c.kind} at C_b = {c.C_b:.6g}, C_W = {c.C_W:.6g}: {c.reason}"
            for c in self.rejected
        ]
        return "\n".join(lines)


def critical(sigma: Any) -> Critical:
    """Variances of weights and biases at which signals and gradients pass any depth.

    There a fixed point ``K*`` of the variance has ``chi_par = chi_perp = 1``: norms, distances
    and gradients neither grow nor decay exponentially. Three classes are tried in turn.

    - "scale-invariant": ``<sigma sigma''>`` is 0 at every variance, as for ReLU: ``C_b = 0``, and
      every ``K`` is a fixed point.
    - "K*=0": ``sigma(0) = 0`` and ``sigma`` is smooth with ``a1 < 0``, as tanh: ``C_b = 0``,
      ``C_W = 1 / sigma'(0)^2``. The variance decays as ``1 / l``, slowly but for ever.
    - "half-stable": ``<sigma sigma''> = 0`` at some ``K* > 0``, as for GELU. ``K*`` attracts from
      one side only: near it, ``K - K*`` changes by ``g'' (K - K*)^2 / 2`` per layer. For GELU and
      swish that is so little that neither side is noticed within a thousand layers.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.

    Returns
    -------
    Critical
        With class "none", and the reason, if there is no such point. Of several half-stable
        points it is the one with the smallest ``K*``; the others are among the candidates.

    Raises
    ------
    InvalidInputError
        If ``sigma`` cannot be averaged or jumps.
    NetworkError
        If ``sigma`` is a map of kernels without an elementwise function.

    Notes
    -----
    About a second for a new nonlinearity. Fixed points are sought for ``1e-4 <= K <= 1e4``, with
    an accuracy of about 1e-13.

    References
    ----------
    Roberts, Yaida, Hanin, "The Principles of Deep Learning Theory" (2022), chapter 5.

    Examples
    --------
    >>> from kernreg import nn
    >>> gelu = critical(nn.Gelu())
    >>> gelu.kind, round(gelu.C_b, 8), round(gelu.C_W, 8), round(gelu.K, 8)
    ('half-stable', 0.17292239, 1.98305826, 3.56155281)
    >>> print(critical(nn.Softplus()))
    Softplus(): class none
      no variance K from 0.0001 to 1e+04 has <sigma sigma''> = 0, and sigma(0) is not 0
      Norms, distances or gradients change exponentially with depth. edge_of_chaos(sigma, C_b) ...
    """
    return _critical(as_nonlinearity(sigma))


@functools.lru_cache(maxsize=64)
def _critical(fn: Nonlinearity) -> Critical:
    table = average_table(fn)
    if not table.slope_square.any():
        why = "sigma is constant: no signal passes"
        return Critical(fn, "none", None, None, None, why, (), None, None)
    derivatives = derivatives_at_zero(fn)
    a1, b1 = _coefficients(derivatives)
    invariant = _scale_invariant(table)
    if invariant is None:
        at_zero, why = _at_zero(fn, derivatives, a1)
        candidates = (*at_zero, *_half_stable(fn, table))
    else:
        candidates, why = (invariant,), ""
    for c in candidates:
        if c.accepted:
            return Critical(fn, c.kind, c.C_b, c.C_W, c.K, c.reason, candidates, a1, b1)
    if candidates:
        why = "every point with both susceptibilities 1 was rejected"
    else:
        low, high = _SEARCH[0], min(_SEARCH[1], table.K[-1])
        why = f"no variance K from {low:g} to {high:.4g} has <sigma sigma''> = 0, and {why}"
    return Critical(fn, "none", None, None, None, why, candidates, a1, b1)


def _coefficients(
    derivatives: tuple[float, float, float, float] | None,
) -> tuple[float | None, float | None]:
    if derivatives is None or derivatives[1] == 0:
        return None, None
    _, first, second, third = derivatives
    ratio = (second / first) ** 2
    return third / first + 0.75 * ratio, third / first + ratio


def _scale_invariant(table: Averages) -> Candidate | None:
    """The candidate of a nonlinearity with ``<sigma sigma''> = 0`` at every variance."""
    low, high = _INVARIANT
    if table.K[-1] < high:
        return None
    inside = _between(table.K, low, high)
    slope = table.slope_square[inside]
    if (np.abs(table.drift[inside] - slope) > _NOTHING * slope).any():
        return None
    C_W = 1.0 / float(slope[slope.size // 2])
    # <sigma^2> = K / C_W + a constant, which is 0 for a scale-invariant sigma.
    C_b = float((table.K - C_W * table.square)[inside][0])
    if abs(C_b) <= 1e-9 * low:
        why = "<sigma sigma''> = 0 at every variance, so every variance is a fixed point"
        return Candidate("scale-invariant", 0.0, C_W, None, True, why)
    why = "C_b < 0: sigma is linear but not 0 at 0, which adds to the variance in every layer"
    return Candidate("scale-invariant", C_b, C_W, None, False, why)


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.bool_]:
    return (low <= values) & (values <= high)


def _at_zero(
    fn: Nonlinearity, derivatives: tuple[float, float, float, float] | None, a1: float | None
) -> tuple[tuple[Candidate, ...], str]:
    """The candidate at ``K* = 0``, if any, and otherwise why there is none."""
    if abs(float(line(fn, 0.0).value.mean())) > 1e-12:
        return (), "sigma(0) is not 0"
    if derivatives is None:
        return (), "sigma is not smooth at 0"
    first = derivatives[1]
    if abs(first) < 1e-9 or a1 is None:
        return (), "sigma'(0) is 0"
    if abs(a1) < 1e-9:
        stable, why = False, "a1 = 0: K* = 0 is neither stable nor unstable to first order"
    elif a1 > 0:
        stable, why = False, f"a1 = {a1:.4g} > 0: K* = 0 is unstable, the variance grows"
    else:
        stable = True
        why = f"sigma(0) = 0 and a1 = {a1:.4g} < 0: the variance decays as {-1 / a1:.4g} / l"
    return (Candidate("K*=0", 0.0, 1.0 / first**2, 0.0, stable, why),), why


def _half_stable(fn: Nonlinearity, table: Averages) -> list[Candidate]:
    """Roots of ``<sigma sigma''> = (chi_par - chi_perp) / C_W``."""
    inside = _between(table.K, *_SEARCH)
    K = table.K[inside]
    bend = (table.drift - table.slope_square)[inside] / table.slope_square[inside]
    bend[np.abs(bend) < _NOTHING] = 0.0
    return [
        _fixed_point(fn, float(K[i]), float(K[i + 1]))
        for i in np.flatnonzero(bend[:-1] * bend[1:] < 0)
    ]


def _fixed_point(fn: Nonlinearity, low: float, high: float) -> Candidate:
    def difference(log_K: float) -> float:
        found = averages(fn, math.exp(log_K))
        return float((found.drift - found.slope_square)[0])

    K = math.exp(brentq(difference, math.log(low), math.log(high), xtol=1e-15, rtol=1e-15))
    found = averages(fn, [K, K * (1.0 - 1e-3), K * (1.0 + 1e-3)])
    C_W = 1.0 / float(found.slope_square[0])
    C_b = K - C_W * float(found.square[0])
    if C_b < -1e-12 * K:
        why = f"C_b = {C_b:.4g} < 0 at K* = {K:.6g}: no bias has a negative variance"
        return Candidate("half-stable", C_b, C_W, K, False, why)
    curvature = C_W * float(found.drift[2] - found.drift[1]) / (2e-3 * K)
    side = ("above", "below") if curvature < 0 else ("below", "above")
    why = (
        f"<sigma sigma''> = 0 at K* = {K:.6g}, stable from {side[0]} and unstable from {side[1]} "
        f"(g'' = {curvature:.2g})"
    )
    return Candidate("half-stable", max(C_b, 0.0), C_W, K, True, why)


def derivatives_at_zero(sigma: Any) -> tuple[float, float, float, float] | None:
    """``sigma`` and its first three derivatives at 0, or None if one of them jumps there.

    Parameters
    ----------
    sigma : Nonlinearity or callable
        See :func:`kernreg.theory.averages.as_nonlinearity`.

    Returns
    -------
    tuple of four floats, or None

    Notes
    -----
    By nested automatic differentiation in float64 at 0 and at both sides of it. Where a formula
    with cases, such as ``max(x, 0) + log1p(exp(-|x|))``, is smooth but its automatic derivative
    at 0 is not the limit, the mean of the sides counts, with an error of about 1e-10.

    Examples
    --------
    >>> from kernreg import nn
    >>> derivatives_at_zero(nn.Tanh())
    (0.0, 1.0, 0.0, -2.0)
    >>> derivatives_at_zero(nn.Relu()) is None
    True
    """
    fn = as_nonlinearity(sigma)
    wide, near = _STEPS
    x = torch.tensor([-wide, -near, 0.0, near, wide], dtype=torch.float64, requires_grad=True)
    found: list[float] = []
    with torch.enable_grad():
        part = fn.phi(TorchMath, x)
        for order in range(4):
            far_below, below, at, above, far_above = part.tolist()
            scale = 1.0 + abs(below) + abs(above)
            # What is continuous changes a hundred times less over the smaller step.
            if not abs(above - below) <= 0.1 * abs(far_above - far_below) + 1e-9 * scale:
                return None
            middle = 0.5 * (below + above)
            found.append((at if abs(at - middle) <= 1e-6 * scale else middle) + 0.0)
            if order < 3:
                part = _derivative(part, x)
    return found[0], found[1], found[2], found[3]


def _derivative(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The next derivative; a ``y`` that does not depend on ``x`` has derivative 0."""
    if not y.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True, allow_unused=True)
    return torch.zeros_like(x) if slope is None else slope
