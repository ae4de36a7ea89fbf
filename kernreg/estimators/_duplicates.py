"""Equal rows, which a ridge of zero cannot tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["merge_equal_rows"]

Floats = NDArray[np.float64]


def merge_equal_rows(
    X: NDArray[Any], targets: Floats, weights: Floats
) -> tuple[NDArray[Any], Floats, Floats]:
    """One row for each distinct one, with the sum of the weights and the mean of the targets.

    For any ridge this is the same least-squares problem. Without a ridge it is the only stable
    form: equal rows make the kernel matrix singular, and where their targets differ, the
    coefficients infinite.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        Data.
    targets : ndarray of shape (n, t)
        Targets.
    weights : ndarray of shape (n,)
        Positive.

    Returns
    -------
    X, targets, weights : ndarray
        With m <= n rows, in the order in which they first appear.

    Examples
    --------
    >>> import numpy as np
    >>> X, targets, weights = merge_equal_rows(
    ...     np.array([[2.0], [1.0], [2.0]]), np.array([[1.0], [5.0], [4.0]]), np.array([1.0, 1, 2])
    ... )
    >>> X.tolist(), targets.tolist(), weights.tolist()
    ([[2.0], [1.0]], [[3.0], [5.0]], [3.0, 1.0])
    """
    _, first, group = np.unique(X, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(X):
        return X, targets, weights
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    group = place[group.reshape(-1)]
    total = np.bincount(group, weights).astype(np.float64)
    sums = np.zeros((len(order), targets.shape[1]))
    np.add.at(sums, group, weights[:, None] * targets)
    return X[first[order]], sums / total[:, None], total
