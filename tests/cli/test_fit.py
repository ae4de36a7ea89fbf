"""``kernreg fit``."""

import re

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.baseline import TableModel
from kernreg.baseline.grid import ALPHAS
from kernreg.baseline.scaling import Scaler
from kernreg.datasets import load
from tests.baseline.problems import regression_table


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("scaling", ["standard", "common"])
def test_is_the_estimator_on_scaled_rows(kernel, scaling, run, tables, tmp_path):
    options = ["--network", "mlp(depth=2, activation=Erf(), W_std=1.5)", "--kernel", kernel]
    options += ["--alpha", "0.01", "--scaling", scaling]
    result = run("fit", tables.prices, *options, "--out", tmp_path / "model")
    assert result.exit_code == 0
    data = load(tables.prices)
    X = Scaler.fit(data.X, scaling).transform(data.X)
    network = nn.mlp(depth=2, activation=nn.Erf(), W_std=1.5)
    expected = KernelRegressor(network, kernel=kernel, alpha=0.01, dtype="float64").fit(X, data.y)
    model = TableModel.load(tmp_path / "model")
    assert np.array_equal(model.predict(data.X), expected.predict(X))
    assert "leave-one-out" not in result.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_conjugate_gradients(run, tables, tmp_path):
    """Both solve the same system to 1e-8 or better."""
    options = ["--alpha", "0.01", "--overwrite", "--out", tmp_path / "model"]
    predictions = []
    for solver in ("pcg", "cholesky"):
        assert run("fit", tables.prices, *options, "--solver", solver).exit_code == 0
        model = TableModel.load(tmp_path / "model")
        predictions.append(model.predict(load(tables.prices).X))
    np.testing.assert_allclose(predictions[0], predictions[1], rtol=1e-6)
    options = ["--solver", "pcg", "--out", tmp_path / "other"]
    result = run("fit", tables.prices, "--alpha", "0.1,1", *options)
    assert result.exit_code == 2
    assert "give alpha as one number" in " ".join(result.stderr.split())
    result = run("fit", tables.prices, *options)
    assert "on a sample of 40 rows." in " ".join(result.stdout.split())


def test_alpha_by_leave_one_out(run, tables, tmp_path):
    result = run("fit", tables.prices, "--out", tmp_path / "model")
    data = load(tables.prices)
    X = Scaler.fit(data.X, "standard").transform(data.X)
    expected = KernelRegressor(nn.mlp(depth=3), alpha=ALPHAS, dtype="float64").fit(X, data.y)
    loo = expected.loo_
    r2 = 1 - loo.squared_error[loo.best] / data.y.var()
    assert loo.best == np.argmin(loo.alphas)  # linear targets without noise
    words = " ".join(result.stdout.split())
    assert f"alpha 1e-08 (the smallest tried), leave-one-out R2 {r2:.4f}." in words
    assert "Fitted 40 rows of prices" in result.stdout
    model = TableModel.load(tmp_path / "model")
    assert np.array_equal(model.predict(data.X), expected.predict(X))


def test_alpha_among_several(run, tables, tmp_path):
    result = run("fit", tables.prices, "--alpha", "0.1,1e-3,0.01", "--out", tmp_path / "model")
    assert "alpha 0.001 (the smallest tried), leave-one-out" in " ".join(result.stdout.split())
    assert TableModel.load(tmp_path / "model").estimator.loo_.alphas.tolist() == [0.001, 0.01, 0.1]


def test_classes(run, tables, tmp_path):
    result = run("fit", tables.rings, "--out", tmp_path / "model")
    data = load(tables.rings)
    X = Scaler.fit(data.X, "standard").transform(data.X)
    expected = KernelClassifier(nn.mlp(depth=3), alpha=ALPHAS, dtype="float64").fit(X, data.y)
    accuracy = 100 * expected.loo_.accuracy[expected.loo_.best]
    assert f"leave-one-out accuracy {accuracy:.2f} %." in result.stdout
    assert np.array_equal(TableModel.load(tmp_path / "model").predict(data.X), expected.predict(X))


