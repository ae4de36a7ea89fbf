"""Gradients of models, learned scales and learned metrics."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from kernreg import (
    ColumnScales,
    FeatureClassifier,
    FeatureRegressor,
    KernelClassifier,
    KernelRegressor,
    input_gradient,
    nn,
)
from kernreg.exceptions import InvalidInputError

NET = nn.mlp(1, nn.Relu(), 1.4, 0.3)


def one_column(n=240, d=6, column=2, seed=0):
    """A function of one column among several."""
    X = np.random.default_rng(seed).standard_normal((n, d))
    return X, np.sin(2.0 * X[:, column]) + 0.01 * X[:, 0]


@pytest.mark.parametrize("targets", [1, 2])
def test_input_gradient_is_that_of_differences(targets):
    X, y = one_column(60, 4)
    y = y if targets == 1 else np.column_stack([y, X[:, 1] ** 2])
    model = KernelRegressor(NET, alpha=1e-3).fit(X, y)
    Z = np.random.default_rng(1).standard_normal((3, 4))
    found, step = input_gradient(model, Z), 1e-5
    for column in range(4):
        moved = np.zeros(4)
        moved[column] = step
        want = (model.predict(Z + moved) - model.predict(Z - moved)) / (2 * step)
        # Rounding of predictions of size 1 over the step, and its square.
        np.testing.assert_allclose(found[..., column], want, atol=1e-8, rtol=1e-8)


def test_input_gradient_goes_by_tiles(monkeypatch):
    X, y = one_column(50, 3)
    model = KernelRegressor(NET, alpha=1e-3).fit(X, y)
    whole = input_gradient(model, X)
    monkeypatch.setattr("kernreg.estimators.input_gradients._TILE", 7)
    np.testing.assert_allclose(input_gradient(model, X), whole, rtol=1e-12, atol=1e-12)


def test_input_gradient_of_a_classifier_is_that_of_decisions():
    X, y = one_column(80, 3)
    model = KernelClassifier(NET, alpha=1e-2).fit(X, y > 0)
    Z, step = X[:2] + 0.1, 1e-5
    found = input_gradient(model, Z)
    moved = np.array([0.0, 0.0, step])
    want = (model.decision_function(Z + moved) - model.decision_function(Z - moved)) / (2 * step)
    np.testing.assert_allclose(found[:, 2], want, atol=1e-8, rtol=1e-8)


def test_input_gradient_of_images_is_refused():
    X = np.random.default_rng(0).standard_normal((12, 5, 5, 1))
    model = KernelRegressor(nn.cnn(1, readout="flatten"), alpha=1e-3).fit(X, X[:, 0, 0, 0])
    with pytest.raises(InvalidInputError, match="not available"):
        input_gradient(model, X.reshape(12, -1))


def test_scales_find_the_column_that_matters():
    X, y = one_column()
    scales = ColumnScales(NET).fit(X, y)
    assert scales.feature_importances_.argmax() == 2
    assert scales.feature_importances_[2] > 0.9
    assert scales.feature_importances_.sum() == pytest.approx(1.0, rel=1e-12)
    assert scales.errors_["scaled"] < 0.5 * scales.errors_["plain"]
    Z, z = one_column(300, seed=5)
    plain = KernelRegressor(NET).fit(X, y).score(Z, z)
    learned = make_pipeline(scales, KernelRegressor(NET)).fit(X, y).score(Z, z)
    assert 1 - learned < 0.3 * (1 - plain)


def test_scales_stay_where_no_column_stands_out():
    """Targets of noise: no scales predict rows that were left out."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((80, 5)), rng.standard_normal(80)
    scales = ColumnScales(NET).fit(X, y)
    if scales.errors_["scaled"] >= scales.errors_["plain"]:
        assert (scales.scales_ == 1.0).all()
    np.testing.assert_array_equal(scales.transform(X), X * scales.scales_)


def test_scales_are_bounded_and_constant_columns_harmless():
    X, y = one_column(120)
    X = np.column_stack([X, np.full(len(X), 3.0), np.zeros(len(X))])
    scales = ColumnScales(NET, penalty=0.0).fit(X, y)
    assert np.isfinite(scales.scales_).all()
    logs = np.log(scales.scales_)
    assert logs.min() >= -7.0
    assert logs.max() <= 3.0
    assert scales.feature_importances_[6:].tolist() == [0.0, 0.0]


def test_the_gradient_of_the_loss_is_that_of_differences():
    import torch

    from kernreg.estimators.scales import _Problem

    X, y = one_column(30, 3)
    arrays = (X, y[:, None], np.linspace(0.5, 2.0, 30))
    problem = _Problem(NET, "ntk", *map(torch.from_numpy, arrays), 1e-2)
    theta = np.array([0.3, -0.2, 0.1, -2.0])
    _, slope = problem.value(theta)
    for k in range(4):
        step = np.zeros(4)
        step[k] = 1e-5
        want = (problem.value(theta + step)[0] - problem.value(theta - step)[0]) / 2e-5
        assert slope[k] == pytest.approx(want, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("metric", ["full", "diagonal"])
def test_metric_finds_the_direction_that_matters(metric):
    X, y = one_column()
    model = FeatureRegressor(NET, metric=metric).fit(X, y)
    assert model.turn_ > 0
    assert model.feature_importances_.argmax() == 2
    Z, z = one_column(300, seed=5)
    plain = KernelRegressor(NET).fit(X, y).score(Z, z)
    assert 1 - model.score(Z, z) < 0.5 * (1 - plain)
    np.testing.assert_allclose(model.metric_, model.root_ @ model.root_.T, rtol=1e-12)
    if metric == "diagonal":
        assert np.count_nonzero(model.metric_ - np.diag(np.diagonal(model.metric_))) == 0


def test_turn_0_is_the_plain_kernel():
    X, y = one_column(60)
    model = FeatureRegressor(NET, alpha=1e-3, turns=0).fit(X, y)
    plain = KernelRegressor(NET, alpha=1e-3).fit(X, y)
    np.testing.assert_allclose(model.predict(X), plain.predict(X), rtol=1e-12, atol=1e-12)


def test_classifier_learns_a_metric():
    X, y = one_column()
    model = FeatureClassifier(NET).fit(X, np.where(y > 0, "up", "down"))
    assert model.classes_.tolist() == ["down", "up"]
    Z, z = one_column(300, seed=5)
    plain = KernelClassifier(NET).fit(X, np.where(y > 0, "up", "down"))
    score = model.score(Z, np.where(z > 0, "up", "down"))
    assert score > plain.score(Z, np.where(z > 0, "up", "down")) + 0.05
    assert model.predict_proba(Z).shape == (300, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"turns": -1}, "turns must be a whole number"),
        ({"metric": "none"}, "metric must be 'full' or 'diagonal'"),
        ({"power": 0.0}, "power must be in"),
        ({"held_out": 1.0}, "held_out must be between"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InvalidInputError, match=message):
        FeatureRegressor(NET, **options).fit(*one_column(20))


@pytest.mark.parametrize("options", [{"max_rows": 5}, {"max_iter": 0}, {"penalty": -1.0}])
def test_bad_options_of_scales(options):
    with pytest.raises(InvalidInputError, match="max_rows must be at least 10"):
        ColumnScales(NET, **options).fit(*one_column(20))
