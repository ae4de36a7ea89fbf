"""A symmetric matrix as ``Q B Q^T`` with a band B, nearly all of it products of matrices.

LAPACK's way to eigenvectors goes on to a tridiagonal matrix, which takes products with vectors:
bound by memory, and several times as long. A band is enough wherever ridges are added.

References
----------
Bischof, Lang, Sun, "A framework for symmetric band reduction" (2000); Puglisi, "Modification of
the Householder method based on the compact WY representation" (1992).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["WIDTH", "reduced"]

Floats = NDArray[np.float64]

WIDTH = 64
"""Diagonals below the main one: products of this depth are bound by arithmetic."""

# Columns of the matrix that are worked on at once: their square on the diagonal is kept whole.
_CHUNK = 512


def reduced(
    matrix: Floats, callback: Callable[[int, int], None] | None = None
) -> tuple[Floats, Floats]:
    """The band B and the orthogonal Q of ``K = Q B Q^T``.

    Parameters
    ----------
    matrix : ndarray of shape (n, n)
        K, C-contiguous, of which Q takes the place.
    callback : callable, optional
        Called as ``callback(step, total)``.

    Returns
    -------
    band : ndarray of shape (width + 1, n)
        ``band[i - j, j]`` is ``B[i, j]`` of the lower half, as LAPACK has it.
    basis : ndarray of shape (n, n)
        Q, where K was.

    Notes
    -----
    8/3 n^3 operations, half of them for Q; 4 n width numbers beside the matrix.

    Examples
    --------
    >>> K = np.diag(np.arange(200.0)) + 1.0
    >>> band, Q = reduced(K.copy())
    >>> B = sum(np.diag(d[: 200 - k], -k) for k, d in enumerate(band))
    >>> bool(abs(Q @ (B + np.tril(B, -1).T) @ Q.T - K).max() < 1e-11)
    True
    """
    n = len(matrix)
    width = min(WIDTH, n - 1)
    band, A = np.zeros((width + 1, n)), torch.from_numpy(matrix)
    starts = range(0, n - width, width) if width else range(0)
    total = 2 * len(starts) + 1
    factors: list[Tensor] = []
    for step, k in enumerate(starts, start=1):
        factors.append(_eliminate(A, k, width, band))
        if callback is not None:
            callback(step, total)
    last = len(starts) * width
    _keep_triangle(band, matrix[last:, last:], last)
    A[last:, last:] = torch.eye(n - last, dtype=A.dtype)
    for step, k in enumerate(reversed(starts), start=1):
        _apply(A, k, width, factors.pop())
        if callback is not None:
            callback(len(starts) + step, total)
    if callback is not None:
        callback(total, total)
    return band, matrix


def _eliminate(A: Tensor, k: int, width: int, band: Floats) -> Tensor:
    """Zeros below the band in the columns from k on, where reflections take their place.

    Returns the factor T of ``I - V T V^T``.
    """
    s = k + width
    _keep_triangle(band, A[k:s, k:s].numpy(), k)
    panel, scales = torch.geqrf(A[s:, k:s].contiguous())
    rank = len(scales)
    i, j = np.triu_indices(rank, m=width)
    band[width + i - j, k + j] = panel.numpy()[i, j]
    V = torch.tril(panel[:, :rank], -1)
    V.diagonal().fill_(1.0)
    V *= scales != 0  # nothing is reflected there
    A[s:, k : k + rank] = V
    inverse = torch.triu(V.T @ V, 1)
    inverse.diagonal().copy_(torch.where(scales != 0, 1.0 / scales, 1.0))
    T = torch.linalg.solve_triangular(inverse, torch.eye(rank, dtype=A.dtype), upper=True)
    Y = (T.T @ _times(A, s, V.T.contiguous())).T
    W = torch.addmm(Y, V, T.T @ (V.T @ Y), alpha=-0.5)
    left, right = torch.cat([V, W], 1), torch.cat([W, V], 1)
    for a, b in _chunks(s, len(A)):
        A[a:, a:b].addmm_(left[a - s :], right[a - s : b - s].T, alpha=-1.0)
    return T


def _times(A: Tensor, s: int, V: Tensor) -> Tensor:
    """Few rows times the matrix from row and column s on, of which the lower half is there."""
    out = torch.zeros_like(V)
    for a, b in _chunks(s, len(A)):
        out[:, a - s :].addmm_(V[:, a - s : b - s], A[a:, a:b].T)
        out[:, a - s : b - s].addmm_(V[:, b - s :], A[b:, a:b])
    return out


def _chunks(start: int, stop: int) -> list[tuple[int, int]]:
    """Columns between multiples of the chunk, so that squares on the diagonal stay the same."""
    edges = [start, *range((start // _CHUNK + 1) * _CHUNK, stop, _CHUNK), stop]
    return list(itertools.pairwise(edges))


def _keep_triangle(band: Floats, square: Floats, k: int) -> None:
    i, j = np.tril_indices(len(square))
    band[i - j, k + j] = square[i, j]


def _apply(A: Tensor, k: int, width: int, T: Tensor) -> None:
    """Q of the columns from k + width on, from that behind them and the reflections in place."""
    s = k + width
    V = A[s:, k : k + len(T)].clone()
    part = A[s:, s:]
    part.addmm_(V, T @ (V.T @ part), alpha=-1.0)
    A[k:s, k:s] = torch.eye(width, dtype=A.dtype)
    A[s:, k:s] = 0.0
    A[k:s, s:] = 0.0
