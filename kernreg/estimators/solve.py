"""From a kernel operator and targets to coefficients, for one ridge or the best of several."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.centres import best_on_centres
from kernreg.estimators.loo import (
    LeaveOneOut,
    Scores,
    held_out_residuals,
    mean_shifts,
    with_ones,
)
from kernreg.estimators.progress import Callback, iterations
from kernreg.estimators.targets import Targets
from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator
from kernreg.operators.parts import Parts
from kernreg.operators.store.store import TileStore
from kernreg.planning.plan import Plan
from kernreg.solvers.all_ridges import AllRidges
from kernreg.solvers.base import Problem, Solver
from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.precision import BEARABLE, entries_share, mean_diagonal
from kernreg.solvers.registry import SOLVERS
from kernreg.solvers.solution import Solution

__all__ = [
    "Choice",
    "as_read",
    "chosen_solver",
    "dual_dtype",
    "read_dtype",
    "require_rows",
    "solve_alphas",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """The chosen ridge by its index, the solution for it, and leave-one-out if asked for.

    ``centres`` are the rows that the solution has coefficients for, if not all; ``state`` is what
    the solver made, if it was to be kept.
    """

    best: int
    solution: Solution
    loo: LeaveOneOut | None
    centres: NDArray[np.int64] | None = None
    state: Any = None


def read_dtype(dtype: Any, store: str | os.PathLike[str] | None) -> Any:
    """Type of the entries that solvers read: that of a store, if given."""
    return dtype if store is None else TileStore.open(store).entries


def as_read(operator: Parts, store: str | os.PathLike[str] | None) -> tuple[Parts, Operator]:
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
    tiles = TileStore.open(store)
    if operator.dear:
        tiles.require(operator)
        stored = tiles.operator()
    else:
        stored = tiles.operator(exact=operator)
    return operator.astype(stored.dtype), stored


def chosen_solver(solver: str | Solver, plan: Plan, operator: Parts, n_outputs: int) -> Solver:
    """The solver object that a plan stands for."""
    n, d = operator.shape[0], operator.n_features
    problem = Problem(n, d, n_outputs, operator.dtype)
    # The plan counts a copy of the data on a GPU.
    copied = 0 if operator.device.type == "cpu" else n * d * operator.dtype.itemsize
    budget = plan.budget_bytes - copied
    if isinstance(solver, Solver):
        return solver.bounded(problem, budget)
    return SOLVERS[plan.solver].within(problem, budget)


def dual_dtype(dtype: Any, operator: Operator, value: Floats, targets: Floats) -> np.dtype[Any]:
    """Type of coefficients and of the entries that predictions multiply them by.

    That of the data, but float64 where float32 entries would show in the fit, or where float32
    cannot hold the coefficients or their products with the kernel.
    """
    kind = np.dtype(dtype)
    if kind != np.float32:
        return kind
    size, limits = mean_diagonal(operator), np.finfo(kind)
    largest = np.max(np.abs(value), axis=0, initial=0.0)
    largest = largest[largest > 0]
    reach = max(1.0, size) * len(value)
    most, least = float(limits.max) / reach, float(limits.tiny) / float(limits.eps)
    fits = (largest < most) & (largest > least)
    share = entries_share(size, value.reshape(len(value), -1), targets, float(limits.eps))
    return kind if fits.all() and share <= BEARABLE[kind] else np.dtype(np.float64)


def require_rows(solver: str | Solver, n: int, given: int) -> None:
    """Raise InvalidInputError if rows that a solver names by number were dropped or merged."""
    if n < given and isinstance(solver, Solver) and solver.names_rows:
        raise InvalidInputError(
            f"{given - n} of {given} rows have weight 0 or equal another row, so numbers of rows "
            "no longer name the centres: drop those rows before fit, or give how many centres."
        )


def solve_alphas(
    solver: Solver,
    operator: Operator,
    targets: Targets,
    *,
    alphas: Floats,
    ridges: Floats,
    leave_one_out: bool,
    callback: Callback = None,
    keep_state: bool = False,
) -> Choice:
    """Solve ``(K + ridge diag(1 / weights)) C = targets - mean`` for the best of several ridges.

    Parameters
    ----------
    solver : Solver
        For leave-one-out one that gives its errors.
    operator : Operator
        Symmetric, of shape (n, n).
    targets : Targets
        What to reproduce.
    alphas, ridges : ndarray of shape (r,)
        The ridges, and what the user calls them.
    leave_one_out : bool
        Needed unless there is only one ridge.
    callback : callable, optional
        Moves a bar, see :func:`kernreg.estimators.progress.progress`.
    keep_state : bool
        Whether the solver's state is returned too; without ``leave_one_out``.

    Returns
    -------
    Choice
        The ridge with the smallest squared error, ties broken by labels that are right, and then
        by the order given.

    Raises
    ------
    InvalidInputError
        If no ridge has a finite leave-one-out error.

    Notes
    -----
    Banded: one reduction (8/3 n^3 operations) for all ridges, Eigh about 9 n^3. Cholesky: n^3/3
    for each ridge, and as much again for leave-one-out. Restricted: see :func:`best_on_centres`.
    Warnings of a solver are given for the chosen ridge only.
    """
    weights = targets.weights
    if not leave_one_out:
        state = solver.init_weighted(operator, float(ridges[0]), weights, callback)
        moved = iterations(callback, solver.tol)
        solution = solver.solve(state, targets.centered, callback=moved)
        return Choice(0, solution, None, solver.rows_of(state), state if keep_state else None)
    if solver.approximate:
        state = solver.init_weighted(operator, float(ridges.max()), weights, callback)
        solution, chosen = best_on_centres(
            solver, state, targets, alphas=alphas, ridges=ridges, callback=callback
        )
        return Choice(chosen.best, solution, chosen, solver.rows_of(state))
    t = targets.values.shape[1]
    shifts = mean_shifts(targets.centered, weights)
    scores, best = Scores(len(ridges), targets), -1
    columns = with_ones(targets.centered)
    each = _one_by_one if solver.one_ridge else _all_at_once
    for i, tried in enumerate(each(solver, operator, ridges, weights, columns, callback)):
        drift = tried.dual[:, t] * targets.fit_intercept
        with np.errstate(all="ignore"):  # an error that is not finite is not chosen
            residuals = held_out_residuals(tried.dual[:, :t], drift, tried.diagonal, shifts)
            scores.add(i, residuals)
        if best < 0 or scores.merit(i) > scores.merit(best):
            best, kept, held_out = i, tried, targets.values - residuals
    if len(ridges) > 1:
        best = scores.best()
    solution, warned = kept.solution()
    for message in warned:
        warnings.warn(message, stacklevel=4)
    loo = LeaveOneOut(alphas, scores.squared_error, scores.accuracy, best, held_out)
    seen = targets.of_members
    loo = replace(loo, targets=seen.values, weights=seen.weights, group=seen.group)
    return Choice(best, replace(solution, value=np.array(solution.value[:, :t])), loo)


@dataclass(frozen=True, eq=False)
class _Tried:
    """Coefficients for one ridge, the diagonal of the inverse, and the solution with warnings."""

    dual: Floats
    diagonal: Floats
    solution: Callable[[], tuple[Solution, list[Any]]]


def _one_by_one(
    solver: Solver,
    operator: Operator,
    ridges: Floats,
    weights: Floats,
    rhs: Floats,
    callback: Callback,
) -> Iterator[_Tried]:
    """A state for each ridge, one in memory at a time."""
    for ridge in ridges:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            state = solver.init_weighted(operator, float(ridge), weights, callback)
            solution = solver.solve(state, rhs)
            diagonal = state.inverse_diagonal()
            del state  # the next one takes its place in memory
        dual = np.asarray(solution.value, dtype=np.float64)
        yield _Tried(dual, diagonal, functools.partial(_as_made, solution, said))


def _as_made(solution: Solution, said: list[warnings.WarningMessage]) -> tuple[Solution, list[Any]]:
    return solution, [found.message for found in said]


def _all_at_once(
    solver: Solver,
    operator: Operator,
    ridges: Floats,
    weights: Floats,
    rhs: Floats,
    callback: Callback,
) -> Iterator[_Tried]:
    """One state for all ridges, and the solution only of the one that is chosen."""
    with warnings.catch_warnings():
        # Each ridge is looked at for itself, and 0 is none of them.
        warnings.filterwarnings("ignore", ".*holds rounded entries", UserWarning)
        state = solver.init_weighted(operator, 0.0, weights, callback)

    def solution(ridge: float) -> tuple[Solution, list[Any]]:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = solver.solve(replace(state, ridge=ridge), rhs)
        return _as_made(found, said)

    assert isinstance(solver, AllRidges)
    for ridge, found in zip(ridges, solver.each(state, rhs, ridges), strict=True):
        if found.shifted.jitter and np.ptp(weights):
            # Beside a row of a huge weight others vanish in rounding: each has its own in a factor.
            one = np.array([ridge])
            yield from _one_by_one(Cholesky(), operator, one, weights, rhs, callback)
        else:
            yield _Tried(found.dual, found.diagonal, functools.partial(solution, float(ridge)))
