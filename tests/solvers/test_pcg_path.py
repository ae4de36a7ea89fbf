"""Several ridges at once, by conjugate gradients that share their products."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.exceptions import (
    ConvergenceWarning,
    InvalidInputError,
)
from kernreg.solvers import PCG, RPCholesky, Status
from tests.contracts.solver import SLACK, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator
from tests.solvers.iterative import CountingOperator, relative_residual


def test_path_is_the_solves_of_its_ridges():
    K, Y = kernel_matrix(150), gaussian_points(150, 2)
    ridges = np.array([10.0, 1e-2, 1e-4])
    operator = CountingOperator(K)
    solver = PCG(RPCholesky(rank=5), storage="recomputed")
    path = solver.path(solver.init(operator, ridges.min()), Y, ridges)
    shared = operator.counts["float64"]
    for ridge, found in zip(ridges, path, strict=True):
        assert found.ok
        A = K + ridge * np.eye(150)
        residual = np.linalg.norm(Y - A @ found.value, axis=0)
        assert (residual <= 1.01e-8 * np.linalg.norm(Y, axis=0)).all()
    assert path[0].stats.iterations <= path[1].stats.iterations <= path[2].stats.iterations
    operator.counts["float64"] = 0
    solver.solve(solver.init(operator, ridges.min()), Y)
    # The products of the hardest ridge, and a check of the residual more.
    assert shared <= operator.counts["float64"] + 1


def test_each_ridge_of_a_path_has_its_own_history():
    """The large ridge is done after a few iterations, the small one is not done at all."""
    K, Y = kernel_matrix(150), gaussian_points(150, 2)
    solver = PCG(None, storage="recomputed", max_iter=12)
    ridges = [1e4, 1e-6]
    with pytest.warns(ConvergenceWarning):
        easy, hard = solver.path(solver.init(DenseOperator(K), 1e-6), Y, ridges)
    assert (easy.status, hard.status) == (Status.OK, Status.MAX_ITERATIONS)
    assert easy.stats.residuals[-1] <= 1e-8 < 1e-3 < hard.stats.residuals[-1]
    for ridge, found in zip(ridges, (easy, hard), strict=True):
        assert len(found.stats.residuals) == found.stats.iterations + 1
        true = relative_residual(K, ridge, found.value, Y)
        # Rounding of A x, which is as large as the targets.
        assert abs(found.stats.residuals[-1] - true) <= 1e-12


@pytest.mark.parametrize("profile", [np.ones(150), np.linspace(0.5, 1.5, 150)])
def test_a_huge_ridge_leaves_the_target_of_a_small_one(profile):
    """Rounding is measured by each column's own matrix: one shared norm would end it at x = 0."""
    K, Y = kernel_matrix(150), gaussian_points(150, 1)
    # 16 eps ||A|| ||x|| of the large ridge, with the x of the small one, is larger than ||y||.
    ridges = [1e18, 1.0]
    solver = PCG(RPCholesky(rank=21), storage="recomputed")
    large, small = solver.path(solver.init(DenseOperator(K), profile), Y, ridges)
    assert large.ok
    assert small.ok
    assert relative_residual(K, profile[:, None], small.value, Y) <= 1.01e-8
    np.testing.assert_allclose(large.value, Y / (1e18 * profile[:, None]), rtol=1e-8)


def test_path_multiplies_a_ridge_per_row():
    K, y = kernel_matrix(50), gaussian_points(50, 1)[:, 0]
    profile = np.linspace(0.5, 1.5, 50)
    solver = PCG(tol=1e-12)
    (found,) = solver.path(solver.init(DenseOperator(K), 0.1 * profile), y, [3.0])
    A = K + np.diag(3.0 * profile)
    bound = SLACK * 1e-12 * np.linalg.cond(A)
    expected = np.linalg.solve(A, y)
    np.testing.assert_allclose(found.value, expected, atol=bound * np.abs(expected).max())


def test_a_smaller_ridge_of_a_path_takes_float64_products():
    """The state was made for a large one, whose products are in float32."""
    operator = CountingOperator(kernel_matrix(80), "float32")
    solver = PCG(None, storage="recomputed")
    state = solver.init(operator, 50.0)
    assert state.fast is not None
    y = gaussian_points(80, 1)
    (large,) = solver.path(state, y, [50.0])
    assert large.ok
    assert operator.counts["float32"] > 0
    before = operator.counts["float32"]
    (small,) = solver.path(state, y, [1e-6])
    assert small.ok
    assert operator.counts["float32"] == before
    assert relative_residual(kernel_matrix(80), 1e-6, small.value, y) <= 1.01e-8


@pytest.mark.parametrize("ridges", [[-1.0], [np.nan], [[1.0]]])
def test_bad_ridges(ridges):
    solver = PCG()
    with pytest.raises(InvalidInputError, match="sequence of finite ridges"):
        solver.path(solver.init(DenseOperator(np.eye(3)), 1.0), np.ones(3), ridges)
