"""No command replaces what it reads, what is not its own, or an earlier result unasked."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from kernreg import nn
from kernreg.baseline import TableModel
from kernreg.operators.store.disk import draft_folder

QUICK = ["--network", "mlp(depth=1)", "--alpha", "0.01"]


def files(folder):
    """Every file below a folder with its bytes; links with where they point."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture(scope="session")
def made(run, tables, baseline_folder, tmp_path_factory):
    """What the commands read and write, each of one run."""
    pytest.importorskip("zarr")
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(tables.prices, folder / "table.csv")
    shutil.copytree(baseline_folder, folder / "results")
    (folder / "net.json").write_text(nn.to_json(nn.mlp(depth=1)))
    table = folder / "table.csv"
    solver = ["--solver", "pcg", "--checkpoint", folder / "iterates"]
    for command in (
        ["fit", table, *QUICK, *solver, "--out", folder / "one.model"],
        ["gram", table, "--network", "mlp(depth=1)", "--out", folder / "store"],
        ["predict", folder / "one.model", table, "--out", folder / "predicted.csv"],
        ["theory", "criticality", "Relu()", "--json", folder / "numbers.json"],
        ["theory", "design", "0,0.5,0.5", "--picture", folder / "drawn.png"],
        ["theory", "design", "0,0.5,0.5", "--picture", folder / "drawn.svg"],
        ["theory", "design", "0,0.5,0.5", "--picture", folder / "drawn.pdf"],
        [
            *["fit", table, *QUICK, "--solver", "out-of-core"],
            "--folder",
            folder / "factor",
            "--out",
            folder / "two.model",
        ],
    ):
        assert run(*command).exit_code == 0
    return folder


@pytest.fixture
def place(made, tmp_path, monkeypatch):
    """A copy of all of them beside things of somebody else, as the working directory."""
    folder = tmp_path / "place"
    shutil.copytree(made, folder)
    (folder / "notes").write_text("mine\n")
    (folder / "mine.json").write_text('{"critical": 1}\n')
    (folder / "mine.png").write_bytes(b"\x89PNG\r\n\x1a\n a photograph")
    (folder / "home").mkdir()
    (folder / "home" / "letter").write_text("dear")
    monkeypatch.chdir(folder)
    return folder


FIT = ["fit", "table.csv", *QUICK, "--out"]
PCG = ["fit", "table.csv", *QUICK, "--solver", "pcg", "--out", "new", "--checkpoint"]
DISK = ["fit", "table.csv", *QUICK, "--solver", "out-of-core", "--out", "new", "--folder"]
STORED = ["fit", "table.csv", "--store", "store", "--alpha", "1", "--out"]
JSON = ["theory", "criticality", "net.json", "--json"]
READ = {
    "fit: data": [*FIT, "table.csv"],
    "fit: network": ["fit", "table.csv", "--network", "net.json", "--out", "net.json"],
    "fit: store": [*STORED, "store"],
    "fit: header of the store": [*STORED, "store/zarr.json"],
    "fit: tile of the store": [*STORED, "store/c/0/0"],
    "fit: data as checkpoint": [*PCG, "table.csv"],
    "fit: checkpoint and model": [*PCG, "new"],
    "fit: data as folder": [*DISK, "table.csv"],
    "fit: store as folder": [*DISK, "store"],
    "predict: data": ["predict", "one.model", "table.csv", "--out", "table.csv"],
    "predict: model": ["predict", "one.model", "table.csv", "--out", "one.model"],
    "predict: results": ["predict", "results", "table.csv", "--out", "results"],
    "predict: model in results": [
        *["predict", "results", "table.csv", "--out", "results/model.safetensors"]
    ],
    "predict: file of results": [
        *["predict", "results", "table.csv", "--out", "results/predictions.csv"]
    ],
    "baseline: data": ["baseline", "table.csv", "--quick", "--out", "table.csv"],
    "baseline: data in results": [
        *["baseline", "results/predictions.csv", "--quick", "--out", "results"]
    ],
    "gram: data": ["gram", "table.csv", "--out", "table.csv"],
    "gram: folder of the data": ["gram", "table.csv", "--out", "."],
    "theory: network as numbers": [*JSON, "net.json"],
    "theory: both outputs": ["theory", "design", "0,1", "--json", "a.png", "--picture", "a.png"],
    "theory: data": ["theory", "learning-curve", "table.csv", "--json", "table.csv"],
}


def as_it_is(name):
    return name


def absolute(name):
    return Path(name).absolute()


def roundabout(name):
    return f"home/../{name}"


def linked(name):
    os.symlink(Path(name).absolute(), "a-link")
    return "a-link"


def hard_linked(name):
    os.link(name, "a-link")
    return "a-link"


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["plain", "overwrite"])
@pytest.mark.parametrize("case", READ)
def test_what_is_read_is_never_replaced(case, overwrite, refused, place):
    command = READ[case]
    before = files(place)
    refused(*command, *(overwrite if command[0] != "gram" else []))
    assert files(place) == before


@pytest.mark.parametrize("spelled", [absolute, roundabout, linked, hard_linked])
@pytest.mark.parametrize(
    "case",
    [
        "fit: data",
        "fit: data as checkpoint",
        "predict: data",
        "predict: model",
        "baseline: data",
        "theory: network as numbers",
        "theory: data",
    ],
)
def test_however_it_is_spelled(case, spelled, refused, place):
    *command, out = READ[case]
    out = spelled(out)
    before = files(place)
    refused(*command, out, "--overwrite")
    assert files(place) == before


