"""Sine, cosine and the Gabor function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity, check_number
from kernreg.nn.nonlinearities.exponential import gaussian_gap
from kernreg.nn.nonlinearities.lifted import Lift, gap_of_roots

__all__ = ["Cos", "Gabor", "Sin"]

_LARGEST = 1e300  # times 0 it is 0


def _wave(xp: Any, p: Pair, a: Any, b: Any, sin2: Any) -> Moments:
    """Dual of ``a sin(b x + c)``, given ``sin2 = sin(c)^2``.

    The average is a difference of two Gaussians, ``near`` and ``far``, in ``u - v`` and ``u + v``
    (the other way round for negative ``rho``). ``near`` comes from the squared distance, so
    nothing overflows, and ``far / near = 1 + 2 drop`` keeps its digits where both are close.
    """
    t1, t2 = b * p.s1, b * p.s2
    product = xp.minimum(t1 * t2, _LARGEST)
    lost = 0.5 * (t1 - t2) ** 2 + product * p.gap
    near, lost = xp.exp(-lost), -xp.expm1(-lost)
    drop = 0.5 * xp.expm1(-2.0 * product * xp.abs(p.rho))
    cos2 = 1.0 - sin2
    slant = cos2 - sin2
    turned = slant * drop
    positive, area = p.rho > 0, a * a
    r1 = xp.sqrt(area * (sin2 - slant * (0.5 * xp.expm1(-2.0 * t1 * t1))))
    r2 = xp.sqrt(area * (sin2 - slant * (0.5 * xp.expm1(-2.0 * t2 * t2))))
    kappa = area * near * (sin2 + xp.where(positive, -turned, drop))
    # The mean of both squares less |kappa|.
    mean = 2.0 * cos2 - slant * (lost - 2.0 * near * drop)
    left = lost * mean - 0.5 * slant * (xp.exp(-t1 * t1) - xp.exp(-t2 * t2)) ** 2
    other = near * xp.minimum(-cos2 * drop, sin2 * (1.0 + drop))
    left = 0.5 * area * (left + xp.where(positive, 0.0, 4.0 * other))
    return Moments(
        kappa=kappa,
        kappa_dot=(a * b) ** 2 * near * (cos2 + xp.where(positive, turned, drop)),
        gap=xp.maximum(gap_of_roots(xp, left, kappa, r1, r2), 0.0),
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
        f = Lift(xp, p, math.sqrt(2.0))
        (c1, c2), (e1, e2) = f.c, f.e
        both, inverse, x = e1 * e2, 1.0 / f.volume, f.lift * p.rho
        # |kappa| / (r1 r2) is that of Gaussians times `near` times that of sinh, which is
        # (1 - exp(-rate)) over its root mean square for either row.
        gap, lost, square = gaussian_gap(f, inverse)
        spread = (e1 - e2) ** 2
        distance = spread + both * ((c1 - c2) ** 2 + spread)
        distance = distance + 2.0 * (both * f.lift * p.gap + f.turned)
        distance = 0.25 * distance * inverse
        near = xp.exp(-distance)
        drop = 0.5 * xp.expm1(-xp.abs(x) * f.share)
        sinh = xp.where(p.rho > 0, -drop, drop)
        rate1, rate2 = c1 / xp.sqrt(1.0 + c1 * c1), c2 / xp.sqrt(1.0 + c2 * c2)
        root1, root2 = xp.exp(-0.5 * rate1 * rate1), xp.exp(-0.5 * rate2 * rate2)
        r1, r2 = xp.sqrt(-xp.expm1(-rate1 * rate1)), xp.sqrt(-xp.expm1(-rate2 * rate2))
        slower = 0.5 * (rate1 - rate2) ** 2 + f.lift * f.share * p.gap
        slower = slower + rate1 * rate2 * (lost / (1.0 + square))
        left = root1 * root2 * xp.expm1(slower) - 0.5 * (root1 - root2) ** 2
        left = gap_of_roots(xp, left, 2.0 * drop, r1, r2)
        gap = gap + xp.sqrt(square) * (near * left - xp.expm1(-distance))
        size = both * xp.sqrt(inverse) * near
        slope = x * (1.0 + 0.5 * (e1 * e1 + e2 * e2) * inverse) * sinh
        slope = slope + both * (0.5 + x * x * inverse) * (1.0 + drop)
        return Moments(
            kappa=size * sinh,
            kappa_dot=2.0 * f.share * size * slope,
            gap=xp.maximum(gap, 0.0),
        )
