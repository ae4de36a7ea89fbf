"""Equal rows, which no ridge near rounding can tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.backends.sparse import SparseRows

__all__ = ["INSEPARABLE", "merge_equal_rows"]

Floats = NDArray[np.float64]

INSEPARABLE = float(np.finfo(np.float64).eps) ** 0.5
"""Ridge over the mean diagonal below which equal rows are merged.

Their coefficients are as large as the difference of their targets over the ridge, and cancel: what
rounding leaves, eps over the ridge, is more than the ridge itself changes.
"""


def merge_equal_rows(
    X: NDArray[Any] | SparseRows, targets: Floats, weights: Floats
) -> tuple[NDArray[np.intp], Floats, Floats, Floats, NDArray[np.intp]]:
    """One row for each distinct one, with the sum of the weights and the mean of the targets.

    For any ridge this is the same least-squares problem. Without a ridge, or with one near
    rounding, it is the only stable form: equal rows make the kernel matrix singular, and where
    their targets differ, the coefficients infinite. And a row is left out with all its copies,
    which would tell its target.

    Parameters
    ----------
    X : ndarray or SparseRows of shape (n, d)
        Data.
    targets : ndarray of shape (n, t)
        Targets.
    weights : ndarray of shape (n,)
        Positive.

    Returns
    -------
    rows : ndarray of shape (m,)
        The m <= n rows that are kept, each where it first appears.
    targets, weights : ndarray
        Of shape (m, t) and (m,).
    spread : ndarray of shape (m,)
        Weighted variance of the targets that became one row, mean over targets.
    group : ndarray of shape (n,)
        Which of the rows that are kept each row became.

    Examples
    --------
    >>> import numpy as np
    >>> rows, targets, weights, spread, group = merge_equal_rows(
    ...     np.array([[2.0], [1.0], [2.0]]), np.array([[1.0], [5.0], [4.0]]), np.array([1.0, 1, 2])
    ... )
    >>> rows.tolist(), targets.tolist(), weights.tolist(), spread.tolist()
    ([0, 1], [[3.0], [5.0]], [3.0, 1.0], [2.0, 0.0])
    >>> group.tolist()
    [0, 1, 0]
    """
    first, group = X.groups() if isinstance(X, SparseRows) else _groups(X)
    if len(first) == len(X):
        every = np.arange(len(X))
        return every, targets, weights, np.zeros(len(X)), every
    total = np.bincount(group, weights).astype(np.float64)
    sums = np.zeros((len(first), targets.shape[1]))
    np.add.at(sums, group, weights[:, None] * targets)
    means = sums / total[:, None]
    with np.errstate(over="ignore"):
        apart = weights * np.mean((targets - means[group]) ** 2, axis=1)
    return first, means, total, np.bincount(group, apart) / total, group


def _groups(X: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Of each distinct row where it first appears, in order, and which of these each row is."""
    _, first, group = np.unique(X, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return first[order], place[group.reshape(-1)]
