from __future__ import annotations

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import scipy.linalg
import torch

from kernreg.exceptions import (
    ConvergenceWarning,
    InvalidInputError,
    JitterWarning,
    MemoryBudgetError,
    NotPositiveDefiniteError,
)
from kernreg.operators.panels import Breakdown, Staircase
from kernreg.solvers import Cholesky, Status
from tests.contracts.solver import (
    SLACK,
    DirectContract,
    backward_error,
    gaussian_points,
    kernel_matrix,
)
from tests.operators.dense import DenseOperator

EPS32 = np.finfo(np.float32).eps
EPS64 = np.finfo(np.float64).eps


class TestOneBlock(DirectContract):
    solver = Cholesky()
    dtypes = ("float32", "float64")


class TestManyBlocks(DirectContract):
    solver = Cholesky(block=7)
    dtypes = ("float32", "float64")


class TestRowByRow(DirectContract):
    solver = Cholesky(block=1)


class TestUnrefined(DirectContract):
    solver = Cholesky(block=16, refine=False)
    dtypes = ("float32", "float64")

    def eps(self, dtype):
        return np.finfo(dtype).eps


class TestAlwaysRefined(DirectContract):
    solver = Cholesky(block=16, refine=True)


def staircase(A, block, dtype="float64"):
    factor = Staircase(len(A), block, np.dtype(dtype))
    for i0, i1 in factor.bounds:
        factor.append(torch.from_numpy(np.array(A[i0:i1, :i1], dtype=dtype, order="C")))
    return factor


@pytest.mark.parametrize("block", [1, 3, 64, 130, 300, 400])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_factor_is_the_one_of_lapack(block, dtype):
    A = kernel_matrix(300) + 0.1 * np.eye(300)
    factor = staircase(A, block, dtype)
    expected = scipy.linalg.cholesky(A, lower=True)
    bound = SLACK * np.sqrt(300) * np.finfo(dtype).eps * np.linalg.cond(A)
    for (i0, i1), panel in zip(factor.bounds, factor.panels, strict=True):
        error = np.linalg.norm(panel.numpy() - expected[i0:i1, :i1])
        assert error < bound * np.linalg.norm(expected, 2)


def test_factor_ignores_what_is_above_the_diagonal():
    A = kernel_matrix(50) + np.eye(50)
    noisy = np.tril(A) + np.triu(np.full_like(A, 1e6), 1)
    for block in (8, 50):
        for left, right in zip(
            staircase(A, block).panels, staircase(noisy, block).panels, strict=True
        ):
            np.testing.assert_array_equal(left, right)


