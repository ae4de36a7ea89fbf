"""Kernel ridge regression as in the textbook, refitted for every row that is left out."""

from __future__ import annotations

import numpy as np


def predict(K: np.ndarray, K_new: np.ndarray, Y: np.ndarray, ridge: float) -> np.ndarray:
    """Fit to centred targets, with ``ridge`` on the diagonal; shape (m, t)."""
    mean = Y.mean(axis=0)
    return K_new @ np.linalg.solve(K + ridge * np.eye(len(K)), Y - mean) + mean


def leave_one_out(K: np.ndarray, Y: np.ndarray, alpha: float) -> np.ndarray:
    """Prediction of each row by the fit to all others; ``alpha`` times the mean diagonal of K."""
    ridge = alpha * np.mean(np.diagonal(K))
    rows = np.arange(len(K))
    parts = []
    for i in rows:
        rest = rows != i
        parts.append(predict(K[np.ix_(rest, rest)], K[[i]][:, rest], Y[rest], ridge))
    return np.concatenate(parts)


def rounding(K: np.ndarray, Y: np.ndarray, alpha: float) -> float:
    """What rounding may change in a prediction.

    A backward stable solve of ``K + ridge`` perturbs the matrix by about n eps times its norm,
    and the solution by the condition number times that, here with a factor 20 for the other
    steps.
    """
    n = len(K)
    condition = 1 + np.linalg.norm(K, 2) / (alpha * np.mean(np.diagonal(K)))
    return float(20 * n * np.finfo(float).eps * condition * (1 + np.abs(Y).max()))
