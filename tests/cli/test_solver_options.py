"""``kernreg fit`` with settings of its solver: what they do, and where they do not belong."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from kernreg.baseline import TableModel
from kernreg.datasets import load
from kernreg.solvers import PCG, Problem, SketchAndProject

ONE = ["--alpha", "0.01"]


@pytest.fixture
def fitted(run, tables, tmp_path):
    """``fitted(options)`` is the model of ``kernreg fit`` for the prices."""

    def fit(*options):
        result = run("fit", tables.prices, *options, "--overwrite", "--out", tmp_path / "model")
        assert result.exit_code == 0, result.stderr
        return TableModel.load(tmp_path / "model")

    return fit


@pytest.fixture
def exact(fitted, tables):
    """Predictions by Cholesky."""
    return fitted(*ONE, "--solver", "cholesky").predict(load(tables.prices).X)


@pytest.mark.parametrize(("solver", "rtol"), [("pcg", 1e-6), ("sketch", 1e-4)])
def test_checkpoint(solver, rtol, fitted, refused, exact, tables, tmp_path):
    """It is read: a run goes on from it to the tolerance, and one for another ridge is refused."""
    options = ["--solver", solver, "--checkpoint", tmp_path / "checkpoint"]
    fitted(*ONE, *options, "--tol", 0.1)
    model = fitted(*ONE, *options)
    np.testing.assert_allclose(model.predict(load(tables.prices).X), exact, rtol=rtol)
    other = ["--alpha", "0.02", *options, "--out", tmp_path / "other"]
    assert "belongs to another problem" in refused("fit", tables.prices, *other)


@pytest.mark.parametrize("solver", ["pcg", "sketch"])
def test_tolerance(solver, fitted):
    """Other settings are those of the name alone."""
    named = {"pcg": PCG.within(Problem(40, 4), 4 * 10**9), "sketch": SketchAndProject()}
    found = fitted(*ONE, "--solver", solver, "--tol", "0.1").estimator.solver
    assert found == replace(named[solver], tol=0.1)


def test_factor_on_disk(fitted, exact, tables, tmp_path):
    options = [*ONE, "--solver", "out-of-core", "--folder", tmp_path / "factor"]
    model = fitted(*options)
    # Both are float64 factors of the same matrix, whose condition is below 1e6.
    np.testing.assert_allclose(model.predict(load(tables.prices).X), exact, rtol=1e-8)
    assert model.estimator.plan_.solver == "out_of_core"
    panels = {p: p.stat().st_mtime_ns for p in (tmp_path / "factor").glob("*") if p.name != "lock"}
    assert len(panels) >= 2
    fitted(*options)
    assert {p: p.stat().st_mtime_ns for p in panels} == panels


def test_memory_of_a_factor_on_disk(refused, tables, empty):
    options = [*ONE, "--solver", "out-of-core", "--folder", empty, "--max-memory", "20kB"]
    message = refused("fit", tables.prices, *options, "--out", empty / "m")
    assert re.search(r"out_of_core needs \S+ kB .* allowed are 20 kB\. .*by --max-memory", message)


@pytest.mark.parametrize("alpha", ["auto", "0.01"])
def test_centres(alpha, fitted):
    model = fitted("--alpha", alpha, "--solver", "restricted", "--centres", 15)
    assert model.estimator.X_fit_.shape == (15, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--checkpoint", "x"],
            "--checkpoint is for --solver pcg or sketch, and --solver is 'auto'",
        ),
        (["--solver", "cholesky", "--tol", "0.1"], "--tol is for --solver pcg or sketch"),
        (["--solver", "pcg", "--centres", "3"], "--centres is for --solver restricted"),
        (["--solver", "pcg", "--folder", "x"], "--folder is for --solver out-of-core"),
        ([*ONE, "--solver", "out-of-core"], "say where by --folder DIR"),
        (
            ["--solver", "out-of-core", "--folder", "x", "--alpha", "1e-3,1"],
            "give alpha as one number",
        ),
        (["--solver", "pcg", *ONE, "--tol", "2"], "--tol is 2; expected a number between 0 and 1"),
        (["--device", "tpu"], "device must be 'cpu' or 'cuda', found 'tpu'"),
        (
            ["--solver", "pcg", *ONE, "--checkpoint", "no/folder"],
            "no/folder cannot be written: No such file or directory. Name another file with "
            "--checkpoint",
        ),
    ],
)
def test_what_does_not_belong_together(options, message, refused, tables, empty, monkeypatch):
    monkeypatch.chdir(empty)
    assert message in refused("fit", tables.prices, *options, "--out", empty / "model")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_no_gpu(refused, tables, empty):
    message = refused("fit", tables.prices, "--device", "cuda", "--out", empty / "model")
    assert "'cuda' is not there" in message


def test_explain_takes_them_too(run, tables, tmp_path):
    command = ["explain", "mlp(depth=1)", "--data", tables.prices, *ONE, "--no-seconds"]
    for options in (
        ["--solver", "out-of-core", "--folder", tmp_path / "factor"],
        ["--solver", "restricted", "--centres", 10],
        ["--solver", "sketch", "--tol", 0.1],
    ):
        result = run(*command, *options)
        assert result.exit_code == 0, result.stderr
        assert f"{options[1].replace('-', '_')} " in result.stdout
    assert not (tmp_path / "factor").exists()
