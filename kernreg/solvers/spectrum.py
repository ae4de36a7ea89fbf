"""Eigenvalues, log-determinant and leave-one-out from products with the kernel matrix alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from kernreg.exceptions import (
    InvalidInputError,
    MemoryBudgetError,
    NotConvergedError,
    NotPositiveDefiniteError,
)
from kernreg.operators.base import as_array, symmetric_order
from kernreg.operators.budget import memory_budget, readable
from kernreg.solvers.base import checked_ridge
from kernreg.solvers.preconditioners.lowrank import LowRank

__all__ = ["Estimate", "inverse_diagonal", "log_determinant", "top_eigenvalues"]

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A stochastic estimate: its value, and the standard error over the samples.

    Examples
    --------
    >>> Estimate(2.0, 0.1).value
    2.0
    """

    value: Any
    standard_error: Any


def top_eigenvalues(operator: Any, k: int, *, tol: float = 1e-10, seed: int = 0) -> NDArray[Any]:
    """The k largest eigenvalues of a symmetric kernel matrix.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric; multiplied in float64.
    k : int
        How many, below n.
    tol : float, default=1e-10
        Relative accuracy.
    seed : int, default=0
        Of the starting vector.

    Returns
    -------
    ndarray of shape (k,)
        Descending.

    Raises
    ------
    NotConvergedError
        If not all of them reach the accuracy within ARPACK's limit of ``10 n`` restarts.

    Notes
    -----
    ARPACK's implicitly restarted Lanczos method; memory 2 k n numbers, and some 2 k to 5 k
    products of one column each: keep the tiles with :class:`PackedOperator` where they fit.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> K = KernelOperator(nn.mlp(depth=1), X)
    >>> bool(np.allclose(top_eigenvalues(K, 2), np.linalg.eigvalsh(K.to_dense())[:-3:-1]))
    True
    """
    n = symmetric_order(operator)
    if not 1 <= k < n:
        raise InvalidInputError(f"expected 1 <= k < n = {n}, found k = {k}; for all use Eigh")
    exact = operator.astype("float64")
    start = np.random.default_rng(seed).standard_normal(n)
    product = LinearOperator((n, n), matvec=lambda v: as_array(exact @ np.ravel(v)), dtype=float)
    try:
        values = eigsh(product, k=k, which="LA", tol=tol, v0=start, return_eigenvectors=False)
    except ArpackNoConvergence as error:
        raise NotConvergedError(
            f"expected {k} eigenvalues within tol={tol:.1e}, found {len(error.eigenvalues)} in "
            "ARPACK's limit of restarts: raise tol, ask for fewer, or use Eigh where it fits"
        ) from error
    return np.asarray(np.sort(values)[::-1])


def log_determinant(
    operator: Any,
    ridge: float | NDArray[Any],
    preconditioner: LowRank | None = None,
    *,
    samples: int = 16,
    steps: int = 50,
    seed: int = 0,
    max_bytes: int | None = None,
) -> Estimate:
    """``log det(K + diag(ridge))`` by stochastic Lanczos quadrature.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric; multiplied in float64.
    ridge : float or ndarray of shape (n,)
        Added to the diagonal, positive unless K is positive definite.
    preconditioner : LowRank, optional
        What :class:`RPCholesky` or :class:`Nystrom` built for the same ridge. Its determinant is
        known, so only that of the rest, which is close to one, is sampled.
    samples : int, default=16
        Random vectors, at least 2.
    steps : int, default=50
        Lanczos steps for each.
    seed : int, default=0
        Of the vectors.
    max_bytes : int, optional
        Memory for Lanczos vectors; half the free memory if left out.

    Returns
    -------
    Estimate
        The standard error is that of sampling. The error of the quadrature comes on top; it
        decays like that of conjugate gradients with as many iterations.

    Raises
    ------
    NotPositiveDefiniteError
        If a Lanczos matrix has an eigenvalue that is not positive.
    MemoryBudgetError
        If the vectors of one sample do not fit ``max_bytes``.

    Notes
    -----
    The Lanczos vectors are orthogonalised against all earlier ones, which takes some
    ``n (steps + 8)`` numbers for a sample. As many samples as fit are taken together, ``steps``
    products with a column for each: all of them if memory allows.

    References
    ----------
    Ubaru, Chen, Saad, Fast estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J.
    Matrix Anal. Appl. 38 (2017).
    Wenger, Pleiss, Hennig, Cunningham, Gardner, Preconditioning for scalable Gaussian process
    hyperparameter optimization (arXiv 2107.00243).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> from kernreg.solvers import RPCholesky
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> K = KernelOperator(nn.mlp(depth=1), X)
    >>> found = log_determinant(K, 0.1, RPCholesky(rank=30).build(K, 0.1))
    >>> expected = np.linalg.slogdet(K.to_dense() + 0.1 * np.eye(60))[1]
    >>> bool(abs(found.value - expected) < 5 * found.standard_error)
    True
    """
    n = symmetric_order(operator)
    shift = checked_ridge(ridge, n)
    _at_least_two(samples)
    if steps < 1:
        raise InvalidInputError(f"expected steps >= 1, found {steps}")
    exact = operator.astype("float64")

    def product(V: NDArray[np.float64]) -> NDArray[np.float64]:
        W = V if preconditioner is None else preconditioner.apply_root(V)
        image = as_array(exact @ W) + shift[:, None] * W
        return image if preconditioner is None else preconditioner.apply_root(image, mirrored=True)

    steps = min(steps, n)
    group = _samples_at_once(n, steps, max_bytes)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(n, samples))
    values = np.array(
        [
            _quadrature(*bands, n)
            for j in range(0, samples, group)
            for bands in _lanczos(product, signs[:, j : j + group], steps)
        ]
    )
    known = 0.0 if preconditioner is None else preconditioner.log_determinant()
    return Estimate(known + float(values.mean()), float(values.std(ddof=1)) / samples**0.5)


