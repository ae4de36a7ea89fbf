"""Checkpoints of PCG: killed at any moment, of another problem, damaged."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError

from kernreg.exceptions import CheckpointError, ConvergenceWarning
from kernreg.linalg import PCG, RPCholesky, records
from kernreg.linalg.checkpoint import Checkpoint
from kernreg.linalg.conjugate import Iterates
from tests.contracts.solver import gaussian_points
from tests.linalg.dense import DenseOperator

N, RIDGE, EVERY = 120, 1e-3, 5


def kernel(n=N, seed=0):
    """Gaussian kernel: plain conjugate gradients need some 100 iterations."""
    X = gaussian_points(n, 2, seed)
    return np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))


def targets():
    return gaussian_points(N, 2, seed=1)


def run(path, K=None, ridge=RIDGE, Y=None, **settings):
    arguments = {"preconditioner": None, "storage": "recomputed", "checkpoint_every": EVERY}
    callback = settings.pop("callback", None)
    solver = PCG(**(arguments | settings), checkpoint=path)
    state = solver.init(DenseOperator(kernel() if K is None else K), ridge)
    return solver.solve(state, targets() if Y is None else Y, callback=callback)


def interrupted(path, iterations=23, **settings):
    with pytest.warns(ConvergenceWarning):
        return run(path, max_iter=iterations, **settings)


class Stop(Exception):
    pass


def stopped(path, iteration, **settings):
    """Leave a run in the middle of an iteration's end, as a kill would."""

    def callback(progress):
        if progress.iteration == iteration:
            raise Stop

    with pytest.raises(Stop):
        run(path, callback=callback, **settings)


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

        def __matmul__(self, V):
            if self.dtype == np.float32:
                Wrong.taken += 1
                return 3.0 * super().__matmul__(V)
            return super().__matmul__(V)

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


@pytest.mark.parametrize("entry", [(0, 0), (0, 57), (57, 57), (119, 3), (39, 88)])
def test_kernels_that_differ_in_one_entry(tmp_path, entry):
    """Of the diagonal, or of the four rows that are compared: the first, two inside, the last."""
    path = tmp_path / "pcg"
    interrupted(path)
    K = kernel()
    i, j = entry
    K[i, j] += 1e-6
    K[j, i] = K[i, j]
    with pytest.raises(CheckpointError, match="kernel matrix"):
        run(path, K=K)
    K[i, j] = K[j, i] = kernel()[i, j] * (1 + 1e-10)
    assert run(path, K=K).ok


CHANGES = [
    ({"Y": targets() + 1e-12}, "ridge or right-hand sides"),
    ({"Y": targets()[:, 0]}, "ridge or right-hand sides"),
    ({"ridge": 2 * RIDGE}, "ridge or right-hand sides"),
    ({"K": kernel(seed=3)}, "kernel matrix"),
    ({"K": 1.001 * kernel()}, "kernel matrix"),
]


@pytest.mark.parametrize(("change", "message"), CHANGES)
def test_checkpoint_of_another_problem(tmp_path, change, message):
    path = tmp_path / "pcg"
    interrupted(path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"another problem .*{message}.* give another path"):
        run(path, **change)
    assert path.read_bytes() == before


def truncated(data):
    return data[: len(data) // 2]


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        flipped,
        lambda data: data[:-1],
        lambda data: data[:2] + data[3:],
    ],
)
def test_damaged_checkpoint(tmp_path, damage):
    path = tmp_path / "pcg"
    interrupted(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"damaged .* delete it to start from the beginning"):
        run(path)


def checkpoint(path, profile=None, levels=None, rhs=None, settings="as before"):
    rng = np.random.default_rng(3)
    profile = np.ones(N) if profile is None else profile
    levels = np.array([0.1, 0.2]) if levels is None else levels
    rhs = rng.standard_normal((N, 2)) if rhs is None else rhs
    return Checkpoint(path, DenseOperator(kernel()), profile, levels, rhs, settings)


def iterates():
    rng = np.random.default_rng(4)
    wide = {name: rng.standard_normal((N, 2)) for name in ("x", "residual", "direction", "anchor")}
    narrow = {name: rng.random(2) for name in ("energy", "sizes", "reference", "least")}
    flags = {name: np.array([True, False]) for name in ("open", "active", "solved")}
    rest = {"finished": np.array([3, 4]), "norm": 2.5, "iteration": 7, "unchecked": 2, "low": True}
    return Iterates(**wide, **narrow, **flags, **rest, history=[[1.0, 1.0], [0.1, 0.2]])


def test_what_is_written_is_read(tmp_path):
    at = iterates()
    checkpoint(tmp_path / "pcg").save(at)
    found, same = checkpoint(tmp_path / "pcg").load()
    assert same
    for field in fields(Iterates):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(at, field.name))
        assert type(getattr(found, field.name)) is type(getattr(at, field.name))
    assert checkpoint(tmp_path / "other").load() is None


def test_other_settings_are_told(tmp_path):
    """Another preconditioner, say: directions start anew."""
    checkpoint(tmp_path / "pcg").save(iterates())
    for settings, same in (("as before", True), ("as before ", False), ("", False)):
        assert checkpoint(tmp_path / "pcg", settings=settings).load()[1] is same


