"""SIGKILL while a store is written, a matrix is factored on disk, or a system iterated."""

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
from kernreg.linalg import PCG, OutOfCoreCholesky, RPCholesky, SketchAndProject, TileStore
from tests.linalg.dense import PointOperator

N = 240
MOMENTS = np.random.default_rng(11).uniform(0.0, 1.0, 10)


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


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, hidden files included."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def slowly(name: str, folder: Path, started, steps) -> None:
    """Work in another process, some milliseconds a step, that never ends by itself."""
    # What is in the page cache outlives the process, so this says nothing of a power failure.
    os.fsync = lambda file: None
    WORK[name](folder / "warm")

    def callback(step: int, total: int) -> None:
        steps.value += 1
        time.sleep(0.004)

    started.set()
    WORK[name](folder / "killed", callback)
    time.sleep(60)


@pytest.fixture(scope="module")
def processes():
    """Processes forked from one that has the libraries loaded and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["kernreg.linalg.store", "kernreg.linalg.out_of_core", "zarr"])
    return context


@pytest.mark.parametrize("name", WORK)
def test_goes_on_and_ends_with_the_same_bits(name, processes, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda file: None)
    total = 0

    def callback(step: int, of: int) -> None:
        nonlocal total
        total += 1
        time.sleep(0.004)

    started = time.perf_counter()
    WORK[name](tmp_path / "whole", callback)
    span = 1.5 * (time.perf_counter() - started)
    expected = files(tmp_path / "whole")
    reached = []
    for number, moment in enumerate(MOMENTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        ready, steps = processes.Event(), processes.Value("i", 0)
        arguments = (name, folder, ready, steps)
        process = processes.Process(target=slowly, args=arguments, daemon=True)
        process.start()
        assert ready.wait(60)
        time.sleep(moment * span)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        reached.append(steps.value)
        WORK[name](folder / "killed")
        assert files(folder / "killed") == expected
    # The moments were spread over the work: some kills came before half of it was done.
    assert min(reached) < total / 2 < max(reached)
