"""Training of a module as its tangent kernel describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.finite.empirical import EmpiricalOperator
from kernreg.finite.empirical.checks import rows_of
from kernreg.solvers.eigh import Eigh
from kernreg.theory.training.dynamics import Dynamics, largest_learning_rate
from kernreg.theory.training.ensemble import Ensemble

__all__ = ["predict_training", "stable_learning_rate"]

Floats = NDArray[np.float64]
_LOSSES = ("sum", "mean", "mean_rows")


def _values(module: torch.nn.Module, X: Any) -> Floats:
    """Outputs of shape (n, t)."""
    with torch.no_grad():
        rows, first = rows_of(module, X, "X"), next(module.parameters())
        found = module(rows.to(first) if rows.is_floating_point() else rows)
    values: Floats = found.reshape(len(found), -1).double().cpu().numpy()
    return values


def predict_training(
    module: torch.nn.Module,
    X: Any,
    y: ArrayLike,
    X_new: Any,
    times: float | Sequence[float] = np.inf,
    *,
    learning_rate: float = 1.0,
    momentum: float = 0.0,
    discrete: bool = False,
    ridge: float = 0.0,
    outputs: str = "full",
) -> Floats:
    """Outputs of a module after training, by its tangent kernel at the parameters as they are.

    The loss is half the sum of squared errors. Wide networks follow this; of others it is what
    their linearization would do.

    Parameters
    ----------
    module : Module
        Before training.
    X : array of shape (n, ...)
        Training rows.
    y : array of shape (n,) or (n, t)
        Targets.
    X_new : array of shape (m, ...)
        Rows to predict.
    times : float or sequence of float
        When: ``learning_rate * steps`` is what counts for gradient flow, steps if ``discrete``.
    learning_rate, momentum, discrete
        As of :class:`kernreg.theory.training.Dynamics`.
    ridge : float
        Penalty on the squared distance of the parameters from where they began.
    outputs : {"full", "mean"}
        The kernel between all outputs, of order ``n t``, or the mean over outputs for each.

    Returns
    -------
    ndarray of shape (m, t), or (len(times), m, t)

    Notes
    -----
    One eigendecomposition, ``O((n t)^3)`` ("mean": ``O(n^3)``).

    References
    ----------
    Lee et al., "Wide neural networks of any depth evolve as linear models" (2019), equations 10 to
    11.

    Examples
    --------
    >>> f = torch.nn.Linear(1, 1)
    >>> X = np.array([[-1.0], [1.0]])
    >>> np.round(predict_training(f, X, [2.0, 4.0], [[3.0]]), 4).tolist()
    [[6.0]]
    """
    if outputs not in ("full", "mean"):
        raise InvalidInputError(f"outputs must be 'full' or 'mean', found {outputs!r}.")
    kernel = EmpiricalOperator(module, X, outputs=outputs)
    targets = np.asarray(y, dtype=np.float64)
    targets = targets[:, None] if targets.ndim == 1 else targets
    start = _values(module, X)
    if targets.shape != start.shape:
        raise InvalidInputError(
            f"y has shape {targets.shape}, but the module gives {start.shape} numbers for X."
        )
    modes = Eigh().init(kernel, ridge)
    ensemble = Ensemble(modes, Dynamics(learning_rate, momentum, discrete))
    residual = targets - start
    columns = residual.reshape(-1, 1) if outputs == "full" else residual
    several = np.ndim(times) > 0
    found = ensemble.coefficients(columns, np.atleast_1d(times).tolist())
    between = EmpiricalOperator(module, X_new, X, outputs=outputs)
    before = _values(module, X_new)
    moved = [np.asarray(between @ c, dtype=np.float64).reshape(before.shape) for c in found]
    after = before + np.stack(moved)
    return after if several else after[0]


def stable_learning_rate(
    module: torch.nn.Module, X: Any, *, loss: str = "mean", momentum: float = 0.0
) -> float:
    """Learning rate above which gradient descent on squared error diverges at first.

    Parameters
    ----------
    module : Module
        At the parameters as they are.
    X : array of shape (n, ...)
        Training rows.
    loss : {"mean", "sum", "mean_rows"}
        Half the squared errors: their mean over all numbers, their sum, or the mean over rows of
        the sum over outputs.
    momentum : float
        Of the heavy ball.

    Returns
    -------
    float
        ``2 (1 + momentum) / lambda`` with the largest eigenvalue of the tangent kernel between all
        outputs, by Lanczos steps that form no matrix where that is faster.

    Examples
    --------
    >>> f = torch.nn.Linear(1, 1, bias=False)
    >>> stable_learning_rate(f, [[3.0], [4.0]], loss="sum")
    0.08
    """
    from scipy.sparse.linalg import eigsh

    if loss not in _LOSSES:
        raise InvalidInputError(f"loss must be one of {', '.join(_LOSSES)}, found {loss!r}.")
    kernel = EmpiricalOperator(module, X, outputs="full")
    order = kernel.shape[0]
    if order < 3:
        largest = float(np.linalg.eigvalsh(kernel.to_dense())[-1])
    else:
        largest = float(eigsh(kernel.as_scipy(), k=1, return_eigenvectors=False, tol=1e-6)[0])
    numbers = {"sum": 1, "mean": order, "mean_rows": order // kernel.n_outputs}[loss]
    return numbers * largest_learning_rate(largest, momentum)
