"""Randomly pivoted Cholesky: a few columns of the kernel matrix as a preconditioner."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.exceptions import NotPositiveDefiniteError
from kernreg.operators.base import Operator, as_array, symmetric_order
from kernreg.solvers.base import checked_ridge
from kernreg.solvers.preconditioners.base import Ranked
from kernreg.solvers.preconditioners.lowrank import LowRank

__all__ = ["RPCholesky"]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)
# Rows proposed at a time: enough for products at full speed, few enough that most are taken.
_BLOCK = 128


@dataclass(frozen=True)
class RPCholesky(Ranked):
    """Partial Cholesky factor with pivots drawn in proportion to the residual diagonal.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        Columns of the factor; ``"auto"`` stops as soon as the trace of the remainder is at most
        that of the ridge, or at ``10 sqrt(n)`` columns.
    max_bytes : int, default=2 GiB
        Limit of memory on the rank.
    seed : int, default=0
        Of the pivots.

    Notes
    -----
    Entries of the kernel: about k n for rank k, always in float64, so that a ridge below the
    rounding of a float32 kernel still finds a good factor. Time: 6 n k^2 operations; memory while
    it is built: 3 n k numbers. The pivots have the distribution of the one-by-one algorithm,
    although blocks of proposals are evaluated at once and thinned by rejection.

    References
    ----------
    Chen, Epperly, Tropp, Webber, Randomly pivoted Cholesky (arXiv 2207.06503).
    Diaz, Epperly, Frangella, Tropp, Webber, Robust, randomized preconditioning for kernel ridge
    regression (arXiv 2304.12465).
    Epperly, Tropp, Webber, Embrace rejection (arXiv 2410.03969), algorithm 2.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> K = KernelOperator(nn.mlp(depth=1, b_std=0.1), X)
    >>> RPCholesky(rank=10).build(K, 1e-3).rank
    10
    """

    def peak_bytes(self, n: int) -> int:
        """Most bytes held while it is built, at its largest rank.

        Examples
        --------
        >>> RPCholesky(rank=100).peak_bytes(10_000) >= 8 * 3 * 100 * 10_000
        True
        """
        limit = self.limit(n)
        return 8 * n * (3 * limit + 2 * min(_BLOCK, limit) + 4) + 3 * 8 * limit * limit

    def held_bytes(self, n: int) -> int:
        """Most bytes held while the kernel is multiplied, which is after it was built.

        The heap keeps the last block of rows.

        Examples
        --------
        >>> RPCholesky(rank=100).held_bytes(10_000) >= 8 * 100 * 10_000
        True
        """
        limit = self.limit(n)
        return 8 * (n + 1) * (limit + min(_BLOCK, limit))

    def build(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> LowRank:
        """Draw pivots and factor.

        Parameters
        ----------
        operator : Operator
            Symmetric; only ``diagonal`` and ``rows`` of it are used, in float64.
        ridge : float or ndarray of shape (n,)
            Of the system.
        callback : callable, optional
            Called as ``callback(rank, limit)`` after each block.

        Returns
        -------
        LowRank
            The preconditioner.

        Raises
        ------
        NotPositiveDefiniteError
            If an entry of the kernel's diagonal is negative.
        InvalidInputError
            If the kernel has NaN or infinity.
        """
        n = symmetric_order(operator)
        shift = checked_ridge(ridge, n)
        limit = self.limit(n)
        enough = float(shift.sum()) if self.rank == "auto" else 0.0
        factor, remainder, _ = self._factor(operator.astype("float64"), limit, enough, callback)
        logger.info("RPCholesky: n=%d, rank %d of at most %d", n, len(factor), limit)
        return LowRank(factor, remainder, shift, operator.device)

    def pivots(
        self, operator: Operator, callback: Callable[[int, int], None] | None = None
    ) -> NDArray[np.intp]:
        """Numbers of the rows that it draws, all different, in the order of the draw.

        Parameters
        ----------
        operator : Operator
            Symmetric; only ``diagonal`` and ``rows`` of it are used, in float64.
        callback : callable, optional
            Called as ``callback(rank, limit)`` after each block.

        Returns
        -------
        ndarray of shape (k,)
            Fewer than ``rank`` where the others are combinations of these.
        """
        n = symmetric_order(operator)
        limit = self.limit(n)
        return self._factor(operator.astype("float64"), limit, 0.0, callback)[2]

    def _factor(
        self,
        operator: Operator,
        limit: int,
        enough: float,
        callback: Callable[[int, int], None] | None,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp]]:
        """Rows of ``F^T``, the diagonal that they leave, and the pivots."""
        diagonal = as_array(operator.diagonal())
        n = len(diagonal)
        if (diagonal < 0).any():
            row = int(np.argmin(diagonal))
            raise NotPositiveDefiniteError(
                f"the kernel matrix is not positive semidefinite: its diagonal is "
                f"{diagonal[row]:.3g} in row {row}. Check data and network."
            )
        remainder = diagonal.copy()
        noise = n * _EPS * float(diagonal.max(initial=0.0))
        rng = np.random.default_rng(self.seed)
        factor = np.empty((limit, n))
        pivots = np.empty(limit, dtype=np.intp)
        rank = 0
        while rank < limit and remainder.sum() > max(enough, noise):
            drawn = rng.choice(n, size=min(_BLOCK, limit - rank), p=remainder / remainder.sum())
            numbers, place = np.unique(drawn, return_inverse=True)
            rows = as_array(operator.rows(numbers)).copy()
            rows -= factor[:rank, numbers].T @ factor[:rank]
            corner = rows[:, numbers][np.ix_(place, place)]
            taken, lower = _thin(corner, remainder[drawn], noise, rng)
            if not len(taken):
                break
            new = scipy.linalg.solve_triangular(lower, rows[place[taken]], lower=True)
            factor[rank : rank + len(taken)] = new
            pivots[rank : rank + len(taken)] = drawn[taken]
            rank += len(taken)
            remainder = np.maximum(remainder - np.einsum("kn,kn->n", new, new), 0.0)
            remainder[drawn[taken]] = 0.0
            if callback is not None:
                callback(rank, limit)
        return factor[:rank], remainder, pivots[:rank]


def _thin(
    corner: NDArray[np.float64],
    proposed: NDArray[np.float64],
    noise: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Which proposals to keep, and the Cholesky factor of their part of ``corner``.

    A proposal was drawn with probability ``proposed``; it is kept with that of its residual after
    those kept before it.
    """
    corner = corner.copy()
    lower = np.zeros_like(corner)
    taken = []
    for i, chance in enumerate(rng.random(len(corner)) * proposed):
        pivot = corner[i, i]
        if pivot <= max(chance, noise):
            continue
        column = corner[i:, i] / np.sqrt(pivot)
        corner[i:, i:] -= np.outer(column, column)
        lower[i:, i] = column
        taken.append(i)
    kept = np.array(taken, dtype=np.intp)
    return kept, lower[np.ix_(kept, kept)]
