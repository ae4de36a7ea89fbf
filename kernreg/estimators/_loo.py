"""Leave-one-out predictions in closed form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["LeaveOneOut", "Scores", "held_out_residuals", "with_ones"]


@dataclass(frozen=True)
class LeaveOneOut:
    """What each training row gets when the model is fitted to all other rows.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        The values of ``alpha`` that were tried.
    squared_error : ndarray of shape (n_alphas,)
        Mean squared error over rows (by their weights) and targets. For a classifier the targets
        are the +1/-1 codes.
    accuracy : ndarray of shape (n_alphas,) or None
        Weighted share of rows that a classifier labels correctly; None for a regressor.
    best : int
        Index of the chosen ``alpha``.
    predictions : ndarray of shape (n_samples,) or (n_samples, n_targets)
        Leave-one-out predictions (decision values for a classifier) at the chosen ``alpha``, for
        the training rows: those of ``X_fit_``, unless that holds centres only.
    """

    alphas: np.ndarray
    squared_error: np.ndarray
    accuracy: np.ndarray | None
    best: int
    predictions: np.ndarray


class Scores:
    """Errors of leave-one-out predictions, ridge by ridge, rows by their weights.

    Parameters
    ----------
    count : int
        Number of ridges.
    weights : ndarray of shape (n_samples,)
        Positive.
    correct : callable
        Tells from targets and predictions which rows get the right label, or None if there are no
        labels.
    """

    def __init__(
        self,
        count: int,
        weights: np.ndarray,
        correct: Callable[[np.ndarray, np.ndarray], np.ndarray | None],
    ) -> None:
        self._weights, self._correct = weights, correct
        self._total = weights.sum()
        self._errors, self._shares = np.zeros(count), np.zeros(count)
        self._labels = False

    @property
    def squared_error(self) -> np.ndarray:
        """Mean squared errors."""
        return self._errors / self._total

    @property
    def accuracy(self) -> np.ndarray | None:
        """Shares of rows with the right label; None if there are no labels."""
        return self._shares / self._total if self._labels else None

    def add(
        self, index: int, targets: np.ndarray, residuals: np.ndarray, rows: slice = slice(None)
    ) -> None:
        """Count targets and residuals of some rows for the ridge of this index."""
        weights = self._weights[rows]
        # Summed as the weights are, so that all rows right are a share of exactly 1.
        self._errors[index] += np.sum(weights * np.mean(residuals**2, axis=1))
        right = self._correct(targets, targets - residuals)
        if right is not None:
            self._labels = True
            self._shares[index] += np.sum(weights * right)

    def merit(self, index: int) -> tuple[float, float]:
        """Larger is better: most labels right, ties broken by the squared error."""
        return float(self._shares[index]), -float(self._errors[index])


def held_out_residuals(
    dual: np.ndarray,
    dual_of_ones: np.ndarray,
    inverse_diagonal: np.ndarray,
    centered: np.ndarray,
    weights: np.ndarray,
) -> np.ndarray:
    """Targets minus leave-one-out predictions, the mean of the targets re-estimated each time.

    Parameters
    ----------
    dual : ndarray of shape (n_samples, n_targets)
        ``inv(A) @ centered`` with ``A`` the kernel matrix plus ridge.
    dual_of_ones : ndarray of shape (n_samples,)
        ``inv(A) @ 1``; zeros if the mean is not an estimate.
    inverse_diagonal : ndarray of shape (n_samples,)
        Diagonal of ``inv(A)``.
    centered : ndarray of shape (n_samples, n_targets)
        Targets minus their weighted mean.
    weights : ndarray of shape (n_samples,)
        Sample weights, at least two of them.

    Returns
    -------
    ndarray of shape (n_samples, n_targets)

    Notes
    -----
    For targets ``t`` that do not depend on the row left out, the residual is
    ``(inv(A) t)_i / inv(A)_ii`` [1]_, linear in ``t``. Leaving row ``i`` out moves the mean by
    ``w_i (y_i - mean) / (sum(w) - w_i)``, a constant over the rows that stay, which the solution
    for the targets 1 accounts for.

    References
    ----------
    .. [1] Rasmussen and Williams, "Gaussian Processes for Machine Learning", eq. 5.12.
    """
    shift = (weights / (weights.sum() - weights))[:, None] * centered
    return (dual + shift * dual_of_ones[:, None]) / inverse_diagonal[:, None]


def with_ones(columns: np.ndarray) -> np.ndarray:
    """Right-hand sides and a column of ones, whose solution re-estimates the mean."""
    return np.column_stack([columns, np.ones(len(columns))])
