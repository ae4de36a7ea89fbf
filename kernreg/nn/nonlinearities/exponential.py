"""Exponentials and Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity, check_number
from kernreg.nn.nonlinearities.lifted import Lift

__all__ = ["Exp", "ExpNormalized", "Gaussian", "Rbf", "gaussian_gap"]


_LARGEST = 1e300  # times 0 it is 0


def _half_distance(xp: Any, p: Pair) -> Any:
    """``E[(u - v)^2] / 2 = (q1 + q2 - 2k) / 2`` without cancellation."""
    angle = xp.where(p.rho > 0, p.gap, 2.0 - p.gap)
    return 0.5 * (p.s1 - p.s2) ** 2 + xp.minimum(p.s1 * p.s2, _LARGEST) * angle


@dataclass(frozen=True, repr=False)
class Exp(Nonlinearity):
    r"""Exponential :math:`\phi(x) = a e^{b x}`.

    Parameters
    ----------
    a : float
        Factor, not 0.
    b : float
        Rate.

    Raises
    ------
    NetworkError
        If a parameter is not a finite number or ``a`` is 0.

    Notes
    -----
    :math:`\kappa = a^2 e^{b^2 (q_1 + q_2 + 2k)/2}`, :math:`\dot\kappa = b^2 \kappa`. It grows
    exponentially with the variances: float32 ends at :math:`b^2 q \approx 44`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Exp(b=0.5)
    Exp(b=0.5)
    """

    a: float = 1.0
    b: float = 1.0

    parameters: ClassVar[tuple[str, ...]] = ("a", "b")
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_factor("Exp", self.a)
        check_number("Exp", "b", self.b)

    def phi(self, xp: Any, x: Any) -> Any:
        """Exponential."""
        return self.a * xp.exp(self.b * x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Exponential of the covariance."""
        lost = (self.b * self.b) * _half_distance(xp, p)
        top1 = xp.exp((self.b * p.s1) ** 2)
        top2 = xp.exp((self.b * p.s2) ** 2)
        kappa = (self.a * top1) * (self.a * top2) * xp.exp(-lost)
        return Moments(kappa=kappa, kappa_dot=self.b * self.b * kappa, gap=-xp.expm1(-lost))


