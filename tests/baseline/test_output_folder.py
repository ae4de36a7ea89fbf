"""The folder of a baseline: all files or none, and known to be writable before the work."""

import errno
from pathlib import Path

import pytest

from kernreg.baseline.results import output_folder
from kernreg.exceptions import InvalidInputError


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_files_appear_at_the_end(tmp_path):
    out = tmp_path / "deep" / "out"
    with output_folder(out) as draft:
        (draft / "a").write_text("new")
        (draft / "b").write_text("new")
        assert not (out / "a").exists()
    assert tree(tmp_path) == ["deep", "deep/out", "deep/out/a", "deep/out/b"]


def test_other_files_stay(tmp_path):
    (tmp_path / "notes").write_text("mine")
    (tmp_path / "a").write_text("old")
    with output_folder(tmp_path) as draft:
        (draft / "a").write_text("new")
        assert (tmp_path / "a").read_text() == "old"
    assert tree(tmp_path) == ["a", "notes"]
    assert (tmp_path / "a").read_text() == "new"
    assert (tmp_path / "notes").read_text() == "mine"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_behind(error, tmp_path):
    def interrupted():
        with output_folder(tmp_path / "deep" / "out") as draft:
            (draft / "a").write_text("half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert tree(tmp_path) == []


def test_an_error_leaves_old_results_alone(tmp_path):
    (tmp_path / "a").write_text("old")

    def interrupted():
        with output_folder(tmp_path) as draft:
            (draft / "a").write_text("new")
            raise ValueError

    with pytest.raises(ValueError):
        interrupted()
    assert tree(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def entered(folder):
    with output_folder(folder):
        pytest.fail("the work began")


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "out").write_text("a file")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(InvalidInputError, match=r"out.* cannot be written to: .*--out"):
            entered(folder)
    assert tree(tmp_path) == ["out"]
    assert (tmp_path / "out").read_text() == "a file"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", ["mkdir", "touch"])
def test_a_folder_that_refuses(number, call, tmp_path, monkeypatch):
    """Root may write everywhere, so the system's answer is played here."""

    def refuse(self, *args, **kwargs):
        raise OSError(number, "no such luck")

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(InvalidInputError, match=r"cannot be written to: no such luck\."):
        entered(tmp_path)
    monkeypatch.undo()
    assert tree(tmp_path) == []


def test_a_failed_move_keeps_no_draft(tmp_path, monkeypatch):
    def fail(source, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("kernreg.baseline.results.os.replace", fail)

    def finished():
        with output_folder(tmp_path / "out") as draft:
            (draft / "a").write_text("new")

    with pytest.raises(PermissionError):
        finished()
    assert tree(tmp_path) == []
