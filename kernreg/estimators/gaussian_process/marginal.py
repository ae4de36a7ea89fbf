"""The marginal likelihood of a Gaussian process, and its gradient by every hyperparameter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.estimators.gaussian_process.hyperparameters import Hyperparameters
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.panels import panel_bounds
from kernreg.operators.parts import Parts

__all__ = ["Evidence", "log_density"]

Floats = NDArray[np.float64]
# Hyperparameters whose kernel is out of range have no likelihood.
_BEYOND = (InvalidInputError, NetworkError, OverflowError)
_LOG_2PI = float(np.log(2 * np.pi))


def log_density(dual: Floats, targets: Floats, log_determinant: float) -> float:
    """Log density of the columns of ``targets``, given ``A^-1 targets`` and ``log det A``.

    References
    ----------
    Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 2.30.

    Examples
    --------
    >>> round(log_density(np.ones((1, 1)), np.ones((1, 1)), 0.0), 6)
    -1.418939
    """
    n, t = targets.shape
    with np.errstate(over="ignore", invalid="ignore"):
        fit = float(np.einsum("nt,nt->", dual, targets))
    return -0.5 * (fit + t * (log_determinant + n * _LOG_2PI))


@dataclass(frozen=True, eq=False)
class Evidence:
    """Log marginal likelihood of targets as a function of hyperparameters.

    Parameters
    ----------
    rows : ndarray of shape (n, d)
        Data.
    targets : ndarray of shape (n, t)
        Less their mean; the log likelihoods of columns are added.
    weights : ndarray of shape (n,)
        The noise of a row is divided by its weight.
    hyperparameters : Hyperparameters
        What the vector means.
    relative : bool
        Whether the noise is relative to the mean of the kernel's diagonal, by the weights.
    operator : callable
        ``operator(rows, network=...)`` makes the float64 kernel operator.
    counted : bool
        Whether a weight is a number of equal rows with equal targets, and not only a level of
        noise: so many rows then have a likelihood each.

    Notes
    -----
    A value takes a Gram matrix and n^3/3 operations, a gradient 2 n^3/3 more and half a Gram matrix
    four times for every number of the network, whose derivatives are differences of order four.
    Memory ``2 n^2`` numbers.
    """

    rows: NDArray[np.floating]
    targets: Floats
    weights: Floats
    hyperparameters: Hyperparameters
    relative: bool
    operator: Callable[..., Parts]
    counted: bool = False

    def bytes_needed(self) -> int:
        """Memory of a gradient."""
        n = len(self.rows)
        return 2 * 8 * n * n + PANEL_BYTES

    def value(self, theta: Floats) -> float:
        """The log marginal likelihood; minus infinity where the matrix has no Cholesky factor."""
        found = self._factored(theta)
        return -np.inf if found is None else found[0]

    def gradient(self, theta: Floats) -> tuple[float, Floats]:
        """Value and gradient; minus infinity and zeros where there is no factor."""
        found = self._factored(theta)
        if found is None:
            return -np.inf, np.zeros(len(theta))
        value, factor, dual, alpha, unit = found
        t = dual.shape[1]
        # The derivative of the value by the matrix, in the lower half, which counts twice.
        sensitivity, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        sensitivity *= -t
        sensitivity = scipy.linalg.blas.dsyrk(
            1.0, dual, beta=1.0, c=sensitivity, lower=1, overwrite_c=1
        )
        diagonal = sensitivity.diagonal().copy()
        noise = float(np.sum(diagonal / self.weights)) / 2
        at_diagonal = diagonal / 2
        copies = -t / 2 * self._copies
        if self.relative:
            share = self.weights / self.weights.sum()
            at_diagonal = at_diagonal + (noise * alpha + copies / unit) * share
        np.fill_diagonal(sensitivity, at_diagonal)
        try:
            slopes = [
                self._slope(index, theta, sensitivity)
                for index in range(len(self.hyperparameters.parameters))
            ]
        except _BEYOND:
            return -np.inf, np.zeros(len(theta))
        return value, np.array([*slopes, noise * alpha * unit + copies])

    @property
    def _copies(self) -> float:
        """Rows that weights stand for beside one each."""
        return float(self.weights.sum()) - len(self.weights) if self.counted else 0.0

    @property
    def observations(self) -> float:
        """Rows, with those that weights stand for."""
        return len(self.weights) + self._copies

    def of_copies(self, noise: float) -> float:
        """What equal rows add to the likelihood of their means, for a noise of weight 1."""
        if not self.counted or noise <= 0:
            return 0.0
        of_each = self._copies * (np.log(noise) + _LOG_2PI) + float(np.sum(np.log(self.weights)))
        return -0.5 * self.targets.shape[1] * of_each

    def _factored(self, theta: Floats) -> tuple[float, Floats, Floats, float, float] | None:
        try:
            network = self.hyperparameters.network_at(theta)
            operator = self.operator(self.rows, network=network)
            alpha = self.hyperparameters.alpha_at(theta)
        except _BEYOND:
            return None
        n = len(self.rows)
        # What LAPACK calls its lower half is filled by rows from the other side.
        matrix = np.empty((n, n), order="F")
        try:
            operator.to_dense(out=matrix.T)
        except _BEYOND:
            return None
        diagonal = matrix.diagonal().copy()
        unit = float(np.average(diagonal, weights=self.weights)) if self.relative else 1.0
        with np.errstate(over="ignore"):
            np.fill_diagonal(matrix, diagonal + alpha * unit / self.weights)
        if not np.isfinite(matrix.sum()):
            return None
        factor, failed = scipy.linalg.lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        if failed:
            return None
        dual, _ = scipy.linalg.lapack.dpotrs(factor, self.targets, lower=1)
        determinant = 2 * float(np.sum(np.log(factor.diagonal())))
        value = log_density(dual, self.targets, determinant) + self.of_copies(alpha * unit)
        return value, factor, np.asfortranarray(dual), alpha, unit

    def _slope(self, index: int, theta: Floats, sensitivity: Floats) -> float:
        """Derivative by one number of the network: entries' differences, weighed and added."""
        step = self.hyperparameters.parameters[index].step
        made = []
        for offset in (1.0, -1.0, 2.0, -2.0):
            moved = theta.copy()
            moved[index] += offset * step
            network = self.hyperparameters.network_at(moved)
            made.append(self.operator(self.rows, network=network))
        n = len(self.rows)
        total = 0.0
        for i0, i1 in panel_bounds(n, max(1, PANEL_BYTES // (5 * 8 * n))):
            near, below, far, under = (
                np.asarray(operator.lower_panel(i0, i1)) for operator in made
            )
            near -= below
            far -= under
            near *= 8
            near -= far
            near *= sensitivity[i0:i1, :i1]
            total += float(near[:, :i0].sum()) + float(np.tril(near[:, i0:]).sum())
        return total / (12 * step)
