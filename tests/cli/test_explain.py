"""``kernreg explain``: what would happen, without doing it."""

import importlib
import re

import numpy as np
import pytest

from kernreg import KernelOperator, nn
from kernreg.baseline import Settings, splits
from kernreg.baseline.grid import networks
from kernreg.baseline.scaling import Scaler
from kernreg.datasets import load
from kernreg.solvers.work import DISK, EIGH, READ, flop, square
from tests.baseline.problems import regression_table


@pytest.fixture(autouse=True)
def nothing_is_computed(monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("a kernel was computed")

    monkeypatch.setattr(importlib.import_module("kernreg.baseline.outcome"), "search", fail)
    monkeypatch.setattr("kernreg.solvers.all_ridges.AllRidges.init", fail)
    monkeypatch.setattr("kernreg.solvers.cholesky.in_memory.Cholesky.init", fail)
    # Times come from measurements on other matrices.
    units = [unit(dtype) for unit in (flop, square) for dtype in ("float32", "float64")]
    rates = dict.fromkeys([*units, EIGH, READ, DISK], 1e-9)
    monkeypatch.setattr("kernreg.planning.probe._machine", lambda device: rates)
    monkeypatch.setattr("kernreg.planning.probe.Probe.iterations", lambda probe, solver: 10)


def fields(text):
    """Label to text of each line."""
    pairs = [(line[:10].strip(), line[10:]) for line in text.splitlines()]
    return {label: [rest for found, rest in pairs if found == label] for label, _ in pairs}


def table(text):
    """Words of the lines of the plan, which ends the text."""
    rest = text.partition("plan      ")[2]
    return [line.split() for line in rest.splitlines()]


def test_network(run):
    result = run("explain", "mlp(depth=2, W_std=1.5)")
    assert result.exit_code == 0
    network = nn.mlp(depth=2, W_std=1.5)
    assert f"network   {network!r}\n" in result.stdout
    first, *rest = str(network.program()).splitlines()
    assert f"program   {first}\n" + "".join(f"{'':10}{line}\n" for line in rest) in result.stdout
    flops = network.program().flops()
    assert f"cost      about {flops} operations per kernel entry\n" in result.stdout
    assert "backend   reference: yes\n" in result.stdout


def test_data(run, tables):
    result = run("explain", tables.prices)
    assert result.exit_code == 0
    data = load(tables.prices)
    ((train, test),) = splits(data, Settings())
    found = fields(result.stdout)
    assert found["data"] == ["prices: 40 rows, 4 features (size, weight, colour=blue, colour=red)"]
    assert found["task"] == ["regression of price"]
    assert found["split"] == [f"{len(train)} training rows, {len(test)} test rows"]
    assert found["scaling"] == ["standard"]
    kernels = 2 * len(networks(("standard",)))
    assert found["round 1"] == [f"{len(train)} rows, {kernels} kernels"]
    assert found["note"] == list(data.notes)


def test_rounds(run, tmp_path):
    frame = regression_table(900)
    frame.to_csv(tmp_path / "t.csv", index=False)
    found = fields(run("explain", tmp_path / "t.csv").stdout)
    assert found["round 1"][0].startswith("500 rows, ")
    assert found["round 2"] == ["720 rows, 24 kernels"]


def test_plan_of_a_fit(run, tables):
    result = run("explain", "mlp(depth=3)", "--data", tables.prices, "--max-memory", "1GB")
    assert result.exit_code == 0
    found = fields(result.stdout)
    assert found["model"] == ["KernelRegressor"]
    assert found["data"] == ["40 rows, 4 features, 1 target"]
    assert found["dtype"] == ["float64"]
    assert "1 GB allowed" in result.stdout
    classes = run("explain", "mlp(depth=3)", "--data", tables.rings)
    assert fields(classes.stdout)["model"] == ["KernelClassifier"]


def test_the_plan_is_that_of_fit(run, tables, tmp_path, monkeypatch):
    """``fit`` tries 17 ridges by default, for which another solver is better than for one."""
    options = ["--data", tables.prices, "--no-seconds"]
    plan = table(run("explain", "mlp(depth=3)", *options).stdout)
    monkeypatch.undo()
    assert run("fit", tables.prices, "--out", tmp_path / "m").exit_code == 0
    from kernreg.baseline import TableModel

    fitted = TableModel.load(tmp_path / "m").estimator.plan_
    assert plan == [line.split() for line in str(fitted).splitlines()]


@pytest.mark.parametrize("scaling", ["standard", "common"])
def test_iterations_are_counted_on_scaled_rows(scaling, run, tables, monkeypatch):
    """As ``fit`` scales them: other rows have another spectrum."""
    seen = []

    def noted(probe, solver):
        seen.append(probe._operator.to_dense())
        return 10

    monkeypatch.setattr("kernreg.planning.probe.Probe.iterations", noted)
    options = ["--data", tables.prices, "--alpha", 0.1, "--solver", "pcg", "--scaling", scaling]
    result = run("explain", "mlp(depth=2)", *options, "--kernel", "nngp")
    assert fields(result.stdout)["kernel"] == ["nngp"]
    data = load(tables.prices)
    X = Scaler.fit(data.X, scaling).transform(data.X)
    assert np.array_equal(seen[0], KernelOperator(nn.mlp(depth=2), X, kernel="nngp").to_dense())


@pytest.mark.parametrize("max_memory", ["1B", "1kB", "20kB"])
def test_not_enough_memory(max_memory, run, tables):
    """The verdict on every solver is the explanation, of a search and of a fit alike."""
    for what in ([tables.prices], ["mlp(depth=1)", "--data", tables.prices]):
        result = run("explain", *what, "--max-memory", max_memory)
        assert result.exit_code == 0
        (plan,) = fields(result.stdout)["plan"]
        assert re.match(r"does not fit: cholesky needs \S+ kB and banded needs \S+ kB ", plan)
        assert re.search(r"Remedies: allow \S+ kB by --max-memory", plan)
        assert len(fields(result.stdout)["data"]) == 1


def test_only_what_was_asked_for_is_said_to_be(run, tables):
    for what in ([tables.prices], ["mlp(depth=1)", "--data", tables.prices]):
        text = run("explain", *what).stdout
        assert "asked for" not in text
        assert "for each ridge" in text
        assert "not used" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mlpp"], "digits, iris, wine. Did you mean 'mlp'?"),
        (["mlpp"], "'mlpp' is no network such as mlp(depth=2), no file and no scikit-learn set;"),
        (["mlp"], "'mlp' lacks its parentheses: write mlp(...)."),
        (["Oracle()"], "Unknown layer 'Oracle'"),
        (["Relu()"], "stands directly on the input"),
        (["mlp(", "--data", "iris"], "is not a network"),
        (["iris", "--target", "x"], "has its own target"),
    ],
)
def test_bad_arguments(arguments, message, refused):
    assert message in refused("explain", *arguments)


def test_bad_data(refused, tmp_path):
    regression_table().assign(size=np.nan).to_csv(tmp_path / "t.csv", index=False)
    data = [tmp_path / "t.csv", "--impute", "none"]
    assert "'size' (40)" in refused("explain", *data)
    assert "'size' (40)" in refused("explain", "mlp(depth=1)", "--data", *data)


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg", "sketch", "restricted"])
def test_plan_of_a_solver(solver, run, tables):
    options = ["--data", tables.prices, "--solver", solver, "--alpha", "0.1", "--dtype", "float32"]
    result = run("explain", "mlp(depth=2)", *options)
    assert result.exit_code == 0
    (row,) = [row for row in table(result.stdout) if row[-3:] == ["taken:", "asked", "for"]]
    assert row[0] == solver
    assert re.match(r"\d\S* (s|min|h|d)$", " ".join(row[-5:-3]))
    assert "float32" in result.stdout


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [("--solver", "magic", "auto or cholesky"), ("--dtype", "float16", "float64 or float32")],
)
def test_unknown_choice(option, value, expected, run, tables):
    result = run("explain", "mlp(depth=2)", "--data", tables.prices, option, value)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
