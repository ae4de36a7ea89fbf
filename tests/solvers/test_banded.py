from __future__ import annotations

import numpy as np
import pytest

from kernreg.exceptions import InvalidInputError, JitterWarning
from kernreg.solvers import Banded, Eigh, Status
from kernreg.solvers.banded.reduction import WIDTH, reduced
from tests.contracts.solver import SLACK, DirectContract, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps
RIDGES = np.array([10.0, 0.1, 1e-3])


class TestBanded(DirectContract):
    solver = Banded()


def whole(band):
    n = band.shape[1]
    lower = sum(np.diag(d[: n - k], -k) for k, d in enumerate(band))
    return lower + np.tril(lower, -1).T


@pytest.mark.parametrize(
    "n", [1, 2, WIDTH, WIDTH + 1, WIDTH + 2, 2 * WIDTH, 2 * WIDTH + 1, 300, 1100]
)
@pytest.mark.parametrize("kind", ["full rank", "low rank", "diagonal", "zero"])
def test_reduction(n, kind):
    """Orthogonal, and the matrix again: backward stable, as products of reflections are."""
    made = {
        "full rank": lambda: kernel_matrix(n, d=60),
        "low rank": lambda: kernel_matrix(n, d=2),
        "diagonal": lambda: np.diag(np.arange(float(n))),
        "zero": lambda: np.zeros((n, n)),
    }
    K = made[kind]()
    band, Q = reduced(K.copy())
    assert band.shape == (min(WIDTH, n - 1) + 1, n)
    bound = SLACK * np.sqrt(n) * EPS
    assert np.linalg.norm(Q.T @ Q - np.eye(n), 2) < bound
    assert np.linalg.norm(Q @ whole(band) @ Q.T - K, 2) <= bound * np.linalg.norm(K, 2)


def test_chunks_of_columns_change_rounding_only(monkeypatch):
    K = kernel_matrix(330, d=40)
    expected = reduced(K.copy())
    monkeypatch.setattr("kernreg.solvers.banded.reduction._CHUNK", 100)
    for a, b in zip(reduced(K.copy()), expected, strict=True):
        # The basis is unique, as panels of a matrix of full rank have one factorisation.
        bound = SLACK * 330 * EPS * np.linalg.cond(K + np.eye(330)) * np.abs(b).max()
        np.testing.assert_allclose(a, b, atol=bound)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [40, 300])
def test_path_is_that_of_an_eigendecomposition(n, weighted):
    K, Y = kernel_matrix(n), gaussian_points(n, 2, seed=1)
    weights = np.random.default_rng(2).uniform(0.2, 3.0, n) if weighted else None
    found, expected = (
        solver.path(solver.init(DenseOperator(K), sample_weight=weights), Y, RIDGES)
        for solver in (Banded(), Eigh())
    )
    spread = 1.0 if weights is None else float(weights.max() / weights.min())
    for k, ridge in enumerate(RIDGES):
        bound = SLACK * np.sqrt(n) * EPS * np.linalg.cond(K + ridge * np.eye(n)) * spread
        for name in ("dual", "loo_residuals", "loo_predictions"):
            a, b = getattr(found, name)[k], getattr(expected, name)[k]
            np.testing.assert_allclose(a, b, atol=2 * bound * np.abs(b).max())
        assert abs(found.log_determinant[k] - expected.log_determinant[k]) < 2 * n * bound
        assert abs(found.effective_dof[k] - expected.effective_dof[k]) < 2 * n * bound
    assert not found.jitter.any()


def test_duplicates_without_ridge():
    X = gaussian_points(140, 3)
    X[70:] = X[:70]
    K = np.exp(X @ X.T / 3)
    solver = Banded()
    state = solver.init(DenseOperator(K), 0.0)
    with pytest.warns(JitterWarning, match="raised the ridge by"):
        solution = solver.solve(state, np.ones(140))
    assert solution.status is Status.JITTERED
    # Of the largest row sum of the band, at most the root of its width times the norm.
    floor = 10 * EPS * np.sqrt(2 * WIDTH + 1) * np.linalg.norm(K, 2)
    assert 0 < solution.stats.jitter <= 4 * floor
    assert np.isfinite(solution.value).all()
    with pytest.warns(JitterWarning):
        found = solver.path(state, np.ones(140), [1.0, 0.0])
    assert found.jitter[0] == 0
    assert found.jitter[1] == solution.stats.jitter
    assert np.isfinite(found.loo_residuals).all()


def test_zero_matrix_without_ridge():
    solver = Banded()
    state = solver.init(DenseOperator(np.zeros((3, 3))))
    with pytest.raises(InvalidInputError, match="raise alpha"):
        solver.solve(state, np.ones(3))
    found = solver.path(state, np.ones(3), [0.5]).dual[0]
    np.testing.assert_allclose(found, 2 * np.ones(3), rtol=4 * EPS)


def test_a_matrix_whose_row_sums_overflow():
    solver = Banded()
    state = solver.init(DenseOperator(np.full((3, 3), 1e308)))
    with np.errstate(over="ignore"), pytest.raises(InvalidInputError, match="beyond the range"):
        solver.solve(state, np.ones(3))


@pytest.mark.parametrize("n", [3, 200])
def test_callback_reaches_the_end(n):
    seen = []
    Banded().init(DenseOperator(np.eye(n)), callback=lambda *step: seen.append(step))
    assert seen == [(k, len(seen)) for k in range(1, len(seen) + 1)]
