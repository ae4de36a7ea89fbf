"""Leave-one-out scores and their variances on a sample of the rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.alphas import ROWS, sample
from kernreg.estimators.loo import held_out_residuals, mean_shifts, with_ones
from kernreg.estimators.ridge import ridge_unit
from kernreg.estimators.targets import Targets
from kernreg.operators.kernel import KernelOperator
from kernreg.solvers.cholesky.in_memory import Cholesky

__all__ = ["held_out_scores"]

Floats = NDArray[np.float64]


def held_out_scores(
    operator: Callable[[NDArray[np.floating]], KernelOperator],
    X: NDArray[np.floating],
    targets: Targets,
    alpha: float,
    scale: str,
) -> tuple[Floats, Floats, float, Targets]:
    """Predictions for rows that are left out, by one factorisation of at most 3,000 of them.

    Parameters
    ----------
    operator : callable
        Makes the kernel operator of rows.
    X : ndarray of shape (n, d)
        Data.
    targets : Targets
        What was fitted.
    alpha : float
        The ridge that was chosen.
    scale : {"mean_diag", "absolute"}
        What it is relative to.

    Returns
    -------
    predictions : ndarray of shape (m, t)
        For the rows of the sample, equal ones merged.
    variance : ndarray of shape (m,)
        Posterior variance of the outputs there, without noise.
    size : float
        Mean of the kernel's diagonal.
    targets : Targets
        Of these rows.

    Notes
    -----
    2 m^3/3 operations and m^2/2 numbers, for m rows.
    """
    rows = np.arange(len(X)) if len(X) <= ROWS else sample(len(X), ROWS)
    kept, part = targets.taken(rows).merged(X[rows])
    kernel = operator(X[rows[kept]])
    unit = ridge_unit(scale, kernel, part.weights)
    solver = Cholesky()
    state = solver.init_weighted(kernel, alpha * unit, part.weights)
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
    variance = np.maximum(1.0 / inverse - alpha * unit / part.weights, 0.0)
    return part.values - residuals, variance, size, part