def _at_least_two(samples: int) -> None:
    if samples < 2:
        raise InvalidInputError(f"expected samples >= 2 for a standard error, found {samples}")


def _samples_at_once(n: int, steps: int, max_bytes: int | None) -> int:
    """Samples whose Lanczos vectors, and a few columns besides, fit."""
    room = memory_budget() // 2 if max_bytes is None else max_bytes
    single = 8 * n * (steps + 8)
    if single > room:
        raise MemoryBudgetError(
            f"{steps} Lanczos vectors of {n} rows take {readable(single)}, {readable(room)} are "
            "allowed: take fewer steps, or raise max_bytes"
        )
    return room // single


def _lanczos(
    product: Any, first: NDArray[np.float64], steps: int
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Diagonals and off-diagonals of the Lanczos matrix of each column of ``first``."""
    n, t = first.shape
    basis = torch.zeros((t, steps, n), dtype=torch.float64)
    diagonal, beside = np.zeros((steps, t)), np.zeros((steps, t))
    length = np.full(t, steps)
    vector = first / np.linalg.norm(first, axis=0)
    for step in range(steps):
        basis[:, step] = torch.from_numpy(np.ascontiguousarray(vector.T))
        image = product(vector)
        diagonal[step] = np.einsum("nt,nt->t", vector, image)
        rest = torch.from_numpy(np.ascontiguousarray(image.T))[:, :, None]
        known = basis[:, : step + 1]
        for _ in range(2):
            rest = rest - known.mT @ (known @ rest)
        vector = rest[:, :, 0].numpy().T
        beside[step] = np.linalg.norm(vector, axis=0)
        # An invariant subspace was found: the matrix ends here, and the vector stays zero.
        ended = beside[step] <= n * _EPS * np.abs(diagonal[: step + 1]).max(axis=0)
        length = np.minimum(length, np.where(ended, step + 1, steps))
        vector = vector * np.where(ended, 0.0, 1.0 / np.where(ended, 1.0, beside[step]))
        if (length <= step + 1).all():
            break
    return [(diagonal[:m, j], beside[: m - 1, j]) for j, m in enumerate(length)]


def _quadrature(diagonal: NDArray[np.float64], beside: NDArray[np.float64], n: int) -> float:
    """``n e_1^T log(T) e_1`` for a tridiagonal T."""
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, beside)
    if values[0] <= 0:
        raise NotPositiveDefiniteError(
            f"the kernel matrix plus ridge is not positive definite: eigenvalue {values[0]:.3g} "
            f"beside {values[-1]:.3g}. Raise alpha, or remove duplicate rows."
        )
    return n * float(vectors[0] ** 2 @ np.log(values))


def inverse_diagonal(
    solver: Any,
    state: Any,
    preconditioner: LowRank | None = None,
    *,
    samples: int = 32,
    seed: int = 0,
) -> Estimate:
    """Diagonal of ``(K + diag(ridge))^-1``, for leave-one-out where no factor fits.

    Parameters
    ----------
    solver : PCG
        Solves for the random vectors, all at once.
    state : PCGState
        Of the system. If its preconditioner is a :class:`LowRank`, whose inverse has a known
        diagonal, only the difference to it is sampled.
    samples : int, default=32
        Random vectors, at least 2.
    seed : int, default=0
        Of the vectors.

    Returns
    -------
    Estimate
        Arrays of shape (n,), the standard error for each row.

    Notes
    -----
    The standard error of an entry is the norm of its row of the inverse (less that of the
    preconditioner) without the diagonal, over ``sqrt(samples)``: a few per cent for a kernel
    with a strong diagonal or a good preconditioner, and otherwise as large as the entry itself.
    Leave-one-out residuals ``x_i / diagonal_i`` have the same relative error in each row, which
    averages out in their mean but not in a single row. For exact ones use Cholesky or Eigh.

    References
    ----------
    Bekas, Kokiopoulou, Saad, An estimator for the diagonal of a matrix, Appl. Numer. Math. 57
    (2007).
    """
    _at_least_two(samples)
    control = state.preconditioner
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], size=(state.n, samples))
    solved = solver.solve(state, signs).value
    base = np.zeros(state.n)
    if isinstance(control, LowRank):
        solved = solved - control.apply(signs)
        base = control.inverse_diagonal()
    drawn = signs * solved
    error = drawn.std(axis=1, ddof=1) / samples**0.5
    return Estimate(base + drawn.mean(axis=1), error)
