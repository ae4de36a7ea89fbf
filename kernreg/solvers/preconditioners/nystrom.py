"""Nystrom approximation from random combinations of columns, as a preconditioner."""

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

__all__ = ["Nystrom"]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)
_FIRST = 64


@dataclass(frozen=True)
class Nystrom(Ranked):
    """Randomised Nystrom approximation ``(K W) (W^T K W)^-1 (K W)^T`` with W orthonormal.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        Columns of W; ``"auto"`` doubles them until the trace of the remainder is at most that of
        the ridge, or they are ``10 sqrt(n)``.
    max_bytes : int, default=2 GiB
        Limit of memory on the rank.
    seed : int, default=0
        Of W.

    Notes
    -----
    One product of the kernel with k columns in all, in float64: a whole Gram matrix of entries,
    where :class:`RPCholesky` takes k rows of it, for an approximation that is somewhat closer.
    Time: ``2 n^2 k + 8 n k^2`` operations; memory while it is built: 4 n k numbers.

    References
    ----------
    Frangella, Tropp, Udell, Randomized Nystrom preconditioning (arXiv 2110.02820), algorithm 2.1
    and section 5.4.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> K = KernelOperator(nn.mlp(depth=1, b_std=0.1), X)
    >>> Nystrom(rank=10).build(K, 1e-3).rank
    10
    """

    def peak_bytes(self, n: int) -> int:
        """Most bytes held while it is built, at its largest rank.

        Examples
        --------
        >>> Nystrom(rank=100).peak_bytes(10_000) >= 8 * 5 * 100 * 10_000
        True
        """
        limit = self.limit(n)
        return 8 * (n * (5 * limit + 4) + 4 * limit * limit)

    def held_bytes(self, n: int) -> int:
        """Most bytes held while the kernel is multiplied with the columns that build it.

        They are there, in each order, and so is the product.

        Examples
        --------
        >>> Nystrom(rank=100).held_bytes(10_000) == 8 * 5 * 100 * 10_000
        True
        """
        return 8 * n * 5 * self.limit(n)

    def build(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> LowRank:
        """Multiply and factor.

        Parameters
        ----------
        operator : Operator
            Symmetric; only products and ``diagonal`` of it are used, in float64.
        ridge : float or ndarray of shape (n,)
            Of the system.
        callback : callable, optional
            Called as ``callback(rank, limit)`` after each product.

        Returns
        -------
        LowRank
            The preconditioner.

        Raises
        ------
        NotPositiveDefiniteError
            If a random combination shows negative curvature.
        InvalidInputError
            If the kernel has NaN or infinity.
        """
        n = symmetric_order(operator)
        shift = checked_ridge(ridge, n)
        limit = self.limit(n)
        exact = operator.astype("float64")
        diagonal = as_array(exact.diagonal())
        rng = np.random.default_rng(self.seed)
        step = min(limit, _FIRST) if self.rank == "auto" else limit
        basis, images = np.empty((n, 0)), np.empty((n, 0))
        while True:
            drawn = rng.standard_normal((n, step))
            # Twice is enough to be orthogonal to rounding.
            for _ in range(2):
                drawn -= basis @ (basis.T @ drawn)
                drawn = scipy.linalg.qr(drawn, mode="economic", overwrite_a=True)[0]
            basis = _beside(basis, drawn)
            images = _beside(images, as_array(exact @ drawn))
            rank = basis.shape[1]
            if callback is not None:
                callback(rank, limit)
            factor = _factor(basis, images)
            remainder = np.maximum(diagonal - np.einsum("kn,kn->n", factor, factor), 0.0)
            if rank == limit or remainder.sum() <= shift.sum():
                break
            step = min(rank, limit - rank)
        logger.info("Nystrom: n=%d, rank %d of at most %d", n, rank, limit)
        del basis, images
        return LowRank(factor, remainder, shift, operator.device)


def _beside(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """All columns; without a copy if the first array has none."""
    return np.hstack([first, second]) if first.size else second


def _factor(basis: NDArray[np.float64], images: NDArray[np.float64]) -> NDArray[np.float64]:
    """``F^T`` with ``F F^T = K W (W^T K W)^-1 W^T K``, shape (k, n).

    A shift of rounding size makes the core factorable; it is subtracted from nothing, so that
    ``F F^T`` stays below K up to that size.
    """
    core = basis.T @ images
    core = (core + core.T) / 2
    size = float(np.linalg.norm(images))
    values, vectors = np.linalg.eigh(core)
    floor = len(images) ** 0.5 * _EPS * size
    if values[0] < -floor * len(images) ** 0.5:
        raise NotPositiveDefiniteError(
            f"the kernel matrix is not positive semidefinite: a direction has curvature "
            f"{values[0]:.3g}. Check data and network."
        )
    kept = values > floor
    if not kept.any():
        return np.zeros((1, len(images)))
    inner = vectors[:, kept] / np.sqrt(values[kept])
    return np.ascontiguousarray((images @ inner).T)
