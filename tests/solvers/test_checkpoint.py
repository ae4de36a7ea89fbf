"""The file of a checkpoint: what is in it, of another problem, damaged, or not to be written."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import fields

import numpy as np
import pytest
from safetensors import SafetensorError

from kernreg.exceptions import CheckpointError
from kernreg.operators.store import records
from kernreg.solvers.pcg.checkpoint import Checkpoint
from kernreg.solvers.pcg.conjugate import Iterates
from tests.operators.dense import DenseOperator
from tests.solvers.interrupted import (
    RIDGE,
    N,
    interrupted,
    kernel,
    run,
    targets,
)


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
