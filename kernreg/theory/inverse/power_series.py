"""Kernels on a sphere as power series in the cosine of the angle.

On inputs with ``|x|^2 = d`` the kernel of a fully connected network is a function ``K(c)`` of
``c = <x, x'> / d``, and ``K(c) = sum_k a_k c^k`` with ``a_k >= 0`` (Schoenberg). The coefficients
are found from values on a circle ``|c| = r < 1`` in the complex plane by a Fourier transform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.polynomial.polynomial import polyval
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.checks import check_count

__all__ = [
    "INSIDE",
    "REFUSED",
    "ROUNDING",
    "Circle",
    "Complex",
    "PowerSeries",
    "function_coefficients",
    "with_errors",
]

Array = NDArray[np.float64]
Complex = NDArray[np.complexfloating[Any, Any]]

INSIDE = 0.95
"""The truncation error is given at ``c = 1`` and for ``|c|`` up to this."""

ROUNDING, REFUSED = 1e-14, 1e-8
"""Errors of a kernel relative to its size: expected of one in float64, and too large to go on."""


@dataclass(frozen=True, eq=False)
class PowerSeries:
    """A truncated power series ``K(c) = sum_k a_k c^k`` and what it leaves out.

    Parameters
    ----------
    coefficients : ndarray of shape (degree + 1,)
        ``a_k``, the constant first.
    tail : float
        ``K(1) - sum_k a_k``: the error at ``c = 1``, the largest there is where ``a_k >= 0``.
    inside : float
        The error at ``c = 0.95``, the largest for ``|c| <= 0.95`` where ``a_k >= 0``.
    accuracy : float
        Estimated absolute error of each coefficient.

    Examples
    --------
    >>> series = PowerSeries(np.array([0.5, 0.0, 0.5]))
    >>> float(series(0.5)), series.degree
    (0.625, 2)
    """

    coefficients: Array
    tail: float = 0.0
    inside: float = 0.0
    accuracy: float = 0.0

    @property
    def degree(self) -> int:
        """Of the last coefficient."""
        return len(self.coefficients) - 1

    def __call__(self, c: Any) -> Any:
        """The truncated series at ``c``, elementwise."""
        return polyval(np.asarray(c), self.coefficients)

    def truncated(self, degree: int) -> PowerSeries:
        """The series up to ``degree``, with what is dropped counted as error."""
        dropped = self.coefficients[degree + 1 :]
        powers = INSIDE ** np.arange(degree + 1, degree + 1 + len(dropped))
        return PowerSeries(
            self.coefficients[: degree + 1],
            self.tail + float(dropped.sum()),
            self.inside + float(dropped @ powers),
            self.accuracy,
        )

    def __str__(self) -> str:
        shown = " ".join(f"{a:.4g}" for a in self.coefficients[:6])
        more = " ..." if self.degree > 5 else ""
        return (
            f"a_k: {shown}{more} up to degree {self.degree}; "
            f"left out {self.tail:.2g} at c = 1, {self.inside:.2g} for |c| <= {INSIDE}"
        )


@dataclass(frozen=True, eq=False)
class Circle:
    """Points ``r exp(i t)`` that determine coefficients up to a degree.

    Parameters
    ----------
    degree : int
        Of the last coefficient that is wanted.
    radius : float
        ``r``: 0.97, or ``exp(-3 / degree)`` for degrees above 98, so that the error of a
        coefficient is at most 20 times that of the values.
    points : ndarray of complex
        Half of the circle, from ``r`` to ``-r``: at the others the values are conjugates.

    Examples
    --------
    >>> circle = Circle.of_degree(2)
    >>> circle.series(circle.points**2 / 2, at_one=0.5, at_inside=0.5 * INSIDE**2)
    PowerSeries(coefficients=array([0. , 0. , 0.5]), tail=0.0, inside=0.0, ...)
    """

    degree: int
    radius: float
    points: Complex

    @staticmethod
    def of_degree(degree: int) -> Circle:
        """The circle for coefficients up to ``degree``."""
        radius = max(0.97, math.exp(-3.0 / max(1, degree)))
        # Terms n further on fold back onto the first ones, below rounding by r^n < 1e-17.
        count = 2 * (degree + 1) + math.ceil(-40.0 / math.log(radius))
        half = scipy.fft.next_fast_len(count, real=True) // 2 + 1
        return Circle(degree, radius, radius * np.exp(1j * math.pi / half * np.arange(half + 1)))

    def terms(self, values: Complex) -> Array:
        """``a_k r^k`` for all ``k`` that the points determine."""
        found: Array = scipy.fft.irfft(values.conj(), 2 * len(values) - 2)
        return found

    def series(
        self,
        values: Complex,
        at_one: float,
        at_inside: float,
        *,
        inside: float = INSIDE,
        noise: float = 0.0,
    ) -> PowerSeries:
        """The series of a function, and its errors.

        Parameters
        ----------
        values : ndarray of complex
            At ``points``.
        at_one, at_inside : float
            The function at 1 and at ``inside``.
        inside : float
            Where the error ``inside`` of the series is taken.
        noise : float
            Error of ``values``, if more than rounding.
        """
        noise = max(noise, ROUNDING * float(np.abs(values).max()))
        terms = self.terms(values)[: self.degree + 1]
        # What cannot be told from noise is 0.
        a = np.where(np.abs(terms) > noise, terms, 0.0) * self.radius ** -np.arange(len(terms))
        return with_errors(a, at_one, at_inside, inside, noise * self.radius**-self.degree)


def with_errors(
    a: Array, at_one: float, at_inside: float, inside: float, accuracy: float
) -> PowerSeries:
    """The series ``a`` with its errors at 1 and ``inside``, where the function is known."""
    tail = _difference(at_one, float(a.sum()))
    return PowerSeries(a, tail, _difference(at_inside, float(polyval(inside, a))), accuracy)


def _difference(whole: float, part: float) -> float:
    """``whole - part``; one that is rounding alone is 0."""
    return float(whole - part) if abs(whole - part) > ROUNDING * abs(whole) else 0.0


def function_coefficients(
    f: Callable[[Any], Any], degree: int = 40, *, bias_share: float = 0.0
) -> PowerSeries:
    """Power series of a function.

    Parameters
    ----------
    f : callable
        ``K(c)``, from complex arrays to complex arrays: written with functions such as ``np.exp``
        and without ``abs``, ``conj`` or comparisons. It must be real for real ``c``, analytic for
        ``|c| < 1`` and finite at ``c = 1``.
    degree : int
        Of the last coefficient.
    bias_share : float
        In [0, 1). With ``s > 0`` the series is that of ``f((rho - s) / (1 - s))`` in powers of
        ``rho = (1 - s) c + s``, and ``inside`` is still the error at ``c = 0.95``.

    Returns
    -------
    PowerSeries

    Raises
    ------
    InvalidInputError
        If ``f`` does not take complex arrays, is not finite, or is not analytic; if the sum of
        the coefficients is infinite.

    Notes
    -----
    ``a_k r^k`` is the Fourier transform of ``f(r exp(i t))``. Evaluates ``f`` at about 1,000
    points, more for degrees above 98. Coefficients below its rounding errors come out as 0.

    Examples
    --------
    >>> function_coefficients(lambda c: np.exp(c - 1), 4).coefficients.round(4)
    array([0.3679, 0.3679, 0.1839, 0.0613, 0.0153])
    """
    circle = Circle.of_degree(check_count("degree", degree))

    def at(rho: Any) -> Complex:
        points: Complex = np.asarray(rho, dtype=complex)
        return _values(f, (points - bias_share) / (1.0 - bias_share))

    (top,) = at([1.0])
    if not np.isfinite(top):
        raise InvalidInputError(
            f"the kernel {f!r} is not finite at c = 1, so the sum of its coefficients is infinite: "
            "no network has it. Choose one that is finite there."
        )
    values = at(circle.points)
    if not np.isfinite(values).all():
        raise InvalidInputError(
            f"the kernel {f!r} is not finite on the circle |c| = {circle.radius:.3g}; it must be "
            "analytic for |c| < 1 and take complex arrays."
        )
    inside = (1.0 - bias_share) * INSIDE + bias_share
    tests = np.append(np.linspace(-0.9, 0.9, 7), min(inside, circle.radius))
    error = np.abs(polyval(tests / circle.radius, circle.terms(values)) - at(tests)).max()
    scale = float(np.abs(values).max())
    if not error <= REFUSED * scale or abs(top.imag) > REFUSED * abs(top):
        raise InvalidInputError(
            f"the kernel {f!r} is not a real analytic function for |c| < 1: its power series is "
            f"off by {error:.1e}. Write it without abs, conj, sign or comparisons."
        )
    (at_inside,) = at([inside])
    return circle.series(values, top.real, at_inside.real, inside=inside)


def _values(f: Callable[[Any], Any], c: Complex) -> Complex:
    """``f`` at complex ``c``, its shape and type checked."""
    with np.errstate(all="ignore"):
        try:
            found = np.asarray(f(c))
        except Exception as error:
            raise InvalidInputError(
                f"the kernel {f!r} must map complex arrays to complex arrays (np.exp, not "
                f"math.exp); it failed with: {error}"
            ) from error
    if found.shape != c.shape or found.dtype.kind not in "fciu":
        raise InvalidInputError(
            f"the kernel {f!r} must map a complex array of shape {c.shape} to one of this shape, "
            f"found {found.dtype} of shape {found.shape}."
        )
    return found.astype(complex)
