"""Solvers on an operator that multiplies without tiles: the triton backend, interpreted."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg import KernelOperator, gram, nn
from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.refine import SymmetricProduct
from kernreg.solvers.solution import Status
from tests.backends.compare import needs_triton, on

pytestmark = needs_triton

NET = nn.mlp(depth=2, b_std=0.1)
N = 150
EPS = np.finfo(float).eps


@pytest.fixture
def X() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((N, 6))


def test_refined_like_a_float64_solve(X: np.ndarray) -> None:
    """The residual is that of a backward stable solve, from a float32 factor."""
    ridge = 1e-4
    Y = np.random.default_rng(6).standard_normal((N, 3))
    operator = KernelOperator(NET, X, dtype="float32", **on("triton"))
    solver = Cholesky(block=64)
    solution = solver.solve(solver.init(operator, ridge), Y)
    assert solution.status is Status.OK
    A = gram(NET, X, backend="reference") + ridge * np.eye(N)
    x = solution.value
    # 16 eps of the target, and n eps for entries that differ between backends and for A @ x.
    bound = (16 + 2 * N) * EPS * (np.linalg.norm(A, 2) * np.linalg.norm(x, axis=0) + 1)
    assert (np.linalg.norm(A @ x - Y, axis=0) <= bound * np.linalg.norm(Y, axis=0).clip(1)).all()


def test_product_and_its_bound_of_the_norm(X: np.ndarray) -> None:
    shift = np.linspace(0.1, 0.2, N)
    product = SymmetricProduct(KernelOperator(NET, X, **on("triton")), shift)
    A = gram(NET, X, backend="reference") + np.diag(shift)
    V = np.random.default_rng(7).standard_normal((N, 2))
    for count in (1, 2):
        bound = (N + 500) * EPS * (np.abs(A) @ np.abs(V))
        assert (np.abs(product(V) - A @ V) <= bound).all()
        assert product.count == count
    largest = np.linalg.norm(A, 2)
    # All entries are positive, so ones are close to the first eigenvector.
    assert 0.9 * largest <= product.norm <= largest * (1 + N * EPS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mixed_precision_is_full_precision_without_matrix_units(X: np.ndarray, dtype: str) -> None:
    operator = KernelOperator(NET, X, dtype=dtype, backend="cpu" if dtype == "float64" else "auto")
    values = [
        solver.solve(solver.init(operator, 0.1), X[:, :2]).value
        for solver in (Cholesky(precision="full"), Cholesky(precision="mixed"))
    ]
    np.testing.assert_array_equal(*values)


def test_unknown_precision() -> None:
    with pytest.raises(ValueError, match="precision 'full' or 'mixed', found 'half'"):
        Cholesky(precision="half")  # type: ignore[arg-type]
