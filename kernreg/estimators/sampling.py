"""Functions drawn from a Gaussian process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.estimators.posterior import covariance_bytes
from kernreg.operators.budget import memory_budget
from kernreg.operators.parts import Parts
from kernreg.theory.training.krylov import functions_times

__all__ = ["conditioned", "drawn_from", "exact_fits", "from_covariance", "from_kernel"]

Floats = NDArray[np.float64]

_EXACT_ROWS = 3000
# Of the square root of the kernel matrix times noise: far below the error of any mean of draws.
_TOL = 1e-4
_PRODUCTS = 300
_DIRECTION_BYTES = 2**28


def exact_fits(n: int, rows: int, max_memory: str | float | None) -> bool:
    """Whether the covariance of n new rows is small enough to be drawn from."""
    return n <= _EXACT_ROWS and covariance_bytes(n, rows, 4) <= memory_budget(max_memory)


def from_covariance(covariance: Floats, count: int, rng: np.random.RandomState) -> Floats:
    """``count`` columns with a covariance, which rounding may have left slightly indefinite.

    Examples
    --------
    >>> from_covariance(np.zeros((2, 2)), 3, np.random.RandomState(0)).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    return np.asarray(root @ rng.standard_normal((len(covariance), count)))


def from_kernel(operator: Parts, count: int, rng: np.random.RandomState) -> Floats:
    """``count`` columns with the covariance of an operator, from products with it alone."""
    n = operator.shape[0]
    noise = rng.standard_normal((n, count))
    found = np.empty((n, count))
    # A Lanczos process keeps all its directions.
    step = max(1, _DIRECTION_BYTES // (8 * n * min(n, _PRODUCTS)))
    for start in range(0, count, step):
        (found[:, start : start + step],) = functions_times(
            lambda columns: np.asarray(operator @ columns),
            noise[:, start : start + step],
            [np.sqrt],
            tol=_TOL,
            max_iter=_PRODUCTS,
        )
    return found


def drawn_from(
    operator: Parts,
    count: int,
    rng: np.random.RandomState,
    max_memory: str | float | None,
) -> Floats:
    """``count`` columns with the covariance of an operator, in the way that fits its size."""
    if exact_fits(operator.shape[0], 0, max_memory):
        return from_covariance(np.asarray(operator.to_dense()), count, rng)
    return from_kernel(operator, count, rng)


def conditioned(
    operator: Callable[..., Parts],
    rows: NDArray[np.floating],
    new: NDArray[np.floating],
    targets: Floats,
    noise: Floats,
    solve: Callable[[Floats], Floats],
    rng: np.random.RandomState,
) -> Floats:
    """Draws from the posterior: from the prior, moved by what the targets say of each draw.

    Parameters
    ----------
    operator : callable
        ``operator(X1, X2=None)`` makes the operator of the prior.
    rows, new : ndarray of shape (n, d) and (m, d)
        Those of the fit, and those that are drawn at.
    targets : ndarray of shape (n, count)
        One column for each draw.
    noise : ndarray of shape (n,)
        Variances.
    solve : callable
        ``(K + diag(noise))^-1`` times columns.
    rng : RandomState
        Draws.

    Returns
    -------
    ndarray of shape (m, count)
    """
    n, count = targets.shape
    prior = from_kernel(operator(np.vstack([rows, new])), count, rng)
    seen = prior[:n] + np.sqrt(noise)[:, None] * rng.standard_normal((n, count))
    moved: Any = operator(new, rows) @ solve(targets - seen)
    return np.asarray(prior[n:] + moved)