@pytest.mark.parametrize(
    "change",
    [
        {"profile": np.linspace(1, 1 + 1e-15, N)},
        {"levels": np.array([0.1, np.nextafter(0.2, 1)])},
        {"levels": np.array([0.2, 0.1])},
        {"rhs": np.zeros((N, 2))},
        {"rhs": np.random.default_rng(3).standard_normal((N, 2)).reshape(N, 1, 2)[:, 0, ::-1]},
    ],
    ids=["profile", "next level", "order of levels", "zeros", "order of columns"],
)
def test_every_part_of_the_problem_counts(tmp_path, change):
    checkpoint(tmp_path / "pcg").save(iterates())
    with pytest.raises(CheckpointError, match="ridge or right-hand sides are others"):
        checkpoint(tmp_path / "pcg", **change).load()


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", bytes(100)], ids=["empty", "text", "zeros"]
)
def test_file_of_another_kind(tmp_path, content):
    """What is not recognised may be dear to somebody: nobody is told to delete it."""
    path = tmp_path / "pcg"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no checkpoint of kernreg.*give another") as caught:
        run(path)
    assert "delete" not in str(caught.value)
    assert path.read_bytes() == content


def test_safetensors_of_others(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "pcg"
    save_file({"x": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of kernreg"):
        run(path)


def rewritten(path, texts=None, **arrays):
    """The checkpoint with parts replaced and the right hash, as only a program makes it."""
    old, found, _ = records.read_record(path)
    header = json.loads(old["kernreg"]) | (texts or {})
    found = {k: v for k, v in (found | arrays).items() if v is not None}
    records.write_record(path, found, {"kernreg": json.dumps(header)})


@pytest.mark.parametrize(
    "change",
    [
        {"x": np.zeros((N, 3))},
        {"x": np.zeros((N - 1, 2))},
        {"x": np.full((N, 2), np.nan)},
        {"x": None},
        {"sizes": np.zeros(3)},
        {"history": None},
        {"texts": {"norm": None}},
        {"texts": {"iteration": "many"}},
        {"texts": {"format": "kernreg-pcg-1"}},
        {"texts": {"format": "kernreg-sketch-2"}},
        {"texts": {"problem": None}},
    ],
    ids=[
        *("columns of x", "rows of x", "nan in x", "no x", "sizes", "no history"),
        *("no norm", "iteration", "first format", "format of a sketch", "no problem"),
    ],
)
def test_parts_that_do_not_fit(tmp_path, change):
    path = tmp_path / "pcg"
    interrupted(path)
    rewritten(path, **change)
    with pytest.raises(CheckpointError, match=r"damaged or no checkpoint of this version"):
        run(path)


@pytest.mark.parametrize("part", ["probe_rows", "probe_diagonal"])
def test_probes_that_are_missing(tmp_path, part):
    path = tmp_path / "pcg"
    interrupted(path)
    rewritten(path, **{part: None})
    with pytest.raises(CheckpointError, match="kernel matrix is another"):
        run(path)


@pytest.mark.parametrize("row", [0, 39, 79, 119])
def test_every_compared_row_counts(tmp_path, row):
    """Four rows are compared, the first, the last and two between, and all of the diagonal."""
    path = tmp_path / "pcg"
    interrupted(path)
    column = 1 if row != 1 else 2
    for place, size in (((row, column), 1e-6), ((17, 17), 1e-6), ((row, row), 1e-6)):
        K = kernel()
        K[place] += size
        K[place[::-1]] = K[place]
        with pytest.raises(CheckpointError, match="kernel matrix is another"):
            run(path, K=K)


def test_kernels_that_differ_by_rounding_only(tmp_path):
    """Entries of another machine agree to 1e-10 of sqrt(K_ii K_jj), however small they are."""
    path = tmp_path / "pcg"
    scale = np.exp(np.linspace(0, 6, N))
    K = kernel() * np.outer(scale, scale)
    apart = 1e-10 * np.outer(scale, scale) * np.where(np.arange(N) % 2, 1, -1)
    ridge = 1e-3 * scale.max() ** 2
    interrupted(path, 5, K=K, ridge=ridge)
    assert run(path, K=K + (apart + apart.T) / 2, ridge=ridge).ok
    with pytest.raises(CheckpointError, match="kernel matrix is another"):
        run(path, K=K + 1e-7 * np.outer(scale, scale), ridge=ridge)
    # On the diagonal alone, of a row that is not compared.
    K[57, 57] *= 1 + 1e-7
    with pytest.raises(CheckpointError, match="kernel matrix is another"):
        run(path, K=K, ridge=ridge)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        run(tmp_path / "nowhere" / "pcg")


def test_full_disk_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "pcg"
    interrupted(path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(records, "save_file", full)
    with pytest.raises(CheckpointError, match=r": No space left.*last complete checkpoint"):
        run(path)

    def broken(*_, **__):
        raise SafetensorError("no room for the header")

    monkeypatch.setattr(records, "save_file", broken)
    with pytest.raises(CheckpointError, match=r": no room for the header\. Free space"):
        run(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["pcg"]
    # It goes on from there, and not from the beginning.
    seen = []
    resumed = run(path, callback=seen.append)
    assert seen[0].iteration == 24
    np.testing.assert_array_equal(resumed.value, run(None).value)


CHILD = """
import os, signal, sys
import numpy as np
from kernreg.linalg import records
from tests.linalg import test_checkpoint as case

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
