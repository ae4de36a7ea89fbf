"""Leave-one-out predictions in closed form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernreg.estimators.targets import Targets
from kernreg.exceptions import InvalidInputError

__all__ = ["LeaveOneOut", "Scores", "held_out_residuals", "mean_shifts", "with_ones"]


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
    rows : ndarray of shape (n_sampled,) or None
        Numbers of the training rows, where ``alpha="auto"`` was chosen on a sample of them:
        errors and predictions are those of a fit to the sample alone. None for all rows.
    targets : ndarray of shape (n_seen,) or (n_seen, n_targets), or None
        Of all rows that were seen, equal ones among them. None in a model that was saved without.
    weights : ndarray of shape (n_seen,) or None
        Of these rows.
    group : ndarray of shape (n_seen,) or None
        Which prediction is of each of them.
    """

    alphas: np.ndarray
    squared_error: np.ndarray
    accuracy: np.ndarray | None
    best: int
    predictions: np.ndarray
    rows: np.ndarray | None = None
    targets: np.ndarray | None = None
    weights: np.ndarray | None = None
    group: np.ndarray | None = None


class Scores:
    """Errors of leave-one-out predictions, ridge by ridge, rows by their weights.

    Parameters
    ----------
    count : int
        Number of ridges.
    targets : Targets
        What is to be predicted; errors are compared in units of the largest one, off the mean.
    """

    def __init__(self, count: int, targets: Targets) -> None:
        self._targets = targets
        self._unit = float(np.max(np.abs(targets.centered))) or 1.0
        self._total = targets.weights.sum()
        self._errors, self._shares = np.zeros(count), np.zeros(count)
        self._labels = False
        # It is the same for every ridge, and has no part in the choice.
        spread = targets.spread
        self._spread = 0.0 if spread is None else np.average(spread, weights=targets.weights)

    @property
    def squared_error(self) -> np.ndarray:
        """Mean squared errors."""
        with np.errstate(over="ignore"):
            return self._errors / self._total * self._unit * self._unit + self._spread

    @property
    def accuracy(self) -> np.ndarray | None:
        """Shares of rows with the right label; None if there are no labels."""
        return self._shares / self._total if self._labels else None

    def add(self, index: int, residuals: np.ndarray, rows: slice = slice(None)) -> None:
        """Count the residuals of some rows for the ridge of this index."""
        weights, targets = self._targets.weights[rows], self._targets.values[rows]
        # Summed as the weights are, so that all rows right are a share of exactly 1.
        self._errors[index] += np.sum(weights * np.mean((residuals / self._unit) ** 2, axis=1))
        right = self._targets.correct(targets, targets - residuals)
        if right is not None:
            self._labels = True
            self._shares[index] += np.sum(weights * right)

    def merit(self, index: int) -> tuple[float, float]:
        """Larger is better: the smallest squared error, ties broken by labels that are right."""
        error = float(self._errors[index])
        return (-error, float(self._shares[index])) if np.isfinite(error) else (-np.inf, -np.inf)

    def best(self) -> int:
        """The best ridge, the first of equals.

        Raises
        ------
        InvalidInputError
            If no ridge has a finite error.
        """
        found = max(range(len(self._errors)), key=self.merit)
        if not np.isfinite(self._errors[found]):
            raise InvalidInputError(
                "No alpha has a finite leave-one-out error to choose by: look for huge targets and "
                "for weights of very different size, or give alpha as one number."
            )
        return found


def mean_shifts(centered: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How far leaving each row out moves the weighted mean, shape (n_samples, n_targets).

    The mean of the others is summed from them alone: in the total of all rows, one of a huge
    weight would hide them.

    Examples
    --------
    >>> mean_shifts(np.array([[2.0], [3.0]]), np.array([1e20, 1.0])).tolist()
    [[-3.0], [-2.0]]
    """
    with np.errstate(invalid="ignore"):  # a row alone has no others
        return -_of_others(weights[:, None] * centered) / _of_others(weights)[:, None]


def _of_others(values: np.ndarray) -> np.ndarray:
    """For each row the sum of all others."""
    before, after = np.zeros_like(values), np.zeros_like(values)
    np.cumsum(values[:-1], axis=0, out=before[1:])
    np.cumsum(values[:0:-1], axis=0, out=after[-2::-1])
    return before + after


def held_out_residuals(
    dual: np.ndarray,
    dual_of_ones: np.ndarray,
    inverse_diagonal: np.ndarray,
    shifts: np.ndarray,
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
    shifts : ndarray of shape (n_samples, n_targets)
        Of :func:`mean_shifts`.

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
    return (dual + shifts * dual_of_ones[:, None]) / inverse_diagonal[:, None]


def with_ones(columns: np.ndarray) -> np.ndarray:
    """Right-hand sides and a column of ones, whose solution re-estimates the mean."""
    return np.column_stack([columns, np.ones(len(columns))])
