from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.linalg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernreg import KernelOperator, nn
from kernreg.exceptions import InvalidInputError
from kernreg.operators import PackedOperator, ParquetRows, StreamedOperator
from kernreg.operators.budget import PANEL_BYTES
from kernreg.solvers import Cholesky, Problem, Restricted, SketchAndProject, Status
from tests.contracts.solver import SolverContract, backward_error, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator, PointOperator

EPS = np.finfo(np.float64).eps
NET = nn.mlp(depth=2, b_std=0.1)


def solved(operator, ridge, Y, **options):
    solver = Restricted(**options)
    state = solver.init(operator, ridge)
    return solver.solve(state, Y), state


def formula(K, centres, ridge, Y):
    """Least squares over the square roots of both terms, by QR: no squared condition number."""
    n = len(K)
    ridge = np.broadcast_to(ridge, n)
    values, vectors = scipy.linalg.eigh(K[np.ix_(centres, centres)])
    kept = values > 1e-12 * values[-1]
    root = vectors[:, kept] * np.sqrt(values[kept])
    features = K[:, centres] @ (vectors[:, kept] / np.sqrt(values[kept]))
    stacked = np.vstack([features / np.sqrt(ridge)[:, None], np.eye(kept.sum())])
    right = np.vstack([Y / np.sqrt(ridge)[:, None], np.zeros((kept.sum(), Y.shape[1]))])
    a = np.linalg.lstsq(stacked, right, rcond=None)[0]
    return np.linalg.lstsq(root.T, a, rcond=1e-12)[0], features @ a


class TestAllRowsAsCentres(SolverContract):
    """Any vector of coefficients with the right predictions will do: K may be singular."""

    solver = Restricted(centres=10**6, chunk=64)
    dtypes = ("float64", "float32")

    def check(self, K, ridge, Y, dtype="float64"):
        solution = self.solve(K, ridge, Y, dtype)
        A = K + np.diag(np.broadcast_to(ridge, len(K)))
        assert solution.status is Status.OK
        assert solution.value.shape == Y.shape
        expected = K @ np.linalg.solve(A, Y)
        # Normal equations: eps times the condition number of A, on the scale of the targets.
        bound = 4 * np.sqrt(len(K)) * np.linalg.cond(A) * EPS + 1e-12
        scale = max(float(np.abs(Y).max(initial=0.0)), 1e-300)
        assert np.abs(K @ solution.value - expected).max(initial=0.0) <= bound * scale
        return solution

    def explained_bound(self, A, C):
        """By the normal equations: eps times the condition number, of what is explained."""
        found = np.einsum("nm,nm->m", C, np.linalg.solve(A, C))
        return (4 * np.sqrt(len(A)) * np.linalg.cond(A) * EPS + 1e-12) * found

    def test_many_right_hand_sides_equal_single_ones(self):
        K, Y = kernel_matrix(70), gaussian_points(70, 100, seed=3)
        together = self.check(K, 0.5, Y).value
        single = self.check(K, 0.5, Y[:, 7]).value
        bound = np.linalg.cond(K + 0.5 * np.eye(70)) * 70 * EPS
        assert np.abs(K @ (together[:, 7] - single)).max() < bound


@pytest.fixture(scope="module")
def points():
    return gaussian_points(400, 4, seed=5)


@pytest.fixture(scope="module")
def targets(points):
    return np.column_stack([np.sin(points[:, 0]), points[:, 1] * points[:, 2], points[:, 3]])


