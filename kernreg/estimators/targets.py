"""What a fit is to reproduce: targets, weights, and how labels are told from predictions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.duplicates import merge_equal_rows

__all__ = ["Members", "Targets"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Members:
    """Targets of all rows, some of which are equal.

    Parameters
    ----------
    values : ndarray of shape (n, t)
        What to predict.
    weights : ndarray of shape (n,)
        Positive.
    group : ndarray of shape (n,)
        Number of the one among the different rows.
    """

    values: Floats
    weights: Floats
    group: NDArray[np.intp]


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
    members : Members, optional
        The targets before equal rows became one.
    """

    values: Floats
    weights: Floats
    fit_intercept: bool
    correct: Callable[[Floats, Floats], Floats | None]
    spread: Floats | None = None
    members: Members | None = None

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
        rows, targets, weights, spread, group = merge_equal_rows(X, self.values, self.weights)
        before = self.of_members
        members = Members(before.values, before.weights, group[before.group])
        return rows, Targets(targets, weights, self.fit_intercept, self.correct, spread, members)

    @property
    def of_members(self) -> Members:
        """The targets of all rows, whether some became one or not."""
        return self.members or Members(self.values, self.weights, np.arange(len(self.values)))

    def taken(self, rows: NDArray[np.intp]) -> Targets:
        """Those of some rows."""
        members = None
        if self.members is not None:
            place = np.full(len(self.values), -1)
            place[rows] = np.arange(len(rows))
            group = place[self.members.group]
            chosen = group >= 0
            members = Members(
                self.members.values[chosen], self.members.weights[chosen], group[chosen]
            )
        values, weights = self.values[rows], self.weights[rows]
        return Targets(values, weights, self.fit_intercept, self.correct, members=members)

    @classmethod
    def of(
        cls,
        members: Members,
        fit_intercept: bool,
        correct: Callable[[Floats, Floats], Floats | None],
    ) -> Targets:
        """The weighted means of members that are one row."""
        n = int(members.group.max()) + 1
        weights = np.bincount(members.group, members.weights, minlength=n).astype(np.float64)
        values = np.zeros((n, members.values.shape[1]))
        np.add.at(values, members.group, members.weights[:, None] * members.values)
        return cls(values / weights[:, None], weights, fit_intercept, correct, members=members)
