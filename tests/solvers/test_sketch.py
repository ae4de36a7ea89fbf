from __future__ import annotations

import multiprocessing
import os
import signal

import numpy as np
import pytest

from kernreg import KernelOperator, nn
from kernreg.exceptions import CheckpointError, ConvergenceWarning, InvalidInputError
from kernreg.operators import StreamedOperator
from kernreg.solvers import Cholesky, SketchAndProject, Status
from tests.contracts.solver import SolverContract, gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

NET = nn.mlp(depth=2, b_std=0.1)
N = 700


class IterativeContract(SolverContract):
    dtypes = ("float32", "float64")
    # Alone of all rows a block cannot undo eigenvectors that the ridge hardly separates from zero.
    smallest_ridge = 1e-3

    def eps(self, dtype):
        """``||r|| <= tol ||b||``."""
        return self.solver.tol


class TestOneBlock(IterativeContract):
    solver = SketchAndProject()


class TestManyBlocks(IterativeContract):
    solver = SketchAndProject(block=25, max_passes=1000)


class TestWithoutAcceleration(IterativeContract):
    solver = SketchAndProject(block=40, directions=0, tol=1e-3, max_passes=1000)
    smallest_ridge = 1.0


@pytest.fixture(scope="module")
def points():
    return gaussian_points(N, 4, seed=5)


@pytest.fixture(scope="module")
def targets(points):
    return np.column_stack([np.sin(points[:, 0]), points[:, 1] * points[:, 2]])


