"""``fit --model``, ``predict --interval`` and ``--proba``."""

import csv
import io

import numpy as np
import pytest

from kernreg.baseline import TableModel
from kernreg.datasets import load


@pytest.fixture(scope="session")
def fitted(run, tables, tmp_path_factory):
    """``fitted("gp", "prices", ...)``: the path of a model, fitted once."""
    folder, made = tmp_path_factory.mktemp("kinds"), {}

    def fit(kind, name, *options):
        key = (kind, name, *options)
        if key not in made:
            made[key] = folder / f"model-{len(made)}"
            data = getattr(tables, name)
            result = run("fit", data, "--model", kind, *options, "--out", made[key])
            assert result.exit_code == 0, result.output
        return made[key]

    return fit


def columns(text):
    rows = list(csv.reader(io.StringIO(text)))
    return {name: [row[i] for row in rows[1:]] for i, name in enumerate(rows[0])}


def numbers(values):
    return np.array([float(value) for value in values])


@pytest.mark.parametrize(
    ("kind", "name", "estimator"),
    [
        ("ridge", "prices", "KernelRegressor"),
        ("gp", "prices", "GaussianProcessRegressor"),
        ("ensemble", "prices", "EnsembleRegressor"),
        ("ridge", "rings", "KernelClassifier"),
        ("gp", "rings", "GaussianProcessClassifier"),
    ],
)
def test_kinds(run, fitted, tables, kind, name, estimator):
    path = fitted(kind, name)
    model = TableModel.load(path)
    assert type(model.estimator).__name__ == estimator
    result = run("predict", path, getattr(tables, name))
    expected = model.predict(load(getattr(tables, name)).X)
    found = columns(result.stdout)[f"predicted_{model.target_name}"]
    assert found == [str(value) for value in expected.tolist()]


@pytest.mark.parametrize("kind", ["ridge", "gp"])
def test_interval(run, fitted, tables, kind):
    path = fitted(kind, "prices")
    result = run("predict", path, tables.prices, "--interval", "0.8")
    table = columns(result.stdout)
    assert list(table) == ["row", "predicted_price", "lower_0.8", "upper_0.8"]
    lower, upper = TableModel.load(path).interval(load(tables.prices).X, 0.8)
    np.testing.assert_array_equal(numbers(table["lower_0.8"]), lower)
    np.testing.assert_array_equal(numbers(table["upper_0.8"]), upper)
    assert (lower < upper).all()


@pytest.mark.parametrize("kind", ["ridge", "gp"])
def test_probabilities(run, fitted, tables, kind):
    result = run("predict", fitted(kind, "rings"), tables.rings, "--proba")
    table = columns(result.stdout)
    predicted = table.pop(next(name for name in table if name.startswith("predicted_")))
    names = [name for name in table if name != "row"]
    values = np.array([numbers(table[name]) for name in names])
    np.testing.assert_allclose(values.sum(axis=0), 1.0, rtol=1e-12)
    said = [names[i].removeprefix("probability_") for i in values.argmax(axis=0)]
    assert said == predicted


def test_what_was_tuned_is_told(run, tables, tmp_path):
    out = tmp_path / "m"
    told = run("fit", tables.prices, "--model", "gp", "--out", out).stdout.replace("\n", " ")
    model = TableModel.load(out).estimator
    assert f"{model.noise_**0.5:.4g}" in told
    assert f"{model.log_marginal_likelihood_value_:.6g}" in told
    assert model.kernel_ == "nngp"
    assert model.theta_[0] != np.log(2**0.5)


def test_noise_of_the_target(fitted):
    model = TableModel.load(fitted("gp", "prices", "--noise", "4.5", "--no-tune")).estimator
    assert model.noise_ == 4.5
    assert repr(model.network_) == repr(model.network)


def test_time_and_steps(fitted, tables):
    X = load(tables.prices).X
    never = TableModel.load(fitted("ensemble", "prices", "--time", "0"))
    assert not never.predict(X).any()
    steps = TableModel.load(
        fitted("ensemble", "prices", "--steps", "3", "--learning-rate", "0.1")
    ).estimator
    assert (steps.steps, steps.learning_rate) == (3, 0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "svm"], "expected ridge or gp or ensemble"),
        (["--model", "gp", "--alpha", "0.1", "--noise", "1"], "give one"),
        (["--model", "gp", "--noise", "-1"], "expected a variance > 0"),
        (["--model", "gp", "--alpha", "0"], "--no-tune"),
        (["--model", "gp", "--alpha", "1e-2,1e-3"], "takes one --alpha"),
        (["--model", "gp", "--dtype", "float32"], "works in float64"),
        (["--noise", "1"], "--noise is for --model gp"),
        (["--no-tune"], "--tune/--no-tune is for --model gp"),
        (["--model", "gp", "--time", "1"], "--time is for --model ensemble"),
        (["--model", "ensemble", "--time", "-1"], "expected a number >= 0"),
        (["--model", "ensemble", "--time", "1", "--steps", "1"], "give one"),
        (["--model", "ensemble", "--learning-rate", "0"], "expected a number > 0"),
        (["--model", "ensemble", "--solver", "pcg"], "auto or eigh"),
    ],
)
def test_what_does_not_belong_together(refused, tables, tmp_path, options, message):
    told = refused("fit", tables.prices, *options, "--out", tmp_path / "m")
    assert message in told
    assert not list(tmp_path.iterdir())


def test_ensembles_are_for_numbers(refused, tables, tmp_path):
    told = refused("fit", tables.rings, "--model", "ensemble", "--out", tmp_path / "m")
    assert "no model of kind 'ensemble' for classification" in told


def test_steps_that_diverge_are_named(run, tables, tmp_path):
    arguments = ["--model", "ensemble", "--steps", "2", "--learning-rate", "100"]
    result = run("fit", tables.prices, *arguments, "--out", tmp_path / "m")
    assert result.exit_code == 0
    limit = TableModel.load(tmp_path / "m").estimator.largest_learning_rate_
    assert f"{limit:.6g}" in result.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("kind", "name", "option", "message"),
    [
        ("gp", "prices", ["--interval", "1"], "probability between 0 and 1"),
        ("gp", "prices", ["--proba"], "Ask for an interval"),
        ("gp", "rings", ["--interval", "0.9"], "Ask for probabilities"),
        ("ensemble", "prices", ["--interval", "0.9"], "no interval for new targets"),
        ("ridge", "prices", ["--interval", "0.999"], "rows left out cannot tell"),
    ],
)
def test_what_a_model_cannot_tell(refused, fitted, tables, kind, name, option, message):
    data = getattr(tables, name)
    assert message in refused("predict", fitted(kind, name), data, *option)
