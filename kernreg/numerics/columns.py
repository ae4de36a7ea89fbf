"""Norms and inner products of the columns of tall arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["dots", "norms", "relative", "worst"]

Floats = NDArray[np.float64]


def norms(V: Floats) -> Floats:
    """Length of each column of V, shape (t,).

    Examples
    --------
    >>> norms(np.array([[3.0, 0.0], [4.0, 2.0]])).tolist()
    [5.0, 2.0]
    """
    return np.asarray(np.linalg.norm(V, axis=0))


def dots(U: Floats, V: Floats) -> Floats:
    """Inner product of each column of U with that of V, shape (t,).

    Examples
    --------
    >>> dots(np.eye(2), np.array([[1.0, 7.0], [5.0, 2.0]])).tolist()
    [1.0, 2.0]
    """
    return np.asarray(np.einsum("nt,nt->t", U, V))


def relative(sizes: Floats, norm_b: Floats) -> Floats:
    """``sizes / norm_b``; a size itself where the right-hand side is zero.

    Examples
    --------
    >>> relative(np.array([0.1, 0.0]), np.array([2.0, 0.0])).tolist()
    [0.05, 0.0]
    """
    return np.asarray(sizes / np.where(norm_b > 0, norm_b, 1.0))


def worst(sizes: Floats, norm_b: Floats) -> float:
    """Largest of :func:`relative`, 0 without columns.

    Examples
    --------
    >>> worst(np.array([0.1, 0.0]), np.array([2.0, 0.0]))
    0.05
    """
    return float(np.max(relative(sizes, norm_b), initial=0.0))
