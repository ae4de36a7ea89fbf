"""Explained variance from features, and from solutions that are not exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import KernelOperator, nn
from kernreg.solvers import Restricted
from kernreg.solvers.variance import from_features, from_solution
from tests.contracts.solver import gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps
NET = nn.mlp(depth=2, b_std=0.1)
POINTS = gaussian_points(400, 4, seed=5)


def test_features_are_squared():
    features = np.random.default_rng(0).standard_normal((5, 3))
    full = from_features(features, True)
    np.testing.assert_array_equal(full, full.T)
    np.testing.assert_allclose(from_features(features, False), full.diagonal(), rtol=8 * EPS)


@settings(max_examples=60)
@given(
    n=st.integers(1, 15),
    m=st.integers(1, 5),
    error=st.sampled_from([0.0, 1e-8, 1e-3, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_errors_of_solutions_are_squared(n, m, error, seed):
    """Never too large, and too small by ``R^T A^-1 R``, whatever the solution is."""
    rng = np.random.default_rng(seed)
    joint = kernel_matrix(n + m, seed=seed)
    K, C, ridge = joint[:n, :n], joint[:n, n:], rng.uniform(0.1, 1.0, n)
    A = K + np.diag(ridge)
    solution = np.linalg.solve(A, C)
    solution += error * np.abs(solution).max() * rng.standard_normal((n, m))
    expected = C.T @ np.linalg.solve(A, C)
    residual = C - A @ solution
    missing = residual.T @ np.linalg.solve(A, residual)
    rounding = 50 * n * EPS * np.linalg.cond(A) * np.abs(expected).max() * (1 + error) ** 2
    operator = DenseOperator(K)
    full = from_solution(operator, ridge, C, solution, True)
    np.testing.assert_allclose(expected - full, missing, rtol=0, atol=rounding)
    assert np.linalg.eigvalsh(expected - full)[0] >= -m * rounding
    np.testing.assert_array_equal(full, full.T)
    diagonal = from_solution(operator, ridge, C, solution, False)
    np.testing.assert_allclose(diagonal, full.diagonal(), rtol=0, atol=rounding)


@pytest.mark.parametrize("full", [False, True])
def test_no_columns(full):
    empty = np.empty((4, 0))
    found = from_solution(DenseOperator(np.eye(4)), np.ones(4), empty, empty, full)
    assert found.shape == ((0, 0) if full else (0,))


class TestRestricted:
    """Of the posterior of the restricted model, and the prior of what no centre spans."""

    @pytest.mark.parametrize("method", ["rpcholesky", "uniform"])
    @pytest.mark.parametrize("ridge", [1e-2, np.geomspace(1e-2, 1.0, 400)])
    def test_dense_formula(self, method, ridge):
        solver = Restricted(centres=60, method=method)
        operator = KernelOperator(NET, POINTS)
        state = solver.init(operator, ridge)
        new = gaussian_points(9, 4, seed=6)
        at_centres = KernelOperator(NET, POINTS[state.centres], new).to_dense()
        dense = operator.to_dense()
        P = dense[:, state.centres]
        core = P[state.centres]
        inverse = np.diag(1 / np.broadcast_to(ridge, 400))
        within = np.linalg.solve(core, at_centres)
        left = np.linalg.solve(core + P.T @ inverse @ P, at_centres)
        expected = at_centres.T @ (within - left)
        found = solver.variance_explained(state, at_centres, full=True)
        # The normal equations: eps times the condition of the core and of sqrt(400 / 1e-2) squared.
        np.testing.assert_allclose(found, expected, atol=1e-9)
        np.testing.assert_array_equal(found, found.T)
        some = solver.variance_explained(state, at_centres)
        np.testing.assert_allclose(some, found.diagonal(), rtol=1e-12)
        own = KernelOperator(NET, new).to_dense()
        assert np.linalg.eigvalsh(own - found)[0] > 0

    def test_rows_that_no_centre_spans_keep_their_variance(self):
        """Two blocks, of which one has no centre."""
        K = np.zeros((40, 40))
        K[:20, :20], K[20:, 20:] = kernel_matrix(20), kernel_matrix(20, seed=1)
        solver = Restricted(centres=np.arange(5))
        state = solver.init(DenseOperator(K), 0.1)
        found = solver.variance_explained(state, K[:5])
        assert not found[20:].any()
        assert (found[:20] <= K.diagonal()[:20] * (1 + 1e-12)).all()
        # Five centres and the ridge: some is left of every variance.
        assert (found[:5] < K.diagonal()[:5]).all()

    @pytest.mark.parametrize("ridge", [0.0, 1e-12])
    def test_without_noise_centres_are_known(self, ridge):
        K = kernel_matrix(30)
        solver = Restricted(centres=np.array([0, 1, 2, 3]))
        state = solver.init(DenseOperator(K), ridge)
        found = solver.variance_explained(state, K[:4])
        left = K.diagonal() - found
        assert np.abs(left[:4]).max() < 1e-10
        assert (left >= -1e-10).all()
        features = solver.features(state)
        assert features.shape == (4, 4)
        np.testing.assert_allclose(((features.T @ K[:4]) ** 2).sum(axis=0), found, rtol=1e-12)

    def test_more_centres_explain_more(self):
        """With little noise: of a nested set none has a larger variance."""
        operator = KernelOperator(NET, POINTS)
        K = operator.to_dense()
        explained = []
        for count in (10, 40, 400):
            solver = Restricted(centres=np.arange(count))
            state = solver.init(operator, 1e-6)
            explained.append(solver.variance_explained(state, K[state.centres][:, 50:60]))
        assert (np.diff(explained, axis=0) > 0).all()
