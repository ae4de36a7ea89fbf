"""Geometry that the error function, GELU, Gaussians and the Gabor function share.

A standard deviation ``t`` is the angle of the unit vector ``(c, e) = (t, 1) / sqrt(1 + t^2)``. The
averages depend on ``x = c1 c2 rho``, and everything here is bounded, whatever the variances.
Differences between the rows come from differences of ``c`` or of ``e``, whichever keep the digits,
and from ``1 - |rho|``: for equal rows all of them are exactly 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kernreg.ir.pair import Pair

__all__ = ["Arcsine", "Lift", "gap_of_roots"]


def gap_of_roots(xp: Any, mean: Any, kappa: Any, r1: Any, r2: Any) -> Any:
    """``1 - |kappa| / (r1 r2)`` from ``mean = (r1^2 + r2^2) / 2 - |kappa|`` and the roots ``r``.

    ``mean`` is exact where the rows are alike; where their roots are far apart it has large
    parts that cancel, and a subtraction is better. Rounding may leave it below 0.
    """
    size = (1.0 / xp.where(r1 > 0, r1, 1.0)) * (1.0 / xp.where(r2 > 0, r2, 1.0))
    apart = (r1 - r2) ** 2
    near, far = (mean - 0.5 * apart) * size, 1.0 - xp.abs(kappa) * size
    return xp.where(apart <= r1 * r2, near, far)


@dataclass(frozen=True)
class Lift:
    """A pair seen from ``t = factor * s``, with ``factor >= 0``."""

    xp: Any
    p: Pair
    factor: Any

    @cached_property
    def t(self) -> tuple[Any, Any]:
        """Scaled standard deviations."""
        return self.factor * self.p.s1, self.factor * self.p.s2

    @cached_property
    def e(self) -> tuple[Any, Any]:
        """``1 / sqrt(1 + t^2)``."""
        t1, t2 = self.t
        return 1.0 / self.xp.sqrt(1.0 + t1 * t1), 1.0 / self.xp.sqrt(1.0 + t2 * t2)

    @cached_property
    def c(self) -> tuple[Any, Any]:
        """``t / sqrt(1 + t^2)``."""
        return self.t[0] * self.e[0], self.t[1] * self.e[1]

    @cached_property
    def eta(self) -> tuple[Any, Any]:
        """``sqrt(1 - c^4)``."""
        (c1, c2), (e1, e2) = self.c, self.e
        return e1 * self.xp.sqrt(1.0 + c1 * c1), e2 * self.xp.sqrt(1.0 + c2 * c2)

    @cached_property
    def lift(self) -> Any:
        """``c1 c2``."""
        return self.c[0] * self.c[1]

    @cached_property
    def sine_square(self) -> Any:
        """``1 - rho^2``."""
        return self.p.gap * (2.0 - self.p.gap)

    @cached_property
    def turned(self) -> Any:
        """``lift^2 - x^2``."""
        return self.lift * self.lift * self.sine_square

    @cached_property
    def parallel(self) -> Any:
        """``1 - lift^2``."""
        f1, f2 = self.e[0] * self.e[0], self.e[1] * self.e[1]
        return (f1 + f2) - f1 * f2

    @cached_property
    def volume(self) -> Any:
        """``1 - x^2``."""
        return self.parallel + self.turned

    @cached_property
    def share(self) -> Any:
        """``e1 e2 / volume``, which is at most 1; so its parts never meet other factors."""
        return self.xp.minimum(self.e[0] * self.e[1] / self.volume, 1.0)

    @cached_property
    def apart(self) -> Any:
        """``|c1^2 - c2^2|``, up to its sign."""
        (c1, c2), (e1, e2) = self.c, self.e
        small = self.lift < 0.5
        return self.xp.where(small, c1 - c2, e1 - e2) * self.xp.where(small, c1 + c2, e1 + e2)


class Arcsine:
    """``asin(|x|)``, and what it lacks to the mean of its values for equal rows.

    With ``sin(alpha_i) = c_i^2``, ``S = (alpha_1 + alpha_2) / 2`` and ``xi = asin(x)``,

        sin(S - xi) = (sin(h)^2 + turned) / sin(S + xi),   h = (alpha_1 - alpha_2) / 2,

    as ``sin(S)^2 - sin(h)^2 = sin(alpha_1) sin(alpha_2)``.

    Attributes
    ----------
    half1, half2 : value
        ``alpha_i / 2``.
    x, cosine : value
        ``lift |rho|`` and ``sqrt(1 - x^2)``.
    sine_h : value
        ``sin(h)^2``.
    sine_sum, cosine_sum : value
        ``sin(2 S)`` and ``cos(2 S)``.
    value, other : value
        ``xi`` and ``pi / 2 - xi``.
    missing, sine : value
        ``S - xi`` and ``sin(S - xi)``.
    """

    def __init__(self, f: Lift) -> None:
        xp = f.xp
        (c1, c2), (eta1, eta2) = f.c, f.eta
        b1, b2 = c1 * c1, c2 * c2
        self.half1 = xp.asin(b1 / xp.sqrt(2.0 * (1.0 + eta1)))
        self.half2 = xp.asin(b2 / xp.sqrt(2.0 * (1.0 + eta2)))
        both = eta1 * eta2
        cosine_square = 0.5 * (f.parallel + both)  # of S
        self.sine_h = 0.25 * (f.apart / cosine_square) * f.apart
        self.sine_sum = b1 * eta2 + b2 * eta1
        square = f.lift * f.lift
        self.cosine_sum = both - square
        self.x, self.cosine = f.lift * xp.abs(f.p.rho), xp.sqrt(f.volume)
        inside = (square + self.sine_h) * f.volume + self.x * (
            cosine_square * self.x + self.sine_sum * self.cosine
        )
        # Both sides vanish only for rows of zeros.
        inside = xp.where(inside > 0, inside, 1.0)
        self.sine = (self.sine_h + f.turned) / xp.sqrt(inside)
        # Of two angles that add up to pi / 2, or less, the smaller one gives the other.
        acute = self.x < self.cosine
        part = xp.asin(xp.minimum(self.x, self.cosine))
        self.value = xp.where(acute, part, 0.5 * math.pi - part)
        self.other = xp.where(acute, 0.5 * math.pi - part, part)
        self.missing = xp.where(
            self.x < self.sine,
            self.half1 + self.half2 - self.value,
            xp.asin(xp.minimum(self.x, self.sine)),
        )