class TestNetwork:
    def test_all_rows_predict_as_cholesky(self, points, targets):
        K = KernelOperator(NET, points)
        found, state = solved(K, 1e-2, targets, centres=400)
        expected = Cholesky().solve(Cholesky().init(K, 1e-2), targets).value
        new = KernelOperator(NET, gaussian_points(50, 4, seed=6), points)
        at_centres = KernelOperator(NET, gaussian_points(50, 4, seed=6), points[state.centres])
        np.testing.assert_allclose(at_centres @ found.value, new @ expected, atol=1e-6)

    @pytest.mark.parametrize("method", ["rpcholesky", "uniform"])
    @pytest.mark.parametrize("ridge", [1e-2, np.geomspace(1e-2, 1.0, 400)])
    def test_dense_formula(self, points, targets, method, ridge):
        K = KernelOperator(NET, points)
        found, state = solved(K, ridge, targets, centres=60, method=method)
        assert len(np.unique(state.centres)) == 60
        dense = K.to_dense()
        predictions = formula(dense, state.centres, ridge, targets)[1]
        # The normal equations square the condition of the features: sqrt(400 / 1e-2) there.
        np.testing.assert_allclose(dense[:, state.centres] @ found.value, predictions, atol=1e-9)

    def test_float32_operators_are_solved_in_float64(self, points, targets):
        narrow = KernelOperator(NET, points.astype(np.float32))
        wide = KernelOperator(NET, points.astype(np.float32).astype(np.float64))
        low, state = solved(narrow, 1e-3, targets, centres=60)
        high, _ = solved(wide, 1e-3, targets, centres=state.centres)
        block = wide.part(slice(None), state.centres)
        np.testing.assert_allclose(block @ low.value, block @ high.value, atol=1e-10)

    @pytest.mark.parametrize("share", [1e-3, 1e-5, 1e-7])
    def test_small_ridges_of_a_smooth_kernel(self, share):
        """Eigenvalues down to rounding: all rows as centres predict as float64 Cholesky does."""
        X = gaussian_points(300, 3, seed=8)
        K = KernelOperator(nn.mlp(depth=1, activation=nn.Erf()), X, kernel="nngp")
        ridge = share * float(np.mean(K.diagonal()))
        y = np.sin(X[:, 0])
        found, state = solved(K.astype("float32"), ridge, y, centres=300)
        expected = Cholesky().solve(Cholesky().init(K, ridge), y).value
        dense = K.to_dense()
        # Rounding of the fit, n eps over the share, and that of a sum of large terms.
        terms = dense[:, state.centres] * found.value
        bound = 300 * EPS * (1 / share + np.abs(terms).sum(axis=1).max())
        assert bound <= 1e-9 / share
        assert np.abs(terms.sum(axis=1) - dense @ expected).max() <= bound

    def test_rpcholesky_covers_more_than_uniform(self):
        """A hundred rows far from a crowd: some of them must be centres."""
        rng = np.random.default_rng(0)
        X = np.vstack(
            [
                np.full((1900, 3), 1.0) + 1e-3 * rng.standard_normal((1900, 3)),
                rng.standard_normal((100, 3)),
            ]
        )
        K = KernelOperator(NET, X)
        y = np.sin(3 * X[:, 0])
        errors = {}
        for method in ("rpcholesky", "uniform"):
            found, state = solved(K, 1e-3, y, centres=60, method=method)
            errors[method] = np.abs(
                K.part(slice(1900, 2000), state.centres) @ found.value - y[1900:]
            )
        assert errors["rpcholesky"].mean() < 0.5 * errors["uniform"].mean()


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(chunk=st.integers(1, 130), seed=st.integers(0, 20))
def test_chunks_do_not_matter(chunk, seed):
    K, Y = kernel_matrix(120, seed=seed), gaussian_points(120, 2, seed=seed)
    whole, state = solved(DenseOperator(K), 0.1, Y, centres=20, seed=seed)
    cut, other = solved(DenseOperator(K), 0.1, Y, centres=20, seed=seed, chunk=chunk)
    np.testing.assert_array_equal(state.centres, other.centres)
    bound = 1e-10 * np.abs(Y).max()
    assert np.abs(K[:, state.centres] @ (whole.value - cut.value)).max() < bound


def test_duplicates_among_centres_change_nothing():
    K, Y = kernel_matrix(90), gaussian_points(90, 2)
    once = np.arange(10)
    found, _ = solved(DenseOperator(K), 0.1, Y, centres=once)
    twice, state = solved(DenseOperator(K), 0.1, Y, centres=np.append(once, once))
    assert state.basis.shape[1] == 10
    assert len(twice.value) == 20
    expected = K[:, once] @ found.value
    np.testing.assert_allclose(K[:, state.centres] @ twice.value, expected, atol=1e-10)


