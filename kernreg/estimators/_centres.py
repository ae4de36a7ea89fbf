"""The best of several ridges for a model that lives on a few centres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators._loo import LeaveOneOut
from kernreg.linalg.restricted import Restricted, RestrictedState
from kernreg.linalg.solution import Solution, Stats, Status

__all__ = ["best_on_centres"]

Floats = NDArray[np.float64]


def best_on_centres(
    solver: Restricted,
    state: RestrictedState,
    *,
    alphas: Floats,
    ridges: Floats,
    targets: Floats,
    mean: Floats,
    fit_intercept: bool,
    weights: Floats,
    correct: Callable[[Floats, Floats], NDArray[np.bool_] | None],
) -> tuple[Solution, LeaveOneOut]:
    """Solve for the ridge with the best leave-one-out predictions.

    Parameters
    ----------
    solver : Restricted
        The solver.
    state : RestrictedState
        Its normal equations, rows weighted by ``weights``.
    alphas, ridges, targets, mean, fit_intercept, weights, correct
        As for :func:`kernreg.estimators._solve.solve_alphas`.

    Returns
    -------
    Solution, LeaveOneOut
        Coefficients of the centres; predictions of all training rows.

    Notes
    -----
    Four passes over the entries beside the two of a single ridge. Rows are left out of the sums,
    not of the centres.
    """
    n, t = targets.shape
    centered = targets - mean
    # The solution for targets 1 says what re-estimating the mean does to a prediction.
    columns = np.column_stack([centered, np.ones(n)])
    drift = fit_intercept * weights / (weights.sum() - weights)
    errors, shares = np.zeros(len(ridges)), np.zeros(len(ridges))
    labels = False
    predictions = np.empty((n, t))

    def held_out(rows: slice, residuals: Floats) -> Floats:
        shift = drift[rows, None] * centered[rows]
        return np.asarray(residuals[..., :t] + shift * residuals[..., t:])

    def judge(rows: slice, residuals: Floats) -> None:
        nonlocal labels
        for index, residual in enumerate(held_out(rows, residuals)):
            errors[index] += weights[rows] @ np.mean(residual**2, axis=1)
            right = correct(targets[rows], targets[rows] - residual)
            if right is not None:
                labels = True
                shares[index] += weights[rows] @ right

    def predict(rows: slice, residuals: Floats) -> None:
        predictions[rows] = targets[rows] - held_out(rows, residuals)[0]

    # The path takes mean ridges, and weights are those of ridge / weights.
    levels = ridges * float(np.mean(1.0 / weights))
    path = solver.path(state, columns, levels, held_out=judge)
    errors /= weights.sum()
    shares /= weights.sum()
    best = max(range(len(ridges)), key=lambda index: (shares[index], -errors[index]))
    solver.path(state, columns, levels[best : best + 1], held_out=predict)
    stats = Stats(seconds=state.seconds, peak_bytes=solver.peak_bytes(n, t + 1, state.dtype))
    loo = LeaveOneOut(alphas, errors, shares if labels else None, best, predictions)
    return Solution(path.dual[best][:, :t].copy(), Status.OK, stats), loo
