"""From a kernel operator and targets to coefficients, for one ridge or the best of several."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators._centres import best_on_centres
from kernreg.estimators._loo import LeaveOneOut, Scores, held_out_residuals, with_ones
from kernreg.estimators._progress import Callback, iterations
from kernreg.exceptions import InvalidInputError
from kernreg.linalg.candidates import Solver, bounded_pcg, named_solver
from kernreg.linalg.cholesky import Cholesky
from kernreg.linalg.eigh import Eigh
from kernreg.linalg.pcg import PCG
from kernreg.linalg.plan import Plan
from kernreg.linalg.restricted import Restricted
from kernreg.linalg.sketch import SketchAndProject
from kernreg.linalg.solution import Solution
from kernreg.linalg.store import TileStore

__all__ = [
    "Choice",
    "as_read",
    "chosen_solver",
    "read_dtype",
    "require_leave_one_out",
    "require_rows",
    "solve_alphas",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The chosen ridge by its index, the solution for it, and leave-one-out if asked for.

    ``centres`` are the rows that the solution has coefficients for, if not all.
    """

    best: int
    solution: Solution
    loo: LeaveOneOut | None
    centres: NDArray[np.int64] | None = None


def read_dtype(dtype: Any, store: str | os.PathLike[str] | None) -> Any:
    """Type of the entries that solvers read: that of a store, if given."""
    return dtype if store is None else TileStore.open(store).entries


def as_read(operator: Any, store: str | os.PathLike[str] | None) -> tuple[Any, Any]:
    """An operator, and the matrix that solvers read in its place: tiles of a store, if given.

    Both have the type of the entries that are read.

    Raises
    ------
    FileNotFoundError
        If there is no store.
    StoreError
        If it is incomplete, damaged, or of another network or other data.
    """
    if store is None:
        return operator, operator
    stored = TileStore.open(store).operator(exact=operator)
    return operator.astype(stored.dtype), stored


def chosen_solver(solver: Solver, plan: Plan, operator: Any, n_outputs: int) -> Any:
    """The solver object that a plan stands for."""
    if plan.solver != "pcg":
        return named_solver(plan.solver) if isinstance(solver, str) else solver
    n, d = operator.shape[0], operator.n_features
    # The plan counts a copy of the data on a GPU.
    copied = 0 if operator.device.type == "cpu" else n * d * operator.dtype.itemsize
    given = solver if isinstance(solver, PCG) else None
    return bounded_pcg(n, d, n_outputs, operator.dtype, plan.budget_bytes - copied, given)


def require_leave_one_out(solver: Solver) -> None:
    """Raise InvalidInputError for a solver that cannot choose alpha by leave-one-out."""
    named = solver in ("auto", "cholesky", "eigh", "restricted")
    if not named and not isinstance(solver, Cholesky | Eigh | Restricted):
        raise InvalidInputError(
            f"solver={solver!r} gives no leave-one-out errors to choose alpha by: give alpha as "
            "one number, or use solver='eigh', 'cholesky' or 'restricted'."
        )


def require_rows(solver: Solver, n: int, given: int) -> None:
    """Raise InvalidInputError if rows that a solver names by number were dropped or merged."""
    if n < given and isinstance(solver, Restricted) and np.ndim(solver.centres):
        raise InvalidInputError(
            f"{given - n} of {given} rows have weight 0 or equal another row, so numbers of rows "
            "no longer name the centres: drop those rows before fit, or give how many centres."
        )