@pytest.mark.parametrize("apart", [0.0, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4])
@pytest.mark.parametrize("activation", [nn.Erf(), nn.Relu()])
def test_near_duplicates_predict_as_ridge_regression(apart, activation):
    """Their difference, hidden by rounding from any feature, is worth 1e-5 of new rows."""
    rng = np.random.default_rng(4)
    X, new = rng.standard_normal((48, 3)), rng.standard_normal((9, 3))
    X[24:] = X[:24] + apart * rng.standard_normal((24, 3))
    weights, Y = np.linspace(0.5, 2.0, 48), rng.standard_normal((48, 2))
    net = nn.mlp(depth=1, activation=activation, b_std=0.1)
    K = KernelOperator(net, X)
    dense, cross = K.to_dense(), KernelOperator(net, new, X).to_dense()
    ridge = 1e-3 * float(np.mean(K.diagonal())) / weights
    ridges = float(np.mean(ridge)) * np.array([1.0, 30.0])
    order = rng.permutation(48)
    for solver in (Restricted(centres=48, chunk=20), Restricted(centres=order)):
        state = solver.init(K, ridge)
        values = [solver.solve(state, Y).value, *solver.path(state, Y, ridges).dual]
        for factor, value in zip((1.0, 1.0, 30.0), values, strict=True):
            expected = cross @ np.linalg.solve(dense + np.diag(factor * ridge), Y)
            error = np.abs(cross[:, state.centres] @ value - expected).max()
            # eps n / share of the ridge, on the scale of the targets.
            assert error <= 1e-10 * np.abs(Y).max()


def test_few_centres_are_not_taken_for_all_rows():
    """Not even as many as there are rows, one of them twice: their solution is restricted."""
    K, Y = kernel_matrix(15), gaussian_points(15, 2)
    twice = np.r_[np.arange(14), 3]
    found, state = solved(DenseOperator(K), 0.1, Y, centres=twice)
    expected = formula(K, np.arange(14), 0.1, Y)[1]
    np.testing.assert_allclose(K[:, state.centres] @ found.value, expected, atol=1e-8)


def test_all_rows_have_a_residual():
    K, Y = kernel_matrix(30), gaussian_points(30, 2)
    A = K + 0.1 * np.eye(30)
    found, state = solved(DenseOperator(K), 0.1, Y, centres=30)
    left = np.linalg.norm(Y - A @ found.value[np.argsort(state.centres)], axis=0)
    assert found.ok
    assert len(found.stats.residuals) > 0
    assert (left <= 1e-12 * np.linalg.norm(Y, axis=0)).all()
    assert found.stats.residuals[-1] <= 1e-11


def test_centres_that_rounding_leaves():
    """Two centres keep what is above 10 sqrt(2) eps of the largest diagonal entry."""
    for small, rank in ((5e-15, 2), (2e-15, 1)):
        state = Restricted([0, 1]).init(DenseOperator(np.diag([1.0, small, 1.0])), 0.1)
        assert state.basis.shape == (2, rank)


def test_progress_is_told():
    seen = []
    solver = Restricted(5, method="uniform", chunk=7)
    solver.init(DenseOperator(kernel_matrix(20)), 0.1, lambda *step: seen.append(step))
    assert seen == [(7, 20), (14, 20), (20, 20)]


def test_singular_corner():
    """Rank 21 of 60 centres: predictions are those of all rows, which span no more."""
    K, Y = kernel_matrix(150), gaussian_points(150, 2)
    found, state = solved(DenseOperator(K), 0.5, Y, centres=60)
    assert state.basis.shape[1] == 21
    expected = K @ np.linalg.solve(K + 0.5 * np.eye(150), Y)
    np.testing.assert_allclose(K[:, state.centres] @ found.value, expected, atol=1e-9)


def test_ridge_zero_interpolates_what_the_centres_span():
    K = kernel_matrix(150)
    Y = K[:, :3] @ np.ones((3, 2))
    found, state = solved(DenseOperator(K), 0.0, Y, centres=60)
    np.testing.assert_allclose(K[:, state.centres] @ found.value, Y, rtol=1e-8)


