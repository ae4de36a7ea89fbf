"""Leave-one-out scores and their variances on a sample of the rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.alphas import ROWS, sample
from kernreg.estimators.loo import held_out_residuals, mean_shifts, with_ones
from kernreg.estimators.ridge import ridge_unit
from kernreg.estimators.targets import Targets
from kernreg.operators.base import Operator
from kernreg.operators.budget import memory_budget
from kernreg.solvers.cholesky.in_memory import Cholesky

__all__ = ["HeldOut", "held_out_scores"]

Floats = NDArray[np.float64]

_FEWEST = 48


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Predictions of rows that were left out, with all their copies.

    Parameters
    ----------
    predictions, targets : ndarray of shape (n, t)
        Of each row.
    variance : ndarray of shape (n,)
        Posterior variance of the outputs, without noise.
    weights : ndarray of shape (n,)
        Of the rows.
    size : float
        Mean of the kernel's diagonal.
    ridge : float
        Of a row of weight 1.
    """

    predictions: Floats
    targets: Floats
    variance: Floats
    weights: Floats
    size: float
    ridge: float


def held_out_scores(
    operator: Callable[[NDArray[np.intp]], Operator],
    X: NDArray[np.floating],
    targets: Targets,
    alpha: float,
    scale: str,
    max_memory: str | float | None = None,
) -> HeldOut:
    """Predictions for rows that are left out, by one factorisation of at most 3,000 of them.

    Parameters
    ----------
    operator : callable
        Makes the operator of the rows of these numbers.
    X : ndarray of shape (n, d)
        Data.
    targets : Targets
        What was fitted.
    alpha : float
        The ridge that was chosen.
    scale : {"mean_diag", "absolute"}
        What it is relative to.
    max_memory : str, number or None
        A quarter of it bounds the sample.

    Notes
    -----
    2 m^3/3 operations and m^2/2 numbers, for m rows.
    """
    most = min(ROWS, max(_FEWEST, int((memory_budget(max_memory) / 4 / 8) ** 0.5)))
    rows = np.arange(len(X)) if len(X) <= most else sample(len(X), most)
    kept, part = targets.taken(rows).merged(X[rows])
    kernel = operator(rows[kept])
    ridge = alpha * ridge_unit(scale, kernel, part.weights)
    solver = Cholesky()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the fit itself has said it
        state = solver.init_weighted(kernel, ridge, part.weights)
        dual = np.asarray(solver.solve(state, with_ones(part.centered)).value, dtype=np.float64)
    t = part.values.shape[1]
    inverse = np.asarray(state.inverse_diagonal(), dtype=np.float64)
    residuals = held_out_residuals(
        dual[:, :t],
        dual[:, t] * part.fit_intercept,
        inverse,
        mean_shifts(part.centered, part.weights),
    )
    size = float(np.mean(np.asarray(kernel.diagonal(), dtype=np.float64))) or 1.0
    variance = np.maximum(1.0 / inverse - ridge / part.weights, 0.0)
    seen = part.of_members
    return HeldOut(
        (part.values - residuals)[seen.group],
        seen.values,
        variance[seen.group],
        seen.weights,
        size,
        ridge,
    )
