"""Solves that go on from a checkpoint, also after a kill at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kernreg.solvers import PCG, RPCholesky
from tests.contracts.solver import gaussian_points
from tests.operators.dense import DenseOperator
from tests.solvers.interrupted import (
    EVERY,
    RIDGE,
    N,
    Stop,
    interrupted,
    kernel,
    run,
    stopped,
    targets,
)


@pytest.mark.parametrize("preconditioner", [None, RPCholesky(5)])
@pytest.mark.parametrize("iteration", [5, 23, 54])
def test_resumed_iterates_are_bit_equal(tmp_path, iteration, preconditioner):
    whole = run(None, preconditioner=preconditioner)
    iteration = min(iteration, whole.stats.iterations - 1)
    path = tmp_path / "pcg.safetensors"
    stopped(path, iteration, preconditioner=preconditioner)
    seen = []
    resumed = run(path, preconditioner=preconditioner, callback=seen.append)
    np.testing.assert_array_equal(resumed.value, whole.value)
    assert resumed.stats.residuals == whole.stats.residuals
    # At most one interval is lost.
    assert seen[0].iteration == iteration - iteration % EVERY + 1


def test_a_finished_checkpoint_is_the_solution(tmp_path):
    path = tmp_path / "pcg"
    first = run(path)
    seen = []
    again = run(path, callback=seen.append)
    np.testing.assert_array_equal(again.value, first.value)
    assert again.ok
    assert not seen
    assert [p.name for p in tmp_path.iterdir()] == ["pcg"]


@pytest.mark.parametrize("iterations", [3, 23])
def test_nothing_is_lost_at_the_iteration_limit(tmp_path, iterations):
    """Not a multiple of the interval, and one shorter than it."""
    path = tmp_path / "pcg"
    limited = interrupted(path, iterations)
    assert limited.stats.iterations == iterations
    seen = []
    resumed, whole = run(path, callback=seen.append), run(None)
    assert seen[0].iteration == iterations + 1
    np.testing.assert_array_equal(resumed.value, whole.value)


def test_drafts_of_a_killed_process_are_removed_and_others_left(tmp_path):
    others = [".pcg.more.0123456789ab.tmp", ".other.0123456789ab.tmp", ".pcg.notes.tmp"]
    for name in (".pcg.0123456789ab.tmp", *others):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    run(tmp_path / "pcg")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["pcg", *others])


def test_tolerance_can_be_lowered_after_the_end(tmp_path):
    path = tmp_path / "pcg"
    loose = run(path, tol=1e-3)
    tight = run(path, tol=1e-9)
    assert tight.ok
    assert tight.stats.iterations > loose.stats.iterations
    A = kernel() + RIDGE * np.eye(N)
    residual = np.linalg.norm(targets() - A @ tight.value, axis=0)
    assert (residual <= 1.01e-9 * np.linalg.norm(targets(), axis=0)).all()


def test_another_preconditioner_starts_new_directions(tmp_path):
    path = tmp_path / "pcg"
    stopped(path, 23)
    resumed = run(path, preconditioner=RPCholesky(60))
    assert resumed.ok
    assert resumed.stats.iterations < run(None).stats.iterations


def test_low_precision_goes_on_too(tmp_path):
    path = tmp_path / "pcg"
    Y = targets()

    def solve(file, stop=None):
        def callback(progress):
            if progress.iteration == stop:
                raise Stop

        solver = PCG(None, storage="recomputed", checkpoint=file, checkpoint_every=2)
        state = solver.init(DenseOperator(kernel(), "float32"), 0.1)
        assert state.fast is not None
        return solver.solve(state, Y, callback=callback)

    with pytest.raises(Stop):
        solve(path, stop=7)
    whole, resumed = solve(None), solve(path)
    np.testing.assert_array_equal(resumed.value, whole.value)


def unequal_targets():
    """A column that is solved in a few iterations beside one that takes all."""
    vectors = np.linalg.eigh(kernel())[1]
    return np.column_stack([vectors[:, -1], targets()[:, 0]])


@pytest.mark.parametrize("tol", [1e-9, 1e-11])
def test_a_solved_column_is_taken_up_again_for_a_tighter_tolerance(tmp_path, tol):
    """Stopped with one column solved and one open: the first, too, must meet what is asked."""
    path, Y = tmp_path / "pcg", unequal_targets()
    noisy = Y + 1e-6 * gaussian_points(N, 2, seed=5)
    stopped(path, 23, Y=noisy, tol=1e-4, recompute_every=5)
    resumed = run(path, Y=noisy, tol=tol)
    assert resumed.ok
    A = kernel() + RIDGE * np.eye(N)
    residual = np.linalg.norm(noisy - A @ resumed.value, axis=0)
    assert (residual <= 1.01 * tol * np.linalg.norm(noisy, axis=0)).all()


def test_the_same_tolerance_leaves_solved_columns_alone(tmp_path):
    path, Y = tmp_path / "pcg", unequal_targets()
    noisy = Y + 1e-6 * gaussian_points(N, 2, seed=5)
    settings = {"Y": noisy, "tol": 1e-4, "recompute_every": 5}
    stopped(path, 23, **settings)
    resumed, whole = run(path, **settings), run(None, **settings)
    np.testing.assert_array_equal(resumed.value, whole.value)


def test_precision_that_was_raised_stays_raised(tmp_path):
    """Resumed where float32 products had been given up: none is taken again."""
    path, Y = tmp_path / "pcg", targets()

    class Wrong(DenseOperator):
        taken = 0

        def times(self, columns):
            if self.dtype == np.float32:
                Wrong.taken += 1
                return 3.0 * super().times(columns)
            return super().times(columns)

        def astype(self, dtype):
            return Wrong(self.matrix, dtype)

    def solve(stop=None):
        def callback(progress):
            if progress.iteration == stop:
                raise Stop

        settings = {"checkpoint": path, "checkpoint_every": 2, "recompute_every": 5}
        solver = PCG(None, storage="recomputed", **settings)
        state = solver.init(Wrong(kernel(), "float32"), 0.1)
        assert state.fast is not None
        return solver.solve(state, Y, callback=callback), state

    with pytest.raises(Stop):
        solve(stop=20)
    before = Wrong.taken
    assert before > 0
    found, state = solve()
    assert found.ok
    assert state.fast is None
    assert Wrong.taken == before


CHILD = """
import os, signal, sys
import numpy as np
from kernreg.operators.store import records
from tests.solvers import interrupted as case

