"""Piecewise linear and piecewise constant nonlinearities, and powers of the ramp."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity, check_number
from kernreg.nn.nonlinearities.polynomial import check_degree

__all__ = ["ABRelu", "Abs", "LeakyRelu", "RectifiedMonomial", "Relu", "Sign"]


def _two_slopes(xp: Any, p: Pair, a: Any, b: Any) -> Moments:
    """Dual of ``a min(x, 0) + b max(x, 0)`` at unit variance."""
    lune, turn = xp.lune(p.gap), xp.arc(p.gap) / math.pi
    positive = p.rho > 0
    mean_square = 0.5 * (a * a + b * b)
    bend = 0.5 * (b - a) ** 2
    share = bend / mean_square  # 1 - m, where m is the normalised kernel of -x and x, negated
    m = a * b / mean_square
    opposite = xp.minimum(
        share * (1.0 + lune) + m * p.gap,
        0.5 * (a + b) ** 2 / mean_square - share * lune - m * p.gap,
    )
    return Moments(
        kappa=bend * lune + xp.where(positive, mean_square * p.rho, a * b * p.rho),
        kappa_dot=xp.where(positive, mean_square - bend * turn, a * b + bend * turn),
        gap=xp.where(positive, p.gap - share * lune, opposite),
    )


@dataclass(frozen=True, repr=False)
class ABRelu(Nonlinearity):
    r"""Two slopes: :math:`\phi(x) = a \min(x, 0) + b \max(x, 0)`.

    Parameters
    ----------
    a : float
        Slope on the negative side.
    b : float
        Slope on the positive side; ``a`` and ``b`` may not both be 0.

    Raises
    ------
    NetworkError
        If a slope is not a finite number or both are 0.

    Notes
    -----
    At unit variance, with :math:`\theta = \arccos \rho`,

    .. math:: \kappa = \frac{(b-a)^2}{2\pi} (\sin\theta + (\pi - \theta)\cos\theta) + ab\,\rho,
       \quad \dot\kappa = \frac{(b-a)^2}{2\pi} (\pi - \theta) + ab.

    References
    ----------
    Y. Cho and L. Saul, Kernel methods for deep learning, NeurIPS 2009, section 2.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.ABRelu(a=-0.5, b=1.0)
    ABRelu(a=-0.5, b=1.0)
    """

    a: float
    b: float

    parameters: ClassVar[tuple[str, ...]] = ("a", "b")
    homogeneous: ClassVar[int | None] = 1
    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("ABRelu", "a", self.a)
        check_number("ABRelu", "b", self.b)
        if self.a == 0 and self.b == 0:
            raise NetworkError("ABRelu: a and b are both 0, which makes the network constant.")

    def phi(self, xp: Any, x: Any) -> Any:
        """Two half-lines."""
        return self.a * xp.minimum(x, 0.0) + self.b * xp.maximum(x, 0.0)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Arc-cosine kernel of order 1 plus a linear kernel."""
        return _two_slopes(xp, p, self.a, self.b)


@dataclass(frozen=True, repr=False)
class LeakyRelu(Nonlinearity):
    r"""Ramp with a small slope on the negative side: :class:`ABRelu` with ``a=slope, b=1``.

    Parameters
    ----------
    slope : float
        Slope on the negative side.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.LeakyRelu(slope=0.2)
    LeakyRelu(slope=0.2)
    """

    slope: float = 0.01

    parameters: ClassVar[tuple[str, ...]] = ("slope",)
    homogeneous: ClassVar[int | None] = 1
    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("LeakyRelu", "slope", self.slope)

    def phi(self, xp: Any, x: Any) -> Any:
        """Two half-lines."""
        return self.slope * xp.minimum(x, 0.0) + xp.maximum(x, 0.0)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Arc-cosine kernel of order 1 plus a linear kernel."""
        return _two_slopes(xp, p, self.slope, 1.0)


@dataclass(frozen=True, repr=False)
class Relu(Nonlinearity):
    r"""Ramp :math:`\phi(x) = \max(x, 0)`.

    Notes
    -----
    The arc-cosine kernel of order 1, with :math:`\theta = \arccos \rho`:
    :math:`\kappa = \frac{s_1 s_2}{2\pi} (\sin\theta + (\pi - \theta)\cos\theta)` and
    :math:`\dot\kappa = (\pi - \theta) / 2\pi`.

    References
    ----------
    Y. Cho and L. Saul, Kernel methods for deep learning, NeurIPS 2009, section 2.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Relu() == nn.Relu()
    True
    """

    homogeneous: ClassVar[int | None] = 1
    smooth: ClassVar[bool] = False
    nonnegative: ClassVar[bool] = True

    def phi(self, xp: Any, x: Any) -> Any:
        """Ramp."""
        return xp.maximum(x, 0.0)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Arc-cosine kernel of order 1."""
        lune, turn = xp.lune(p.gap), xp.arc(p.gap) * (0.5 / math.pi)
        positive = p.rho > 0
        return Moments(
            kappa=0.5 * (xp.maximum(p.rho, 0.0) + lune),
            kappa_dot=xp.where(positive, 0.5 - turn, turn),
            gap=xp.where(positive, p.gap, 1.0) - lune,
        )