PREDICT = ["predict", "one.model", "table.csv", "--out"]
DESIGN = ["theory", "design", "0,1", "--picture"]
FOREIGN = {
    "model": [*FIT, "notes"],
    "model: predictions": [*FIT, "predicted.csv"],
    "model: checkpoint": [*FIT, "iterates"],
    "checkpoint": [*PCG, "notes"],
    "checkpoint: model": [*PCG, "two.model"],
    "predictions": [*PREDICT, "notes"],
    "predictions: a table": ["predict", "results", "digits", "--out", "table.csv"],
    "predictions: model": [*PREDICT, "two.model"],
    "results": ["baseline", "table.csv", "--quick", "--out", "home"],
    "results: store": ["baseline", "table.csv", "--quick", "--out", "store"],
    "results: here": ["baseline", "table.csv", "--quick", "--out", "."],
    "numbers": ["theory", "criticality", "Relu()", "--json", "mine.json"],
    "picture": [*DESIGN, "mine.png"],
}


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_something_else_is_never_replaced(case, refused, place):
    before = files(place)
    for overwrite in ([], ["--overwrite"]):
        message = refused(*FOREIGN[case], *overwrite)
        assert "exists and is not" in message
        assert "name another" in message
        assert "delete" not in message
    assert files(place) == before


AGAIN = {
    "fit": [*FIT, "one.model"],
    "predict": [*PREDICT, "predicted.csv"],
    "numbers": ["theory", "criticality", "Relu()", "--json", "numbers.json"],
    "png": [*DESIGN, "drawn.png"],
    "svg": [*DESIGN, "drawn.svg"],
    "pdf": [*DESIGN, "drawn.pdf"],
    "baseline": ["baseline", "table.csv", "--target", "size", "--quick", "--out", "results"],
}


@pytest.mark.parametrize("case", AGAIN)
def test_an_earlier_result_is_replaced_on_request(case, run, refused, place):
    before = files(place)
    message = refused(*AGAIN[case])
    assert "add --overwrite to replace it" in message
    assert files(place) == before
    assert run(*AGAIN[case], "--overwrite").exit_code == 0
    after = files(place)
    assert after.keys() == before.keys()
    written = AGAIN[case][-1]
    assert {name for name in after if after[name] != before[name]} <= {
        name for name in after if name.split("/")[0] == written
    }


def test_the_default_folder_of_a_baseline_is_no_exception(run, refused, place):
    shutil.copytree("results", "kernreg-table")
    before = files(place)
    assert "kernreg-table exists" in refused("baseline", "table.csv", "--quick")
    assert files(place) == before


def test_what_can_go_on_goes_on(run, place):
    """A checkpoint, a factor and a store of the same job need no --overwrite."""
    before = files(place)
    for command in (
        [*PCG, "iterates"],
        [*DISK, "factor"],
        ["gram", "table.csv", "--network", "mlp(depth=1)", "--out", "store"],
    ):
        assert run(*command).exit_code == 0
        Path("new").unlink(missing_ok=True)
    after = files(place)
    after.pop("iterates"), before.pop("iterates")
    assert after == before


def test_an_empty_file_and_a_link_are_written_to(run, place):
    Path("empty").touch()
    assert run(*FIT, "empty").exit_code == 0
    assert TableModel.load("empty").task == "regression"
    os.symlink("later", "link")
    assert run(*FIT, "link").exit_code == 0
    assert os.readlink("link") == "later"
    assert TableModel.load("later").task == "regression"


def test_pipes_and_devices(run, refused, place, capfd):
    os.mkfifo("pipe")
    got = []
    reader = threading.Thread(target=lambda: got.append(Path("pipe").read_text()), daemon=True)
    reader.start()
    assert run(*PREDICT, "pipe").exit_code == 0
    reader.join(30)
    assert got == [Path("predicted.csv").read_text()]
    assert run(*PREDICT, os.devnull).exit_code == 0
    capfd.readouterr()
    assert run(*PREDICT, "/dev/stdout").exit_code == 0
    assert capfd.readouterr().out == got[0]
    for out in ("pipe", os.devnull, "/dev/stdout"):
        assert "a device or a pipe" in refused(*FIT, out)


def test_what_is_open_is_not_emptied(run, place, monkeypatch):
    """A file that the shell appends to."""
    with open("log", "w") as log:
        log.write("before\n")
        log.flush()
        assert run(*PREDICT, f"/dev/fd/{log.fileno()}").exit_code == 0
    assert Path("log").read_text() == "before\n" + Path("predicted.csv").read_text()


def draft(name):
    return f".{name}.{os.urandom(6).hex()}.tmp"


@pytest.mark.parametrize("case", ["fit", "predict", "baseline", "numbers", "png"])
def test_drafts_of_killed_runs_go_and_nothing_else(case, run, place):
    command = AGAIN[case]
    out = command[-1]
    name, parent = ("baseline", Path(out)) if case == "baseline" else (out, Path())
    inside = "report.html" if case == "baseline" else out
    before = files(place)
    left = parent / draft(name)
    left.mkdir()
    (left / inside).write_text("half")
    (parent / draft(name)).touch() if case != "baseline" else None
    others = [parent / draft(name), parent / draft(f"{name}.more"), parent / f".{name}.abc.tmp"]
    for path in others:
        path.mkdir()
        (path / "diary").write_text("mine")
    (parent / draft(name)).symlink_to(Path("home").absolute())
    kept = files(place).keys() - before.keys() - {str(left / inside)}
    kept = {k for k in kept if "diary" in k or Path(k).is_symlink()}
    with draft_folder(parent.absolute(), name) as living:
        (living / inside).write_text("of a run that goes on")
        assert run(*command, "--overwrite").exit_code == 0
        assert (living / inside).exists()
    assert files(place).keys() == before.keys() | kept
