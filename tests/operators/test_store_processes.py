"""Tile stores that several processes make at once, or that somebody removes meanwhile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from kernreg.exceptions import StoreError
from kernreg.operators import TileStore, write_store
from kernreg.operators.store import header as store_header
from kernreg.operators.store import store
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator

pytest.importorskip("zarr")

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import sys
import numpy as np
from kernreg.operators import TileStore
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator
operator = DenseOperator(kernel_matrix(60))
print("ready", flush=True)
sys.stdin.readline()
store = TileStore.create(sys.argv[1], operator, tile=8)
store.write(operator)
assert (store.operator().to_dense() == kernel_matrix(60)).all()
print("written")
"""


def test_two_processes_that_begin_together(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "store")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("\n")
        child.stdin.flush()
    assert [child.communicate()[0] for child in children] == 2 * ["written\n"]
    found = TileStore.open(tmp_path / "store").operator().to_dense()
    np.testing.assert_array_equal(found, kernel_matrix(60))
    assert not list((tmp_path / "store").rglob("*.partial"))


def test_threads_that_make_one_store(tmp_path):
    operators = [DenseOperator(kernel_matrix(40) * factor) for factor in (1, 2)]
    start = threading.Barrier(8)

    def make(number):
        start.wait()
        try:
            TileStore.create(tmp_path, operators[number % 2], tile=16)
        except StoreError as error:
            return str(error)
        return "made"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(make, range(8)))
    for kind in (said[::2], said[1::2]):
        assert len(set(kind)) == 1
    assert sum(text == "made" for text in said) == 4
    assert sum("another network or other data" in text for text in said) == 4


@pytest.mark.parametrize("error", [None, PermissionError(1, "no links here")])
def test_the_first_header_stays(error, tmp_path, monkeypatch):
    """Also on a disk without links, where the later of two replaces nothing that was there."""
    if error is not None:

        def refuse(*_):
            raise error

        monkeypatch.setattr(os, "link", refuse)
    operator = DenseOperator(np.eye(9))
    first = TileStore.create(tmp_path, operator, tile=4)
    text = (tmp_path / "zarr.json").read_text()
    again = TileStore.create(tmp_path, operator)
    assert again.tile == first.tile
    assert (tmp_path / "zarr.json").read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["zarr.json"]


def test_another_process_makes_the_store_between_two_looks(tmp_path, monkeypatch):
    operator, publish = DenseOperator(np.eye(9)), store_header.publish

    def late(folder, shape, tile, header):
        monkeypatch.setattr(store, "publish", publish)
        TileStore.create(tmp_path, operator, tile=3)
        publish(folder, shape, tile, header)

    monkeypatch.setattr(store, "publish", late)
    assert TileStore.create(tmp_path, operator).tile == 3


def alone(folder, operator, callback):
    TileStore.create(folder, operator, tile=10).write(operator, callback)


def in_a_job(folder, operator, callback):
    write_store(folder, operator, tile=10, callback=callback)


@pytest.mark.parametrize("lost", ["everything", "a tile", "the header"])
@pytest.mark.parametrize("run", [alone, in_a_job])
def test_what_is_removed_while_it_is_written_is_missed(lost, run, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_PATIENCE", 0.0)
    operator, folder = DenseOperator(kernel_matrix(40)), tmp_path / "store"

    def remove(step, total):
        if step == 4 and lost == "everything":
            shutil.rmtree(folder)
        if step == 4 and lost == "a tile":
            (folder / "c" / "1" / "0").unlink()
        if step == total and lost == "the header":
            (folder / "zarr.json").unlink()

    what = {"everything": r"4 of 10 tiles", "a tile": "1 of 10 tiles", "the header": "the header"}
    with pytest.raises(StoreError, match=rf"lacks {what[lost]} after all were written"):
        run(folder, operator, remove)


def test_a_tile_that_another_process_replaces_is_waited_for(tmp_path, monkeypatch):
    operator = DenseOperator(kernel_matrix(20))
    made = TileStore.create(tmp_path, operator, tile=10)
    made.write(operator)
    place = tmp_path / "c" / "1" / "0"
    data = place.read_bytes()
    place.unlink()
    assert made.pending() == [(1, 0)]
    monkeypatch.setattr(store.time, "sleep", lambda _: place.write_bytes(data))
    made.require_complete()
    assert made.pending() == []


def test_a_part_of_the_tiles_is_no_whole(tmp_path):
    """Only who writes all of them can say that some are missing."""
    operator = DenseOperator(kernel_matrix(20))
    made = TileStore.create(tmp_path, operator, tile=10)
    assert made.write(operator, tiles=[(1, 0)]) == 1
    assert made.write(operator, tiles=[]) == 0
    assert made.write(operator, tiles=[(1, 0), (1, 1)]) == 1


def test_an_intact_tile_is_never_absent(tmp_path, monkeypatch):
    operator = DenseOperator(kernel_matrix(20))
    made = TileStore.create(tmp_path, operator, tile=10)
    made.write(operator)
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: pytest.fail("removed"))
    made._write_tile(operator, 1, 0, np.empty(100))
    made._write_tile(operator, 1, 1, np.empty(100))
    assert made.verify(operator) == 3
