"""The Gaussian error linear unit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity

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
        e1, e2 = 1.0 / xp.sqrt(1.0 + p.s1 * p.s1), 1.0 / xp.sqrt(1.0 + p.s2 * p.s2)
        c1, c2 = p.s1 * e1, p.s2 * e2
        lift = c1 * c2
        squares = e1 * e1 + e2 * e2
        gap = lift * p.gap + 0.5 * ((c1 - c2) ** 2 + squares)
        sine_square = gap * (2.0 - gap)
        inverse_sine = 1.0 / xp.sqrt(sine_square)
        angle = xp.arc(gap)
        turn = xp.where(p.rho > 0, math.pi - angle, angle)
        size = p.s1 * p.s2
        inner = p.gap * (2.0 - p.gap) + p.rho * p.rho * squares
        slope = squares + (e1 * e2) ** 2 * inverse_sine * inverse_sine
        return Moments(
            kappa=size * (p.rho * turn + lift * inner * inverse_sine) * (0.5 / math.pi),
            kappa_dot=(turn + lift * p.rho * inverse_sine * slope) * (0.5 / math.pi),
        )
