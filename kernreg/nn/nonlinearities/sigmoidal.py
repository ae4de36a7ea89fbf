"""The error function and the logistic-like sigmoid made of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity, check_number
from kernreg.nn.nonlinearities.lifted import Arcsine, Lift, gap_of_roots

__all__ = ["Erf", "SigmoidLike"]

# Makes (1 + erf(x / scale)) / 2 closest to the logistic function.
_LOGISTIC_SCALE = 2.4020563531719796


def _erf(xp: Any, p: Pair, a: Any, b: Any, c: Any) -> Moments:
    """Dual of ``a erf(b x) + c``."""
    f = Lift(xp, p, math.sqrt(2.0) * xp.abs(b))
    angle = Arcsine(f)
    height, offset = a * a * (2.0 / math.pi), c * c
    r1 = xp.sqrt(height * (2.0 * angle.half1) + offset)
    r2 = xp.sqrt(height * (2.0 * angle.half2) + offset)
    positive, size = p.rho > 0, height * angle.value
    kappa = xp.where(positive, size, -size) + offset
    # For negative rho the offset counts against the angle.
    against = xp.where(positive, 0.0, 2.0 * xp.minimum(size, offset))
    return Moments(
        kappa=kappa,
        kappa_dot=(4.0 / math.pi) * (a * b) ** 2 * (f.e[0] * f.e[1]) / angle.cosine,
        gap=xp.maximum(gap_of_roots(xp, height * angle.missing + against, kappa, r1, r2), 0.0),
    )


@dataclass(frozen=True, repr=False)
class Erf(Nonlinearity):
    r"""Error function :math:`\phi(x) = a\,\mathrm{erf}(b x) + c`.

    Parameters
    ----------
    a : float
        Height.
    b : float
        Steepness.
    c : float
        Offset.

    Raises
    ------
    NetworkError
        If a parameter is not a finite number.

    Notes
    -----
    With :math:`P = (1 + 2 b^2 q_1)(1 + 2 b^2 q_2)`,

    .. math:: \kappa = \frac{2a^2}{\pi} \arcsin\frac{2 b^2 k}{\sqrt P} + c^2, \quad
       \dot\kappa = \frac{4 a^2 b^2}{\pi \sqrt{P - 4 b^4 k^2}}.

    References
    ----------
    C. Williams, Computing with infinite networks, NeurIPS 1996, equation 11.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Erf(b=2.0)
    Erf(b=2.0)
    """

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    parameters: ClassVar[tuple[str, ...]] = ("a", "b", "c")

    def __post_init__(self) -> None:
        for name in self.parameters:
            check_number("Erf", name, getattr(self, name))

    def phi(self, xp: Any, x: Any) -> Any:
        """Scaled and shifted error function."""
        return self.a * xp.erf(self.b * x) + self.c

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Arcsine kernel."""
        return _erf(xp, p, self.a, self.b, self.c)


@dataclass(frozen=True, repr=False)
class SigmoidLike(Nonlinearity):
    r"""The sigmoid :math:`\phi(x) = \tfrac12 (1 + \mathrm{erf}(x / 2.4020563531719796))`.

    It is within 0.02 of the logistic function and, unlike it, has a dual in closed form.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.SigmoidLike()
    SigmoidLike()
    """

    nonnegative: ClassVar[bool] = True

    def phi(self, xp: Any, x: Any) -> Any:
        """Gaussian distribution function close to the logistic function."""
        return 0.5 + 0.5 * xp.erf(x * (1.0 / _LOGISTIC_SCALE))

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Arcsine kernel with an offset."""
        return _erf(xp, p, 0.5, 1.0 / _LOGISTIC_SCALE, 0.5)
