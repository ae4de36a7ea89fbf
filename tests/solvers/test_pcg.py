"""Conjugate gradients: what is solved, how fast, and what is said where it is not."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from kernreg import KernelOperator, nn
from kernreg.exceptions import (
    ConvergenceWarning,
    InvalidInputError,
    NotPositiveDefiniteError,
    RoundingWarning,
)
from kernreg.solvers import PCG, Cholesky, LowPrecisionCholesky, Nystrom, RPCholesky, Status
from tests.contracts.solver import SolverContract, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator, WatchedOperator
from tests.solvers.iterative import CountingOperator, run

EPS = np.finfo(np.float64).eps


class IterativeContract(SolverContract):
    dtypes = ("float32", "float64")

    def eps(self, dtype):
        """``||r|| <= tol ||b||``, or what a direct solve leaves."""
        return self.solver.tol + EPS


class TestStored(IterativeContract):
    solver = PCG()


class TestRecomputed(IterativeContract):
    solver = PCG(storage="recomputed", recompute_every=3)


class TestPlain(IterativeContract):
    solver = PCG(None)


class TestSmallRank(IterativeContract):
    solver = PCG(RPCholesky(rank=4))


class TestNystrom(IterativeContract):
    solver = PCG(Nystrom())


class TestLowPrecision(IterativeContract):
    solver = PCG(LowPrecisionCholesky(block=64))
    # The factor's jitter is 1e7 times the ridge of 1e-11.
    smallest_ridge = 1e-9
    largest_exponent = 100


@pytest.fixture(scope="module")
def data():
    X = gaussian_points(700, 6)
    y = np.column_stack([np.sin(X[:, 0]) + X[:, 1] * X[:, 2], np.sign(X[:, 3])])
    return X[:600], y[:600], X[600:]


@pytest.mark.parametrize("storage", ["packed", "recomputed"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [1e-2, 1e-4, 1e-7])
@pytest.mark.parametrize("activation", [nn.Relu(), nn.Erf()])
def test_predictions_of_a_network_are_those_of_float64_cholesky(
    data, storage, dtype, alpha, activation
):
    """Fitted values err by at most ``||r|| <= tol ||y||``; new points are promised to 1e-6."""
    X, Y, new = data
    net = nn.mlp(depth=2, activation=activation, b_std=0.1)
    exact = KernelOperator(net, X)
    ridge = alpha * float(np.mean(exact.diagonal()))
    direct = Cholesky()
    expected = direct.solve(direct.init(exact, ridge), Y).value
    found, _ = run(exact.astype(dtype), ridge, Y, storage=storage)
    assert found.status is Status.OK
    cross = KernelOperator(net, new, X).to_dense()
    gap = np.linalg.norm(cross @ (found.value - expected), axis=0)
    assert (gap <= 1e-6 * np.linalg.norm(cross @ expected, axis=0)).all()
    fitted = np.linalg.norm(exact @ (found.value - expected), axis=0)
    assert (fitted <= 2e-8 * np.linalg.norm(Y, axis=0)).all()


@pytest.mark.parametrize("factor", [1.0, 1 + 1e-4, 1.5, -1.0, 0.0])
def test_wrong_float32_products_cost_iterations_but_not_the_answer(factor):
    """What is returned was checked in float64, so an operator that errs in float32 does no harm."""
    K, Y = kernel_matrix(60), gaussian_points(60, 2)
    solution, state = run(
        CountingOperator(K, "float32", factor), 10.0, Y, storage="recomputed", preconditioner=None
    )
    assert solution.ok
    residual = np.linalg.norm(Y - (K + 10 * np.eye(60)) @ solution.value, axis=0)
    assert (residual <= (1e-8 + 60 * EPS) * np.linalg.norm(Y, axis=0)).all()
    assert (state.fast is None) == (factor in (1.5, -1.0, 0.0))


def test_float32_products_do_most_of_the_work_where_they_can():
    operator = CountingOperator(kernel_matrix(200), "float32")
    solution, _ = run(
        operator, 10.0, gaussian_points(200, 1), storage="recomputed", preconditioner=None
    )
    # One check for each reduction by 1000, down to 1e-8, and one to spare.
    assert operator.counts["float64"] <= 4
    assert operator.counts["float32"] == solution.stats.iterations


def test_small_ridges_take_float64_products_from_the_start():
    operator = CountingOperator(kernel_matrix(200), "float32")
    run(operator, 1e-9, gaussian_points(200, 1), storage="recomputed")
    assert operator.counts["float32"] == 0


def test_history_ends_with_a_true_residual():
    K, Y = kernel_matrix(120), gaussian_points(120, 3)
    solution, _ = run(DenseOperator(K), 0.01, Y, preconditioner=None)
    stats = solution.stats
    assert len(stats.residuals) == stats.iterations + 1
    assert stats.residuals[0] == 1.0
    residual = np.linalg.norm(Y - K @ solution.value - 0.01 * solution.value, axis=0)
    relative = np.max(residual / np.linalg.norm(Y, axis=0))
    # Two ways to compute it differ by rounding of A x.
    noise = 120 * EPS * np.linalg.norm(K, 2) * np.abs(solution.value).max() * 120
    assert abs(stats.residuals[-1] - relative) <= noise


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_iteration_limit(dtype):
    K, Y = kernel_matrix(80), gaussian_points(80, 2)
    with pytest.warns(ConvergenceWarning, match="after 3 iterations, asked for was 1.0e-08"):
        solution, _ = run(DenseOperator(K, dtype), 10.0, Y, preconditioner=None, max_iter=3)
    assert solution.status is Status.MAX_ITERATIONS
    assert "max_iter" in str(solution.status)
    assert solution.stats.iterations == 3
    residual = np.linalg.norm(Y - K @ solution.value - 10 * solution.value, axis=0)
    relative = np.max(residual / np.linalg.norm(Y, axis=0))
    assert solution.stats.residuals[-1] == pytest.approx(relative, rel=1e-9)


def test_columns_that_are_solved_leave_the_products():
    """A column in the span of one eigenvector needs one iteration, the other one more."""
    vectors = np.linalg.qr(gaussian_points(40, 40))[0]
    K = (vectors * np.linspace(1, 100, 40)) @ vectors.T
    Y = np.column_stack([vectors[:, 3], gaussian_points(40, 1)[:, 0], np.zeros(40)])
    watched = WatchedOperator(K)
    solution, _ = run(watched, 0.0, Y, preconditioner=None, storage="recomputed")
    assert solution.ok
    # Beside them a vector of ones in the first product.
    assert watched.widths[:3] == [3, 1, 1]
    assert not solution.value[:, 2].any()


def test_singular_without_ridge():
    """Solved if the targets are in the range; else said so, and nothing blows up."""
    X = gaussian_points(60, 3)
    K = X @ X.T
    assert run(DenseOperator(K), 0.0, K @ np.ones(60), preconditioner=None)[0].ok
    with pytest.warns(ConvergenceWarning, match="raise alpha"):
        solution, _ = run(DenseOperator(K), 0.0, gaussian_points(60, 2, seed=1), max_iter=200)
    assert solution.status in (Status.NOT_CONVERGED, Status.MAX_ITERATIONS)
    assert np.isfinite(solution.value).all()


@pytest.mark.parametrize("preconditioner", [None, "auto", LowPrecisionCholesky()])
@pytest.mark.parametrize(("d", "seed"), [(1, 0), (2, 1)])
def test_singular_gaussian_kernel(preconditioner, d, seed):
    """No x solves it in float64: neither is one invented nor the status bent."""
    X, y = gaussian_points(60, d, seed), gaussian_points(60, 1, seed=9)[:, 0]
    K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))
    with pytest.warns(ConvergenceWarning, match="the system was not solved"):
        found, _ = run(DenseOperator(K), 0.0, y, preconditioner=preconditioner, max_iter=150)
    assert not found.ok
    left = np.linalg.norm(y - K @ found.value)
    # No worse than x = 0, and no coefficients whose rounding alone is worth more than that.
    assert left <= 1.001 * np.linalg.norm(y)
    assert EPS * 60 * np.linalg.norm(found.value) <= np.linalg.norm(y)
    # Computed by other products, of which each has a rounding of its own.
    noise = EPS * 60 * np.linalg.norm(found.value)
    assert abs(found.stats.residuals[-1] * np.linalg.norm(y) - left) <= noise + 1e-6 * left


@pytest.mark.parametrize("tol", [1e-8, 1e-10, 1e-13])
@pytest.mark.parametrize(
    "preconditioner", ["auto", RPCholesky(rank=12), Nystrom(rank=40)], ids=["auto", "rank", "all"]
)
def test_residuals_beyond_the_tolerance_are_those_of_cholesky(tol, preconditioner):
    """At condition 2e11 Cholesky leaves more than was asked for, and so much may be left here."""
    X = gaussian_points(120, 1, seed=11)
    K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))
    ridge, y = np.linalg.norm(K, 2) / 2e11, gaussian_points(120, 1, seed=12)[:, 0]
    operator, direct = DenseOperator(K), Cholesky()
    left = [
        np.linalg.norm(y - K @ x - ridge * x)
        for x in (
            direct.solve(direct.init(operator, ridge), y).value,
            run(operator, ridge, y, tol=tol, preconditioner=preconditioner)[0].value,
        )
    ]
    assert left[0] > 1e-7 * np.linalg.norm(y)
    assert left[1] <= 4 * left[0]


def test_zero_matrix():
    K = np.zeros((5, 5))
    np.testing.assert_array_equal(run(DenseOperator(K), 0.5, np.ones(5))[0].value, 2 * np.ones(5))
    with pytest.warns(ConvergenceWarning):
        solution, _ = run(DenseOperator(K), 0.0, np.ones(5))
    assert not solution.ok
    assert not solution.value.any()


@pytest.mark.parametrize("preconditioner", [None, "auto", Nystrom(), LowPrecisionCholesky()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_indefinite_matrix(preconditioner, dtype):
    vectors = np.linalg.qr(gaussian_points(40, 40))[0]
    K = (vectors * np.linspace(-5, 20, 40)) @ vectors.T
    with pytest.raises(NotPositiveDefiniteError, match=r"[Rr]aise alpha|Check data"):
        run(
            DenseOperator(K, dtype),
            0.1,
            gaussian_points(40, 2, seed=1),
            preconditioner=preconditioner,
        )


@pytest.mark.parametrize("storage", ["packed", "recomputed"])
@pytest.mark.parametrize("preconditioner", [None, RPCholesky(3), Nystrom(), LowPrecisionCholesky()])
def test_kernel_that_is_not_finite(storage, preconditioner):
    K = kernel_matrix(40)
    K[31, 7] = K[7, 31] = np.nan
    for dtype in ("float32", "float64"):
        with pytest.raises(InvalidInputError, match="NaN or infinity"):
            run(
                DenseOperator(K, dtype),
                100.0,
                np.ones(40),
                storage=storage,
                preconditioner=preconditioner,
            )


def test_rpcholesky_needs_ten_times_fewer_iterations():
    """Gaussian kernel: eigenvalues decay beyond every power."""
    X = gaussian_points(300, 2)
    K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))
    y = gaussian_points(300, 1, seed=1)[:, 0]
    for ridge in (1e-3, 1e-5):
        plain, _ = run(DenseOperator(K), ridge, y, preconditioner=None, max_iter=20_000)
        quick, _ = run(DenseOperator(K), ridge, y)
        assert plain.ok
        assert quick.ok
        assert 10 * quick.stats.iterations <= plain.stats.iterations


@pytest.mark.parametrize("make", [RPCholesky, Nystrom])
@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("ridge", [1e-1, 1e-4, 1e-7])
def test_small_ranks_are_never_worse_than_none(make, power, ridge):
    """Spectra from flat to steep, ranks from useless to good."""
    n = 200
    vectors = np.linalg.qr(gaussian_points(n, n))[0]
    K = (vectors * np.arange(1.0, n + 1) ** -power) @ vectors.T
    K = (K + K.T) / 2
    y = gaussian_points(n, 1, seed=2)[:, 0]
    plain = run(DenseOperator(K), ridge, y, preconditioner=None)[0].stats.iterations
    for rank in (1, 5, 20, 80):
        found = run(DenseOperator(K), ridge, y, preconditioner=make(rank))[0]
        assert found.ok
        assert found.stats.iterations <= plain + 1


@pytest.mark.parametrize("columns", [0, 2])
def test_nothing_to_solve_takes_no_iteration(columns):
    found, state = run(DenseOperator(kernel_matrix(20)), 0.1, np.zeros((20, columns)))
    several = PCG().path(state, np.zeros((20, columns)), [0.1, 1.0])
    for solution in (found, *several):
        assert solution.ok
        assert solution.value.shape == (20, columns)
        assert solution.stats.iterations == 0
        assert solution.stats.residuals == (0.0,)


def test_least_numbers():
    """One iteration, one between checks, and one between files."""
    K, y = 2.0 * np.eye(10), gaussian_points(10, 1)
    solver = PCG(None, max_iter=1, recompute_every=1, checkpoint_every=1)
    found = solver.solve(solver.init(DenseOperator(K), 0.5), y)
    assert found.ok
    np.testing.assert_allclose(found.value, y / 2.5, rtol=1e-14)


def test_only_columns_without_any_ridge_are_judged_strictly():
    """Beside a ridge of zero in one row, a matrix of full rank is solved."""
    K = np.diag(np.linspace(1.0, 2.0, 30))
    ridge = np.linspace(0.0, 1.0, 30)
    y = gaussian_points(30, 1)
    found, _ = run(DenseOperator(K), ridge, y, tol=1e-12)
    assert found.ok
    np.testing.assert_allclose(found.value[:, 0], y[:, 0] / (K.diagonal() + ridge), rtol=1e-10)


def test_ridges_below_rounding_are_named():
    K = kernel_matrix(100)
    size, y = float(np.mean(K.diagonal())), gaussian_points(100, 1)
    for share, warns in ((1e-12, True), (1e-8, False), (1e-3, False)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, _ = run(DenseOperator(K), share * size, y)
        kinds = [w for w in caught if w.category is RoundingWarning]
        assert len(kinds) == warns
        assert all(f"{share * size:.2g}" in str(w.message) for w in kinds)
        assert (found.stats.rounding > 1e-6) == warns


def test_callbacks_see_every_iteration():
    K, Y = kernel_matrix(60), gaussian_points(60, 2)
    seen, built = [], []
    solver = PCG(RPCholesky(rank=10))
    state = solver.init(DenseOperator(K), 1e-3, callback=lambda *step: built.append(step))
    solution = solver.solve(
        state, Y, callback=seen.append, validation=lambda x: float(np.linalg.norm(x))
    )
    assert built[-1] == (10, 10)
    assert [p.iteration for p in seen] == list(range(1, solution.stats.iterations + 1))
    assert [p.residual for p in seen][-1] == solution.stats.residuals[-1]
    assert seen[-1].score == np.linalg.norm(solution.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tol": 0.0},
        {"tol": 1.0},
        {"max_iter": 0},
        {"recompute_every": 0},
        {"checkpoint_every": 0},
        {"max_bytes": -1},
        {"storage": "disk"},
        {"preconditioner": "jacobi"},
    ],
)
def test_bad_settings(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        PCG(**arguments)
