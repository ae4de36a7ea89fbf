"""A factor of low rank plus a multiple of the identity, inverted through eigenvectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["LowRank", "ridge_profile"]

# Rounding in applying the inverse is eps * largest / shift of what it gives along the first
# eigenvector: a shift below this share of the largest eigenvalue is raised to it.
_SMALLEST_SHIFT = 1e-13
# Rows without ridge among others with one: their share of the mean ridge in the preconditioner.
_SMALLEST_PROFILE = 1e-3


def ridge_profile(ridge: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Mean of a ridge and its shape, ``ridge = mean * profile``; ones where all are zero.

    Examples
    --------
    >>> ridge_profile(np.array([1.0, 3.0]))
    (2.0, array([0.5, 1.5]))
    """
    level = float(np.mean(ridge))
    return level, ridge / level if level > 0 else np.ones(len(ridge))


class LowRank:
    """``P = F F^T + (ridge + residual) diag(profile)`` and its inverse.

    Parameters
    ----------
    factor : ndarray of shape (k, n)
        ``F^T``, with ``K - F F^T`` positive semidefinite; it is overwritten.
    remainder : ndarray of shape (n,)
        Diagonal of ``K - F F^T``.
    ridge : ndarray of shape (n,)
        The ridge of the system, per row.
    device : device
        Where products with the factor run.

    Attributes
    ----------
    rank : int
        Columns of F.
    residual : float
        Mean of the n - k eigenvalues that the remainder may have, relative to the profile.
    values : ndarray of shape (k,)
        Eigenvalues of the scaled ``F F^T``, not negative.

    Notes
    -----
    The remainder E of a kernel of slow decay is close to a multiple of the identity outside the
    range of F, so its mean eigenvalue joins the ridge: a rank that is too small then costs
    iterations but does not spoil the small eigenvalues, which ``F F^T + ridge`` alone would
    underestimate. The eigenvalues of ``P^-1 (K + ridge)`` lie between
    ``ridge / (ridge + residual)`` and ``1 + ||E|| / (ridge + residual)``.

    A QR factorisation and the eigenvectors of its small factor give an inverse that is exact for a
    matrix within ``eps ||K||`` of P; the Woodbury formula would lose ``||K|| / ridge`` digits.

    Cost: 4 n k^2 operations and 3 n k numbers once; 4 n k t for t columns; nothing for another
    ridge.
    """

    def __init__(
        self,
        factor: NDArray[np.float64],
        remainder: NDArray[np.float64],
        ridge: NDArray[np.float64],
        device: Any = "cpu",
    ) -> None:
        self.level, profile = ridge_profile(ridge)
        profile = np.maximum(profile, _SMALLEST_PROFILE)
        self.rank = len(factor)
        self.residual = float(np.sum(remainder / profile)) / max(1, len(profile) - self.rank)
        self._root = None if np.all(profile == 1.0) else np.sqrt(profile)[:, None]
        if self._root is not None:
            factor /= self._root.T
        columns = torch.from_numpy(factor).to(device).T
        basis, small = torch.linalg.qr(columns)
        del columns
        values, rotation = torch.linalg.eigh(small @ small.T)
        self._vectors = basis @ rotation
        self.values = np.maximum(values.cpu().numpy(), 0.0)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return int(self._vectors.nbytes + self.values.nbytes)

    def apply(
        self, R: NDArray[np.float64], levels: float | NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """``P^-1 R``.

        Parameters
        ----------
        R : ndarray of shape (n, t)
            Residuals.
        levels : float or ndarray of shape (t,), optional
            Mean ridge, for each column its own; that of the system if left out.

        Returns
        -------
        ndarray of shape (n, t), float64
        """
        shift = self._shift(self.level if levels is None else levels)
        scaled = R if self._root is None else R / self._root
        result = self._spread(scaled, self.values[:, None] / (self.values[:, None] + shift)) / shift
        return result if self._root is None else result / self._root

    def _shift(self, levels: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """What is added to the factor, for each mean ridge."""
        floor = _SMALLEST_SHIFT * float(self.values.max(initial=0.0))
        shift = np.maximum(np.asarray(levels, dtype=np.float64) + self.residual, floor)
        return np.where(shift > 0, shift, 1.0)

    def _spread(self, V: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """``V - U weights U^T V`` for the eigenvectors U."""
        vectors = self._vectors
        # As rows: few columns after a large matrix are several times slower.
        source = torch.from_numpy(np.ascontiguousarray(V.T)).to(vectors.device)
        inner = (source @ vectors).mul_(torch.from_numpy(weights.T).to(vectors.device))
        return np.ascontiguousarray(torch.addmm(source, inner, vectors.T, alpha=-1).cpu().numpy().T)