def test_staircase_holds_half_the_matrix_and_nothing_is_copied():
    n, block = 100, 10
    A = kernel_matrix(n) + np.eye(n)
    factor = Staircase(n, block, np.dtype("float64"))
    given = [torch.from_numpy(A[i0:i1, :i1].copy()) for i0, i1 in factor.bounds]
    for panel in given:
        factor.append(panel)
    assert all(kept is panel for kept, panel in zip(factor.panels, given, strict=True))
    assert factor.nbytes == 8 * (n * n // 2 + n * block // 2) == 8 * Staircase.numbers(n, block)


def test_breakdown_names_its_row():
    A = np.eye(30)
    A[21, 21] = -1.0
    with pytest.raises(Breakdown) as caught:
        staircase(A, 8)
    assert caught.value.row == 21


@pytest.mark.parametrize("block", [9, 64, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inverse_diagonal_and_leave_one_out(block, dtype):
    n, ridge = 60, 0.2
    K, Y = kernel_matrix(n), gaussian_points(n, 2, seed=4)
    solver = Cholesky(block=block)
    state = solver.init(DenseOperator(K, dtype), ridge)
    A = K + ridge * np.eye(n)
    bound = SLACK * np.sqrt(n) * np.finfo(dtype).eps * np.linalg.cond(A)
    np.testing.assert_allclose(state.inverse_diagonal(), np.diagonal(np.linalg.inv(A)), rtol=bound)
    found = state.leave_one_out(solver.solve(state, Y).value)
    expected = refits(A, Y)
    np.testing.assert_allclose(found, expected, atol=bound * np.abs(expected).max())
    single = state.leave_one_out(solver.solve(state, Y[:, 0]).value)
    np.testing.assert_allclose(single, expected[:, 0], atol=bound * np.abs(expected).max())


def refits(A, Y):
    """Residual at each row of the fit without that row, by n solves."""
    result = np.empty_like(Y)
    for i in range(len(A)):
        rest = np.arange(len(A)) != i
        dual = scipy.linalg.solve(A[np.ix_(rest, rest)], Y[rest], assume_a="pos")
        result[i] = Y[i] - A[i, rest] @ dual
    return result


def test_half_solve_gives_the_posterior_variance():
    A = kernel_matrix(40) + np.eye(40)
    state = Cholesky(block=12).init(DenseOperator(A), 0.0)
    V = gaussian_points(40, 6, seed=5)
    half = state.half_solve(V)
    bound = SLACK * np.sqrt(40) * EPS64 * np.linalg.cond(A)
    expected = V.T @ np.linalg.solve(A, V)
    np.testing.assert_allclose(half.T @ half, expected, atol=bound * np.abs(expected).max())


@pytest.mark.parametrize("ridge", [1.0, 1e-2, 1e-4])
def test_float32_reaches_the_residual_of_float64(ridge):
    n = 400
    K, Y = kernel_matrix(n, d=40), gaussian_points(n, 3, seed=6)
    A = K + ridge * np.eye(n)
    state = Cholesky(block=64).init(DenseOperator(K, "float32"), ridge)
    solution = Cholesky(block=64).solve(state, Y)
    plain = Cholesky(block=64).solve(Cholesky(block=64).init(DenseOperator(K), ridge), Y)
    assert solution.status is Status.OK
    assert solution.value.dtype == np.float64
    # 16 eps is the target of the refinement; the sums of the check itself add sqrt(n) eps.
    bound = (16 + np.sqrt(n)) * EPS64
    assert backward_error(A, plain.value, Y) < bound
    assert backward_error(A, solution.value, Y) < bound
    assert solution.stats.residuals[0] > 100 * solution.stats.residuals[-1]
    assert 0 < solution.stats.iterations <= 10


def test_reported_residual_is_not_below_the_true_one():
    n = 300
    K, Y = kernel_matrix(n), gaussian_points(n, 2, seed=7)
    solver = Cholesky(block=64)
    solution = solver.solve(solver.init(DenseOperator(K, "float32"), 1e-3), Y)
    exact = (K.astype(np.longdouble) + np.longdouble(1e-3) * np.eye(n)) @ solution.value - Y
    true = np.max(np.linalg.norm(exact.astype(float), axis=0) / np.linalg.norm(Y, axis=0))
    assert solution.stats.residuals[-1] > true / np.sqrt(n)


def test_refinement_uses_half_a_gram_per_product():
    operator = DenseOperator(kernel_matrix(200), "float32")
    served = []

    class Counting(DenseOperator):
        def tile(self, rows, cols, out=None):
            served.append(out.size)
            return super().tile(rows, cols, out)

    operator.astype = lambda dtype: Counting(operator.matrix, dtype)
    solver = Cholesky()
    solution = solver.solve(solver.init(operator, 1.0), np.ones(200))
    rows_of_64 = 64 * 64 + 64 * 128 + 64 * 192 + 8 * 200
    assert sum(served) == solution.stats.iterations * rows_of_64


def test_refinement_that_is_cut_short_says_so():
    K, Y = kernel_matrix(100), gaussian_points(100, 1)
    solver = Cholesky(refine=2)
    state = solver.init(DenseOperator(K, "float32"), 1e-3)
    with pytest.warns(ConvergenceWarning, match="relative residual"):
        solution = solver.solve(state, Y)
    assert solution.status is Status.NOT_CONVERGED
    assert solution.stats.iterations <= 2
    assert np.isfinite(solution.value).all()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_float32_far_from_one(scale):
    """Squares of such entries leave the range of float32; the entries of L do not."""
    K, Y = kernel_matrix(80), gaussian_points(80, 2)
    solution = Cholesky(block=16)
    state = solution.init(DenseOperator(K * scale, "float32"), 0.1 * scale)
    found = solution.solve(state, Y)
    assert found.status is Status.OK
    A = (K + 0.1 * np.eye(80)) * scale
    assert backward_error(A, found.value, Y) < (16 + np.sqrt(80)) * EPS64
    expected = np.diagonal(np.linalg.inv(A / scale)) / scale
    bound = SLACK * np.sqrt(80) * EPS32 * np.linalg.cond(A / scale)
    np.testing.assert_allclose(state.inverse_diagonal(), expected, rtol=bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_duplicates_without_ridge(dtype):
    X = gaussian_points(60, 3)
    X[30:] = X[:30]
    K, Y = np.exp(X @ X.T / 3), gaussian_points(60, 2, seed=8)
    solver = Cholesky(block=13)
    with pytest.warns(JitterWarning, match="added a jitter of") as caught:
        state = solver.init(DenseOperator(K, dtype), 0.0)
    said = str(caught[0].message)
    assert f"not positive definite in {dtype}" in said
    assert ("use dtype float64" in said) == (dtype == "float32")
    assert "raise alpha" in said
    assert 0 < state.jitter <= np.sqrt(np.finfo(dtype).eps) * np.mean(np.diagonal(K))
    solution = solver.solve(state, Y)
    assert solution.status is Status.JITTERED
    assert solution.stats.jitter == state.jitter
    A = K + state.jitter * np.eye(60)
    assert backward_error(A, solution.value, Y) < SLACK * np.sqrt(60) * EPS64


def test_jitter_of_float32_is_refined_away():
    """Positive definite in float64, not in float32: the answer is that of float64."""
    n, ridge = 300, 1e-6
    K, Y = kernel_matrix(n, d=10), gaussian_points(n, 1, seed=9)
    solver = Cholesky(block=32)
    with pytest.warns(JitterWarning):
        state = solver.init(DenseOperator(K, "float32"), ridge)
    solution = solver.solve(state, Y)
    assert solution.status is Status.OK
    bound = (16 + np.sqrt(n)) * EPS64
    assert backward_error(K + ridge * np.eye(n), solution.value, Y) < bound


def test_indefinite_matrix_names_the_remedy():
    K = np.diag(np.r_[np.ones(20), -1.0])
    with pytest.raises(NotPositiveDefiniteError, match="row 20") as caught:
        Cholesky(block=8).init(DenseOperator(K, "float32"), 0.0)
    for remedy in ("raise alpha so that the ridge is at least", "float64", "duplicate rows"):
        assert remedy in str(caught.value)


def test_zero_matrix_is_an_error_and_a_zero_row_is_not():
    with pytest.raises(NotPositiveDefiniteError, match="mean diagonal"):
        Cholesky().init(DenseOperator(np.zeros((3, 3))), 0.0)
    K = np.eye(3)
    K[1, 1] = 0.0
    with pytest.warns(JitterWarning):
        assert np.isfinite(Cholesky().init(DenseOperator(K), 0.0).log_determinant())


def test_max_jitter_zero_turns_the_ladder_off():
    operator = DenseOperator(np.ones((4, 4)))
    with pytest.raises(NotPositiveDefiniteError):
        Cholesky(max_jitter=0).init(operator, 0.0)
    assert operator.panels == 1


def test_no_warning_when_all_is_well():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = Cholesky().init(DenseOperator(kernel_matrix(20), "float32"), 0.1)
    assert state.jitter == 0.0


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("append", "factor for n=40 in float64 does not fit the free memory"),
        ("forward", "right-hand sides do not fit .* beside the factor"),
        ("backward", "right-hand sides do not fit .* beside the factor"),
    ],
)
def test_a_gpu_that_runs_out_of_memory(method, message, monkeypatch):
    """The allocator's error becomes one that names the remedy."""

    def full(*args, **kwargs):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    def run():
        solver = Cholesky(block=16)
        solver.solve(solver.init(DenseOperator(kernel_matrix(40)), 0.1), np.ones(40))

    monkeypatch.setattr(Staircase, method, full)
    with pytest.raises(MemoryBudgetError, match=message):
        run()


def test_callback_sees_every_panel():
    seen = []
    Cholesky(block=8).init(
        DenseOperator(kernel_matrix(30)), 0.1, callback=lambda *step: seen.append(step)
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_reduced_precision_of_torch_does_not_leak_in():
    K, Y = kernel_matrix(300), gaussian_points(300, 1)
    solver = Cholesky(block=128, refine=False)
    expected = solver.solve(solver.init(DenseOperator(K, "float32"), 1.0), Y).value
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        found = solver.solve(solver.init(DenseOperator(K, "float32"), 1.0), Y).value
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "arguments", [{"block": 0}, {"max_jitter": -1.0}, {"refine": "often"}, {"refine": -1}]
)
def test_bad_settings(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        Cholesky(**arguments)


def test_a_stored_factor_holds_each_number_once():
    K, Y = kernel_matrix(100), gaussian_points(100, 2)
    state = Cholesky(block=10).init(DenseOperator(K), 0.1)
    stored = pickle.dumps(state.factor)
    assert len(stored) <= 1.2 * state.factor.nbytes
    loaded = replace(state, factor=pickle.loads(stored))
    expected = Cholesky().solve(state, Y).value
    np.testing.assert_array_equal(Cholesky().solve(loaded, Y).value, expected)


def test_a_factor_that_does_not_fit_says_where_and_what_to_do(monkeypatch):
    def full(*args):
        raise MemoryError

    monkeypatch.setattr("kernreg.solvers.cholesky.in_memory.as_output", full)
    with pytest.raises(MemoryBudgetError, match=r"free memory of cpu: .*OutOfCoreCholesky or PCG"):
        Cholesky().init(DenseOperator(kernel_matrix(20)), 0.1)
