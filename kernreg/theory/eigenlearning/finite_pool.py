"""Kernel ridge regression on a random part of a finite pool: errors on the part and on the rest.

Eigenlearning draws its training points independently from a distribution. From a pool of N points
they are drawn without replacement, and the rest of the pool is what is left to test on. The two
differ as soon as n is no longer small beside N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.eigenlearning.errors import root_in_log
from kernreg.theory.eigenlearning.spectrum import Spectrum

__all__ = ["PoolErrors", "errors_from_points", "errors_from_spectrum"]

Array = NDArray[np.float64]

_AGREEMENT = 1e-8
_STEPS = 60
_UP = 4.0


@dataclass(frozen=True)
class PoolErrors:
    """Mean errors of training on n of N points.

    Parameters
    ----------
    kappa : float
        Threshold in units of the eigenvalues of ``K / N``; the mean one where points differ.
    test : float
        Mean squared error on the other N - n points, summed over outputs.
    train : float
        The same on the n training points.
    """

    kappa: float
    test: float
    train: float


def errors_from_spectrum(
    spectrum: Spectrum, n: int, ridge: float, noise: float = 0.0
) -> PoolErrors:
    """Errors if the eigenvectors are spread evenly over the points.

    Parameters
    ----------
    spectrum : Spectrum
        Of the whole pool, with the target's power; see
        :func:`kernreg.theory.eigenlearning.sample_spectrum`.
    n : int
        Training points, fewer than the pool has.
    ridge : float
        What is added to the diagonal of the kernel matrix.
    noise : float
        Standard deviation of label noise; of several outputs, the root of the sum of variances.

    Returns
    -------
    PoolErrors

    Raises
    ------
    InvalidInputError
        If the kernel matrix of n points would be singular without a ridge.

    Notes
    -----
    O(N) once the spectrum is known. With ``m_i = kappa / (lambda_i + kappa) = 1 - L_i``,

    ``sum_i (kappa - ridge / N) / (lambda_i + kappa) = N - n``,
    ``test = n N sum m_i^2 v_i^2 / ((sum m_i)^2 - (N - n) sum m_i^2)``,
    ``train = (ridge / (n kappa) * mean m_i)^2 test``,

    where noise adds ``noise^2 / N`` to every ``v_i^2``. It follows from free probability: the
    kernel matrix on a random part is a free compression of that on the pool. As N grows it tends
    to eigenlearning. At ridge 0 it is eigenlearning's error of all points times N / (N - n), and
    as n tends to N it is the generalised cross-validation of the pool.

    References
    ----------
    Simon, Dickens, Karkada, DeWeese, arXiv:2110.03922; Nica and Speicher, Lectures on the
    Combinatorics of Free Probability (2006), lecture 14.

    Examples
    --------
    >>> found = errors_from_spectrum(Spectrum(np.ones(4), power=np.ones(4), size=4), 2, 0.0)
    >>> round(found.kappa, 9), round(found.test, 9)
    (1.0, 4.0)
    """
    values, size = spectrum.values, float(len(spectrum.values))
    if spectrum.power is None or spectrum.size != size or spectrum.tail:
        raise InvalidInputError(
            "expected the spectrum of a sample, all its eigenvalues and the target's power: use "
            "sample_spectrum(net, X, y)."
        )
    modes = spectrum.modes
    if ridge == 0 and n >= modes:
        raise InvalidInputError(
            f"without a ridge n must be below the rank of the kernel matrix, {modes:g} of "
            f"{size:g} points, found n={n}: give alpha > 0, or fewer training points."
        )

    def excess(kappa: float) -> float:
        return float(np.sum((kappa - ridge / size) / (values + kappa))) - (size - n)

    positive = values[values > 0]
    low = max(ridge / size, float(positive.min()) * (modes / n - 1.0))
    kappa = root_in_log(excess, low, (spectrum.trace + ridge) / n)
    missed = kappa / (values + kappa)
    error = float(missed**2 @ (spectrum.power + noise**2 / size))
    total, squares = float(missed.sum()), float(missed @ missed)
    test = n * size * error / (total**2 - (size - n) * squares)
    return PoolErrors(kappa, test, (ridge / (n * kappa) * total / size) ** 2 * test)


def errors_from_points(
    K: NDArray[Any], Y: Array, n: int, ridge: float, noise: float = 0.0, *, kappa: float
) -> PoolErrors:
    """Errors where points differ in how well the others predict them.

    Parameters
    ----------
    K : ndarray of shape (N, N)
        Kernel matrix of the pool.
    Y : ndarray of shape (N, t)
        Targets of the pool.
    n : int
        Training points, fewer than N.
    ridge : float
        What is added to the diagonal of the kernel matrix.
    noise : float
        Standard deviation of label noise; of several outputs, the root of the sum of variances.
    kappa : float
        Where to start: that of :func:`errors_from_spectrum`.

    Returns
    -------
    PoolErrors

    Raises
    ------
    InvalidInputError
        If the equations have no solution in float64.

    Notes
    -----
    Each point has a threshold of its own: with ``M = (K + diag(d))^-1``, H its entries squared
    and ``q = n / N``,

    ``d_i = ridge + (1 - q) / M_ii``,
    ``test = q / N sum_i w_i |M Y|_i^2``, ``(diag(M_ii^2) - (1 - q) H) w = 1``,
    ``train = ridge^2 / n sum_i u_i |M Y|_i^2``, ``(diag(M_ii^2) - (1 - q) H) u = (M_ii^2)_i``,

    where noise adds ``noise^2 (H 1)_i`` to ``|M Y|_i^2``. It is the cavity method for a random
    choice of points; as n tends to N it is the leave-one-out error of the pool, and for points
    that are alike it is :func:`errors_from_spectrum`. Some eight steps of Newton's method, about
    2 N^3 operations each; 5 N^2 numbers. ``1 / M_ii`` is a concave and increasing function of d,
    so the steps descend to the solution from any point above it.

    References
    ----------
    Opper and Winther, Adaptive and self-averaging Thouless-Anderson-Palmer mean-field theory
    (2001); Malzahn and Opper, An approximate analytical approach to resampling averages (2003).

    Examples
    --------
    >>> found = errors_from_points(np.eye(4), np.ones((4, 1)), 2, 0.0, kappa=1.0)
    >>> round(found.kappa, 6), round(found.test, 6)
    (0.25, 1.0)
    """
    size, share = len(K), n / len(K)
    d = np.full(size, size * kappa)
    for _ in range(_STEPS):
        inverse = _inverse(K, d)
        own, squared = inverse.diagonal().copy(), inverse * inverse
        response = (share - 1.0) * squared
        response[np.diag_indices(size)] += own**2
        factor, failed = scipy.linalg.lapack.dpotrf(response, lower=1, overwrite_a=1)
        off = d - ridge - (1.0 - share) / own
        if not failed:
            if np.abs(off / d).max() < _AGREEMENT:
                break
            below = d - _solve(factor, own**2 * off)
            if (below > 0).all():
                d = below
                continue
        # Above the solution Newton's method falls towards it and cannot miss it.
        d = _UP * d
    else:
        raise InvalidInputError(
            f"no thresholds were found for n={n} of {size} points: the kernel matrix is nearly "
            "singular. Raise alpha, remove duplicate rows, or use method='spectrum'."
        )
    errors = np.sum((inverse @ Y) ** 2, axis=1) + noise**2 * squared.sum(axis=1)
    test, train = errors @ _solve(factor, np.stack([np.ones(size), own**2], axis=1))
    mean = float(np.mean(d)) / size
    return PoolErrors(mean, float(share / size * test), float(ridge**2 / n * train))


def _solve(factor: Array, values: Array) -> Array:
    """Solve with a lower Cholesky factor."""
    return np.asarray(scipy.linalg.cho_solve((factor, True), values, check_finite=False))


def _inverse(K: NDArray[Any], d: Array) -> Array:
    """``(K + diag(d))^-1``, symmetric."""
    shifted = np.array(K, dtype=np.float64)
    shifted[np.diag_indices(len(d))] += d
    factor, failed = scipy.linalg.lapack.dpotrf(shifted, lower=1, overwrite_a=1)
    inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
    if failed or not np.isfinite(inverse.sum()):
        raise InvalidInputError(
            "the kernel matrix of the pool is not positive definite with this ridge: raise alpha."
        )
    lower = np.tril(inverse)
    lower += np.tril(inverse, -1).T
    return np.asarray(lower)
