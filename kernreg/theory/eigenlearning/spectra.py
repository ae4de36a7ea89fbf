"""Mercer spectra of kernels: on the sphere, on the hypercube, and estimated from a sample."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer
from kernreg.operators import diag, gram
from kernreg.solvers import EighState
from kernreg.theory.checks import check_count
from kernreg.theory.eigenlearning.problem import as_targets, decompose, kernel_matrix
from kernreg.theory.eigenlearning.spectrum import Spectrum

__all__ = [
    "hypercube_spectrum",
    "sample_spectrum",
    "spectrum_of",
    "sphere_spectrum",
]

Array = NDArray[np.float64]
Kernel = Layer | str | Callable[[Array], ArrayLike]

_PANEL_NODES = 32
_MOST_PANELS = 256
_AGREEMENT = 1e-11
# Relative rounding errors of kernel values, with room for deep networks.
_ROUNDING = 30 * float(np.finfo(np.float64).eps)
# An eigenvalue counts if it has three digits.
_DIGITS = 1e3


def sphere_spectrum(kernel_of: Kernel, d: int, degrees: int, kernel: str = "ntk") -> Spectrum:
    """Spectrum of a rotation invariant kernel on the sphere ``|x|^2 = d`` in d dimensions.

    Parameters
    ----------
    kernel_of : Layer or callable
        A network, or the kernel as a function of the cosine of the angle between two inputs:
        it maps an array of numbers in [-1, 1] to an array of the same shape.
    d : int
        Dimension of the inputs, at least 2.
    degrees : int
        Largest degree of spherical harmonics.
    kernel : {"ntk", "nngp"}
        Which kernel of a network.

    Returns
    -------
    Spectrum
        Level k holds the harmonics of degree k. ``tail`` is ``K(x, x)`` less what the levels
        sum up to: higher degrees, levels too small for float64, and the own variance of a row
        under dropout.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, the integrals do not converge, or the function is not
        positive definite on this sphere.

    Notes
    -----
    ``lambda_k = int f(cos t) P_k(cos t) sin^(d-2) t dt / int sin^(d-2) t dt`` with Gegenbauer
    polynomials ``P_k(1) = 1`` (Funk-Hecke), by Gauss-Legendre panels in the angle, where kernels
    of networks are analytic. Eigenvalues are exact to about 1e-11, and at least to three digits;
    smaller ones are set to zero. O(degrees) numbers per node, 384 nodes or more.

    References
    ----------
    Bietti and Mairal, On the inductive bias of neural tangent kernels (2019).

    Examples
    --------
    >>> spectrum = sphere_spectrum(lambda c: c**2, d=3, degrees=4)
    >>> spectrum.values.round(6), spectrum.multiplicity
    (array([0.333333, 0.      , 0.133333, 0.      , 0.      ]), array([1., 3., 5., 7., 9.]))
    """
    d, degrees = check_count("d", d, 2), check_count("degrees", degrees, 0)
    multiplicity = np.array([_as_float(_harmonics(d, k)) for k in range(degrees + 1)])
    profile, total = _profile(kernel_of, kernel)
    panels = max(4, degrees // 8)
    previous, _ = _funk_hecke(profile, d, degrees, panels)
    while panels < _MOST_PANELS:
        panels *= 2
        values, rounding = _funk_hecke(profile, d, degrees, panels)
        gap = np.abs(values - previous)
        if (gap <= np.maximum(_AGREEMENT * np.abs(values), _DIGITS * rounding)).all():
            return _resolved(values, rounding, multiplicity, total, math.inf)
        previous = values
    raise InvalidInputError(
        f"the integrals for the sphere in d={d} did not converge: the kernel must be a smooth "
        "function of the angle. Ask for fewer degrees if they are many."
    )


def hypercube_spectrum(kernel_of: Kernel, d: int, kernel: str = "ntk") -> Spectrum:
    """Spectrum of a kernel of the scalar product on the corners ``{-1, 1}^d`` of the hypercube.

    Parameters
    ----------
    kernel_of : Layer or callable
        A network, or the kernel as a function of ``x . x' / d``.
    d : int
        Dimension of the inputs.
    kernel : {"ntk", "nngp"}
        Which kernel of a network.

    Returns
    -------
    Spectrum
        Level k holds the products of k coordinates (the parities of k bits); ``d + 1`` levels.
        Levels too small for float64 go to ``tail``.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used, or the kernel is not positive definite.

    Notes
    -----
    ``lambda_k = 2^-d sum_m C(d, m) f(1 - 2 m/d) Kraw_k(m) / C(d, k)`` with Krawtchouk
    polynomials. O(d^2) time, d + 1 kernel values.

    References
    ----------
    Yang and Salman, A fine-grained spectral perspective on neural networks (2019); Simon,
    Dickens, Karkada, DeWeese, arXiv:2110.03922.

    Examples
    --------
    >>> hypercube_spectrum(lambda c: c**2, d=3).values.round(6)
    array([0.333333, 0.      , 0.222222, 0.      ])
    """
    d = check_count("d", d, 1)
    profile, total = _profile(kernel_of, kernel)
    flips = np.arange(d + 1)
    # Through the angle 2 asin(sqrt(m/d)): exact at both ends.
    values = profile(2.0 * np.arcsin(np.sqrt(flips / d)))
    weights = np.array([math.comb(d, m) / 2**d for m in range(d + 1)])
    polynomials = _krawtchouk(d)
    terms = polynomials * (weights * values)
    multiplicity = np.array([_as_float(math.comb(d, k)) for k in range(d + 1)])
    rounding = _ROUNDING * np.sqrt(np.sum(terms**2, axis=1))
    return _resolved(terms.sum(axis=1), rounding, multiplicity, total, 2.0**d)


def sample_spectrum(net: Any, X: Any, y: Any = None, kernel: str = "ntk") -> Spectrum:
    """Spectrum of a kernel over the points of a sample.

    Parameters
    ----------
    net : Layer or ndarray of shape (n, n)
        A network, or a kernel matrix and then ``X=None``.
    X : array of shape (n, d) or None
        Inputs.
    y : array of shape (n,) or (n, t), optional
        Targets, for the power of each mode. Text, booleans and whole numbers of shape (n,) are
        labels, one output per class.
    kernel : {"ntk", "nngp"}
        Which kernel of the network.

    Returns
    -------
    Spectrum
        Eigenvalues of ``K / n``, descending, n levels. It is the spectrum of the uniform
        distribution over the sample, and estimates that of the population where n is much larger
        than the training sets in question.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used, or the matrix is not positive semidefinite.

    Notes
    -----
    About 9 n^3 operations, 3 n^2 numbers. Eigenvalues below rounding, 1e-15 of the largest, are
    zero.

    Examples
    --------
    >>> from kernreg import nn
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> spectrum = sample_spectrum(nn.mlp(depth=1), X, X[:, 0])
    >>> bool(np.isclose(spectrum.power.sum(), np.mean(X[:, 0] ** 2)))
    True
    """
    K = kernel_matrix(net, X, kernel)
    targets = None if y is None else as_targets(y, len(K))
    return spectrum_of(decompose(K), targets)


def spectrum_of(state: EighState, targets: Array | None) -> Spectrum:
    """The spectrum of a sample from its eigenvectors, largest eigenvalue first.

    Examples
    --------
    >>> spectrum_of(decompose(np.eye(2)), None).values
    array([0.5, 0.5])
    """
    n = len(state.values)
    power = None
    if targets is not None:
        power = (np.sum((state.vectors.T @ targets) ** 2, axis=1) / n)[::-1].copy()
    return Spectrum((state.values / n)[::-1].copy(), power=power, size=n)


def _profile(kernel_of: Kernel, kernel: str) -> tuple[Callable[[Array], Array], float]:
    """The kernel as a function of the angle on ``|x|^2 = d``, and ``K(x, x)``."""
    if isinstance(kernel_of, Layer | str):
        # The kernel sees <x, x'>/d only: two dimensions are enough.
        origin = np.array([[math.sqrt(2.0), 0.0]])

        def of_angle(angle: Array) -> Array:
            circle = math.sqrt(2.0) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
            values = gram(kernel_of, origin, circle, kernel, backend="reference", exact=True)
            return np.asarray(values[0])

        return of_angle, float(diag(kernel_of, origin, kernel)[0])
    if not callable(kernel_of):
        raise InvalidInputError(
            "expected a network from kernreg.nn or a function of the cosine, found "
            f"{type(kernel_of).__name__}."
        )

    def of_cosine(angle: Array) -> Array:
        values = np.asarray(kernel_of(np.cos(angle)), dtype=np.float64)
        if values.shape != angle.shape or not np.isfinite(values).all():
            raise InvalidInputError(
                f"the kernel function must map an array of shape {angle.shape} to finite numbers "
                f"of the same shape, found shape {values.shape}"
                f"{'' if np.isfinite(values).all() else ' with NaN or infinity'}."
            )
        return values

    return of_cosine, float(of_cosine(np.zeros(1))[0])


def _funk_hecke(
    profile: Callable[[Array], Array], d: int, degrees: int, panels: int
) -> tuple[Array, Array]:
    """Integrals over the angle, and the rounding errors of their sums."""
    x, w = np.polynomial.legendre.leggauss(_PANEL_NODES)
    width = math.pi / panels
    angle = (width * (np.arange(panels)[:, None] + 0.5 * (1.0 + x))).reshape(-1)
    # The largest weight is 1, at a right angle, in any dimension.
    weights = np.tile(w, panels) * np.sin(angle) ** (d - 2)
    terms = _gegenbauer(d, degrees, np.cos(angle)) * (profile(angle) * weights / weights.sum())
    return terms.sum(axis=1), _ROUNDING * np.sqrt(np.sum(terms**2, axis=1))


def _gegenbauer(d: int, degrees: int, t: Array) -> Array:
    """Gegenbauer polynomials of the sphere, 1 at ``t = 1``, shape (degrees + 1, nodes)."""
    values = np.ones((degrees + 1, len(t)))
    if degrees:
        values[1] = t
    for k in range(1, degrees):
        values[k + 1] = ((2 * k + d - 2) * t * values[k] - k * values[k - 1]) / (k + d - 2)
    return values


def _krawtchouk(d: int) -> Array:
    """``Kraw_k(m) / C(d, k)``, shape (d + 1, d + 1)."""
    m = np.arange(d + 1)
    values = np.ones((d + 1, d + 1))
    # The recurrence is stable up to the middle; the rest are mirror images.
    if d:
        values[1] = 1.0 - 2.0 * m / d
    for k in range(1, (d + 1) // 2):
        values[k + 1] = ((d - 2 * m) * values[k] - k * values[k - 1]) / (d - k)
    for k in range(d // 2 + 1, d + 1):
        values[k] = np.where(m % 2 == 0, 1.0, -1.0) * values[d - k]
    return values


def _resolved(
    values: Array, rounding: Array, multiplicity: Array, total: float, size: float
) -> Spectrum:
    """Eigenvalues that have digits, and what is left of the trace."""
    if (values < -_DIGITS * rounding).any():
        k = int(np.argmin(values))
        raise InvalidInputError(
            f"the kernel is not positive definite: eigenvalue {values[k]:.3g} at degree {k}."
        )
    known = values > _DIGITS * rounding
    values = np.where(known, values, 0.0)
    tail = total - float(multiplicity @ values)
    noise = _ROUNDING * abs(total) + float(multiplicity[known] @ rounding[known])
    if tail < -_DIGITS * noise:
        raise InvalidInputError(
            f"the kernel is not positive definite: K(x, x) = {total:.6g} is less than the sum of "
            "its eigenvalues."
        )
    return Spectrum(values, multiplicity, tail if tail > noise else 0.0, size=size)


def _harmonics(d: int, k: int) -> int:
    """Dimension of the space of spherical harmonics of degree k."""
    return 1 if k == 0 else (2 * k + d - 2) * math.comb(k + d - 3, k - 1) // k


def _as_float(count: int) -> float:
    try:
        return float(count)
    except OverflowError as error:
        raise InvalidInputError(
            "a level has more than 1e308 eigenfunctions: lower d or the number of degrees."
        ) from error
