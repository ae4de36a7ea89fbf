"""How sure the chosen network is of the test rows, and whether it is right to be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kernreg.baseline.model import TableModel
from kernreg.estimators.alphas import ROWS

__all__ = [
    "LEVEL",
    "LEVELS",
    "Intervals",
    "Probabilities",
    "calibration_error",
    "reliability",
    "uncertainty",
]

LEVEL = 0.9
"""Of the intervals that are reported."""
LEVELS = (0.5, 0.6, 0.7, 0.8, LEVEL, 0.95)
"""At which intervals are compared with test rows."""
_BINS = 15


@dataclass(frozen=True, eq=False)
class Intervals:
    """Intervals of level 0.9 for the test rows of a regression.

    Parameters
    ----------
    lower, upper : ndarray of shape (n,)
        Their bounds.
    covered : float
        Share of the test rows within.
    width : float
        Mean width.
    shares : dict
        Share of the test rows within the intervals of each level.
    """

    lower: np.ndarray
    upper: np.ndarray
    covered: float
    width: float
    shares: dict[float, float]


@dataclass(frozen=True, eq=False)
class Probabilities:
    """Probabilities of the labels of the test rows of a classification.

    Parameters
    ----------
    labels : tuple of str
        The labels.
    values : ndarray of shape (n, n_labels)
        Probabilities.
    right : ndarray of bool, shape (n,)
        Whether the likeliest label is the true one.
    log_loss : float
        Mean negative logarithm of the probability of the true label.
    calibration_error : float
        See :func:`calibration_error`.
    """

    labels: tuple[str, ...]
    values: np.ndarray
    right: np.ndarray
    log_loss: float
    calibration_error: float


def uncertainty(
    model: TableModel, X: np.ndarray, truth: np.ndarray
) -> Intervals | Probabilities | None:
    """Intervals or probabilities for test rows; None if too few rows were fitted to say.

    Parameters
    ----------
    model : TableModel
        The chosen network.
    X : ndarray of shape (n, d)
        Features of the test rows.
    truth : ndarray of shape (n,)
        Their targets.
    """
    if model.task == "classification":
        labels, values = model.probabilities(X)
        known = model.estimator.classes_
        right = known[values.argmax(axis=1)] == truth
        place = np.minimum(np.searchsorted(known, truth), len(known) - 1)
        said = np.where(known[place] == truth, values[np.arange(len(truth)), place], 0.0)
        # A label that no training row has gets what one row more could have told.
        floor = 1.0 / (len(model.estimator.X_fit_) + 1.0)
        log_loss = -float(np.mean(np.log(np.maximum(said, floor))))
        error = calibration_error(values.max(axis=1), right)
        return Probabilities(labels, values, right, log_loss, error)
    # n rows left out tell levels up to n / (n + 1).
    rows = min(len(model.estimator.X_fit_), ROWS)
    levels = [level for level in LEVELS if level <= rows / (rows + 1)]
    if LEVEL not in levels:
        return None
    lower, upper = model.interval(X, levels)
    within = (lower <= truth) & (truth <= upper)
    shares = dict(zip(levels, within.mean(axis=1).tolist(), strict=True))
    ninety = levels.index(LEVEL)
    width = float(np.mean(upper[ninety] - lower[ninety]))
    return Intervals(lower[ninety], upper[ninety], shares[LEVEL], width, shares)


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error: by how much confidence and accuracy differ, in 15 bins.

    Parameters
    ----------
    confidence : ndarray of shape (n,)
        Probability of the likeliest label.
    right : ndarray of bool, shape (n,)
        Whether it is the true one.

    References
    ----------
    Guo et al., "On calibration of modern neural networks" (2017), equation 3.

    Examples
    --------
    >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))
    0.4
    """
    said, found, counts = reliability(confidence, right)
    gaps = np.abs(np.subtract(found, said)) * counts
    return float(gaps.sum() / len(confidence))


def reliability(
    confidence: np.ndarray, right: np.ndarray
) -> tuple[list[float], list[float], list[int]]:
    """Mean confidence, accuracy and rows of each of 15 bins that has any.

    Examples
    --------
    >>> reliability(np.array([0.75, 0.25]), np.array([True, False]))
    ([0.25, 0.75], [0.0, 1.0], [1, 1])
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    used = np.flatnonzero(np.bincount(bins, minlength=_BINS))
    said = [float(confidence[bins == number].mean()) for number in used]
    found = [float(right[bins == number].mean()) for number in used]
    return said, found, [int((bins == number).sum()) for number in used]