class TestPath:
    ridges = np.geomspace(1e-2, 10, 4)

    def test_equals_single_solves(self):
        K, Y = kernel_matrix(100), gaussian_points(100, 2)
        solver = Restricted(centres=15)
        state = solver.init(DenseOperator(K), 0.3)
        path = solver.path(state, Y, self.ridges)
        for ridge, dual in zip(self.ridges, path.dual, strict=True):
            alone, _ = solved(DenseOperator(K), ridge, Y, centres=state.centres)
            a, b = (K[:, state.centres] @ v for v in (dual, alone.value))
            np.testing.assert_allclose(a, b, atol=1e-9)
        assert path.loo is None
        assert solver.path(state, Y[:, 0], self.ridges).dual.shape == (4, 15)

    def test_leave_one_out_equals_refits(self):
        K, Y = kernel_matrix(40), gaussian_points(40, 2)
        weights = np.linspace(0.5, 2.0, 40)
        solver = Restricted(centres=np.arange(8), chunk=7)
        state = solver.init(DenseOperator(K), 1.0 / weights)
        path = solver.path(state, Y, state.level * self.ridges, leave_one_out=True)
        for ridge, found, gcv in zip(self.ridges, path.loo, path.gcv, strict=True):
            squares = []
            for i in range(40):
                kept = np.delete(np.arange(40), i)
                P = K[:, :8]
                H = P[kept].T @ (weights[kept, None] * P[kept]) + ridge * K[:8, :8]
                c = np.linalg.lstsq(H, P[kept].T @ (weights[kept, None] * Y[kept]), rcond=1e-12)[0]
                squares.append(weights[i] * np.sum((Y[i] - P[i] @ c) ** 2))
            expected = np.sum(squares) / weights.sum()
            np.testing.assert_allclose(found, expected, rtol=1e-7)
            # GCV replaces leverages by their mean: the same size, not the same number.
            assert 0.5 * expected < gcv < 2 * expected

    def test_best_is_the_smallest_error(self):
        K, y = kernel_matrix(200), gaussian_points(200, 1)[:, 0]
        path = Restricted(centres=30).path(
            Restricted(centres=30).init(DenseOperator(K), 1.0), y, [1e-6, 1e4]
        )
        # Noise alone: the larger ridge, which fits less of it.
        assert path.best == 1
        assert path.effective_dof[1] < path.effective_dof[0]