def run(operator, ridge, Y, **settings):
    solver = SketchAndProject(**settings)
    return solver.solve(solver.init(operator, ridge), Y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predicts_as_cholesky_at_its_tolerance(points, targets, dtype):
    """``||K dx|| <= ||A dx|| = ||r|| <= tol ||b||``, as K <= A."""
    X = points.astype(dtype)
    tol, ridge = 1e-7, np.linspace(0.5, 2.0, N)
    found = run(KernelOperator(NET, X), ridge, targets, block=100, tol=tol)
    K = KernelOperator(NET, X.astype(np.float64)).to_dense()
    expected = np.linalg.solve(K + np.diag(ridge), targets)
    assert found.status is Status.OK
    assert found.stats.residuals[-1] <= tol
    root = np.sqrt(ridge)[:, None]
    error = np.linalg.norm(root * (found.value - expected), axis=0)
    assert (error <= tol * np.linalg.norm(targets, axis=0) / root.min()).all()


def test_is_faster_with_directions(points, targets):
    K = KernelOperator(NET, points)
    passes = [
        run(K, 0.05, targets, block=70, tol=1e-4, directions=d).stats.iterations for d in (0, 3)
    ]
    assert passes[1] < passes[0]


def test_one_small_ridge_takes_float64_entries(points):
    """Float32 entries err by more than this ridge; the answer is that of float64 all the same."""
    X = points[:200].astype(np.float32)
    K = KernelOperator(NET, X)
    solver = SketchAndProject(block=100, tol=1e-3, max_passes=400)
    assert not solver.init(K, 1e-6).low
    assert solver.init(K, 1.0).low


class WrongOperator(DenseOperator):
    """Entries in float32 that are wrong by 1 %."""

    def part(self, rows, columns, out=None):
        block = super().part(rows, columns, out)
        if self.dtype == np.float32:
            block *= np.float32(1.01)
        return block

    def astype(self, dtype):
        return WrongOperator(self.matrix, dtype)


def test_wrong_low_precision_is_found_and_left():
    """Recurred residuals lie, true ones do not."""
    K, Y = kernel_matrix(150), gaussian_points(150, 2)
    found = run(WrongOperator(K, "float32"), 3.0, Y, block=30, tol=1e-8, max_passes=1000)
    assert found.ok
    residual = np.linalg.norm(Y - K @ found.value - 3.0 * found.value, axis=0)
    assert (residual <= 1.01e-8 * np.linalg.norm(Y, axis=0)).all()


def test_max_passes_is_a_status_and_a_warning():
    K, Y = kernel_matrix(150), gaussian_points(150, 2)
    with pytest.warns(ConvergenceWarning, match="after 2 passes"):
        found = run(DenseOperator(K), 1e-3, Y, block=30, max_passes=2)
    assert found.status is Status.MAX_ITERATIONS
    assert found.stats.iterations == 2
    true = np.linalg.norm(Y - K @ found.value - 1e-3 * found.value, axis=0)
    # Recurred over ten steps in float64: the true one to many digits.
    np.testing.assert_allclose(
        found.stats.residuals[-1], np.max(true / np.linalg.norm(Y, axis=0)), rtol=1e-8
    )


def test_at_the_limit_the_residual_is_that_of_the_answer():
    """Float32 entries that are wrong by 1 %: the recurred residual falls, the true one does not."""
    K, Y = kernel_matrix(150), gaussian_points(150, 2)
    with pytest.warns(ConvergenceWarning, match="after 3 passes") as caught:
        found = run(WrongOperator(K, "float32"), 3.0, Y, block=30, tol=1e-8, max_passes=3)
    true = np.linalg.norm(Y - K @ found.value - 3.0 * found.value, axis=0)
    relative = np.max(true / np.linalg.norm(Y, axis=0))
    assert found.status is Status.MAX_ITERATIONS
    # Rounding of K x, which is as large as the targets.
    assert abs(found.stats.residuals[-1] - relative) <= 1e-12
    assert f"residual is {relative:.1e}" in str(caught[0].message)


@pytest.mark.parametrize("passes", [1, 3])
def test_nothing_is_lost_at_the_limit(passes, points, targets, tmp_path):
    """Passes of seven blocks, and a checkpoint every five."""
    settings = {"block": 100, "tol": 1e-7}
    operator, path = KernelOperator(NET, points), tmp_path / "state"
    with pytest.warns(ConvergenceWarning):
        run(
            operator,
            0.5,
            targets,
            checkpoint=path,
            checkpoint_every=5,
            max_passes=passes,
            **settings,
        )
    solver, seen = SketchAndProject(checkpoint=path, **settings), []
    resumed = solver.solve(solver.init(operator, 0.5), targets, callback=seen.append)
    assert seen[0].iteration == 7 * passes + 1
    np.testing.assert_array_equal(resumed.value, run(operator, 0.5, targets, **settings).value)


def test_unreachable_tolerance_is_not_called_converged():
    K, Y = kernel_matrix(150), gaussian_points(150, 1)
    with pytest.warns(ConvergenceWarning):
        found = run(DenseOperator(K), 1.0, Y, block=50, tol=1e-17, max_passes=2000)
    assert found.status in (Status.NOT_CONVERGED, Status.MAX_ITERATIONS)
    # What is left is rounding: of x, by the norm of the matrix.
    shifted = K + np.eye(150)
    rounding = np.finfo(float).eps * np.linalg.norm(shifted, 2) * np.linalg.norm(found.value)
    assert np.linalg.norm(shifted @ found.value - Y) <= 16 * rounding


def test_singular_block_without_ridge():
    """Two equal rows: their block has no factor; any x with K x = y will do."""
    K = kernel_matrix(15)
    K = K[np.ix_(np.r_[:15, :5], np.r_[:15, :5])]
    Y = K @ gaussian_points(20, 2)
    found = run(DenseOperator(K), 0.0, Y, tol=1e-8)
    assert np.linalg.norm(K @ found.value - Y) <= 1e-7 * np.linalg.norm(Y)


def test_energy_never_rises(points, targets):
    K = KernelOperator(NET, points).to_dense()
    energies = []
    solver = SketchAndProject(block=70, tol=1e-5)

    def energy(x):
        energies.append(np.sum(x * (0.5 * (K @ x + 0.1 * x) - targets)))
        return energies[-1]

    seen = []
    solver.solve(
        solver.init(DenseOperator(K), 0.1), targets, callback=seen.append, validation=energy
    )
    assert [p.score for p in seen] == energies
    assert [p.iteration for p in seen] == list(range(1, len(seen) + 1))
    # Rounding of the energy itself.
    slack = 1e-12 * abs(energies[-1])
    assert (np.diff(energies) <= slack).all()


def test_streamed_rows_equal_rows_in_memory(points, targets, tmp_path):
    X = points.astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    source = np.load(tmp_path / "X.npy", mmap_mode="r")
    a, b = (
        run(K, 1.0, targets, block=150)
        for K in (KernelOperator(NET, X), StreamedOperator(NET, source))
    )
    assert a.ok
    assert b.ok
    # Products of true residuals add up in another order, so both are solutions at the tolerance.
    bound = 2e-6 * np.linalg.norm(targets, axis=0)
    assert (np.linalg.norm(a.value - b.value, axis=0) <= bound).all()


class _Killed(Exception):
    pass


def _interrupted(path, points, targets, blocks, kill):
    def stop(progress):
        if progress.iteration == blocks:
            kill()

    solver = SketchAndProject(block=100, checkpoint=path, checkpoint_every=3)
    solver.solve(solver.init(KernelOperator(NET, points), 0.5), targets, callback=stop)


def _kill():
    os.kill(os.getpid(), signal.SIGKILL)


def _raise():
    raise _Killed


def _resumed(path, points, targets, blocks):
    seen = []
    solver = SketchAndProject(block=100, checkpoint=path)
    operator = KernelOperator(NET, points)
    resumed = solver.solve(solver.init(operator, 0.5), targets, callback=seen.append)
    assert seen[0].iteration == blocks // 3 * 3 + 1
    np.testing.assert_array_equal(resumed.value, run(operator, 0.5, targets, block=100).value)


def test_resume_after_kill_equals_one_run(points, targets, tmp_path):
    path = tmp_path / "state"
    child = multiprocessing.get_context("spawn").Process(
        target=_interrupted, args=(path, points, targets, 8, _kill)
    )
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    _resumed(path, points, targets, 8)


@pytest.mark.parametrize("blocks", [2, 3, 7, 14, 19])
def test_resume_at_any_block_equals_one_run(blocks, points, targets, tmp_path):
    path = tmp_path / "state"
    with pytest.raises(_Killed):
        _interrupted(path, points, targets, blocks, _raise)
    _resumed(path, points, targets, blocks)


class TestCheckpoint:
    def make(self, path, **settings):
        K, Y = kernel_matrix(60), gaussian_points(60, 1)
        with pytest.warns(ConvergenceWarning):
            run(
                DenseOperator(K),
                0.5,
                Y,
                block=20,
                checkpoint=path,
                checkpoint_every=1,
                max_passes=1,
            )
        return K, Y

    def test_other_blocks_and_tolerance_go_on(self, tmp_path):
        K, Y = self.make(tmp_path / "state")
        for settings in ({"block": 30}, {"block": 30, "tol": 1e-9}, {"directions": 1}):
            found = run(DenseOperator(K), 0.5, Y, checkpoint=tmp_path / "state", **settings)
            assert found.ok

    def test_finished_one_is_checked_again(self, tmp_path):
        K, Y = self.make(tmp_path / "state")
        first = run(DenseOperator(K), 0.5, Y, block=20, checkpoint=tmp_path / "state")
        again = run(DenseOperator(K), 0.5, Y, block=20, checkpoint=tmp_path / "state")
        assert first.ok
        np.testing.assert_array_equal(first.value, again.value)

    @pytest.mark.parametrize("change", ["ridge", "targets", "kernel"])
    def test_other_problem(self, change, tmp_path):
        K, Y = self.make(tmp_path / "state")
        K = K * 1.001 if change == "kernel" else K
        Y = Y + 1 if change == "targets" else Y
        with pytest.raises(CheckpointError, match="another problem"):
            run(
                DenseOperator(K),
                0.6 if change == "ridge" else 0.5,
                Y,
                block=20,
                checkpoint=tmp_path / "state",
            )


@pytest.mark.parametrize(
    "settings",
    [
        {"block": 0},
        {"block": 1.5},
        {"tol": 0.0},
        {"tol": 1.0},
        {"max_passes": 0},
        {"directions": -1},
        {"checkpoint_every": 0},
    ],
)
def test_bad_settings(settings):
    with pytest.raises(InvalidInputError, match=next(iter(settings))):
        SketchAndProject(**settings)


def test_cholesky_and_sketch_agree_on_new_rows(points, targets):
    K = KernelOperator(NET, points)
    new = KernelOperator(NET, gaussian_points(40, 4, seed=9), points)
    exact = Cholesky().solve(Cholesky().init(K, 1.0), targets).value
    found = run(K, 1.0, targets, tol=1e-10, block=100).value
    # ||dx|| <= ||r|| / ridge; a row of the kernel has norm sqrt(700) * 5 at most.
    np.testing.assert_allclose(new @ found, new @ exact, atol=1e-10 * 26 * 5 * 27)
