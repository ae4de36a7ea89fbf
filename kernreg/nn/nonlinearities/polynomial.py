"""Polynomials: exact finite Hermite series in the correlation, with coefficients per row."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Moments, Pair
from kernreg.nn.base import Nonlinearity, check_number

__all__ = ["Hermite", "Monomial", "Polynomial", "check_degree"]


# E[x^(2 degree)] = (2 degree - 1)!! of a standard normal x is beyond float64 from 151 on.
_MOST = 150
# Code for more terms of a series takes minutes to make.
_MOST_HERMITE = 255


def check_degree(layer: str, degree: Any) -> None:
    """Raise :class:`NetworkError` unless ``degree`` is an integer from 0 to 150."""
    if isinstance(degree, bool) or not isinstance(degree, numbers.Integral) or degree < 0:
        raise NetworkError(f"{layer}: degree must be an integer >= 0, found {degree!r}.")
    if int(degree) > _MOST:
        raise NetworkError(
            f"{layer}: degree must be at most {_MOST}, found {degree}: larger powers overflow."
        )


def _coefficients(layer: str, coef: Any, most: int = _MOST) -> tuple[float, ...]:
    if isinstance(coef, (str, numbers.Number)) or not hasattr(coef, "__iter__"):
        raise NetworkError(f"{layer}: coef must be a sequence of numbers, found {coef!r}.")
    values = tuple(coef)
    if len(values) > most + 1:
        raise NetworkError(
            f"{layer}: coef must have at most {most + 1} numbers, not {len(values)}."
        )
    for i, value in enumerate(values):
        check_number(layer, f"coef[{i}]", value)
    if not any(values):
        raise NetworkError(f"{layer}: coef must hold a number other than 0, found {coef!r}.")
    if isinstance(coef, tuple) and all(type(value) is float for value in coef):
        return coef
    return tuple(float(value) for value in values)


def _double_factorial(n: int) -> int:
    return math.prod(range(n, 0, -2))


def _horner(coefficients: list[Any], x: Any) -> Any:
    total = 0.0 * x
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _series(xp: Any, p: Pair, reduced1: list[Any], reduced2: list[Any]) -> Moments:
    """Dual from ``E[phi(s z) h_j(z)] = s^j reduced_j`` for both rows."""
    a, lower1 = _at_deviation(p.s1, reduced1)
    b, lower2 = _at_deviation(p.s2, reduced2)
    products = [x * y for x, y in zip(lower1, lower2, strict=True)]
    return Moments(
        kappa=_horner([x * y for x, y in zip(a, b, strict=True)], p.rho),
        kappa_dot=_horner(products, p.rho),
        gap=_apart(xp, p, _unit(xp, a), _unit(xp, b)),
    )


def _at_deviation(s: Any, reduced: list[Any]) -> tuple[list[Any], list[Any]]:
    """``s^j c_j``, and ``sqrt(j) s^(j - 1) c_j`` from ``j = 1`` on for the derivative."""
    values, slopes, power = [reduced[0]], [], 1.0
    for j, c in enumerate(reduced[1:], 1):
        slopes.append(math.sqrt(j) * c * power)
        power = power * s
        values.append(c * power)
    return values, slopes


def _apart(xp: Any, p: Pair, x: list[Any], y: list[Any]) -> Any:
    """``1 - |cos|`` of the angle between the unit vectors ``x`` and ``y_j rho^j``.

    The squared distances to the second one and to its opposite are sums over even and over odd
    ``j``, of which the sign of ``rho`` turns the odd ones round.
    """
    r, square_gap = 1.0 - p.gap, p.gap * (2.0 - p.gap)
    near, far = [], []
    for parity in (0, 1):
        pairs = list(zip(x[parity::2], y[parity::2], strict=True))
        # Sums over j > 2 m + parity of x_j y_j, and what rho^j takes off: 1 - r^j is r^parity
        # times 1 - r^(j - parity), plus gap if j is odd.
        beyond, lost = 0.0 * p.gap, 0.0 * p.gap
        for u, v in reversed(pairs):
            lost = lost * (r * r) + beyond
            beyond = u * v + beyond
        lost = square_gap * lost
        lost = r * lost + p.gap * beyond if parity else lost
        # Scaled, so that no number of a row is wanted in two sums: the registers would not do.
        minus, plus = 0.0 * p.gap, 0.0 * p.gap
        for u, v in pairs:
            minus = minus + (math.sqrt(0.5) * u - math.sqrt(0.5) * v) ** 2
            plus = plus + 0.125 * (2.0 * u + 2.0 * v) ** 2
        near.append(minus + lost)
        far.append(plus - lost)
    positive = p.rho > 0
    return xp.minimum(
        near[0] + xp.where(positive, near[1], far[1]), far[0] + xp.where(positive, far[1], near[1])
    )


def _unit(xp: Any, vector: list[Any]) -> list[Any]:
    square = 0.0
    for x in vector:
        square = square + x * x
    norm = xp.sqrt(square)
    inverse = 1.0 / xp.where(norm > 0, norm, 1.0)
    return [x * inverse for x in vector]


@dataclass(frozen=True, repr=False)
class Monomial(Nonlinearity):
    r"""Power :math:`\phi(x) = x^p`.

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
    :math:`\kappa = (s_1 s_2)^p \sum_{j \equiv p (2)} j! \bigl[\binom{p}{j} (p-j-1)!!\bigr]^2
    \rho^j` (Isserlis) and :math:`\dot\kappa = p^2 \kappa_{p-1}`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Monomial(3)
    Monomial(degree=3)
    """

    degree: int

    def __post_init__(self) -> None:
        check_degree("Monomial", self.degree)
        # A constant does not vanish at 0, which the engine takes from a homogeneous function.
        object.__setattr__(self, "homogeneous", int(self.degree) or None)

    def phi(self, xp: Any, x: Any) -> Any:
        """Power."""
        return x**self.degree if self.degree else 1.0 + 0.0 * x

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Polynomial in the correlation, at unit variance."""
        degree = self.degree
        weights = _isserlis(degree)
        # Odd or even in rho, so 1 - |kappa| / kappa(1) is a sum of 1 - |rho|^j.
        sums = [sum(weights[j:]) for j in range(1, degree + 1)]
        return Moments(
            kappa=_horner(list(weights), p.rho),
            kappa_dot=_horner([degree**2 * w for w in _isserlis(degree - 1)], p.rho),
            gap=p.gap * _horner([w / sum(weights) for w in sums], 1.0 - p.gap),
        )


