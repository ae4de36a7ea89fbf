"""From ``alpha`` to the ridge of each row, and how it compares with the kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernreg.operators.base import Operator

__all__ = ["ridge_unit", "smallest_ridge"]


def ridge_unit(scale: str, operator: Operator, weights: NDArray[np.float64]) -> float:
    """Ridge of ``alpha=1`` for a row of weight 1."""
    return 1.0 if scale == "absolute" else _mean_diagonal(operator, weights)


def smallest_ridge(
    scale: str, alpha: float, weights: NDArray[np.float64], operator: Callable[[], Operator]
) -> float:
    """Smallest ridge of a row over the mean diagonal of the kernel; O(n), with a kernel if needed.

    Parameters
    ----------
    scale : {"mean_diag", "absolute"}
        What ``alpha`` is relative to.
    alpha : float
        The smallest one.
    weights : ndarray of shape (n,)
        Positive; they divide the ridge.
    operator : callable
        Makes the kernel operator.
    """
    most = float(weights.max())
    if scale == "mean_diag" and weights.min() == most:
        return alpha / most
    kernel = operator()
    unit = ridge_unit(scale, kernel, weights)
    return alpha * unit / most / _mean_diagonal(kernel, np.ones(len(weights)))


def _mean_diagonal(operator: Operator, weights: NDArray[np.float64]) -> float:
    """Weighted mean of the kernel of each row with itself."""
    mean = float(np.average(np.asarray(operator.diagonal(), dtype=np.float64), weights=weights))
    # A kernel that is zero everywhere has no scale; any positive ridge gives the mean.
    return mean if mean > 0 else 1.0
