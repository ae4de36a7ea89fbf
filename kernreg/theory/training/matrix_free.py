"""An infinite ensemble from products with its kernels alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kernreg.theory.training.dynamics import Dynamics, above_rounding
from kernreg.theory.training.krylov import functions_times

__all__ = ["MatrixFree"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MatrixFree:
    """What :class:`Ensemble` gives, where its matrices do not fit memory.

    Parameters
    ----------
    train, prior : callable
        ``V -> T V`` and ``V -> K V`` on the training rows, V of shape (n, t).
    dynamics : Dynamics
        Of training.
    root_weights : ndarray of shape (n,)
        Roots of the weights of the rows in the loss.
    ridge : float, default=0.0
        Penalty on the distance from the initial weights.
    target_noise : float, default=0.0
        Variance of the noise in the targets of each member.
    tol : float, default=1e-8
        Of :func:`functions_times`.
    max_iter : int, default=500
        Most products for a set of columns.

    Notes
    -----
    Each new row takes products of its own for its variance: k of them, and ``k n`` numbers, with k
    as :func:`functions_times` says.

    Examples
    --------
    >>> kernel = np.diag([2.0, 1.0])
    >>> ensemble = MatrixFree(lambda v: kernel @ v, lambda v: kernel @ v, Dynamics(), np.ones(2))
    >>> np.round(ensemble.coefficients(np.ones((2, 1)), [np.inf])[0, :, 0], 6).tolist()
    [0.5, 1.0]
    """

    train: Callable[[Floats], Floats]
    prior: Callable[[Floats], Floats]
    dynamics: Dynamics
    root_weights: Floats
    ridge: float = 0.0
    target_noise: float = 0.0
    tol: float = 1e-8
    max_iter: int = 500

    def coefficients(self, targets: Floats, times: Sequence[float]) -> Floats:
        """As :meth:`Ensemble.coefficients`."""
        root = self.root_weights[:, None]
        functions = [partial(self._gained, time=time) for time in times]
        found = functions_times(
            lambda V: root * self.train(root * V),
            root * targets,
            functions,
            tol=self.tol,
            max_iter=self.max_iter,
        )
        return np.asarray(root * found)

    def variance(
        self, between: Floats, prior: Floats, own: Floats, times: Sequence[float]
    ) -> Floats:
        """As :meth:`Ensemble.variance`."""
        result = np.empty((len(times), len(own)))
        for index, moved in enumerate(self.coefficients(between.T, times)):
            lost = moved.T * (2 * prior - self._spread_of(moved).T)
            result[index] = own - lost.sum(axis=1)
        return np.maximum(result, 0.0)

    def covariance(self, between: Floats, prior: Floats, own: Floats, time: float) -> Floats:
        """As :meth:`Ensemble.covariance`."""
        (moved,) = self.coefficients(between.T, (time,))
        crossed = prior @ moved
        found = own - crossed - crossed.T + moved.T @ self._spread_of(moved)
        return np.asarray((found + found.T) / 2)

    def _gained(self, values: Floats, time: float) -> Floats:
        # Of all columns at once: eigenvalues of one matrix.
        return above_rounding(self.dynamics, values, self.ridge, time)

    def _spread_of(self, moved: Floats) -> Floats:
        noise = self.target_noise / self.root_weights[:, None] ** 2
        return np.asarray(self.prior(moved) + noise * moved)
