"""Folders that hold things of others: nothing in them is touched, and drafts are known exactly."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from kernreg.exceptions import StoreError
from kernreg.operators.store.disk import atomic, check_ours, draft_folder, remove_drafts
from kernreg.solvers import OutOfCoreCholesky
from tests.contracts.solver import kernel_matrix
from tests.operators.dense import DenseOperator


def factor(folder, ridge=0.1):
    return OutOfCoreCholesky(folder, block=8).init(DenseOperator(kernel_matrix(20)), ridge)


def files(folder):
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def tree(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


FOREIGN = {
    "a folder that ends in .tmp": ".cache.tmp/data",
    "a file that ends in .tmp": ".notes.tmp",
    "a lock": "lock",
    "a panel": "panel-000001.bin",
    "a header": "factor.json",
    "an ordinary file": "thesis.tex",
    "an ordinary folder": "photos/1.png",
    "a draft of something else": ".thesis.0123456789ab.tmp/thesis",
}


@pytest.mark.parametrize("name", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_of_others_is_refused_untouched(name, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"mine": true}')
    before, names = files(tmp_path), tree(tmp_path)
    with pytest.raises(StoreError, match=r"no folder of a factor.*[Tt]ake (a new|another)") as told:
        factor(tmp_path)
    assert "delete" not in str(told.value)
    assert (files(tmp_path), tree(tmp_path)) == (before, names)


def test_things_that_were_put_into_a_factor_stay(tmp_path):
    factor(tmp_path)
    others = [".cache.tmp/data", ".notes.tmp", "readme", ".panel-0000xx.bin.0123456789ab.tmp/x"]
    for name in others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "lock").write_text("12345")
    before = files(tmp_path)
    factor(tmp_path)
    with pytest.raises(StoreError, match="another ridge"):
        factor(tmp_path, ridge=0.2)
    assert files(tmp_path) == before


def test_drafts_of_a_killed_run_go_with_the_next_of_the_same_job_only(tmp_path):
    factor(tmp_path)
    before = tree(tmp_path)
    for name in ("panel-000001.bin", "factor.json"):
        draft = tmp_path / f".{name}.0123456789ab.tmp"
        draft.mkdir()
        (draft / name).write_text("half")
    left = tree(tmp_path)
    with pytest.raises(StoreError, match="another ridge"):
        factor(tmp_path, ridge=0.2)
    assert tree(tmp_path) == left
    factor(tmp_path)
    assert tree(tmp_path) == before


def test_killed_before_the_header(tmp_path):
    (tmp_path / "lock").touch()
    draft = tmp_path / ".factor.json.0123456789ab.tmp"
    draft.mkdir()
    (draft / "factor.json").write_text('{"format"')
    factor(tmp_path)
    assert not draft.exists()


@pytest.mark.parametrize("name", ["jitter", "ridge", "hash"])
def test_a_header_that_was_changed_is_told(name, tmp_path):
    factor(tmp_path)
    path = tmp_path / "factor.json"
    header = json.loads(path.read_text())
    header[name] = 0.5 if name == "jitter" else header[name][::-1]
    path.write_text(json.dumps(header))
    before = files(tmp_path)
    with pytest.raises(StoreError, match="damaged: restore the file"):
        factor(tmp_path)
    assert files(tmp_path) == before


def test_every_flipped_bit_of_a_header_is_told_or_harmless(tmp_path):
    factor(tmp_path)
    path = tmp_path / "factor.json"
    whole = path.read_bytes()
    expected = files(tmp_path)
    for bit in np.random.default_rng(5).choice(8 * len(whole), 60, replace=False):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(StoreError):
            factor(tmp_path)
        assert path.read_bytes() == damaged
    path.write_bytes(whole)
    assert files(tmp_path) == expected


class TestDrafts:
    def test_of_a_process_that_lives_stay(self, tmp_path):
        with atomic(tmp_path / "model") as draft:
            draft.write_text("new")
            remove_drafts(tmp_path, "model")
            assert draft.exists()
        assert (tmp_path / "model").read_text() == "new"
        assert tree(tmp_path) == ["model"]

    def test_are_known_by_name_and_by_what_they_hold(self, tmp_path):
        kept = [
            ".model.0123456789ab.tmp/diary",  # not of that name
            ".model.1123456789ab.tmp/model/deeper",
            ".model.2123456789AB.tmp/model",  # not our digits
            ".model.312345678.tmp/model",
            ".models.4123456789ab.tmp/models",
            ".model.5123456789ab.tmp.bak/model",
            "model.6123456789ab.tmp/model",
        ]
        for name in (*kept, ".model.7123456789ab.tmp/model", ".model.8123456789ab.tmp/.tmpAbCd"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        (tmp_path / ".model.9123456789ab.tmp").touch()
        (tmp_path / ".model.a123456789ab.tmp").write_text("not empty")
        os.symlink(tmp_path / ".models.4123456789ab.tmp", tmp_path / ".model.b123456789ab.tmp")
        remove_drafts(tmp_path, "model")
        expected = {name.split("/")[0] for name in kept}
        expected |= {".model.a123456789ab.tmp", ".model.b123456789ab.tmp"}
        assert {path.name for path in tmp_path.iterdir()} == expected
        assert all((tmp_path / name).exists() for name in kept)

    def test_a_folder_that_is_taken_away_before_its_lock_is_made_anew(self, tmp_path, monkeypatch):
        opened, real = [], os.open

        def robbed(path, flags, *rest, **options):
            if not opened:
                opened.append(path)
                os.rmdir(path)
            return real(path, flags, *rest, **options)

        monkeypatch.setattr("os.open", robbed)
        with draft_folder(tmp_path, "model") as folder:
            assert folder.is_dir()
            assert folder != opened[0]
        assert tree(tmp_path) == []

    def test_a_name_is_no_pattern(self, tmp_path):
        (tmp_path / ".model.0123456789ab.tmp").mkdir()
        remove_drafts(tmp_path, "m.*l")
        remove_drafts(tmp_path / "missing", "model")
        assert tree(tmp_path) == [".model.0123456789ab.tmp"]


def test_a_new_folder_is_not_made_by_the_check(tmp_path):
    check_ours(tmp_path / "new", "header", b"kernreg", "things", "a")
    assert tree(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written: Not a directory"):
        check_ours(tmp_path / "file", "header", b"kernreg", "things", "a")
