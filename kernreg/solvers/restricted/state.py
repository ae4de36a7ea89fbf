"""A restricted problem whose normal equations are diagonal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator
from kernreg.operators.parts import read_part
from kernreg.solvers.base import HeldOut

__all__ = ["RestrictedState", "chunks"]


@dataclass(eq=False)
class RestrictedState:
    """Normal equations of a restricted problem, diagonalised.

    Parameters
    ----------
    operator : Operator
        The kernel of all n rows, in float64.
    centres : ndarray of int, shape (m,)
        Row numbers; a solution has one coefficient for each.
    basis : ndarray of shape (m, k)
        P with ``P^T K_mm P = I`` and ``P^T K_mn W K_nm P = diag(values)``.
    values : ndarray of shape (k,)
        Ascending, not negative.
    level : float
        Mean ridge.
    weights : ndarray of shape (n,)
        ``level / ridge``, W above.
    chunk : int
        Rows of a chunk.
    size : float
        Mean diagonal of the kernel of the centres.
    seconds : float
        Time of :meth:`Restricted.init`.

    Examples
    --------
    >>> from kernreg import KernelOperator
    >>> from kernreg.solvers import Restricted
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> state = Restricted(centres=np.arange(10)).init(KernelOperator("mlp(depth=1)", X), 0.1)
    >>> state.n, state.centres.tolist(), state.effective_dof() < 10
    (50, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], True)
    """

    operator: Operator
    centres: NDArray[np.int64]
    basis: NDArray[np.float64]
    values: NDArray[np.float64]
    level: float
    weights: NDArray[np.float64]
    chunk: int
    size: float
    seconds: float

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.weights)

    def effective_dof(self, ridge: float | None = None) -> float:
        """Trace of the smoother, O(k); default: the ridge of ``init``."""
        ridge = self.level if ridge is None else ridge
        return float(np.sum(self.values / self.shifted(ridge)))

    def shifted(self, ridge: float) -> NDArray[np.float64]:
        """Eigenvalues plus ridge, infinite where both vanish."""
        total = self.values + ridge
        noise = len(self.values) * np.finfo(np.float64).eps * self.values.max(initial=0.0)
        return np.where(total > noise, total, np.inf)

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float64]]]:
        """Rows and their kernel with the centres."""
        yield from chunks(self.operator, self.centres, self.chunk, 0, self.n)

    def leave_one_out(
        self,
        columns: NDArray[np.float64],
        coefficients: NDArray[np.float64],
        ridges: NDArray[np.float64],
        held_out: HeldOut,
    ) -> NDArray[np.float64]:
        """Weighted sums of squared leave-one-out residuals, one for each ridge.

        Parameters
        ----------
        columns : ndarray of shape (n, t)
            Targets.
        coefficients : ndarray of shape (r, m, t)
            Solutions for the ridges.
        ridges : ndarray of shape (r,)
            The ridges.
        held_out : callable
            Told the residuals of each range of rows.

        Notes
        -----
        One pass over n m entries, ``2 n m k + 2 n m r (t + 1)`` operations.
        """
        scales = np.stack([1.0 / self.shifted(float(ridge)) for ridge in ridges])
        # One product for all ridges: the chunk is read once.
        joined = np.concatenate(list(coefficients), axis=1)
        sums = np.zeros(len(ridges))
        for rows, tile in self.chunks():
            weights = self.weights[rows]
            squares = tile @ self.basis
            squares *= squares
            kept = 1.0 - weights * (scales @ squares.T)
            del squares  # before the residuals of all ridges
            fitted = (tile @ joined).reshape(len(tile), len(ridges), -1)
            residuals = fitted.transpose(1, 0, 2)
            np.subtract(columns[rows], residuals, out=residuals)
            residuals /= kept[:, :, None]
            sums += np.einsum("n,rnt,rnt->r", weights, residuals, residuals)
            held_out(rows, residuals)
        return sums


def chunks(
    operator: Operator, centres: NDArray[np.int64], chunk: int, first: int, end: int
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Ranges of rows ``[first, end)`` and their kernel with the centres, checked to be finite.

    Each range overwrites the one before it.
    """
    buffer = np.empty((min(chunk, end - first), len(centres)))
    for start in range(first, end, chunk):
        rows = slice(start, min(start + chunk, end))
        tile = read_part(operator, rows, centres, buffer[: rows.stop - start])
        if not np.isfinite(tile.sum()) and not np.isfinite(tile).all():
            row = start + int(np.flatnonzero(~np.isfinite(tile).all(axis=1))[0])
            raise InvalidInputError(
                f"the kernel matrix contains NaN or infinity (first in row {row}): check the input "
                "for NaN and huge values, or use dtype float64"
            )
        yield rows, tile
