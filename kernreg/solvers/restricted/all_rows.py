"""All rows as centres: ridge regression itself, preconditioned by features that rounding spoils."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernreg.solvers.refine import Refined, refine
from kernreg.solvers.restricted.state import RestrictedState

__all__ = ["covers_all_rows", "exact_coefficients"]

Floats = NDArray[np.float64]

# Products with the matrix; two or three are usual.
_PRODUCTS = 20


def covers_all_rows(state: RestrictedState) -> bool:
    """Whether each row is a centre, once."""
    n = state.n
    return len(state.centres) == n and len(np.unique(state.centres)) == n


def exact_coefficients(state: RestrictedState, columns: Floats, levels: Floats) -> Refined:
    """``(K + level / weights)^-1 Y`` for each column, a coefficient for each centre.

    Parameters
    ----------
    state : RestrictedState
        With all rows as centres.
    columns : ndarray of shape (n, t)
        Targets.
    levels : ndarray of shape (t,)
        Mean ridge of each, positive.

    Notes
    -----
    Nearly equal rows differ by a direction of the square root of what elimination leaves of their
    diagonal, which rounding hides: features that lack it give them equal coefficients, and
    predictions err by that root over the ridge, 1e-5 for rows that are 1e-7 apart at a thousandth
    of the mean diagonal. The equations in the coefficients of all rows have no such direction, and
    the features are a preconditioner of these.
    """
    equations = _Equations(state, levels)
    found = refine(equations, equations.precondition, columns, max_products=_PRODUCTS)
    return Refined(found.value[state.centres], found.residuals, found.converged)


class _Equations:
    """``V -> (K + level / weights) V``, with its inverse by features, in the order of the rows."""

    def __init__(self, state: RestrictedState, levels: Floats) -> None:
        self.state = state
        self.levels = levels
        self.count = 0
        # The features have the eigenvalues of W^1/2 K W^1/2.
        self.norm = float(state.values.max()) / float(state.weights.max())

    def __call__(self, V: Floats) -> Floats:
        self.count += 1
        return self._times(V[self.state.centres]) + self.levels * (V / self._weights)

    def precondition(self, R: Floats) -> Floats:
        """``W / level (1 - F (F^T W F + level)^-1 F^T W) R`` for features F, by Woodbury."""
        state = self.state
        weighted = self._weights * R
        moments = np.zeros((len(state.centres), R.shape[1]))
        for rows, tile in state.chunks():
            moments += tile.T @ weighted[rows]
        shifted = state.values[:, None] + self.levels
        fitted = self._times(state.basis @ ((state.basis.T @ moments) / shifted))
        return self._weights * (R - fitted) / self.levels

    @property
    def _weights(self) -> Floats:
        return self.state.weights[:, None]

    def _times(self, coefficients: Floats) -> Floats:
        """``K`` times what belongs to the centres."""
        image = np.empty((self.state.n, coefficients.shape[1]))
        for rows, tile in self.state.chunks():
            image[rows] = tile @ coefficients
        return image
