"""The best of several ridges for a model that lives on a few centres."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.loo import LeaveOneOut, Scores, mean_shifts, with_ones
from kernreg.estimators.targets import Targets
from kernreg.solvers.base import Problem, Solver
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.solution import Solution, Stats, Status

__all__ = ["best_on_centres"]

Floats = NDArray[np.float64]


def best_on_centres(
    solver: Solver,
    state: Any,
    targets: Targets,
    *,
    alphas: Floats,
    ridges: Floats,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[Solution, LeaveOneOut]:
    """Solve for the ridge with the best leave-one-out predictions.

    Parameters
    ----------
    solver : Solver
        One that is ``approximate`` and gives leave-one-out errors.
    state : object
        What its ``init_weighted`` gave for the weights of the targets.
    targets, alphas, ridges
        As for :func:`kernreg.estimators.solve.solve_alphas`.
    callback : callable, optional
        Called as ``callback(rows, n)`` in the passes over the rows that make residuals.

    Returns
    -------
    Solution, LeaveOneOut
        Coefficients of the centres; predictions of all training rows.

    Notes
    -----
    Three passes over the entries beside that of ``state``: one more than for a single ridge gives
    the errors of all, and one the predictions of the best, which for all of them would take as
    many times the memory. Rows are left out of the sums, not of the centres.
    """
    started = time.perf_counter()
    weights = targets.weights
    n, t = targets.values.shape
    centered, exponents = scaled(targets.centered)
    columns = with_ones(centered)
    shifts = mean_shifts(centered, weights) * targets.fit_intercept
    scores = Scores(len(ridges), targets)
    predictions = np.empty((n, t))

    def moved(rows: slice) -> None:
        if callback is not None:
            callback(rows.stop, n)

    def held_out(rows: slice, residuals: Floats) -> Floats:
        found = residuals[..., :t] + shifts[rows] * residuals[..., t:]
        return np.ldexp(found, exponents) if exponents.any() else np.asarray(found)

    def judge(rows: slice, residuals: Floats) -> None:
        moved(rows)
        for index, residual in enumerate(held_out(rows, residuals)):
            scores.add(index, residual, rows)

    def predict(rows: slice, residuals: Floats) -> None:
        moved(rows)
        predictions[rows] = targets.values[rows] - held_out(rows, residuals)[0]

    # The path takes mean ridges, and weights are those of ridge / weights.
    levels = ridges * float(np.mean(1.0 / weights))
    path = solver.held_out(state, columns, levels, judge)
    best = scores.best()
    one = slice(best, best + 1)
    state.leave_one_out(columns, path.dual[one], levels[one], predict)
    stats = Stats(
        seconds=state.seconds + time.perf_counter() - started,
        peak_bytes=solver.peak_bytes(
            Problem(n, n_outputs=t + 1, n_ridges=len(ridges), leave_one_out=True)
        ),
    )
    loo = LeaveOneOut(
        alphas,
        scores.squared_error,
        scores.accuracy,
        best,
        predictions,
        targets=targets.of_members.values,
        weights=targets.of_members.weights,
        group=targets.of_members.group,
    )
    dual = unscaled(path.dual[best][:, :t].copy(), exponents)
    return Solution(dual, Status.OK, stats), loo
