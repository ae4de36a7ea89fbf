"""A choice of ridges for a restricted problem whose normal equations are diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kernreg.solvers.base import HeldOut
from kernreg.solvers.restricted.all_rows import covers_all_rows, exact_coefficients
from kernreg.solvers.restricted.state import RestrictedState

__all__ = ["RestrictedPath", "score"]


@dataclass(frozen=True, eq=False)
class RestrictedPath:
    """Solutions of a restricted problem for r ridges; ``t`` is absent for one-dimensional targets.

    Parameters
    ----------
    ridges : ndarray of shape (r,)
        The ridges.
    dual : ndarray of shape (r, m, t)
        Coefficients of the centres.
    gcv : ndarray of shape (r,)
        Generalised cross-validation: estimate of the weighted mean squared error on new rows, over
        all targets.
    loo : ndarray of shape (r,) or None
        Weighted mean of squared leave-one-out residuals over all targets, if asked for.
    effective_dof : ndarray of shape (r,)
        Trace of the smoother.

    Notes
    -----
    References: Golub, Heath, Wahba, Generalized cross-validation (1979).

    Examples
    --------
    >>> from kernreg import KernelOperator
    >>> from kernreg.solvers import Restricted
    >>> X = np.random.default_rng(0).normal(size=(50, 2))
    >>> solver = Restricted(centres=np.arange(20))
    >>> state = solver.init(KernelOperator("mlp(depth=1)", X), 0.1)
    >>> path = solver.path(state, np.sin(X[:, 0]), [1e-3, 1e-1, 10.0])
    >>> path.dual.shape, path.best, path.effective_dof.round(1).tolist()
    ((3, 20), 0, [19.7, 12.1, 3.9])
    """

    ridges: NDArray[np.float64]
    dual: NDArray[np.float64]
    gcv: NDArray[np.float64]
    loo: NDArray[np.float64] | None
    effective_dof: NDArray[np.float64]

    @property
    def best(self) -> int:
        """Number of the ridge with the smallest error, leave-one-out if it is there."""
        return int(np.argmin(self.gcv if self.loo is None else self.loo))


def score(
    state: RestrictedState,
    columns: NDArray[np.float64],
    inner: NDArray[np.float64],
    ridges: NDArray[np.float64],
    tail: tuple[int, ...],
    held_out: HeldOut | None,
) -> RestrictedPath:
    """Coefficients and errors for each ridge.

    Parameters
    ----------
    state : RestrictedState
        The problem.
    columns : ndarray of shape (n, t)
        Targets.
    inner : ndarray of shape (k, t)
        ``P^T K_mn W Y``.
    ridges : ndarray of shape (r,)
        The ridges.
    tail : tuple of int
        Shape of the targets without their rows.
    held_out : callable or None
        Told leave-one-out residuals, which take a pass over the entries; None for none.

    Notes
    -----
    With the hat matrix H of the weighted problem, row i left out has the residual
    ``(y_i - f(x_i)) / (1 - H_ii)`` (Sherman-Morrison); GCV puts the mean of ``H_ii`` there.
    """
    total = float(np.sum(state.weights))
    energy = float(np.einsum("n,nt,nt->", state.weights, columns, columns))
    dual, gcv, dof = [], [], []
    for ridge in ridges:
        a = inner / state.shifted(float(ridge))[:, None]
        trace = state.effective_dof(float(ridge))
        # ||W^1/2 (Y - Phi a)||^2 from the normal equations; rounding may make it negative.
        misfit = energy - 2 * np.sum(a * inner) + np.sum(state.values[:, None] * a * a)
        free = max(0.0, 1.0 - trace / state.n)
        gcv.append(max(0.0, misfit) / total / free**2 if free > 0 else np.inf)
        dual.append(state.basis @ a)
        dof.append(trace)
    coefficients = np.stack(dual)
    if covers_all_rows(state) and (ridges > 0).all():
        repeated = np.tile(columns, len(ridges))
        found = exact_coefficients(state, repeated, np.repeat(ridges, columns.shape[1])).value
        coefficients = found.reshape(len(found), len(ridges), -1).transpose(1, 0, 2)
    loo = None
    if held_out is not None:
        loo = state.leave_one_out(columns, coefficients, ridges, held_out) / total
    shape = (len(ridges), len(state.centres), *tail)
    return RestrictedPath(ridges, coefficients.reshape(shape), np.array(gcv), loo, np.array(dof))
