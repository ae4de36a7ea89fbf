"""A signal ends what writes a store, factors a matrix on disk, or iterates."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from kernreg.exceptions import ConvergenceWarning
from kernreg.operators import TileStore
from kernreg.operators.store.records import digest, read_record
from kernreg.solvers import PCG, OutOfCoreCholesky, RPCholesky, SketchAndProject
from tests.operators.dense import PointOperator

N = 240
# Shares of the work after which it is ended, and of a step after that.
MOMENTS, DELAYS = np.random.default_rng(11).uniform(0.0, 1.0, (2, 10))


def problem() -> PointOperator:
    return PointOperator(np.random.default_rng(3).standard_normal((N, 4)), "float32")


def write(folder: Path, callback=None) -> None:
    pytest.importorskip("zarr")
    TileStore.create(folder, problem(), tile=24).write(problem(), callback)


def factor(folder: Path, callback=None) -> None:
    OutOfCoreCholesky(folder, block=8).init(problem(), 1.0, callback)


def solve(solver, folder: Path, callback) -> None:
    """Write the solution beside the checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    target = np.sin(np.arange(N))

    def told(now) -> None:
        if callback is not None:
            callback(now.iteration, N)

    solution = solver.solve(solver.init(problem(), 1e-3), target, callback=told)
    np.save(folder / "solution.npy", solution.value)


def iterate(folder: Path, callback=None) -> None:
    solver = PCG(RPCholesky(10), tol=1e-10, checkpoint=folder / "checkpoint", checkpoint_every=1)
    solve(solver, folder, callback)


def project(folder: Path, callback=None) -> None:
    checkpoint = folder / "checkpoint"
    solver = SketchAndProject(
        block=20, tol=1e-15, max_passes=5, checkpoint=checkpoint, checkpoint_every=1
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solve(solver, folder, callback)


WORK = {
    "store": write,
    "factorisation": factor,
    "conjugate gradients": iterate,
    "projections": project,
}


def files(folder: Path) -> dict[str, object]:
    """What is in a folder, hidden files included; of a checkpoint its texts and the digest of all.

    The order in which its file has the texts is random.
    """
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: _content(path) if name == "checkpoint" else path.read_bytes()
        for name, path in found.items()
    }


def _content(path: Path) -> object:
    texts, arrays, _ = read_record(path)
    return texts, digest(texts, arrays)


def doomed(name: str, folder: Path, step: int, delay: float) -> None:
    """Work in another process that the system ends ``delay`` seconds after the end of a step."""
    # What is in the page cache outlives the process, so this says nothing of a power failure.
    os.fsync = lambda file: None
    # Unhandled, it ends the process at once and as SIGKILL does, whatever that is doing.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    left = step

    def callback(*_: int) -> None:
        nonlocal left
        left -= 1
        if not left:
            signal.setitimer(signal.ITIMER_REAL, delay)

    WORK[name](folder, callback)
    # Work that was faster than the alarm.
    time.sleep(60)


@pytest.fixture(scope="module")
def processes():
    """Processes forked from one that has the libraries loaded and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["kernreg.operators.store.store", "kernreg.solvers.cholesky.out_of_core", "zarr"]
    )
    return context


@pytest.mark.parametrize("name", WORK)
def test_goes_on_and_ends_with_the_same_bits(name, processes, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    ends: list[float] = []
    WORK[name](tmp_path / "whole", lambda *_: ends.append(time.perf_counter()))
    expected, usual = files(tmp_path / "whole"), float(np.median(np.diff(ends)))
    for number, moment in enumerate(MOMENTS):
        folder = tmp_path / str(number)
        # The step after this one ends early, after a share of what a step takes.
        step = 1 + int(moment * len(ends))
        arguments = (name, folder, step, max(1e-6, usual * DELAYS[number]))
        process = processes.Process(target=doomed, args=arguments, daemon=True)
        process.start()
        process.join(300)
        assert process.exitcode == -signal.SIGALRM
        WORK[name](folder)
        assert files(folder) == expected