def test_network_as_json(run, tables, tmp_path):
    network = nn.serial(nn.Dense(), nn.residual(nn.serial(nn.Gelu(), nn.Dense())))
    (tmp_path / "net.json").write_text(nn.to_json(network))
    for text in (nn.to_json(network), tmp_path / "net.json", repr(network)):
        options = ["--network", text, "--overwrite", "--out", tmp_path / "m"]
        assert run("fit", tables.prices, *options).exit_code == 0
        assert TableModel.load(tmp_path / "m").estimator.network == network


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kernel", "rbf"], "--kernel is 'rbf'; expected ntk or nngp"),
        (["--scaling", "log"], "--scaling is 'log'; expected standard or common"),
        (["--alpha", "-1"], "--alpha is '-1'; expected auto, a number >= 0, or several"),
        (["--alpha", "1e-3,"], "--alpha is '1e-3,'; expected auto, a number >= 0, or several"),
        (["--alpha", "0,001"], "--alpha is '0,001'; expected auto, a number >= 0, or several > 0"),
        (["--alpha", "1,nan"], "--alpha is '1,nan'; expected auto, a number >= 0, or several"),
        (["--alpha", "nan"], "--alpha is 'nan'"),
        (["--alpha", "inf"], "--alpha is 'inf'"),
        (["--alpha", "small"], "--alpha is 'small'"),
        (["--network", "Oracle()"], "Unknown layer 'Oracle'"),
    ],
)
def test_bad_arguments(options, message, refused, tables, empty):
    assert message in refused("fit", tables.prices, *options, "--out", empty / "model")


def test_duplicate_rows_without_a_ridge(run, tmp_path):
    """The targets of equal rows are averaged, which is what the limit of a small ridge gives."""
    frame = regression_table(20)[["size", "weight", "price"]]
    dearer = frame.assign(price=frame["price"] + 1)
    np.save(tmp_path / "t.npy", np.concatenate([frame, dearer]))
    assert run("fit", tmp_path / "t.npy", "--alpha", 0, "--out", tmp_path / "m").exit_code == 0
    predicted, _ = TableModel.load(tmp_path / "m").predict_data(str(tmp_path / "t.npy"))
    # Interpolation with a condition number below 1e7 or so, in float64.
    assert np.abs(predicted[:20] - (frame["price"] + 0.5)).max() < 1e-6
    assert np.array_equal(predicted[:20], predicted[20:])


def test_zero_rows_and_constant_columns(run, tmp_path):
    frame = regression_table(20)[["size", "weight", "price"]]
    frame.insert(0, "always", 3.0)
    frame.iloc[4:6, 1:3] = 0.0
    frame.to_csv(tmp_path / "t.csv", index=False)
    result = run("fit", tmp_path / "t.csv", "--scaling", "common", "--out", tmp_path / "m")
    assert result.exit_code == 0
    predicted, truth = TableModel.load(tmp_path / "m").predict_data(str(tmp_path / "t.csv"))
    assert np.isfinite(predicted).all()
    assert np.mean((predicted - truth) ** 2) < np.var(truth)


def test_says_how_it_was_fitted(run, tables, tmp_path):
    options = ["--solver", "pcg", "--alpha", 1e-3, "--out", tmp_path / "model"]
    result = run("fit", tables.prices, *options)
    solution = TableModel.load(tmp_path / "model").estimator.solution_
    pattern = r"pcg \(OK\), (\d+) iterations, relative residual (\S+), .* s; ntk of mlp\("
    found = re.search(pattern, " ".join(result.stdout.split()))
    assert int(found[1]) == solution.stats.iterations
    assert float(found[2]) == pytest.approx(solution.stats.residuals[-1], rel=0.06)


def test_scales_of_columns(run, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((150, 5))
    path = tmp_path / "table.csv"
    rows = np.column_stack([X, np.sin(2.0 * X[:, 3])])
    np.savetxt(path, rows, delimiter=",", header="a,b,c,d,e,y", comments="")
    options = ["--target", "y", "--network", "mlp(depth=1, activation=Erf(), b_std=0.3)"]
    result = run("fit", path, *options, "--scales", "--out", tmp_path / "model")
    assert result.exit_code == 0
    # Terminals break lines.
    said = " ".join(result.stdout.split())
    assert re.search(r"Shares of the columns in the slopes of predictions: d \d+\.\d %", said)
    model = TableModel.load(tmp_path / "model")
    data = load(path, "y")
    Z = Scaler.fit(data.X, "standard").transform(data.X)
    network = nn.mlp(depth=1, activation=nn.Erf(), b_std=0.3)
    expected = KernelRegressor(network, dtype="float64", scale="ard").fit(Z, data.y)
    assert np.array_equal(model.predict(data.X), expected.predict(Z))


@pytest.mark.parametrize("other", [["--model", "gp"], ["--store", "tiles"]])
def test_scales_are_for_ridge_without_a_store(other, run, tables, tmp_path):
    result = run("fit", tables.prices, "--scales", *other, "--out", tmp_path / "model")
    assert result.exit_code != 0
    assert "--scales is for --model ridge without --store" in result.stderr
