"""Functions of a matrix times columns, from products with it alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import ConvergenceWarning

__all__ = ["functions_times"]

Floats = NDArray[np.float64]
_CHECK_EVERY = 5


def functions_times(
    product: Callable[[Floats], Floats],
    columns: Floats,
    functions: Sequence[Callable[[Floats], Floats]],
    *,
    tol: float = 1e-8,
    max_iter: int = 500,
) -> Floats:
    """``f(A) columns`` for several functions of one symmetric matrix, by the Lanczos process.

    Parameters
    ----------
    product : callable
        ``A V`` for V of shape (n, t); A symmetric.
    columns : ndarray of shape (n, t)
        Each column has a Krylov space of its own; one product serves all.
    functions : sequence of callables
        Of an array of eigenvalues, of shape (t, k), elementwise.
    tol : float, default=1e-8
        Change of a result over five products, relative to its norm, at which it is taken.
    max_iter : int, default=500
        Most products.

    Returns
    -------
    ndarray of shape (len(functions), n, t)

    Warns
    -----
    ConvergenceWarning
        If a result still changed after ``max_iter`` products.

    Notes
    -----
    Directions are orthogonalised against all before: k products take ``k n t`` numbers and
    ``2 k^2 n t`` operations beside the products. For ``exp(-s A)`` k grows like the root of s times
    the largest eigenvalue.

    References
    ----------
    Saad, "Analysis of some Krylov subspace approximations to the matrix exponential operator"
    (1992).

    Examples
    --------
    >>> matrix = np.diag([1.0, 2.0, 3.0])
    >>> found = functions_times(lambda v: matrix @ v, np.ones((3, 1)), [np.sqrt])
    >>> np.round(found[0, :, 0], 6).tolist()
    [1.0, 1.414214, 1.732051]
    """
    n, t = columns.shape
    # In two steps, as squares of huge and tiny numbers are out of range.
    largest = np.max(np.abs(columns), axis=0, initial=0.0)
    direction = columns / np.where(largest > 0, largest, 1.0)
    norms = np.linalg.norm(direction, axis=0)
    direction = direction / np.where(norms > 0, norms, 1.0)
    basis: list[Floats] = []
    diagonals: list[Floats] = []
    offsets: list[Floats] = []
    before: NDArray[np.float64] | None = None
    limit = min(max_iter, n)
    while True:
        basis.append(direction)
        image = product(direction)
        diagonals.append(np.einsum("nt,nt->t", direction, image))
        for _ in range(2):  # twice is enough to be orthogonal to rounding
            for earlier in basis:
                image = image - earlier * np.einsum("nt,nt->t", earlier, image)
        size = np.linalg.norm(image, axis=0)
        scale = np.max(np.abs(diagonals), axis=0)
        # A column whose space is exhausted goes on with zeros.
        ended = size <= n * np.finfo(np.float64).eps * scale
        offsets.append(np.where(ended, 0.0, size))
        direction = np.where(ended, 0.0, image / np.where(ended, 1.0, size))
        last = len(basis) >= limit or bool(ended.all())
        if not last and len(basis) % _CHECK_EVERY:
            continue
        weights = _weights(np.array(diagonals), np.array(offsets[:-1]), functions)
        if before is not None or last:
            earlier_weights = np.zeros_like(weights)
            if before is not None:
                earlier_weights[:, : before.shape[1]] = before
            moved = np.linalg.norm(weights - earlier_weights, axis=1)
            total = np.linalg.norm(weights, axis=1)
            settled = bool((moved <= tol * total).all())
            if last or settled:
                if not settled and not ended.all() and len(basis) < n:
                    warnings.warn(
                        f"a function of the kernel matrix still changed by "
                        f"{float(np.max(moved / np.where(total > 0, total, 1))):.1e} of itself "
                        f"after {len(basis)} products: add a ridge, or take a shorter time",
                        ConvergenceWarning,
                        stacklevel=2,
                    )
                result = np.zeros((len(functions), n, t))
                for part, vectors in enumerate(basis):
                    result += weights[:, part, None, :] * vectors
                return result * norms * largest
        before = weights


def _weights(
    diagonals: Floats, offsets: Floats, functions: Sequence[Callable[[Floats], Floats]]
) -> Floats:
    """First columns of functions of the projected matrices, shape (functions, k, t)."""
    k, t = diagonals.shape
    weights = np.empty((len(functions), k, t))
    small = np.zeros((t, k, k))
    index = np.arange(k)
    small[:, index, index] = diagonals.T
    small[:, index[1:], index[:-1]] = offsets.T
    values, vectors = np.linalg.eigh(small)
    for number, function in enumerate(functions):
        # Rounding makes eigenvalues of a semidefinite matrix negative.
        filtered = function(np.maximum(values, 0.0))
        weights[number] = np.einsum("tij,tj,tj->it", vectors, filtered, vectors[:, 0])
    return weights
