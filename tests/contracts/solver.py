"""What solvers promise, as tests to inherit: all of them, and direct ones besides.

A subclass sets ``solver`` and the ``dtypes`` it is run in; ``eps`` is the precision of what it
returns. Bounds: a backward stable solve has ||A x - b|| <= c eps ||A|| ||x||, with c below the
n of worst-case analysis; ``SLACK * sqrt(n)`` is far above what rounding errors add up to.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernreg.exceptions import InvalidInputError
from kernreg.operators import MatrixOperator
from kernreg.solvers import Problem, Progress, Solver, Status
from kernreg.solvers.registry import SOLVERS
from kernreg.solvers.variance import from_features
from kernreg.solvers.work import DISK, EIGH, READ, entry, flop, part, product, square
from tests.operators.dense import DenseOperator

SLACK = 4.0


def gaussian_points(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def kernel_matrix(n, d=5, seed=0):
    """(1 + <x, x'>/d)^2: positive semidefinite, singular where n > (d + 1)(d + 2)/2."""
    X = gaussian_points(n, d, seed)
    return (1 + X @ X.T / d) ** 2


def backward_error(A, x, b):
    """Normwise, the worst column."""
    x, b = x.reshape(len(A), -1).astype(np.float64), b.reshape(len(A), -1)
    residual = np.linalg.norm(A @ x - b, axis=0)
    scale = np.linalg.norm(A, 2) * np.linalg.norm(x, axis=0) + np.linalg.norm(b, axis=0)
    return np.max(residual / np.where(scale > 0, scale, 1))


class SolverContract:
    solver: object
    dtypes = ("float64",)
    smallest_ridge = 0.0
    largest_exponent = 1000
    kinds = ("float32", "float64")

    def eps(self, dtype):
        """Unit roundoff of the returned solution for an operator of this dtype."""
        return np.finfo(np.float64).eps

    def solve(self, K, ridge, Y, dtype="float64"):
        return self.solver.solve(self.solver.init(DenseOperator(K, dtype), ridge), Y)

    def check(self, K, ridge, Y, dtype="float64"):
        solution = self.solve(K, ridge, Y, dtype)
        A = K + np.diag(np.broadcast_to(ridge, len(K)))
        assert solution.value.shape == Y.shape
        assert solution.status is Status.OK
        bound = SLACK * np.sqrt(len(K)) * self.eps(dtype)
        assert backward_error(A, solution.value, Y) < bound
        return solution

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(n=st.integers(1, 40), t=st.integers(0, 4), seed=st.integers(0, 99), data=st.data())
    def test_solves_any_shape(self, n, t, seed, data):
        dtype = data.draw(st.sampled_from(self.dtypes))
        rng = np.random.default_rng(seed)
        Y = rng.standard_normal((n, t) if t else n)
        self.check(kernel_matrix(n, seed=seed), 0.1, Y, dtype)

    @pytest.mark.parametrize("ridge", [1e3, 1.0, 1e-3, 1e-8, 1e-11])
    def test_solves_however_small_the_ridge(self, ridge):
        if ridge < self.smallest_ridge:
            pytest.skip(f"not promised below {self.smallest_ridge}")
        Y = gaussian_points(300, 2, seed=1)
        self.check(kernel_matrix(300), ridge, Y)

    def test_ridge_per_row(self):
        ridge = np.linspace(0.1, 3.0, 90)
        for dtype in self.dtypes:
            self.check(kernel_matrix(90), ridge, gaussian_points(90, 3, seed=2), dtype)

    def test_many_right_hand_sides_equal_single_ones(self):
        K, Y = kernel_matrix(70), gaussian_points(70, 100, seed=3)
        together = self.check(K, 0.5, Y).value
        single = self.check(K, 0.5, Y[:, 7]).value
        # Both are backward stable, so they differ by cond * eps at most.
        bound = SLACK * np.sqrt(70) * np.linalg.cond(K + 0.5 * np.eye(70)) * self.eps("float64")
        np.testing.assert_allclose(together[:, 7], single, atol=bound * np.abs(single).max())

    def test_zero_targets(self):
        for dtype in self.dtypes:
            assert not self.check(kernel_matrix(20), 0.1, np.zeros((20, 2)), dtype).value.any()

    @pytest.mark.parametrize(
        ("exponent", "size"),
        [(-1030, 0), (-700, 0), (-300, 300), (1000, 0), (600, 300), (520, -300), (0, -300)],
    )
    def test_targets_and_kernels_of_any_size(self, exponent, size):
        """Powers of two change no digit, whatever their squares are."""
        if abs(size) > self.largest_exponent:
            pytest.skip("entries do not fit the type of the factor")
        K, y = kernel_matrix(40), gaussian_points(40, 2, seed=4)
        mixed = np.ldexp(y[:, 1], np.linspace(-300, 0, 40).astype(int))
        Y = np.column_stack([y[:, 0], np.zeros(40), mixed])
        expected = np.linalg.solve(K + 0.5 * np.eye(40), Y)
        given = Y.copy()
        given[:, 0] = np.ldexp(Y[:, 0], exponent)
        solution = self.solve(np.ldexp(K, size), np.ldexp(0.5, size), given)
        assert solution.status is Status.OK
        assert np.isfinite(solution.value).all()
        found = np.ldexp(solution.value, size)
        # In two steps: the exponents of both may be beyond range together.
        half = np.ldexp(solution.value[:, 0], size - exponent // 2)
        found[:, 0] = np.ldexp(half, -exponent // 2)
        condition = np.linalg.cond(K + 0.5 * np.eye(40))
        bound = 2 * SLACK * np.sqrt(40) * condition * self.eps("float64")
        error = np.linalg.norm(K @ (found - expected), axis=0)
        # Of the targets near the lower end of float64, 44 bits are left.
        assert (error <= (bound + 2.0**-36) * np.linalg.norm(Y, axis=0)).all()
        assert not found[:, 1].any()

    @pytest.mark.parametrize(
        ("target", "size", "where"), [(1e300, -80, "beyond"), (1e-300, 80, "below")]
    )
    def test_solutions_out_of_range_are_refused(self, target, size, where):
        K = np.ldexp(kernel_matrix(15), size)
        with pytest.raises(InvalidInputError, match=f"{where} the range of float64"):
            self.solve(K, np.ldexp(0.5, size), target * gaussian_points(15, 2))

    def test_stats(self):
        solution = self.solve(kernel_matrix(30), 0.1, np.ones(30))
        assert solution.stats.seconds > 0
        assert solution.stats.peak_bytes > 30 * 8
        assert solution.stats.jitter == 0
        assert dict(solution.stats)["jitter"] == 0

    def test_input_is_left_alone(self):
        K, Y = kernel_matrix(40), gaussian_points(40, 2)
        before = K.copy(), Y.copy()
        self.solve(K, 0.1, Y)
        np.testing.assert_array_equal(K, before[0])
        np.testing.assert_array_equal(Y, before[1])

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_matrix_that_is_not_finite(self, value):
        K = kernel_matrix(40)
        K[31, 7] = K[7, 31] = value
        with pytest.raises(InvalidInputError, match="NaN or infinity"):
            self.solve(K, 0.1, np.ones(40))

    def test_targets_that_are_not_finite(self):
        with pytest.raises(InvalidInputError, match="NaN or infinity"):
            self.solve(kernel_matrix(3), 0.1, np.array([1.0, np.nan, 0.0]))

    @pytest.mark.parametrize("shape", [(4,), (4, 1), (3, 1, 1), ()])
    def test_targets_of_wrong_shape(self, shape):
        with pytest.raises(InvalidInputError, match="expected targets of shape"):
            self.solve(kernel_matrix(3), 0.1, np.ones(shape))

    @pytest.mark.parametrize("ridge", [-1.0, np.nan, np.inf, np.ones(4), np.ones((3, 1))])
    def test_bad_ridge(self, ridge):
        with pytest.raises(InvalidInputError, match="ridge"):
            self.solve(kernel_matrix(3), ridge, np.ones(3))

    def test_what_it_declares(self):
        solver = self.solver
        assert isinstance(solver, Solver)
        assert SOLVERS[solver.name] is type(solver)
        assert solver == replace(solver)
        assert set(solver.runs_on) <= {"cpu", "cuda"}
        flags = (solver.one_ridge, solver.leave_one_out, solver.approximate, solver.needs_parts)
        assert all(isinstance(flag, bool) for flag in flags)
        assert solver.drawback
        assert not solver.names_rows
        assert (solver.tol is None) == (solver.sampled(100) is None and not solver.at_most)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_memory_and_work_that_it_predicts(self, dtype):
        """Whole bytes and amounts of known units, no fewer for more rows and outputs."""
        solver, least = self.solver, Problem(1000, 5, dtype=dtype, iterations=3)
        more = (replace(least, n=2000), replace(least, n_outputs=7), replace(least, d=50))
        for problem in (least, *more):
            assert isinstance(solver.peak_bytes(problem), int)
            assert solver.peak_bytes(problem) >= solver.peak_bytes(least) > 0
            assert solver.operator_bytes(problem) >= solver.operator_bytes(least) > 0
            work = solver.work(problem)
            assert all(np.isfinite(amount) and amount >= 0 for amount in work.values())
            units = {f(t) for f in (entry, product, part, flop, square) for t in self.kinds}
            assert work.keys() <= units | {READ, DISK, EIGH}
            assert sum(work.values()) >= sum(solver.work(least).values()) > 0
        assert 1 <= solver.panel_rows(least.n) <= least.n
        assert solver.stored(least)
        assert type(solver.bounded(least, 10**9)) is type(solver)
        smaller = solver.leaner()
        if smaller is not None:
            assert smaller[1].peak_bytes(least) < solver.peak_bytes(least)

    def test_several_ridges(self):
        """A path for all, or an error that says what to do."""
        solver, Y = self.solver, gaussian_points(30, 2)
        state = solver.init(DenseOperator(kernel_matrix(30)), 0.5)
        if solver.one_ridge:
            with pytest.raises(InvalidInputError, match="one ridge at a time"):
                solver.path(state, Y, [0.5, 1.0])
            return
        found = solver.path(state, Y, [0.5, 1.0])
        assert len(getattr(found, "dual", found)) == 2
        with pytest.raises(InvalidInputError, match="ridges"):
            solver.path(state, Y, [])

    def test_weights_divide_the_ridge(self):
        solver, K = self.solver, kernel_matrix(40)
        weights = np.linspace(0.5, 2.0, 40)
        state = solver.init_weighted(DenseOperator(K), 0.3, weights)
        found = K @ solver.solve(state, np.ones(40)).value
        expected = K @ np.linalg.solve(K + np.diag(0.3 / weights), np.ones(40))
        tolerance = 1e-9 if solver.tol is None else 10 * solver.tol
        np.testing.assert_allclose(found, expected, atol=tolerance * 40)

    def test_leave_one_out(self):
        """By the diagonal of the inverse, if it gives errors."""
        solver, K = self.solver, kernel_matrix(30)
        if not solver.leave_one_out or solver.approximate:
            pytest.skip("gives no errors, or those of its centres")
        state = solver.init_weighted(DenseOperator(K), 0.4, np.ones(30))
        expected = np.diagonal(np.linalg.inv(K + 0.4 * np.eye(30)))
        np.testing.assert_allclose(state.inverse_diagonal(), expected, rtol=1e-8)

    def explained_bound(self, A, C):
        """Errors of ``c^T A^-1 c`` by columns: ``eps ||A|| ||A^-1 c||^2``, and ``r^T A^-1 r``."""
        found = np.linalg.solve(A, C)
        size, columns = np.linalg.norm(found, axis=0), np.linalg.norm(C, axis=0)
        rounding = np.finfo(np.float64).eps * size * (np.linalg.norm(A, 2) * size + columns)
        residual = (self.solver.tol or 0.0) * columns
        return SLACK * np.sqrt(len(A)) * rounding + residual**2 / np.linalg.eigvalsh(A)[0]

    def variance_explained(self, K, ridge, C, full=False):
        solver = self.solver
        state = solver.init(DenseOperator(K), ridge)
        rows = solver.rows_of(state)
        before = C.copy()
        given = C if rows is None else C[rows]
        found = solver.variance_explained(state, given, full=full)
        np.testing.assert_array_equal(C, before)
        features = solver.features(state)
        assert (features is None) == (not solver.approximate)
        if features is not None:
            again = from_features(features.T @ given, full)
            np.testing.assert_allclose(found, again, rtol=1e-12, atol=1e-12 * np.abs(C).max())
        return found

    @pytest.mark.parametrize("varied", [False, True], ids=["one ridge", "ridge per row"])
    def test_explained_variance(self, varied):
        """Against dense algebra; what is left of a variance is never negative beyond rounding."""
        joint = kernel_matrix(69)
        K, C, own = joint[:60, :60], joint[:60, 60:], joint[60:, 60:]
        ridge = max(0.3, self.smallest_ridge) * (np.linspace(1.0, 3.0, 60) if varied else 1.0)
        A = K + np.diag(np.broadcast_to(ridge, 60))
        expected, bound = C.T @ np.linalg.solve(A, C), self.explained_bound(A, C)
        diagonal, full = (self.variance_explained(K, ridge, C, full) for full in (False, True))
        assert diagonal.shape == (9,)
        assert full.shape == (9, 9)
        assert (np.abs(diagonal - expected.diagonal()) <= bound).all()
        assert (np.abs(full - expected) <= np.sqrt(np.outer(bound, bound))).all()
        assert (own.diagonal() - diagonal >= -bound).all()
        assert np.linalg.eigvalsh(own - full)[0] >= -bound.sum()

    def test_explained_variance_of_its_own_rows(self):
        """Of rows of the system less than the ridge is left, however small it is."""
        K, ridge = kernel_matrix(40), max(1e-6, self.smallest_ridge)
        A, C = K + ridge * np.eye(40), np.column_stack([K[:, :5], K[:, 2:4]])
        left = np.append(K.diagonal()[:5], K.diagonal()[2:4]) - self.variance_explained(K, ridge, C)
        kept = ridge - ridge**2 * np.linalg.inv(A).diagonal()
        bound = self.explained_bound(A, C)
        assert (np.abs(left - np.append(kept[:5], kept[2:4])) <= bound).all()
        assert (left >= -bound).all()
        assert (left <= ridge + bound).all()

    def test_explained_variance_of_many_columns(self):
        """More than rows: each as if it were alone."""
        joint = kernel_matrix(150)
        K, C = joint[:40, :40], joint[:40, 40:]
        ridge = max(0.3, self.smallest_ridge)
        bound = 2 * self.explained_bound(K + ridge * np.eye(40), C)
        together, one = (
            self.variance_explained(K, ridge, C),
            self.variance_explained(K, ridge, C[:, [57]]),
        )
        assert together.shape == (110,)
        assert abs(one[0] - together[57]) <= bound[57]
        none = self.variance_explained(K, ridge, np.zeros((40, 2)), full=True)
        assert not none.any()

    def test_explained_variance_with_weights(self):
        """A solver may keep them beside its ridge."""
        joint, weights = kernel_matrix(56), np.linspace(0.5, 2.0, 50)
        K, C = joint[:50, :50], joint[:50, 50:]
        solver, ridge = self.solver, 2 * max(0.3, self.smallest_ridge)
        state = solver.init_weighted(DenseOperator(K), ridge, weights)
        rows = solver.rows_of(state)
        found = solver.variance_explained(state, C if rows is None else C[rows])
        A = K + np.diag(ridge / weights)
        expected = np.einsum("nm,nm->m", C, np.linalg.solve(A, C))
        assert (np.abs(found - expected) <= self.explained_bound(A, C)).all()

    def test_columns_at_once(self):
        for n in (1, 1000, 10**9):
            count = self.solver.columns_at_once(n)
            assert isinstance(count, int)
            assert count >= 1

    def test_callback(self):
        """Of iterations, if there are any."""
        seen = []
        solver = self.solver
        state = solver.init(DenseOperator(kernel_matrix(50)), 0.1, lambda *step: seen.append(step))
        assert all(0 <= step <= total for step, total in seen)
        seen.clear()
        solver.solve(state, gaussian_points(50, 1), callback=seen.append)
        assert all(isinstance(step, Progress) for step in seen)
        assert bool(seen) == (solver.tol is not None)

    def test_one_row(self):
        for Y in (np.array([3.0]), np.array([[3.0, -1.5]])):
            np.testing.assert_allclose(self.solve(np.array([[2.0]]), 1.0, Y).value, Y / 3.0)

    def test_operator_without_rows(self):
        with pytest.raises(InvalidInputError, match="at least one row"):
            self.solver.init(DenseOperator(np.empty((0, 0))), 0.1)

    def test_operator_on_a_device_that_it_does_not_run_on(self):
        solver, operator = self.solver, DenseOperator(np.eye(3))
        operator.device = torch.device("cuda:0")
        if "cuda" not in solver.runs_on:
            with pytest.raises(InvalidInputError, match="found an operator on cuda:0"):
                solver.init(operator, 0.1)

    def test_operator_without_parts(self):
        if self.solver.needs_parts:
            with pytest.raises(InvalidInputError, match="no parts by row numbers"):
                self.solver.init(MatrixOperator(np.eye(3)), 0.1)

    def test_targets_in_other_places_and_types(self):
        """Views and whole numbers are what their values are."""
        K, Y = kernel_matrix(40), np.round(4 * gaussian_points(40, 3))
        expected = self.solve(K, 0.5, Y).value
        strided = np.stack([Y, Y], axis=-1)[..., 1]
        for same in (np.asfortranarray(Y), strided, Y.astype(np.int32), Y.astype(np.float32)):
            np.testing.assert_array_equal(self.solve(K, 0.5, same).value, expected)

    @pytest.mark.parametrize("kind", [complex, "U3", object])
    def test_targets_that_are_no_numbers(self, kind):
        with pytest.raises(InvalidInputError, match="expected real targets"):
            self.solve(kernel_matrix(3), 0.1, np.ones(3).astype(kind))

    def test_rectangular_operator(self):
        operator = DenseOperator(np.ones((3, 2)))
        operator.symmetric = False
        with pytest.raises(InvalidInputError, match="symmetric operator"):
            self.solver.init(operator, 0.1)


class DirectContract(SolverContract):
    """Of solvers that factor the matrix, and so know its determinant."""

    def test_log_determinant(self):
        K = kernel_matrix(120)
        for dtype in self.dtypes:
            found = self.solve(K, 0.3, np.ones(120), dtype).stats.log_determinant
            expected = np.linalg.slogdet(K + 0.3 * np.eye(120))[1]
            # d log det = tr(A^-1 dA) with ||dA|| <= c sqrt(n) eps ||A||.
            A = K + 0.3 * np.eye(120)
            trace = np.trace(np.linalg.inv(A)) * np.linalg.norm(A, 2)
            assert abs(found - expected) < SLACK * np.sqrt(120) * np.finfo(dtype).eps * trace

    def test_holds_half_the_matrix(self):
        solution = self.solve(kernel_matrix(30), 0.1, np.ones(30))
        assert solution.stats.peak_bytes > 30 * 30 / 2 * 8