@dataclass(frozen=True, repr=False)
class Gaussian(Nonlinearity):
    r"""Gaussian :math:`\phi(x) = a e^{b x^2}`.

    Parameters
    ----------
    a : float
        Factor, not 0.
    b : float
        Rate, at most 0: with a positive one the kernel is infinite from :math:`q = 1/4b` on.

    Raises
    ------
    NetworkError
        If a parameter is not a finite number, ``a`` is 0 or ``b`` is positive.

    Notes
    -----
    :math:`\kappa = a^2 D^{-1/2}`, :math:`\dot\kappa = 4 a^2 b^2 k D^{-3/2}` with
    :math:`D = (1 - 2b q_1)(1 - 2b q_2) - 4 b^2 k^2`.

    References
    ----------
    C. Williams, Computing with infinite networks, NeurIPS 1996, section 3.2.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Gaussian(b=-0.5)
    Gaussian(b=-0.5)
    """

    a: float = 1.0
    b: float = -1.0

    parameters: ClassVar[tuple[str, ...]] = ("a", "b")
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_factor("Gaussian", self.a)
        check_number("Gaussian", "b", self.b)
        if self.b > 0:
            raise NetworkError(
                f"Gaussian: b must be <= 0, found {self.b!r}: a growing Gaussian has no kernel "
                "for inputs of large variance."
            )

    def phi(self, xp: Any, x: Any) -> Any:
        """Gaussian."""
        return self.a * xp.exp(self.b * x * x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Inverse square root of a determinant."""
        f = Lift(xp, p, xp.sqrt(-2.0 * self.b))
        inverse = 1.0 / f.volume
        kappa = self.a * self.a * (f.e[0] * f.e[1]) * xp.sqrt(inverse)
        return Moments(
            kappa=kappa,
            kappa_dot=-2.0 * self.b * (f.lift * p.rho) * f.share * kappa,
            gap=gaussian_gap(f, inverse)[0],
        )


def gaussian_gap(f: Lift, inverse: Any) -> tuple[Any, Any, Any]:
    """Of the ratio ``r = kappa / sqrt(kappa11 kappa22)``: ``1 - r``, ``1 - r^4`` and ``r^2``.

    ``inverse`` is that of ``f.volume``; ``1 - r^4`` is a sum of squares.
    """
    square = f.eta[0] * f.eta[1] * inverse
    lost = (f.apart * inverse) ** 2
    lost = lost + (f.turned * inverse) * ((2.0 * f.parallel + f.turned) * inverse)
    return lost / ((1.0 + square) * (1.0 + f.xp.sqrt(square))), lost, square


@dataclass(frozen=True, repr=False)
class Rbf(Nonlinearity):
    r"""The nonlinearity whose kernel is :math:`\kappa = e^{-\gamma (q_1 + q_2 - 2k)}`.

    It is :math:`\phi(x) = \sqrt 2 \sin(\sqrt{2\gamma}\, x + \pi/4)`.

    Parameters
    ----------
    gamma : float
        Inverse squared length scale, at least 0.

    Raises
    ------
    NetworkError
        If ``gamma`` is not a finite number >= 0.

    Notes
    -----
    :math:`\dot\kappa = 2 \gamma \kappa`.

    References
    ----------
    A. Rahimi and B. Recht, Random features for large-scale kernel machines, NeurIPS 2007.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Rbf(gamma=0.5)
    Rbf(gamma=0.5)
    """

    gamma: float = 1.0

    parameters: ClassVar[tuple[str, ...]] = ("gamma",)

    def __post_init__(self) -> None:
        check_number("Rbf", "gamma", self.gamma, low=0.0)

    def phi(self, xp: Any, x: Any) -> Any:
        """Sine with the phase that makes the kernel stationary."""
        return math.sqrt(2.0) * xp.sin(xp.sqrt(2.0 * self.gamma) * x + 0.25 * math.pi)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Gaussian of the distance."""
        lost = 2.0 * self.gamma * _half_distance(xp, p)
        kappa = xp.exp(-lost)
        return Moments(kappa=kappa, kappa_dot=2.0 * self.gamma * kappa, gap=-xp.expm1(-lost))


@dataclass(frozen=True, repr=False)
class ExpNormalized(Nonlinearity):
    r"""The kernel map :math:`\kappa = s_1 s_2\, e^{\gamma (\rho + \mathrm{shift})}`.

    It is defined by its dual alone: no elementwise function is known for it.

    Parameters
    ----------
    gamma : float
        Rate, at least 0.
    shift : float
        Offset of the correlation; -1 keeps the variances at ``gamma = 1``.

    Raises
    ------
    NetworkError
        If a parameter is not a finite number or ``gamma`` is negative.

    Notes
    -----
    :math:`\dot\kappa = \gamma e^{\gamma (\rho + \mathrm{shift})}`.

    References
    ----------
    V. Shankar, A. Fang, W. Guo, S. Fridovich-Keil, L. Schmidt, J. Ragan-Kelley, B. Recht, Neural
    kernels without tangents, ICML 2020.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.ExpNormalized(gamma=2.0)
    ExpNormalized(gamma=2.0)
    """

    gamma: float = 1.0
    shift: float = -1.0

    parameters: ClassVar[tuple[str, ...]] = ("gamma", "shift")
    homogeneous: ClassVar[int | None] = 1
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_number("ExpNormalized", "gamma", self.gamma, low=0.0)
        check_number("ExpNormalized", "shift", self.shift)

    def phi(self, xp: Any, x: Any) -> Any:
        """Not known.

        Raises
        ------
        NetworkError
            Always.
        """
        raise NetworkError(
            "ExpNormalized is a map of kernels without an elementwise function; use another "
            "nonlinearity for a network of finite width."
        )

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Exponential of the correlation, at unit variance."""
        lost = self.gamma * xp.where(p.rho > 0, p.gap, 2.0 - p.gap)
        kappa = xp.exp(self.gamma * (p.rho + self.shift))
        return Moments(kappa=kappa, kappa_dot=self.gamma * kappa, gap=-xp.expm1(-lost))


def _check_factor(layer: str, a: Any) -> None:
    check_number(layer, "a", a)
    if a == 0:
        raise NetworkError(f"{layer}: a must not be 0, which makes the network constant.")
