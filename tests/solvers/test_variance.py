"""Explained variance from features, and from solutions that are not exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.solvers.variance import from_features, from_solution
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps


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