class TestStreams:
    def test_memory_map_and_parquet_equal_memory(self, tmp_path, points, targets):
        X = points.astype(np.float32)
        np.save(tmp_path / "X.npy", X)
        names = list("abcd")
        pd.DataFrame(X, columns=names).assign(y=0.0).to_parquet(
            tmp_path / "X.parquet", row_group_size=70
        )
        expected, state = solved(KernelOperator(NET, X), 0.1, targets, centres=50)
        for source in (
            np.load(tmp_path / "X.npy", mmap_mode="r"),
            ParquetRows(tmp_path / "X.parquet", names),
        ):
            found, other = solved(StreamedOperator(NET, source), 0.1, targets, centres=50)
            np.testing.assert_array_equal(other.centres, state.centres)
            np.testing.assert_array_equal(found.value, expected.value)

    def test_bytes_are_counted(self):
        """The largest of what is held at once while centres are drawn, rows added, and solved."""
        # 100 of 2,500 rows are drawn: the factor and four blocks of 100; 32 bytes for each row.
        assert Restricted(100, chunk=50).peak_bytes(Problem(10_000)) == 320_000 + 8 * 2500 * 500
        uniform = Restricted(300, method="uniform", chunk=50)
        # Five matrices of the size of the centres, as eigh has.
        assert uniform.peak_bytes(Problem(10_000)) == 320_000 + 40 * 300**2
        # A solution of 1,000 outputs for 4 ridges, beside the normal equations and 50 rows.
        vectors = (3 * 300 * 4 + 2 * 10_000) * 1000
        many = uniform.peak_bytes(Problem(10_000, n_outputs=1000, n_ridges=4))
        assert many == 320_000 + 8 * (300 * 350 + vectors)
        # Residuals, of which a listener makes two more, and targets.
        left = 50 * 4 * 3001 + 2 * 10_000 * 1000
        assert (
            uniform.peak_bytes(Problem(10_000, n_outputs=1000, n_ridges=4, leave_one_out=True))
            == many + 8 * left
        )
        # Chunks of many rows: two of them beside the normal equations.
        wide = Restricted(300, method="uniform", chunk=5000)
        assert wide.peak_bytes(Problem(10_000)) == 320_000 + 16 * 300 * 5300
        # Few outputs and many ridges: features and shares of the hat matrix.
        many = Problem(10_000, n_ridges=400)
        scored = replace(many, leave_one_out=True)
        assert wide.peak_bytes(scored) - wide.peak_bytes(many) == 8 * (
            5000 * 400 * 4 + 20_000
        ) + 8 * (300 * 5300 + 3 * 300 * 400 + 20_000) - (16 * 300 * 5300)

    def test_bytes_of_rows(self):
        """Rows in their own type; in float64 the pool three times, and few rows altogether."""
        solver = Restricted(100, chunk=50)
        many, few = (Problem(n, 20, dtype="float32") for n in (10_000, 1000))
        assert solver.operator_bytes(many) - PANEL_BYTES == 20 * (40_000 + 8 * 3 * 2500)
        assert solver.operator_bytes(few) - PANEL_BYTES == 20 * (4000 + 8 * (3 * 1000 + 1000))
        # Of 20,000 centres the factor of the pool has a gigabyte at most, or twice the centres.
        assert Restricted(20_000).sizes(10**7) == (20_000, 40_000)
        assert Restricted(5000).sizes(10**7) == (5000, 2**30 // 40_000)

    def test_memory_does_not_grow_with_rows(self):
        used = []
        for n in (4000, 16_000):
            operator = PointOperator(gaussian_points(n, 3))
            tracemalloc.start()
            solver = Restricted(centres=100, method="uniform", chunk=500)
            state = solver.init(operator, np.ones(n))
            solver.solve(state, np.ones(n))
            used.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert used[-1] <= solver.peak_bytes(Problem(n))
        # A few vectors of n numbers.
        assert used[1] - used[0] < 12_000 * 8 * 12

    @pytest.mark.parametrize(("ridges", "outputs"), [(1, 1), (40, 1), (1, 40), (20, 10)])
    def test_memory_of_leave_one_out(self, ridges, outputs):
        n = 6000
        solver = Restricted(centres=60, method="uniform", chunk=3000)
        operator = PointOperator(gaussian_points(n, 3))
        Y = np.random.default_rng(0).standard_normal((n, outputs))
        tracemalloc.start()
        state = solver.init(operator, np.ones(n))
        solver.path(state, Y, np.geomspace(1e-3, 1.0, ridges), leave_one_out=True)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        predicted = solver.peak_bytes(
            Problem(n, n_outputs=outputs, n_ridges=ridges, leave_one_out=True)
        )
        # An estimator that listens makes two more of the residuals and up to three of the targets.
        assert used <= predicted < 4 * used


class TestBadInput:
    @pytest.mark.parametrize("centres", [0, -1, 1.5, [], np.ones((2, 2), dtype=int), "many"])
    def test_centres(self, centres):
        with pytest.raises(InvalidInputError, match="centres"):
            Restricted(centres=centres)

    @pytest.mark.parametrize("centres", [[-1], [40]])
    def test_centres_out_of_bounds(self, centres):
        with pytest.raises(InvalidInputError, match="between 0 and 39"):
            Restricted(centres=centres).init(DenseOperator(kernel_matrix(40)), 1.0)

    def test_method_and_chunk(self):
        with pytest.raises(InvalidInputError, match="method"):
            Restricted(method="leverage")
        with pytest.raises(InvalidInputError, match="chunk"):
            Restricted(chunk=0)

    def test_some_ridges_zero(self):
        with pytest.raises(InvalidInputError, match="every row"):
            Restricted().init(DenseOperator(kernel_matrix(3)), np.array([0.0, 1.0, 1.0]))

    def test_zero_kernel(self):
        with pytest.raises(InvalidInputError, match="zero"):
            Restricted().init(DenseOperator(np.zeros((3, 3))), 1.0)

    def test_bad_ridges_of_a_path(self):
        solver = Restricted()
        state = solver.init(DenseOperator(kernel_matrix(10)), 1.0)
        with pytest.raises(InvalidInputError, match="ridges"):
            solver.path(state, np.ones(10), [-1.0])


def test_backward_error_of_the_dense_case_is_small_too():
    """With all rows as centres and a matrix of full rank the coefficients are unique."""
    X = gaussian_points(60, 3)
    K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(-1)) + 0.1 * np.eye(60)
    Y = gaussian_points(60, 2, seed=1)
    found = solved(DenseOperator(K), 0.5, Y, centres=np.arange(60))[0]
    cond = np.linalg.cond(K)
    assert backward_error(K + 0.5 * np.eye(60), found.value, Y) < 60 * cond * EPS


@pytest.mark.parametrize("solver", [Restricted(centres=3), SketchAndProject()])
def test_operators_without_parts_are_refused(solver):
    K = PackedOperator(DenseOperator(np.eye(5)))
    with pytest.raises(InvalidInputError, match="PackedOperator has no parts"):
        solver.init(K, 0.1)


def test_settings_are_equal_by_content():
    rows = np.array([3, 1, 2])
    assert Restricted(centres=rows) == Restricted(centres=[3, 1, 2])
    assert len({Restricted(centres=rows), Restricted(centres=rows.copy())}) == 1
