"""The Cholesky factor of a band plus a ridge, in squares."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.solvers.all_ridges import Shifted

__all__ = ["BandFactor", "factored", "row_sum"]

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# A pivot below this many eps of the largest row sum is what rounding left of the reduction.
_FLOOR = 10.0
# Rows of Q that go through all squares while they stay in cache.
_ROWS = 2048


def row_sum(band: Floats) -> float:
    """The largest sum of absolute values in a row: no eigenvalue is larger.

    Examples
    --------
    >>> row_sum(np.array([[2.0, 2.0], [-1.0, 0.0]]))
    3.0
    """
    with np.errstate(over="ignore"):
        sums = np.abs(band).sum(0)
        for k in range(1, len(band)):  # the other half of each row
            sums[k:] += np.abs(band[k, : len(sums) - k])
    return float(sums.max())


def factored(band: Floats, basis: Floats, ridge: float, norm: float) -> BandFactor:
    """The factor of ``B + ridge``, or with the jitter without which rounding decides.

    Parameters
    ----------
    band : ndarray of shape (width + 1, n)
        B by diagonals.
    basis : ndarray of shape (n, n)
        Q.
    ridge : float
        Added to the diagonal.
    norm : float
        Of :func:`row_sum`.

    Raises
    ------
    InvalidInputError
        If matrix and ridge are zero, or sums of rows are infinite.
    """
    floor = _FLOOR * _EPS * max(norm, ridge)
    if not np.isfinite(floor):
        raise InvalidInputError("the kernel matrix is beyond the range of float64: scale it down")
    if floor == 0.0:
        raise InvalidInputError("the kernel matrix is zero and so is the ridge: raise alpha")
    jitter = 0.0
    while True:
        shifted = band.copy()
        shifted[0] += ridge + jitter
        factor, info = scipy.linalg.lapack.dpbtrf(shifted, lower=1, overwrite_ab=1)
        if info == 0 and float(factor[0].min()) ** 2 >= floor:
            return BandFactor(factor, basis, ridge, jitter)
        jitter = max(2.0 * jitter, floor)


@dataclass(frozen=True, eq=False)
class BandFactor(Shifted):
    """``B + ridge + jitter = L L^T`` of a matrix ``Q B Q^T``.

    Parameters
    ----------
    factor : ndarray of shape (width + 1, n)
        L by diagonals.
    basis : ndarray of shape (n, n)
        Q.
    ridge, jitter : float
        What was added.
    """

    factor: Floats
    basis: Floats
    ridge: float
    jitter: float

    def solve(self, V: Floats) -> Floats:
        """Through the band: 4 n width operations for each column."""
        if not V.size:
            return V
        found, _ = scipy.linalg.lapack.dpbtrs(self.factor, V, lower=1)
        return np.asarray(found)

    def half_solve(self, V: Floats) -> Floats:
        """``L^-1 V``: 2 n width operations for each column."""
        rows = torch.from_numpy(np.ascontiguousarray(V.T))
        return torch.cat(list(self._half_solved(rows)), 1).numpy().T

    @functools.cached_property
    def _diagonal(self) -> Floats:
        found = np.empty(len(self.basis))
        Q = torch.from_numpy(self.basis)
        for start in range(0, len(found), _ROWS):
            rows = Q[start : start + _ROWS]
            squares = torch.zeros_like(rows[:, : self._squares[0].shape[1]])
            for part in self._half_solved(rows):
                squares[:, : part.shape[1]].addcmul_(part, part)
            found[start : start + _ROWS] = squares.sum(1)
        return found

    def inverse_diagonal(self) -> Floats:
        """Squares of the rows of ``Q L^-T``: 3 n^2 width operations, once."""
        return self._diagonal

    def log_determinant(self) -> float:
        """From the pivots."""
        return 2.0 * float(np.sum(np.log(self.factor[0])))

    def effective_dof(self) -> float:
        """``n - ridge tr A^-1``."""
        found = len(self.basis) - (self.ridge + self.jitter) * float(self._diagonal.sum())
        return max(0.0, found)

    def _half_solved(self, rows: Tensor) -> Iterator[Tensor]:
        """Rows times ``L^-T``, in parts along their columns."""
        before: Tensor | None = None
        inverses, below = self._squares
        side = inverses.shape[1]
        for k, part in enumerate(rows.split(side, 1)):
            stop = part.shape[1]
            if before is not None:
                part = torch.addmm(part, before, below[k, :stop].T, alpha=-1.0)
            before = part @ inverses[k, :stop, :stop].T
            yield before

    @functools.cached_property
    def _squares(self) -> tuple[Tensor, Tensor]:
        """Inverses of the triangles on the diagonal of L, and the squares left of them."""
        width, n = len(self.factor) - 1, self.factor.shape[1]
        side = max(1, width)
        count = -(-n // side)
        # Ones on the diagonal beyond the end, so that all triangles have inverses.
        padded = np.zeros((width + 1, side * (count + 1)))
        padded[0] = 1.0
        padded[:, side : side + n] = self.factor
        first = side * np.arange(1, count + 1)[:, None, None]
        i, j = np.arange(side)[:, None], np.arange(side)
        triangles = np.where(i >= j, padded[np.maximum(i - j, 0), first + j], 0.0)
        below = np.where(i <= j, padded[np.minimum(width + i - j, width), first - side + j], 0.0)
        below[0] = 0.0
        one = torch.eye(side, dtype=torch.float64).expand(count, side, side)
        inverses = torch.linalg.solve_triangular(torch.from_numpy(triangles), one, upper=False)
        return inverses, torch.from_numpy(below)
