"""The Gaussian error linear unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity
from kernreg.nn.nonlinearities.lifted import Arcsine, Lift

__all__ = ["Gelu"]


@dataclass(frozen=True, repr=False)
class Gelu(Nonlinearity):
    r"""Gaussian error linear unit :math:`\phi(x) = x\,\Phi(x)`, :math:`\Phi` the normal CDF.

    Notes
    -----
    With :math:`e_i^2 = 1/(1 + q_i)`, :math:`x = k e_1 e_2`, :math:`\sin\omega = \sqrt{1 - x^2}`,

    .. math:: 2\pi\kappa = k (\tfrac\pi2 + \arcsin x)
       + \frac{q_1 q_2 e_1 e_2}{\sin\omega} \bigl(1 - \rho^2 + \rho^2 (e_1^2 + e_2^2)\bigr), \quad
       2\pi\dot\kappa = \tfrac\pi2 + \arcsin x
       + \frac{x}{\sin\omega} \Bigl(e_1^2 + e_2^2 + \frac{e_1^2 e_2^2}{\sin^2\omega}\Bigr).

    References
    ----------
    R. Tsuchida, T. Pearce, C. van der Heide, F. Roosta, M. Gallagher, Avoiding kernel fixed
    points: computing with ELU and GELU infinite networks, AAAI 2021.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Gelu()
    Gelu()
    """

    def phi(self, xp: Any, x: Any) -> Any:
        """Exact form, not the approximation by tanh."""
        return 0.5 * x * (1.0 + xp.erf(x * math.sqrt(0.5)))

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Closed form, arranged so that no sum cancels against the variances."""
        f = Lift(xp, p, 1.0)
        angle = Arcsine(f)
        (c1, c2), (e1, e2), (eta1, eta2) = f.c, f.e, f.eta
        both, inverse = e1 * e2, 1.0 / angle.cosine
        turn = xp.where(p.rho > 0, 0.5 * math.pi + angle.value, angle.other)
        squares = e1 * e1 + e2 * e2
        inner = f.sine_square + p.rho * p.rho * squares
        slope = squares + (both * inverse) * (both * inverse)
        kappa = p.rho * turn + f.lift * inner * inverse
        # The same over s1 s2 for either row with itself, and the square root.
        n1, n2 = xp.sqrt(eta1), xp.sqrt(eta2)
        k1, k2 = e1 / n1, e2 / n2
        b1, b2 = c1 * e1 * k1, c2 * e2 * k2
        r1 = xp.sqrt(0.5 * math.pi + 2.0 * angle.half1 + c1 * c1 * eta1 + b1 * b1)
        r2 = xp.sqrt(0.5 * math.pi + 2.0 * angle.half2 + c2 * c2 * eta2 + b2 * b2)
        # r1 r2 - kappa: the mean of both squares less kappa, part by part as in the notes, less
        # half the squared difference.
        left = p.gap * (0.5 * math.pi + angle.value - f.lift * angle.cosine) + angle.missing
        cosine = xp.sqrt(xp.maximum(1.0 - angle.sine * angle.sine, 0.0))
        left = left + angle.sine * (angle.cosine_sum * cosine + angle.sine_sum * angle.sine)
        left = left - angle.sine_sum * angle.sine_h + 0.5 * (b1 - b2) ** 2
        share = (f.turned + 2.0 * angle.sine_h) / (angle.cosine + n1 * n2)
        left = left + f.lift * (both * inverse) * (k1 * k2 * share + both * f.sine_square)
        left = (left - 0.5 * (r1 - r2) ** 2) / (r1 * r2)
        other = 1.0 - xp.abs(kappa) / (r1 * r2)
        return Moments(
            kappa=p.s1 * p.s2 * kappa * (0.5 / math.pi),
            kappa_dot=(turn + f.lift * p.rho * inverse * slope) * (0.5 / math.pi),
            gap=xp.maximum(xp.where(p.rho > 0, left, other), 0.0),
        )