def solve_alphas(
    solver: Any,
    operator: Any,
    *,
    alphas: Floats,
    ridges: Floats,
    targets: Floats,
    mean: Floats,
    fit_intercept: bool,
    weights: Floats,
    correct: Callable[[Floats, Floats], NDArray[np.bool_] | None],
    leave_one_out: bool,
    callback: Callback = None,
) -> Choice:
    """Solve ``(K + ridge diag(1 / weights)) C = targets - mean`` for the best of several ridges.

    Parameters
    ----------
    solver : object
        Of :mod:`kernreg.linalg`; a direct one or Restricted for leave-one-out.
    operator : KernelOperator
        Symmetric, of shape (n, n).
    alphas, ridges : ndarray of shape (r,)
        The ridges, and what the user calls them.
    targets : ndarray of shape (n, t)
        What to predict.
    mean : ndarray of shape (t,)
        Their weighted mean, or zeros.
    fit_intercept : bool
        Whether leave-one-out re-estimates the mean.
    weights : ndarray of shape (n,)
        Positive.
    correct : callable
        Tells from targets and leave-one-out predictions which rows get the right label, or None
        if there are no labels.
    leave_one_out : bool
        Needed unless there is only one ridge.
    callback : callable, optional
        Moves a bar, see :func:`kernreg.estimators._progress.progress`.

    Returns
    -------
    Choice
        The ridge with most labels right, ties broken by the squared error, and then by the order
        given.

    Notes
    -----
    Eigh: one decomposition (about 9 n^3 operations) for all ridges. Cholesky: n^3/3 for each
    ridge, and as much again for leave-one-out. Restricted: see :func:`best_on_centres`.
    """
    if not leave_one_out:
        state = _state(solver, operator, float(ridges[0]), weights, callback)
        options: dict[str, Any] = {}
        if isinstance(solver, PCG | SketchAndProject):
            options["callback"] = iterations(callback, solver.tol)
        solution = solver.solve(state, targets - mean, **options)
        return Choice(0, solution, None, getattr(state, "centres", None))
    if isinstance(solver, Restricted):
        state = _state(solver, operator, float(ridges.max()), weights, callback)
        solution, chosen = best_on_centres(
            solver,
            state,
            alphas=alphas,
            ridges=ridges,
            targets=targets,
            mean=mean,
            fit_intercept=fit_intercept,
            weights=weights,
            correct=correct,
            callback=callback,
        )
        return Choice(chosen.best, solution, chosen, state.centres)
    t = targets.shape[1]
    rhs = with_ones(targets - mean)
    solutions = _solutions(solver, operator, ridges, weights, rhs, callback)
    scores, best = Scores(len(ridges), weights, correct), -1
    for i, (solution, diagonal) in enumerate(solutions):
        dual = np.asarray(solution.value, dtype=np.float64)
        drift = dual[:, t] * fit_intercept
        residuals = held_out_residuals(dual[:, :t], drift, diagonal, rhs[:, :t], weights)
        scores.add(i, targets, residuals)
        if best < 0 or scores.merit(i) > scores.merit(best):
            best, kept, held_out = i, solution, targets - residuals
    loo = LeaveOneOut(alphas, scores.squared_error, scores.accuracy, best, held_out)
    return Choice(best, replace(kept, value=np.array(kept.value[:, :t])), loo)


def _solutions(
    solver: Any,
    operator: Any,
    ridges: Floats,
    weights: Floats,
    rhs: Floats,
    callback: Callback,
) -> Iterator[tuple[Solution, Floats]]:
    """For each ridge the solution, and the diagonal of the inverse."""
    if isinstance(solver, Eigh):
        shared = _state(solver, operator, 0.0, weights, callback)
        for ridge in ridges:
            state = replace(shared, ridge=float(ridge))
            yield solver.solve(state, rhs), state.inverse_diagonals(np.array([state.ridge]))[0]
        return
    for ridge in ridges:
        factor = _state(solver, operator, float(ridge), weights, callback)
        solution = solver.solve(factor, rhs)
        diagonal = factor.inverse_diagonal()
        del factor  # the next one takes its place in memory
        yield solution, diagonal


def _state(solver: Any, operator: Any, ridge: float, weights: Floats, callback: Callback) -> Any:
    """What a solver prepares for one ridge."""
    if isinstance(solver, Eigh):
        return solver.init(operator, ridge, sample_weight=weights, callback=callback)
    return solver.init(operator, ridge / weights, callback=callback)