def _isserlis(degree: int) -> tuple[float, ...]:
    return tuple(
        float(math.factorial(j) * (math.comb(degree, j) * _double_factorial(degree - j - 1)) ** 2)
        if (degree - j) % 2 == 0
        else 0.0
        for j in range(degree + 1)
    )


@dataclass(frozen=True, repr=False)
class Polynomial(Nonlinearity):
    r"""Polynomial :math:`\phi(x) = \sum_m c_m x^m`.

    Parameters
    ----------
    coef : sequence of float
        Coefficients, the constant first; not all 0.

    Raises
    ------
    NetworkError
        If ``coef`` is no sequence of finite numbers, or all are 0.

    Notes
    -----
    :math:`\kappa = \sum_j a_j(s_1) a_j(s_2) \rho^j` with the Hermite coefficients
    :math:`a_j(s) = \sum_i c_{j+2i}\, s^{j+2i} (j+2i)! / (2^i i! \sqrt{j!})`. The cost grows with
    the degree; coefficients are part of the compiled code.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Polynomial((0.0, 1.0, 0.5))
    Polynomial(coef=(0.0, 1.0, 0.5))
    """

    coef: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "coef", _coefficients("Polynomial", self.coef))

    def phi(self, xp: Any, x: Any) -> Any:
        """Polynomial, by Horner's rule."""
        return _horner(list(self.coef), x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Finite Hermite series."""
        return _series(xp, p, self._reduced(p.q1), self._reduced(p.q2))

    def _reduced(self, q: Any) -> list[Any]:
        degree = len(self.coef) - 1
        rows = []
        for j in range(degree + 1):
            terms = [
                self.coef[j + 2 * i]
                * math.factorial(j + 2 * i)
                / (2**i * math.factorial(i) * math.sqrt(math.factorial(j)))
                for i in range((degree - j) // 2 + 1)
            ]
            rows.append(_horner(list(terms), q))
        return rows


@dataclass(frozen=True, repr=False)
class Hermite(Nonlinearity):
    r"""Hermite polynomial series :math:`\phi(x) = \sum_k c_k h_k(x)`.

    :math:`h_k = \mathrm{He}_k / \sqrt{k!}` are orthonormal under the standard normal, so at unit
    variance :math:`\kappa = \sum_k c_k^2 \rho^k`: any such kernel can be asked for by name.

    Parameters
    ----------
    coef : sequence of float
        Coefficients, that of :math:`h_0` first; not all 0.

    Raises
    ------
    NetworkError
        If ``coef`` is no sequence of finite numbers, or all are 0.

    Notes
    -----
    At other variances :math:`h_k(s z) = \sum_i s^j (s^2 - 1)^i \sqrt{k!/j!} / (2^i i!)\, h_j(z)`
    with :math:`j = k - 2i`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Hermite((0, 1, 0.5))
    Hermite(coef=(0.0, 1.0, 0.5))
    """

    coef: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "coef", _coefficients("Hermite", self.coef, _MOST_HERMITE))

    def phi(self, xp: Any, x: Any) -> Any:
        """Series, by the three-term recurrence of the normalised polynomials."""
        previous, current = 0.0 * x, 1.0 + 0.0 * x
        total = self.coef[0] * current
        for k, c in enumerate(self.coef[1:]):
            previous, current = (
                current,
                (x * current - math.sqrt(k) * previous) * (1.0 / math.sqrt(k + 1)),
            )
            total = total + c * current
        return total

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Finite Hermite series."""
        excess1, excess2 = (p.s1 - 1.0) * (p.s1 + 1.0), (p.s2 - 1.0) * (p.s2 + 1.0)
        return _series(xp, p, self._reduced(excess1), self._reduced(excess2))

    def _reduced(self, excess: Any) -> list[Any]:
        degree = len(self.coef) - 1
        rows = []
        for j in range(degree + 1):
            terms = [
                self.coef[j + 2 * i]
                * math.sqrt(
                    math.factorial(j + 2 * i) / (math.factorial(j) * 4**i * math.factorial(i) ** 2)
                )
                for i in range((degree - j) // 2 + 1)
            ]
            rows.append(_horner(list(terms), excess))
        return rows
