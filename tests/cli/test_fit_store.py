"""``kernreg fit --store``: a model from the tiles that ``kernreg gram`` wrote."""

import numpy as np
import pytest

from kernreg import KernelOperator, nn
from kernreg.baseline import TableModel
from kernreg.datasets import load
from kernreg.operators import TileStore, write_store
from tests.baseline.problems import regression_table
from tests.operators.stores import change

pytest.importorskip("zarr")

NETWORK = ["--network", "mlp(depth=2, activation=Erf())", "--kernel", "nngp"]
NETWORK += ["--scaling", "common"]


def stored(run, tables, folder, *options):
    """A store of the prices."""
    result = run("gram", tables.prices, *NETWORK, *options, "--tile", 16, "--out", folder / "store")
    assert result.exit_code == 0, result.stderr
    return folder / "store"


def predictions(run, tables, folder, *options):
    """Of ``kernreg fit`` for the prices, by the saved model."""
    result = run("fit", tables.prices, *options, "--overwrite", "--out", folder / "model")
    assert result.exit_code == 0, result.stderr
    return TableModel.load(folder / "model").predict(load(tables.prices).X)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("solver", ["cholesky", "pcg", "out-of-core"])
def test_predicts_as_without_a_store(dtype, solver, run, tables, tmp_path):
    """Refined with float64 entries, or by a residual of 1e-8 in float64."""
    store = stored(run, tables, tmp_path, "--dtype", dtype)
    expected = predictions(run, tables, tmp_path, *NETWORK, "--alpha", 0.1)
    options = ["--alpha", 0.1, "--solver", solver]
    if solver == "out-of-core":
        options += ["--folder", tmp_path / "factor"]
    found = predictions(run, tables, tmp_path, *options, "--store", store)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_alpha_by_leave_one_out(run, refused, tables, tmp_path):
    """From float64 entries only: rounded ones would find another ridge."""
    narrow = stored(run, tables, tmp_path)
    predictions(run, tables, tmp_path, *NETWORK)
    expected = TableModel.load(tmp_path / "model").estimator.loo_
    for options in (["--alpha", "0.1,1"], ["--alpha", 0.1, "--solver", "eigh"]):
        arguments = ["fit", tables.prices, "--store", narrow, *options]
        message = refused(*arguments, "--out", tmp_path / "other")
        assert "holds float32 entries, too coarse" in message
    (tmp_path / "wide").mkdir()
    wide = stored(run, tables, tmp_path / "wide", "--dtype", "float64")
    predictions(run, tables, tmp_path, "--store", wide)
    found = TableModel.load(tmp_path / "model").estimator.loo_
    assert found.best == expected.best
    # The smallest ridge is 1e-8: both matrices round by 1e-16.
    np.testing.assert_allclose(found.squared_error, expected.squared_error, rtol=1e-5)


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg"])
def test_no_entry_is_evaluated_again(solver, run, tables, tmp_path, monkeypatch):
    """Where those of the store are float64; but the diagonal, which sets the scale of alpha."""
    store = stored(run, tables, tmp_path, "--dtype", "float64")

    def fail(*args):
        pytest.fail("an entry was evaluated")

    monkeypatch.setattr(KernelOperator, "lower_panel", fail)
    monkeypatch.setattr(KernelOperator, "tile", fail)
    monkeypatch.setattr(KernelOperator, "__matmul__", fail)
    options = ["--alpha", 0.1, "--solver", solver, "--store", store, "--out", tmp_path / "model"]
    assert run("fit", tables.prices, *options).exit_code == 0


def test_refused(run, refused, tables, tmp_path):
    store = stored(run, tables, tmp_path)
    regression_table().iloc[::-1].to_csv(tmp_path / "other.csv", index=False)
    regression_table()[["size", "price"]].to_csv(tmp_path / "narrow.csv", index=False)

    def message(data, *options, store=store):
        return refused("fit", data, "--store", store, *options, "--out", tmp_path / "model")

    other = "is the store of another network or other data"
    assert other in message(tmp_path / "other.csv", "--alpha", 0.1)
    assert "they have 4 features, these 1" in message(tmp_path / "narrow.csv", "--alpha", 0.1)
    for option in (NETWORK[:2], NETWORK[2:4], NETWORK[4:], ["--dtype", "float64"]):
        assert f"{option[0]} and --store do not go" in message(tables.prices, *option)
    for solver in ("restricted", "sketch"):
        text = message(tables.prices, "--alpha", 0.1, "--solver", solver)
        assert "use cholesky, pcg or out-of-core" in text
    assert "There is no tile store" in message(tables.prices, store=tmp_path / "none")
    assert not (tmp_path / "model").exists()


def test_a_store_without_a_note(run, refused, tables, tmp_path):
    """One written in Python, or damaged."""
    path = tmp_path / "store"
    write_store(path, KernelOperator(nn.mlp(depth=1), np.eye(4)))
    arguments = ["fit", tables.prices, "--alpha", 0.1, "--store", path, "--out", tmp_path / "model"]
    assert "write it by `kernreg gram`" in refused(*arguments)
    change(path, lambda _, kept: kept.update(note={"network": {}}))
    assert TileStore.open(path).note == {"network": {}}
    assert "has a damaged note" in refused(*arguments)


@pytest.mark.parametrize(
    "fn", ["builtins:print", "sys:settrace", "tests.cli.test_fit_store:called", "none:none"]
)
def test_a_note_that_names_a_function(fn, run, refused, tables, tmp_path, capsys):
    """Functions of the kernel's own modules included; nothing is looked up, nothing called."""
    store = stored(run, tables, tmp_path, "--dtype", "float64")
    layer = {"layer": "Elementwise", "fn": {"callable": fn}}
    network = {"layer": "Serial", "layers": [{"layer": "Dense"}, layer, {"layer": "Dense"}]}
    change(store, lambda _, kept: kept["note"].update(network=network))
    arguments = ["fit", tables.prices, "--alpha", 0.1, "--store", store]
    message = refused(*arguments, "--out", tmp_path / "model")
    assert f"names the Python function {fn}" in message
    assert "KernelRegressor(store=...)" in message
    assert not CALLS


CALLS = []


def called(x):
    CALLS.append(x)
    return x


@pytest.mark.parametrize(
    "note",
    [
        {"network": {"layer": "Mlp", "depth": 10**9}},
        {"network": "mlp(depth=2)"},
        {"network": "table.json"},
        {"network": None},
        {"mean": [float("nan")]},
        {"scale": [0.0]},
        {"scale": [-1.0]},
        {"scale": "wide"},
        {"kernel": "ntk "},
        {"scaling": None},
    ],
    ids=str,
)
def test_a_note_that_cannot_be_right(note, run, refused, tables, tmp_path):
    store = stored(run, tables, tmp_path)
    width = load(tables.prices).X.shape[1]
    note = {k: v * width if isinstance(v, list) else v for k, v in note.items()}
    change(store, lambda _, kept: kept["note"].update(note))
    arguments = ["fit", tables.prices, "--alpha", 0.1, "--store", store]
    assert "has a damaged note" in refused(*arguments, "--out", tmp_path / "model")
