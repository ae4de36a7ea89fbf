from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from kernreg.exceptions import InvalidInputError, JitterWarning
from kernreg.solvers import Eigh, Status
from tests.contracts.solver import SLACK, DirectContract, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps
RIDGES = np.array([10.0, 0.1, 1e-3])


class TestEigh(DirectContract):
    solver = Eigh()

    def test_matrix_is_evaluated_in_float64(self):
        K, Y = kernel_matrix(50), gaussian_points(50, 2)
        found = self.solve(K, 0.1, Y, "float32").value
        np.testing.assert_array_equal(found, self.solve(K, 0.1, Y, "float64").value)


def path(K, Y, ridges, **arguments):
    solver = Eigh()
    return solver.path(solver.init(DenseOperator(K), **arguments), Y, ridges)


def refits(K, ridge, weights, Y):
    """Weighted fits by normal equations W K a = ..., each without one row."""
    result = np.empty_like(Y)
    for i in range(len(K)):
        rest = np.arange(len(K)) != i
        A = K[np.ix_(rest, rest)] + np.diag(ridge / weights[rest])
        result[i] = Y[i] - K[i, rest] @ scipy.linalg.solve(A, Y[rest], assume_a="pos")
    return result


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("outputs", [None, 3])
def test_path_against_refits(weighted, outputs):
    n = 50
    K = kernel_matrix(n)
    Y = gaussian_points(n, outputs or 1, seed=1)
    Y = Y if outputs else Y[:, 0]
    weights = np.random.default_rng(2).uniform(0.2, 3.0, n) if weighted else np.ones(n)
    found = path(K, Y, RIDGES, sample_weight=weights if weighted else None)
    assert found.dual.shape == found.loo_residuals.shape == (len(RIDGES), *Y.shape)
    for index, ridge in enumerate(RIDGES):
        A = K + np.diag(ridge / weights)
        bound = SLACK * np.sqrt(n) * EPS * np.linalg.cond(A) * np.max(weights) / np.min(weights)
        dual = scipy.linalg.solve(A, Y, assume_a="pos")
        np.testing.assert_allclose(found.dual[index], dual, atol=bound * np.abs(dual).max())
        left_out = refits(K, ridge, weights, Y)
        scale = np.abs(left_out).max()
        np.testing.assert_allclose(found.loo_residuals[index], left_out, atol=bound * scale)
        np.testing.assert_allclose(found.loo_predictions[index], Y - left_out, atol=bound * scale)
        np.testing.assert_allclose(
            found.log_determinant[index], np.linalg.slogdet(A)[1], atol=n * bound
        )
        dof = np.trace(scipy.linalg.solve(A, K, assume_a="pos"))
        np.testing.assert_allclose(found.effective_dof[index], dof, atol=n * bound)


def test_path_agrees_with_solve():
    K, Y = kernel_matrix(40), gaussian_points(40, 2)
    solver = Eigh()
    state = solver.init(DenseOperator(K), 0.1)
    along = solver.path(state, Y, [5.0, 0.1])
    single = solver.solve(state, Y)
    np.testing.assert_array_equal(along.dual[1], single.value)
    assert along.log_determinant[1] == single.stats.log_determinant == state.log_determinant()
    assert along.effective_dof[1] == state.effective_dof()


def test_vector_of_ridges_is_a_profile_for_the_path():
    n = 30
    K, Y = kernel_matrix(n), gaussian_points(n, 1)
    ridge = np.linspace(0.5, 1.5, n)
    found = path(K, Y, [ridge.mean(), 2 * ridge.mean()], ridge=ridge)
    for index, factor in enumerate((1, 2)):
        A = K + np.diag(factor * ridge)
        bound = SLACK * np.sqrt(n) * EPS * np.linalg.cond(A)
        dual = np.linalg.solve(A, Y)
        np.testing.assert_allclose(found.dual[index], dual, atol=bound * np.abs(dual).max())


def test_integer_weights_repeat_rows():
    X, Y = gaussian_points(12, 3), gaussian_points(12, 1, seed=3)
    weights = np.random.default_rng(4).integers(1, 4, 12)
    K = np.exp(X @ X.T / 3)
    repeated = np.repeat(np.arange(12), weights)
    one = path(K, Y, [0.2], sample_weight=weights).dual[0]
    many = path(K[np.ix_(repeated, repeated)], Y[repeated], [0.2]).dual[0]
    summed = np.zeros_like(one)
    np.add.at(summed, repeated, many)
    # Both prediction functions are the same combination of the same 12 kernel functions.
    bound = SLACK * np.sqrt(len(repeated)) * EPS * np.linalg.cond(K + 0.2 * np.eye(12)) * 9
    np.testing.assert_allclose(one, summed, atol=bound * np.abs(one).max())


def test_duplicates_without_ridge():
    X = gaussian_points(40, 3)
    X[20:] = X[:20]
    solver = Eigh()
    state = solver.init(DenseOperator(np.exp(X @ X.T / 3)), 0.0)
    with pytest.warns(JitterWarning, match="raised the ridge by"):
        solution = solver.solve(state, np.ones(40))
    assert solution.status is Status.JITTERED
    assert 0 < solution.stats.jitter <= 11 * EPS * state.values[-1]
    assert np.isfinite(solution.value).all()
    with pytest.warns(JitterWarning):
        found = solver.path(state, np.ones(40), [1.0, 0.0])
    assert found.jitter[0] == 0
    assert found.jitter[1] == solution.stats.jitter
    assert np.isfinite(found.loo_residuals).all()


def test_decomposition_of_a_matrix_of_low_rank_is_orthogonal():
    """Many equal eigenvalues, where the fast LAPACK driver has its reputation to defend."""
    n = 300
    state = Eigh().init(DenseOperator(kernel_matrix(n, d=2)))
    error = state.vectors.T @ state.vectors - np.eye(n)
    assert np.linalg.norm(error, 2) < n * EPS


def test_zero_matrix_without_ridge():
    solver = Eigh()
    with pytest.raises(InvalidInputError, match="raise alpha"):
        solver.solve(solver.init(DenseOperator(np.zeros((3, 3)))), np.ones(3))
    np.testing.assert_array_equal(path(np.zeros((3, 3)), np.ones(3), [0.5]).dual[0], 2 * np.ones(3))


@pytest.mark.parametrize("weights", [[1, 1, 0], [1, 1, -1], [1, 1], [1, 1, np.nan]])
def test_bad_weights(weights):
    with pytest.raises(InvalidInputError, match="sample_weight"):
        Eigh().init(DenseOperator(np.eye(3)), 0.1, sample_weight=weights)


def test_vector_ridge_with_a_zero_points_to_cholesky():
    with pytest.raises(InvalidInputError, match="Cholesky"):
        Eigh().init(DenseOperator(np.eye(3)), np.array([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("ridges", [[-1.0], [np.nan], [[1.0]]])
def test_bad_ridges(ridges):
    with pytest.raises(InvalidInputError, match="sequence of finite ridges"):
        path(np.eye(3), np.ones(3), ridges)


def test_callback():
    seen = []
    Eigh().init(DenseOperator(np.eye(3)), callback=lambda *step: seen.append(step))
    assert seen == [(1, 2), (2, 2)]