@dataclass(frozen=True, repr=False)
class Abs(Nonlinearity):
    r"""Absolute value :math:`\phi(x) = |x|`.

    Notes
    -----
    :math:`\kappa = \frac{2 s_1 s_2}{\pi} (\sin\theta + (\pi/2 - \theta)\cos\theta)` and
    :math:`\dot\kappa = 1 - 2\theta/\pi` with :math:`\theta = \arccos \rho`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Abs()
    Abs()
    """

    homogeneous: ClassVar[int | None] = 1
    smooth: ClassVar[bool] = False
    nonnegative: ClassVar[bool] = True

    def phi(self, xp: Any, x: Any) -> Any:
        """Absolute value."""
        return xp.abs(x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Even part of twice the arc-cosine kernel of order 1."""
        lune = xp.lune(p.gap)
        slope = 1.0 - xp.arc(p.gap) * (2.0 / math.pi)
        return Moments(
            kappa=xp.abs(p.rho) + 2.0 * lune,
            kappa_dot=xp.where(p.rho > 0, slope, -slope),
            gap=p.gap - 2.0 * lune,
        )


@dataclass(frozen=True, repr=False)
class Sign(Nonlinearity):
    r"""Sign, with :math:`\phi(0) = 0`.

    Notes
    -----
    :math:`\kappa = 1 - 2\theta/\pi` with :math:`\theta = \arccos \rho` (Sheppard's formula). The
    derivative is 0 almost everywhere, so :math:`\dot\kappa = 0`: training cannot pass through.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Sign()
    Sign()
    """

    homogeneous: ClassVar[int | None] = 0
    smooth: ClassVar[bool] = False

    def phi(self, xp: Any, x: Any) -> Any:
        """Sign."""
        return xp.where(x > 0, 1.0, 0.0 * x) - xp.where(x < 0, 1.0, 0.0 * x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Sheppard's formula."""
        gap = xp.arc(p.gap) * (2.0 / math.pi)
        kappa = 1.0 - gap
        return Moments(kappa=xp.where(p.rho > 0, kappa, -kappa), kappa_dot=0.0 * p.rho, gap=gap)


@dataclass(frozen=True, repr=False)
class RectifiedMonomial(Nonlinearity):
    r"""Power of the ramp :math:`\phi(x) = \max(x, 0)^p`; for ``p = 0`` the step, 0 at 0.

    Parameters
    ----------
    degree : int
        The power ``p``, at least 0.

    Raises
    ------
    NetworkError
        If ``degree`` is not an integer or is negative.

    Notes
    -----
    :math:`\kappa = J_p(\theta) / 2\pi` at unit variance, with :math:`J_0 = \pi - \theta`,
    :math:`J_1 = \sin\theta + (\pi - \theta)\cos\theta` and
    :math:`J_p = (2p-1)\cos\theta\, J_{p-1} + (p-1)^2 \sin^2\theta\, J_{p-2}`;
    :math:`\dot\kappa = p^2 \kappa_{p-1}`, and 0 for the step. The recursion runs on
    :math:`J_p(\theta) / J_p(0)` and, for acute angles, on what is missing from 1.

    References
    ----------
    Y. Cho and L. Saul, Kernel methods for deep learning, NeurIPS 2009, section 2.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.RectifiedMonomial(degree=2)
    RectifiedMonomial(degree=2)
    """

    degree: int

    smooth: ClassVar[bool] = False
    nonnegative: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_degree("RectifiedMonomial", self.degree)
        object.__setattr__(self, "homogeneous", int(self.degree))

    def phi(self, xp: Any, x: Any) -> Any:
        """Power of the ramp."""
        if self.degree == 0:
            return xp.where(x > 0, 1.0, 0.0 * x)
        return xp.maximum(x, 0.0) ** self.degree

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Arc-cosine kernel of order ``degree``."""
        degree = self.degree
        positive = p.rho > 0
        sine_square = p.gap * (2.0 - p.gap)
        half_turn = xp.arc(p.gap) / math.pi
        # missing[p] = 1 - J_p / J_p(0), good for acute angles; left[p] = J_p / J_p(0) for others.
        missing, left = [half_turn], [half_turn]
        if degree >= 1:
            lune = xp.lune(p.gap)
            missing.append(p.gap - lune)
            left.append(lune)
        for q in range(2, degree + 1):
            weight = (q - 1) ** 2 / ((2 * q - 1) * (2 * q - 3)) * sine_square
            missing.append(p.gap + (1.0 - p.gap) * missing[-1] - weight * (1.0 - missing[-2]))
            left.append(p.rho * left[-1] + weight * left[-2])

        def kernel(q: int) -> Any:
            top = 0.5 * math.prod(range(2 * q - 1, 0, -2))
            return top * xp.where(positive, 1.0 - missing[q], left[q])

        return Moments(
            kappa=kernel(degree),
            kappa_dot=degree**2 * kernel(degree - 1) if degree else 0.0 * p.rho,
            gap=xp.where(positive, missing[-1], 1.0 - left[-1]),
        )
