from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from scipy.sparse.linalg import eigsh

import kernreg.solvers.spectrum as spectrum_module
from kernreg.exceptions import (
    InvalidInputError,
    MemoryBudgetError,
    NotConvergedError,
    NotPositiveDefiniteError,
)
from kernreg.solvers import (
    PCG,
    Nystrom,
    RPCholesky,
    inverse_diagonal,
    log_determinant,
    top_eigenvalues,
)
from tests.contracts.solver import gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator, WatchedOperator


def smooth(n=300):
    X = gaussian_points(n, 3)
    return np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [1, 5, 20])
def test_top_eigenvalues(k, dtype):
    K = smooth()
    expected = np.linalg.eigvalsh(K)[::-1][:k]
    found = top_eigenvalues(DenseOperator(K, dtype), k)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("k", [0, 40, -1])
def test_number_of_eigenvalues(k):
    with pytest.raises(InvalidInputError, match="for all use Eigh"):
        top_eigenvalues(DenseOperator(kernel_matrix(40)), k)


def test_eigenvalues_that_are_not_found(monkeypatch):
    """A flat spectrum, and a single restart."""
    monkeypatch.setattr(spectrum_module, "eigsh", partial(eigsh, maxiter=1))
    K = np.diag(np.linspace(1.0, 2.0, 300))
    with pytest.raises(NotConvergedError, match=r"5 eigenvalues .* found [0-4] .* raise tol"):
        top_eigenvalues(DenseOperator(K), 5)


def test_samples_are_taken_as_memory_allows():
    """Sums of products with a few columns and with many differ by rounding alone."""
    K = smooth()
    watched = WatchedOperator(K)
    single = 8 * 300 * (10 + 8)
    arguments = {"samples": 5, "steps": 10}
    whole = log_determinant(DenseOperator(K), 1.0, **arguments)
    parts = log_determinant(watched, 1.0, **arguments, max_bytes=2 * single)
    assert watched.widths == [2] * 20 + [1] * 10
    assert parts.value == pytest.approx(whole.value, rel=1e-9)
    assert parts.standard_error == pytest.approx(whole.standard_error, rel=1e-6)
    with pytest.raises(MemoryBudgetError, match=r"10 Lanczos vectors of 300 rows .*fewer steps"):
        log_determinant(DenseOperator(K), 1.0, **arguments, max_bytes=single - 1)


@pytest.mark.parametrize("make", [None, RPCholesky(40), Nystrom(40)])
@pytest.mark.parametrize("per_row", [False, True])
def test_log_determinant(make, per_row):
    """Within 5 standard errors; the quadrature of 60 steps is exact to far below them."""
    K = smooth()
    ridge = np.linspace(0.5e-2, 1.5e-2, 300) if per_row else 1e-2
    operator = DenseOperator(K)
    built = None if make is None else make.build(operator, ridge)
    expected = np.linalg.slogdet(K + np.diag(np.broadcast_to(ridge, 300)))[1]
    found = log_determinant(operator, ridge, built, steps=60)
    assert found.standard_error > 0
    assert abs(found.value - expected) <= 5 * found.standard_error


def test_preconditioner_lowers_the_variance():
    operator = DenseOperator(smooth())
    errors = [
        log_determinant(operator, 1e-2, built).standard_error
        for built in (None, *(RPCholesky(k).build(operator, 1e-2) for k in (40, 120)))
    ]
    assert errors[0] > 1.5 * errors[1] > 4 * errors[2]


def test_all_steps_of_a_flat_spectrum():
    """Lanczos ends after one step; every vector then gives the exact value."""
    found = log_determinant(DenseOperator(2.0 * np.eye(20)), 1.0, steps=20)
    assert found.value == pytest.approx(20 * np.log(3.0), rel=1e-13)
    assert found.standard_error <= 1e-12


def test_log_determinant_of_an_indefinite_matrix():
    with pytest.raises(NotPositiveDefiniteError, match="Raise alpha"):
        log_determinant(DenseOperator(kernel_matrix(30) - 5 * np.eye(30)), 0.1)


def test_bad_arguments():
    operator = DenseOperator(np.eye(3))
    with pytest.raises(InvalidInputError, match="samples >= 2"):
        log_determinant(operator, 1.0, samples=1)
    with pytest.raises(InvalidInputError, match="steps >= 1"):
        log_determinant(operator, 1.0, steps=0)
    solver = PCG()
    with pytest.raises(InvalidInputError, match="samples >= 2"):
        inverse_diagonal(solver, solver.init(operator, 1.0), samples=1)


@pytest.mark.parametrize("preconditioner", [None, RPCholesky(60), RPCholesky(200)])
def test_inverse_diagonal(preconditioner):
    """Errors match the standard errors, and those the rows that are sampled."""
    K, samples = smooth(), 64
    solver = PCG(preconditioner)
    state = solver.init(DenseOperator(K), 1e-2)
    found = inverse_diagonal(solver, state, samples=samples)
    inverse = np.linalg.inv(K + 1e-2 * np.eye(300))
    score = (found.value - np.diagonal(inverse)) / found.standard_error
    assert np.abs(score).max() <= 6
    # Rows share the samples, so their scores are correlated: a wide band around one.
    assert 0.5 <= np.mean(score**2) <= 2.0
    sampled = inverse.copy()
    if preconditioner is not None:
        sampled -= state.preconditioner.apply(np.eye(300))
    np.fill_diagonal(sampled, 0.0)
    expected = np.linalg.norm(sampled, axis=1) / samples**0.5
    # A standard deviation from 64 samples is known to about 9 %; twice that is allowed.
    np.testing.assert_allclose(found.standard_error.mean(), expected.mean(), rtol=0.2)
