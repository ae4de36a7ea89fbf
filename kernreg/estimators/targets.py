"""What a fit is to reproduce: targets, weights, and how labels are told from predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.duplicates import merge_equal_rows

__all__ = ["Targets"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Targets:
    """Targets of n rows.

    Parameters
    ----------
    values : ndarray of shape (n, t)
        What to predict.
    weights : ndarray of shape (n,)
        Positive.
    fit_intercept : bool
        Whether the weighted mean is taken off, which leave-one-out then estimates anew.
    correct : callable
        Tells from targets and leave-one-out predictions which share of each row gets the right
        label, or None if there are no labels.
    spread : ndarray of shape (n,), optional
        Variance of the targets that each row is the mean of.
    """

    values: Floats
    weights: Floats
    fit_intercept: bool
    correct: Callable[[Floats, Floats], Floats | None]
    spread: Floats | None = None

    @cached_property
    def mean(self) -> Floats:
        """Weighted mean of the targets, shape (t,), or zeros."""
        return np.asarray(
            np.average(self.values, axis=0, weights=self.weights) * self.fit_intercept
        )

    @cached_property
    def centered(self) -> Floats:
        """Targets minus their mean."""
        return np.asarray(self.values - self.mean)

    def merged(self, X: NDArray[np.floating]) -> tuple[NDArray[np.intp], Targets]:
        """The rows of ``X`` that stand for all equal ones, and their targets."""
        rows, targets, weights, spread = merge_equal_rows(X, self.values, self.weights)
        return rows, Targets(targets, weights, self.fit_intercept, self.correct, spread)

    def taken(self, rows: NDArray[np.intp]) -> Targets:
        """Those of some rows, not merged before."""
        return Targets(self.values[rows], self.weights[rows], self.fit_intercept, self.correct)
