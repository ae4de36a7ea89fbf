"""Eigenlearning: what kernel ridge regression learns from n points, from the kernel's spectrum."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.theory.checks import check_number
from kernreg.theory.eigenlearning.spectrum import Spectrum, as_spectrum
from kernreg.wording import aligned

__all__ = [
    "Eigenlearning",
    "eigenlearning",
    "learnabilities",
    "overfitting_coefficient",
    "root_in_log",
    "sample_size",
    "solve_kappa",
]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Eigenlearning:
    """What kernel ridge regression on n random points does on average.

    Errors are squared errors, summed over outputs.

    Parameters
    ----------
    n : float
        Training points.
    ridge : float
        What is added to the diagonal of the kernel matrix.
    noise : float
        Standard deviation of the label noise.
    kappa : float
        Effective threshold: modes with eigenvalues above it are learned.
    mode_learnability : ndarray of shape (m,)
        ``L_i = lambda_i / (lambda_i + kappa)``: the predictor's mean coefficient in a mode,
        relative to the target's.
    mode_variance : ndarray of shape (m,)
        Variance of that coefficient, for one mode of the level, summed over outputs.
    E0 : float
        Overfitting coefficient at this ridge, ``n / (n - sum L_i^2)``.
    test : float
        Mean squared error at a new point against its noisy label; see ``clean_test``.
    train : float
        Mean squared error on the training points.
    bias2 : float
        Squared bias: the error of the mean predictor.
    variance : float
        ``test - bias2 - noise^2``.
    learnability : float
        Learnability of the function: the mean of L_i weighted by the target's power. NaN if the
        target is zero.

    Examples
    --------
    >>> found = eigenlearning([1.0, 0.1, 0.01], n=1.5, power=[1.0, 0.0, 0.0])
    >>> found.mode_learnability.round(3).tolist(), round(found.learnability, 3)
    ([0.909, 0.5, 0.091], 0.909)
    """

    n: float
    ridge: float
    noise: float
    kappa: float
    mode_learnability: Array
    mode_variance: Array
    E0: float
    test: float
    train: float
    bias2: float
    variance: float
    learnability: float

    @property
    def clean_test(self) -> float:
        """Test error against the noiseless target."""
        return self.bias2 + self.variance

    def __str__(self) -> str:
        head = (f"n = {self.n:g}, ridge = {self.ridge:g}", "")
        names = ("kappa", "E0", "test", "train", "bias2", "variance", "learnability")
        rows = [(name, f"{getattr(self, name):.4g}") for name in names]
        return "\n".join(aligned(head, rows, numbers=True))


def solve_kappa(spectrum: Any, n: float, ridge: float = 0.0) -> float:
    """The effective threshold kappa: ``sum_i lambda_i / (lambda_i + kappa) + ridge / kappa = n``.

    Parameters
    ----------
    spectrum : Spectrum or array of shape (m,)
        Eigenvalues; the tail of a :class:`Spectrum` adds to the ridge.
    n : float
        Training points, positive; at most the size of the domain.
    ridge : float
        What is added to the diagonal of the kernel matrix.

    Returns
    -------
    float
        To about 1e-13 relative.

    Raises
    ------
    InvalidInputError
        If the spectrum or a number cannot be used, or if ridge and tail are zero and there are no
        more than n positive eigenvalues: the kernel matrix of n points is singular then.

    Notes
    -----
    Brent's method in ``log kappa``, some 20 sums over the levels.

    References
    ----------
    Simon, Dickens, Karkada, DeWeese, The eigenlearning framework, arXiv:2110.03922.

    Examples
    --------
    >>> round(solve_kappa(np.ones(100), n=50), 12)
    1.0
    """
    levels, n, ridge = _checked(spectrum, n, ridge)
    keep = levels.values > 0
    values, multiplicity = levels.values[keep], levels.multiplicity[keep]
    effective = ridge + levels.tail
    modes = levels.modes
    if effective == 0 and n >= modes:
        raise InvalidInputError(
            f"without a ridge n must be below the number of modes with a positive eigenvalue, "
            f"{modes:g}, found n={n:g}: give ridge > 0 or a spectrum with more modes."
        )

    def excess(kappa: float) -> float:
        if 2 * n > modes:  # most modes are learned: count those that are not
            return modes - n - float(multiplicity @ (kappa / (values + kappa))) + effective / kappa
        return float(multiplicity @ (values / (values + kappa))) + effective / kappa - n

    # Each learnability is at most 1 and at most lambda / kappa.
    low = max(effective / n, float(values.min()) * (modes / n - 1.0))
    high = (float(multiplicity @ values) + effective) / n
    return root_in_log(excess, low, high)


def root_in_log(f: Callable[[float], float], low: float, high: float) -> float:
    """The root of a monotone function between positive bounds, by Brent in the logarithm.

    Examples
    --------
    >>> round(root_in_log(lambda x: x - 3.0, 1.0, 4.0), 12)
    3.0
    """

    def of_log(t: float) -> float:
        return f(math.exp(t))

    # A factor of 2 on both sides: rounding must not spoil the signs at exact bounds.
    bounds = math.log(low) - math.log(2.0), math.log(high) + math.log(2.0)
    rounding = 4.0 * float(np.finfo(np.float64).eps)
    return math.exp(scipy.optimize.brentq(of_log, *bounds, xtol=rounding, rtol=rounding))


def learnabilities(spectrum: Any, n: float, ridge: float = 0.0) -> Array:
    """Learnability of each mode, ``lambda_i / (lambda_i + kappa)``, between 0 and 1.

    Parameters
    ----------
    spectrum, n, ridge
        As in :func:`solve_kappa`.

    Returns
    -------
    ndarray of shape (m,)
        They obey a conservation law: their sum over all modes is ``n - (ridge + tail) / kappa``,
        so a kernel that learns one function better learns others worse.

    Raises
    ------
    InvalidInputError
        As :func:`solve_kappa`.

    References
    ----------
    Simon, Dickens, Karkada, DeWeese, arXiv:2110.03922, section 4.

    Examples
    --------
    >>> learned = learnabilities(np.arange(1, 101) ** -2.0, n=10)
    >>> round(float(learned.sum()), 9)
    10.0
    """
    kappa = solve_kappa(spectrum, n, ridge)
    values = as_spectrum(spectrum).values
    return np.asarray(values / (values + kappa))


def overfitting_coefficient(spectrum: Any, n: float, ridge: float = 0.0) -> float:
    """``E0 = n / (n - sum L_i^2)``: by how much fitting noise multiplies the test error.

    Parameters
    ----------
    spectrum, n, ridge
        As in :func:`solve_kappa`; the default ridge 0 is interpolation.

    Returns
    -------
    float
        At least 1. It is the test error of a target that is pure noise, over the error of
        predicting zero. At ridge 0, as n grows, overfitting is benign if it tends to 1,
        catastrophic if it tends to infinity, and tempered in between: for eigenvalues
        ``i^-a`` it tends to ``a``.

    Raises
    ------
    InvalidInputError
        As :func:`solve_kappa`.

    References
    ----------
    Simon et al., arXiv:2110.03922; Mallinar et al., Benign, tempered, or catastrophic,
    arXiv:2207.06569.

    Examples
    --------
    >>> round(overfitting_coefficient(np.arange(1, 10**6) ** -2.0, n=300), 2)
    2.0
    """
    levels, n, ridge = _checked(spectrum, n, ridge)
    return n / _unused(levels, solve_kappa(levels, n, ridge), ridge)


def sample_size(spectrum: Any, learnability: float = 0.5, ridge: float = 0.0) -> Array:
    """How many training points it takes to learn each mode.

    Parameters
    ----------
    spectrum : Spectrum or array of shape (m,)
        Eigenvalues.
    learnability : float
        When a mode counts as learned, between 0 and 1.
    ridge : float
        What is added to the diagonal of the kernel matrix.

    Returns
    -------
    ndarray of shape (m,)
        The number n at which the mode's learnability takes this value; infinite for modes with
        eigenvalue zero.

    Raises
    ------
    InvalidInputError
        If an argument cannot be used.

    Notes
    -----
    In closed form, as ``learnability`` fixes kappa; O(m^2).

    Examples
    --------
    >>> from kernreg.theory.eigenlearning.spectra import hypercube_spectrum
    >>> sample_size(hypercube_spectrum(lambda c: np.exp(c), d=10)).round(1)[:3]
    array([ 2. , 11.4, 45.8])
    """
    levels, _, ridge = _checked(spectrum, 1.0, ridge)
    share = check_number("learnability", learnability, strict=True)
    if share >= 1:
        raise InvalidInputError(f"learnability must be below 1, found {learnability!r}.")
    found = np.full(len(levels.values), math.inf)
    for i in np.flatnonzero(levels.values > 0):
        kappa = levels.values[i] * (1.0 - share) / share
        learned = levels.multiplicity @ (levels.values / (levels.values + kappa))
        found[i] = learned + (ridge + levels.tail) / kappa
    return found


def eigenlearning(
    spectrum: Any, n: float, ridge: float = 0.0, *, power: Any = None, noise: float = 0.0
) -> Eigenlearning:
    """Mean errors of kernel ridge regression on n independent points of the distribution.

    Parameters
    ----------
    spectrum : Spectrum or array of shape (m,)
        Eigenvalues; the tail of a :class:`Spectrum` adds to the ridge.
    n : float
        Training points.
    ridge : float
        What is added to the diagonal of the kernel matrix; not scaled by n.
    power : array of shape (m,), optional
        Squared coefficients of the target: of all modes of a level and all outputs together.
        Left out, the power of the spectrum is taken.
    noise : float
        Standard deviation of the label noise; of several outputs, the root of the sum of their
        variances.

    Returns
    -------
    Eigenlearning

    Raises
    ------
    InvalidInputError
        As :func:`solve_kappa`, or if there is no target.

    Notes
    -----
    ``test = E0 (sum (1 - L_i)^2 v_i^2 + noise^2)`` and ``train = (ridge / (n kappa))^2 test``.
    The theory takes the eigenfunctions for independent Gaussian variables. It is good to a few
    per cent from some tens of points on; where inputs differ much in how predictable they are it
    is not, see :func:`kernreg.theory.eigenlearning.predict_learning_curve`. The population
    includes the training points, which matters if the domain has few points.

    References
    ----------
    Simon, Dickens, Karkada, DeWeese, arXiv:2110.03922; Canatar, Bordelon, Pehlevan, Spectral bias
    and task-model alignment, Nature Communications 12 (2021).

    Examples
    --------
    >>> found = eigenlearning(np.ones(100), n=50, power=np.full(100, 0.01))
    >>> round(found.kappa, 9), round(found.E0, 9), round(found.test, 9)
    (1.0, 2.0, 0.5)
    """
    levels, n, ridge = _checked(spectrum, n, ridge)
    noise = check_number("noise", noise)
    if power is not None:
        levels = Spectrum(levels.values, levels.multiplicity, levels.tail, power, 0.0, levels.size)
    if levels.power is None:
        raise InvalidInputError(
            "the target is missing: give power, the target's squared coefficients per level."
        )
    kappa = solve_kappa(levels, n, ridge)
    learned = levels.values / (levels.values + kappa)
    squares = float(levels.multiplicity @ learned**2)
    E0 = n / _unused(levels, kappa, ridge)
    bias2 = float(levels.power @ (kappa / (levels.values + kappa)) ** 2) + levels.tail_power
    test = E0 * (bias2 + noise**2)
    total = float(levels.power.sum()) + levels.tail_power
    return Eigenlearning(
        n=n,
        ridge=ridge,
        noise=noise,
        kappa=kappa,
        mode_learnability=learned,
        mode_variance=test * learned**2 / n,
        E0=E0,
        test=test,
        train=(ridge / (n * kappa)) ** 2 * test,
        bias2=bias2,
        variance=test * squares / n,
        learnability=float(levels.power @ learned) / total if total else math.nan,
    )


def _unused(levels: Spectrum, kappa: float, ridge: float) -> float:
    """``n - sum L_i^2``, without the difference of near numbers where all modes are learned."""
    products = levels.values * kappa / (levels.values + kappa) ** 2
    return float(levels.multiplicity @ products) + (ridge + levels.tail) / kappa


def _checked(spectrum: Any, n: Any, ridge: Any) -> tuple[Spectrum, float, float]:
    levels = as_spectrum(spectrum)
    number = check_number("n", n, strict=True)
    if number > levels.size:
        raise InvalidInputError(
            f"n must be at most the number of points of the domain, {levels.size:g}, "
            f"found {number:g}."
        )
    return levels, number, check_number("ridge", ridge)
