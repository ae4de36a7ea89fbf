"""SIGKILL while a store is written and while a matrix is factored on disk."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from kernreg.linalg import OutOfCoreCholesky, TileStore
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


WORK = {"store": write, "factorisation": factor}


def files(folder: Path) -> dict[str, bytes]:
    """What is in a folder, hidden files included."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def slowly(name: str, folder: Path, started) -> None:
    """Work in another process, some milliseconds a step, that never ends by itself."""
    # What is in the page cache outlives the process, so this says nothing of a power failure.
    os.fsync = lambda file: None
    WORK[name](folder / "warm")

    def callback(step: int, total: int) -> None:
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
    started = time.perf_counter()
    WORK[name](tmp_path / "whole", lambda step, total: time.sleep(0.004))
    span = 1.5 * (time.perf_counter() - started)
    expected = files(tmp_path / "whole")
    sizes = []
    for number, moment in enumerate(MOMENTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        ready = processes.Event()
        process = processes.Process(target=slowly, args=(name, folder, ready), daemon=True)
        process.start()
        assert ready.wait(60)
        time.sleep(moment * span)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        sizes.append(len(files(folder / "killed")) if (folder / "killed").exists() else 0)
        WORK[name](folder / "killed")
        assert files(folder / "killed") == expected
    # The moments were spread over the work: some kills came before half of it was done.
    assert min(sizes) < len(expected) / 2