write, left = records.save_file, [int(sys.argv[3])]

def dies_in_the_middle(arrays, path, metadata):
    write(arrays, path, metadata=metadata)
    left[0] -= 1
    if left[0] == 0:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

records.save_file = dies_in_the_middle
found = case.run(sys.argv[1], callback=lambda progress: print(progress.iteration, flush=True))
np.save(sys.argv[2], found.value)
print("done", flush=True)
"""


def test_killed_at_random_moments(tmp_path):
    """A chain of processes: killed at random lines of output, one while it writes, one not."""
    rng = np.random.default_rng(7)
    path, result = tmp_path / "pcg", tmp_path / "value.npy"
    root = Path(__file__).resolve().parents[2]
    reached = 0
    for fate in ("killed", "killed in a write", "killed", "spared"):
        life = int(rng.integers(7, 25)) if fate == "killed" else 0
        save = int(rng.integers(2, 5)) if fate == "killed in a write" else 0
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(result), str(save)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
        )
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(line.strip())
            if len(lines) == life:  # it may say more before the signal arrives
                child.send_signal(signal.SIGKILL)
        child.stdout.close()
        code = child.wait()
        # Of what was done, no more than one interval is repeated.
        assert reached - EVERY < int(lines[0]) <= reached + 1
        drafts = len(list(tmp_path.glob(".pcg.*.tmp")))
        if fate == "spared":
            assert (code, lines[-1], drafts) == (0, "done", 0)
        elif fate == "killed in a write":
            assert (code, drafts) == (-signal.SIGKILL, 1)
            reached = int(lines[-1])
        else:
            assert code == -signal.SIGKILL
            reached = int(lines[-1])
    np.testing.assert_array_equal(np.load(result), run(None).value)
