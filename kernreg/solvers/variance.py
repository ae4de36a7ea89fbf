"""How much of the variance of other rows a solved system explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernreg.operators.base import Operator, as_array

__all__ = ["from_features", "from_solution"]

Floats = NDArray[np.float64]


def from_features(features: Floats, full: bool) -> Floats:
    """Squared norms of columns of shape (k, m), or their products with each other.

    Examples
    --------
    >>> from_features(np.array([[3.0, 1.0], [4.0, 0.0]]), full=False).tolist()
    [25.0, 1.0]
    """
    if full:
        return np.asarray(features.T @ features)
    return np.einsum("km,km->m", features, features)


def from_solution(
    operator: Operator, ridge: Floats, columns: Floats, solution: Floats, full: bool
) -> Floats:
    """``C^T A^-1 C`` for ``A = K + diag(ridge)`` from an inexact solution Z of ``A Z = C``.

    Parameters
    ----------
    operator : Operator
        K, with float64 entries.
    ridge : ndarray of shape (n,)
        Added to its diagonal.
    columns, solution : ndarray of shape (n, m)
        C and Z.
    full : bool
        All of the matrix, not only its diagonal.

    Notes
    -----
    ``C^T Z + Z^T R`` with the residual R of Z, which one product gives: the error is
    ``R^T A^-1 R``, of second order, and never makes the result too large.
    """
    residual = columns - as_array(operator @ solution) - ridge[:, None] * solution
    if full:
        found = columns.T @ solution + solution.T @ residual
        return np.asarray((found + found.T) / 2)
    return np.einsum("nm,nm->m", solution, columns + residual)
