"""Places that cannot be written to, and disks that fill up while the result is written."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.baseline.problems import regression_table
from tests.permissions import public_folder, unprivileged


def tree(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.fixture(params=["baseline", "fit", "predict"])
def command(request, tables, baseline_folder):
    """A command that works, but for its ``--out``."""
    arguments = {
        "baseline": ["baseline", tables.prices, "--quick"],
        "fit": ["fit", tables.prices],
        "predict": ["predict", baseline_folder, tables.prices],
    }
    return [*arguments[request.param], "--out"]


@pytest.fixture
def no_work(monkeypatch):
    """What takes long must not have begun when the place is found to be bad."""

    def fail(*args, **kwargs):
        pytest.fail("the work began")

    monkeypatch.setattr("kernreg.baseline.run", fail)
    monkeypatch.setattr("kernreg.baseline.fit_model", fail)
    monkeypatch.setattr("kernreg.baseline.TableModel.load", fail)


def test_below_a_file(command, refused, no_work, tmp_path):
    (tmp_path / "file").write_text("mine")
    message = refused(*command, tmp_path / "file" / "out")
    assert "cannot be written" in message
    assert "--out" in message
    assert tree(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_something_else_in_its_place(command, refused, no_work, tmp_path):
    if command[0] == "baseline":
        (tmp_path / "out").write_text("mine")
    else:
        (tmp_path / "out").mkdir()
    message = refused(*command, tmp_path / "out")
    assert "exists and is not" in message or "is a folder; name a file with --out" in message
    assert tree(tmp_path) == ["out"]


def test_missing_folder(refused, run, no_work, tables, baseline_folder, tmp_path):
    """A baseline makes its folder; a file needs one that is there."""
    place = tmp_path / "missing" / "out"
    for arguments in (["fit", tables.prices], ["predict", baseline_folder, tables.prices]):
        message = refused(*arguments, "--out", place)
        assert f"{place} cannot be written: No such file or directory" in message
    assert tree(tmp_path) == []


@pytest.fixture
def read_only(tables):
    """A folder that all may look into and nobody may write to; pytest's own is private."""
    with public_folder() as folder:
        (folder / "old").write_text("old")
        shutil.copy(tables.prices, folder / "prices.csv")
        folder.chmod(0o555)
        yield folder


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_read_only_folder(refused, no_work, read_only):
    # A table that all may read, and first once as root: others may not read our modules.
    for command in ("baseline", "fit"):
        arguments = [command, read_only / "prices.csv", "--out"]
        refused(*arguments, read_only / "old" / "below")
        with unprivileged():
            message = refused(*arguments, read_only / "new")
        assert "cannot be written" in message
        assert "Permission denied" in message
    assert tree(read_only) == ["old", "prices.csv"]
    assert (read_only / "old").read_text() == "old"


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.argv[:2] = ["kernreg"]
from kernreg.cli import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
@pytest.mark.parametrize(
    ("arguments", "limit"), [(["fit"], 2000), (["baseline", "--quick"], 30000)]
)
def test_disk_that_fills_up(arguments, limit, tmp_path, baseline_folder):
    """A limit on file sizes stands for the full disk; 30 kB are enough for all but the report."""
    regression_table().to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "model"
    kept = "results.json" if arguments[0] == "baseline" else "model.safetensors"
    if arguments[0] == "baseline":
        target.mkdir()
    shutil.copy(baseline_folder / kept, target)
    old = (baseline_folder / kept).read_bytes()
    before = tree(tmp_path)
    name, *options = arguments
    command = [sys.executable, "-B", "-c", LIMITED, str(limit), name, str(tmp_path / "t.csv")]
    command += [*options, "--overwrite", "--out", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    assert "File too large" in done.stderr
    assert tree(tmp_path) == before
    assert (target / kept if target.is_dir() else target).read_bytes() == old


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError])
def test_interrupted_while_writing(error, tables, tmp_path, monkeypatch):
    """Nothing is left, not even the folders that the command made."""
    from typer.testing import CliRunner

    from kernreg.cli import app

    def fail(*args):
        raise error("stopped")

    monkeypatch.setattr("kernreg.report.render", fail)
    place = tmp_path / "deep" / "out"
    result = CliRunner().invoke(
        app, ["baseline", str(tables.prices), "--quick", "--out", str(place)]
    )
    assert result.exit_code not in (0, None)
    assert tree(tmp_path) == []
