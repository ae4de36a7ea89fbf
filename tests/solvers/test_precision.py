from __future__ import annotations

import warnings

import numpy as np
import pytest

from kernreg.exceptions import RoundingWarning
from kernreg.solvers import Cholesky, Eigh, Restricted, SketchAndProject
from kernreg.solvers.precision import BEARABLE, entries_share, warn_of_ridge
from tests.contracts.solver import gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps


def repeated(n, seed=0):
    """A kernel of pairs of equal rows, and its mean diagonal."""
    K = kernel_matrix(n // 2, seed=seed)
    K = np.tile(K, (2, 2))
    return K, float(np.mean(np.diagonal(K)))


def caught(call):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in found if w.category is RoundingWarning]


def test_share_is_what_rounding_does():
    """Entries perturbed in their last bit, at random: the sums move by as much as is said."""
    rng = np.random.default_rng(0)
    K, Y = kernel_matrix(200), gaussian_points(200, 2)
    x = np.linalg.solve(K + 1e-9 * np.eye(200), Y)
    size = float(np.mean(np.diagonal(K)))
    moved = (K * EPS * rng.choice([-1, 1], K.shape)) @ x
    actual = np.max(np.linalg.norm(moved, axis=0) / np.linalg.norm(Y, axis=0))
    assert 0.2 < actual / entries_share(size, x, Y, EPS) < 5


def test_share_of_columns_of_any_size():
    x, Y = np.ones((9, 3)), np.full((9, 3), 2.0)
    expected = entries_share(4.0, x, Y, 1e-3)
    assert expected == pytest.approx(4.0 * 1e-3 * 3 / 2)
    for factor in (1e-200, 1e200):
        assert entries_share(4.0, x * factor, Y * factor, 1e-3) == pytest.approx(expected)
    Y[:, 1], x[:, 1] = 0.0, 0.0
    assert entries_share(4.0, x, Y, 1e-3) == pytest.approx(expected)
    assert entries_share(4.0, x[:, :0], Y[:, :0], 1e-3) == 0.0


@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_what_is_said(kind):
    limit = BEARABLE[np.dtype(kind)]
    assert not caught(lambda: warn_of_ridge(limit, 1e-9, 2.0, 100, kind))[1]
    ((text),) = caught(lambda: warn_of_ridge(1.1 * limit, 3.4e-9, 2.0, 100, kind))[1]
    least = 10 * float(np.finfo(kind).eps) * 2.0 / limit
    assert "ridge of 3.4e-09" in text
    assert f"{least:.1e}" in text
    assert f"{1.1 * limit:.1e} of the targets" in text
    assert ("use dtype float64" in text) == (kind == "float32")
    assert "raise alpha" in text


@pytest.mark.parametrize(
    "solver",
    [Cholesky(), Eigh(), Restricted(centres=10**6), SketchAndProject(block=200, tol=1e-5)],
    ids=lambda solver: type(solver).__name__,
)
def test_solvers_warn_of_what_they_find(solver):
    """Equal rows with different targets have coefficients of their difference over the ridge."""
    K, size = repeated(80)
    Y = gaussian_points(80, 1)
    for share, expected in ((1e-12, 1), (1e-7, 0), (1e-2, 0)):
        state = solver.init(DenseOperator(K), share * size)
        solution, found = caught(lambda state=state: solver.solve(state, Y))
        if solution.ok:  # projections may not get there
            assert len(found) == expected
            assert all(f"{share * size:.2g}" in text for text in found)


def test_interpolation_of_a_matrix_of_full_rank_is_no_reason():
    K = kernel_matrix(20)[:15, :15] + np.eye(15)
    for solver in (Cholesky(), Eigh()):
        solution, found = caught(
            lambda solver=solver: solver.solve(
                solver.init(DenseOperator(K), 0.0), gaussian_points(15, 1)
            )
        )
        assert solution.ok
        assert not found


def test_a_float32_solution_has_the_rounding_of_float32():
    K, size = repeated(60)
    for refine, expected in ((False, 1), ("auto", 0)):
        solver = Cholesky(refine=refine)
        state = solver.init(DenseOperator(K, "float32"), 1e-5 * size)
        _, found = caught(lambda s=solver, state=state: s.solve(state, gaussian_points(60, 1)))
        assert len(found) == expected
