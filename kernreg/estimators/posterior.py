"""What is left of the variance of new rows behind a fit, in tiles of these rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import MemoryBudgetError
from kernreg.operators.budget import PANEL_BYTES, memory_budget
from kernreg.operators.parts import Parts
from kernreg.sizes import readable
from kernreg.solvers.base import Solver
from kernreg.solvers.variance import from_features

__all__ = ["Posterior", "check_covariance_fits", "covariance_bytes", "prior_variance"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Posterior:
    """Variances and covariances of new rows, from a solved system.

    Parameters
    ----------
    solver : Solver or None
        That solved the system; None if ``features`` say all and it was read from a file.
    state : object
        What its ``init`` made, or None.
    features : ndarray of shape (m, k) or None
        Of a solver that is ``approximate``; see :meth:`Solver.features`.
    rows : ndarray of shape (m, d)
        Those that coefficients belong to.
    operator : callable
        ``operator(X1, X2)`` makes the float64 operator between rows.

    Notes
    -----
    The memory of a tile of new rows, ``solver.columns_at_once``, does not grow with their number.
    """

    solver: Solver | None
    state: Any
    features: Floats | None
    rows: NDArray[np.floating]
    operator: Callable[..., Parts]

    def variance(self, X: NDArray[np.floating]) -> Floats:
        """Posterior variances of the network's outputs, without noise, shape (n,)."""
        result = np.empty(len(X))
        step = max(1, PANEL_BYTES // (8 * len(self.rows)))
        if self.solver is not None:
            step = self.solver.columns_at_once(len(self.rows))
        for start in range(0, len(X), step):
            part = X[start : start + step]
            lost = self._explained(self._between(part), full=False)
            result[start : start + step] = prior_variance(self.operator(part)) - lost
        # Rounding leaves as little as 1e-15 of the prior on either side of 0.
        return np.maximum(result, 0.0, out=result)

    def covariance(self, X: NDArray[np.floating]) -> Floats:
        """Posterior covariance, shape (n, n), symmetric."""
        found = np.asarray(self.operator(X).to_dense(), dtype=np.float64)
        found -= self._explained(self._between(X), full=True)
        return found

    def _between(self, X: NDArray[np.floating]) -> Floats:
        """The kernel of the fitted rows with new ones, shape (m, n)."""
        return np.asarray(self.operator(self.rows, X).to_dense(), dtype=np.float64)

    def _explained(self, columns: Floats, full: bool) -> Floats:
        if self.features is not None:
            return from_features(self.features.T @ columns, full)
        assert self.solver is not None
        return self.solver.variance_explained(self.state, columns, full=full)


def prior_variance(operator: Parts) -> Floats:
    """The kernel of each row with itself, in float64."""
    return np.asarray(operator.diagonal(), dtype=np.float64)


def covariance_bytes(n: int, rows: int, copies: int) -> int:
    """Memory of matrices of n new rows, and of their kernel with the rows of a fit.

    Parameters
    ----------
    n, rows : int
        New rows, and those of the fit.
    copies : int
        Matrices of shape (n, n) that are needed at once.
    """
    return 8 * n * (copies * n + 2 * rows)


def check_covariance_fits(n: int, rows: int, max_memory: str | float | None, copies: int) -> None:
    """Raise MemoryBudgetError before a covariance is made that has no room.

    Arguments as for :func:`covariance_bytes`, and :func:`kernreg.operators.memory_budget`.
    """
    needed = covariance_bytes(n, rows, copies)
    budget = memory_budget(max_memory)
    if needed > budget:
        raise MemoryBudgetError(
            f"The covariance of {n} rows takes {readable(8 * n * n)}, {readable(needed)} with what "
            f"it is made from, and {readable(budget)} may be used: ask for return_std, which works "
            "in tiles, or for fewer rows at once."
        )
