"""The algebra of an infinite ensemble on its training rows, decomposed or from products."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from kernreg.estimators.posterior import prior_variance
from kernreg.exceptions import MemoryBudgetError
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.parts import Parts
from kernreg.sizes import readable
from kernreg.solvers.eigh import Eigh
from kernreg.theory.training import (
    Dynamics,
    Ensemble,
    MatrixFree,
    along_modes,
    largest_learning_rate,
)

__all__ = ["Trained"]

Floats = NDArray[np.float64]

# Rows of which all eigenvalues are found as soon as one.
_DENSE = 64


@dataclass(eq=False)
class Trained:
    """An ensemble on its training rows.

    Parameters
    ----------
    operator : callable
        ``operator(X, X2, kernel)`` makes the float64 operator between rows, X2 None for X.
    rows : ndarray of shape (n, d)
        Training rows.
    kernel : {"ntk", "nngp"}
        That training follows; the initial outputs have the NNGP kernel.
    dynamics : Dynamics
        For the sum of the losses.
    weights : ndarray of shape (n,)
        Of the rows in the loss.
    ridge, target_noise : float
        Weight decay, and the variance of the noise in the targets.
    scale : float
        What the sum of the losses is divided by.
    decompose : bool
        Whether there is memory for the modes.
    """

    operator: Callable[..., Parts]
    rows: Floats
    kernel: str
    dynamics: Dynamics
    weights: Floats
    ridge: float
    target_noise: float
    scale: float
    decompose: bool
    train: Parts = field(init=False)
    ensemble: Ensemble | MatrixFree = field(init=False)

    def __post_init__(self) -> None:
        self.train = self.operator(self.rows, None, self.kernel)
        if self.decompose:
            equal = bool((self.weights == 1).all())
            modes = Eigh().init(
                self.train, self.ridge, sample_weight=None if equal else self.weights
            )
            self.ensemble = Ensemble(modes, self.dynamics, target_noise=self.target_noise)
            return
        prior = self.train if self.kernel == "nngp" else self._initial(self.rows)
        self.ensemble = MatrixFree(
            lambda V: np.asarray(self.train @ V),
            lambda V: np.asarray(prior @ V),
            self.dynamics,
            np.sqrt(self.weights),
            self.ridge,
            self.target_noise,
        )

    def _initial(self, X: Floats, X2: Floats | None = None) -> Parts:
        """The kernel of the outputs before training."""
        return self.operator(X, X2, "nngp")

    @property
    def largest_learning_rate(self) -> float:
        """Above it, steps diverge; for the loss as it is reduced."""
        if isinstance(self.ensemble, Ensemble):
            largest = self.ensemble.largest
        else:
            largest = self._largest() + self.ridge
        return self.scale * largest_learning_rate(largest, self.dynamics.momentum)

    def _largest(self) -> float:
        """Largest eigenvalue of the weighted kernel, from products."""
        root, n = np.sqrt(self.weights), len(self.weights)
        if n <= _DENSE:
            matrix = root[:, None] * np.asarray(self.train.to_dense()) * root
            return float(np.linalg.eigvalsh(matrix)[-1])
        weighted = scipy.sparse.linalg.LinearOperator(
            self.train.shape,
            matvec=lambda v: root * np.asarray(self.train @ (root * np.ravel(v))),
            dtype=np.float64,
        )
        # Random, so that no direction is left out by a symmetry of the data; always the same.
        start = np.random.default_rng(0).standard_normal(n)
        (value,) = scipy.sparse.linalg.eigsh(
            weighted, k=1, v0=start, tol=1e-10, return_eigenvectors=False
        )
        return float(value)

    def variance(self, X: Floats, times: Sequence[float], budget: int) -> Floats:
        """Variances of the outputs for new rows, shape (times, m), in tiles of rows.

        Raises
        ------
        MemoryBudgetError
            If what they need does not fit a budget of bytes.
        """
        ensemble, n = self._with_initial(budget), len(self.rows)
        # Kernels and features of a row, or the vectors of a Lanczos process for it.
        each = 8 * n * 4
        if isinstance(ensemble, MatrixFree):
            products = min(ensemble.max_iter, n)
            each = 8 * (n * (products + 2 * len(times) + 4) + 3 * products**2)
        step = max(1, min(4 * PANEL_BYTES, budget // 4) // each)
        result = np.empty((len(times), len(X)))
        for start in range(0, len(X), step):
            part = X[start : start + step]
            between, prior = self._between(part)
            own = prior_variance(self._initial(part))
            result[:, start : start + step] = ensemble.variance(between, prior, own, times)
        return result

    def covariance(self, X: Floats, times: Sequence[float], budget: int) -> Floats:
        """Covariances of the outputs for new rows, shape (times, m, m); errors as above."""
        ensemble = self._with_initial(budget)
        between, prior = self._between(X)
        own = np.asarray(self._initial(X).to_dense())
        return np.stack([ensemble.covariance(between, prior, own, time) for time in times])

    def _between(self, X: Floats) -> tuple[Floats, Floats]:
        """Both kernels of new rows with the training rows; one array if they are the same."""
        between = np.asarray(self.operator(X, self.rows, self.kernel).to_dense())
        if self.kernel == "nngp":
            return between, between
        return between, np.asarray(self._initial(X, self.rows).to_dense())

    def _with_initial(self, budget: int) -> Ensemble | MatrixFree:
        """The ensemble, with the kernel of the initial outputs where variances need it."""
        ensemble = self.ensemble
        if self.kernel == "nngp" or isinstance(ensemble, MatrixFree):
            return ensemble
        if ensemble.initial is not None:
            return ensemble
        n = len(self.rows)
        needed = 3 * 8 * n * n
        if needed > budget:
            raise MemoryBudgetError(
                f"The spread of an ensemble on {n} rows takes {readable(needed)} with its modes, "
                f"{readable(budget)} may be used: allow more memory, or give solver='krylov'."
            )
        matrix = np.asarray(self._initial(self.rows).to_dense())
        initial = along_modes(ensemble.modes, matrix, overwrite=True)
        self.ensemble = Ensemble(ensemble.modes, self.dynamics, initial, self.target_noise)
        return self.ensemble

    def product(self, budget: int) -> Callable[[Floats], Floats]:
        """``V -> T V``, from a matrix that is kept if it fits a budget of bytes."""
        n = len(self.weights)
        if 8 * n * n <= budget // 2:
            matrix = np.asarray(self.train.to_dense())
            return lambda V: np.asarray(matrix @ V)
        return lambda V: np.asarray(self.train @ V)
