"""Sine, cosine and the Gabor function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity, check_number

__all__ = ["Cos", "Gabor", "Sin"]


def _wave(xp: Any, p: Pair, a: Any, b: Any, sin2: Any) -> Moments:
    """Dual of ``a sin(b x + c)``, given ``sin2 = sin(c)^2``.

    The average is a difference of two Gaussians, ``near`` and ``far``, in ``u - v`` and ``u + v``
    (the other way round for negative ``rho``). ``near`` comes from the squared distance, so
    nothing overflows, and ``far / near = 1 + 2 drop`` keeps its digits where both are close.
    """
    t1, t2 = b * p.s1, b * p.s2
    product = t1 * t2
    near = xp.exp(-0.5 * (t1 - t2) ** 2 - product * p.gap)
    drop = 0.5 * xp.expm1(-2.0 * product * xp.abs(p.rho))
    cos2 = 1.0 - sin2
    turned = (cos2 - sin2) * drop
    positive = p.rho > 0
    return Moments(
        kappa=a * a * near * (sin2 + xp.where(positive, -turned, drop)),
        kappa_dot=(a * b) ** 2 * near * (cos2 + xp.where(positive, turned, drop)),
    )


@dataclass(frozen=True, repr=False)
class Sin(Nonlinearity):
    r"""Sine :math:`\phi(x) = a \sin(b x + c)`.

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Frequency.
    c : float
        Phase, in radians.

    Raises
    ------
    NetworkError
        If a parameter is not a finite number.

    Notes
    -----
    .. math:: \kappa = \frac{a^2}{2} \bigl(e^{-b^2 (q_1 + q_2 - 2k)/2}
       - \cos(2c)\, e^{-b^2 (q_1 + q_2 + 2k)/2}\bigr),

    and :math:`\dot\kappa` is :math:`b^2` times the same with a plus.

    References
    ----------
    T. Pearce, R. Tsuchida, M. Zaki, A. Brintrup, A. Neely, Expressive priors in Bayesian neural
    networks: kernel combinations and periodic functions, UAI 2019.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Sin(b=3.0)
    Sin(b=3.0)
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    parameters: ClassVar[tuple[str, ...]] = ("a", "b", "sin2")

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            check_number("Sin", name, getattr(self, name))

    @cached_property
    def sin2(self) -> float:
        """``sin(c)**2``: all that the kernel sees of the phase."""
        return math.sin(self.c) ** 2

    def structure(self) -> tuple[Any, ...]:
        """The class alone: the phase is run-time data through ``sin2``."""
        return (type(self), ())

    def phi(self, xp: Any, x: Any) -> Any:
        """Sine."""
        return self.a * xp.sin(self.b * x + self.c)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Difference of two Gaussian kernels."""
        return _wave(xp, p, self.a, self.b, self.sin2)


@dataclass(frozen=True, repr=False)
class Cos(Nonlinearity):
    r"""Cosine :math:`\phi(x) = a \cos(b x + c)`; :class:`Sin` a quarter turn on.

    Parameters
    ----------
    a : float
        Amplitude.
    b : float
        Frequency.
    c : float
        Phase, in radians.

    Raises
    ------
    NetworkError
        If a parameter is not a finite number.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Cos(a=2.0)
    Cos(a=2.0)
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    parameters: ClassVar[tuple[str, ...]] = ("a", "b", "cos2")

    def __post_init__(self) -> None:
        for name in ("a", "b", "c"):
            check_number("Cos", name, getattr(self, name))

    @cached_property
    def cos2(self) -> float:
        """``cos(c)**2``: all that the kernel sees of the phase."""
        return math.cos(self.c) ** 2

    def structure(self) -> tuple[Any, ...]:
        """The class alone: the phase is run-time data through ``cos2``."""
        return (type(self), ())

    def phi(self, xp: Any, x: Any) -> Any:
        """Cosine."""
        return self.a * xp.cos(self.b * x + self.c)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Sum of two Gaussian kernels."""
        return _wave(xp, p, self.a, self.b, self.cos2)


@dataclass(frozen=True, repr=False)
class Gabor(Nonlinearity):
    r"""Gabor function :math:`\phi(x) = e^{-x^2} \sin x`.

    Notes
    -----
    With :math:`D = (1 + 2q_1)(1 + 2q_2) - 4k^2` and :math:`m = (1 - (1 + q_1 + q_2)/D)/2`,
    :math:`\kappa = D^{-1/2} e^{-m} \sinh(k/D)`; :math:`\dot\kappa` is its derivative in ``k``.

    References
    ----------
    I. Han, A. Zandieh, J. Lee, R. Novak, L. Xiao, A. Karbasi, Fast neural kernel embeddings for
    general activations, NeurIPS 2022.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Gabor()
    Gabor()
    """

    def phi(self, xp: Any, x: Any) -> Any:
        """Sine under a Gaussian window."""
        return xp.exp(-x * x) * xp.sin(x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Difference of two Gaussians, the larger one taken out of it."""
        size = p.s1 * p.s2
        sine_square = p.gap * (2.0 - p.gap)
        total = 1.0 + (p.s1 * p.s1 + p.s2 * p.s2)
        volume = 4.0 * size * sine_square * size
        inverse = 1.0 / (2.0 * total - 1.0 + volume)
        distance = (p.s1 - p.s2) ** 2 + 2.0 * size * p.gap + volume
        mixed = size * p.rho * inverse
        drop = 0.5 * xp.expm1(-2.0 * xp.abs(mixed))
        near = xp.exp(-0.5 * distance * inverse) * xp.sqrt(inverse)
        sinh = xp.where(p.rho > 0, -drop, drop)
        slope = 4.0 * mixed * (1.0 + total * inverse) * sinh
        return Moments(
            kappa=near * sinh,
            kappa_dot=near * (slope + (inverse + 8.0 * mixed * mixed) * (1.0 + drop)),
        )
