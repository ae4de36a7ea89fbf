"""Sample weights: a weight is a number of equal rows."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from kernreg import KernelClassifier, KernelRegressor, load, nn
from kernreg.exceptions import InvalidInputError

NET = nn.mlp(depth=2)


def problem():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 4))
    w = rng.integers(0, 4, 30)
    w[:2] = 0, 3
    return X, rng.standard_normal((30, 2)), w, rng.standard_normal((20, 4))


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
@pytest.mark.parametrize("alpha_scale", ["mean_diag", "absolute"])
def test_integer_weights_are_repeated_rows(solver, alpha_scale):
    X, y, w, Xt = problem()
    model = KernelRegressor(NET, alpha=1e-2, alpha_scale=alpha_scale, solver=solver)
    weighted = model.fit(X, y, sample_weight=w).predict(Xt)
    assert len(model.X_fit_) == np.count_nonzero(w)
    repeated = model.fit(np.repeat(X, w, axis=0), np.repeat(y, w, axis=0)).predict(Xt)
    # Condition numbers are at most (sum of weights) / alpha, about 1e4.
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-10)


def test_integer_weights_are_repeated_rows_without_a_ridge():
    X, y, w, Xt = problem()
    model = KernelRegressor(NET, alpha=0)
    weighted = model.fit(X, y, sample_weight=w).predict(Xt)
    repeated = model.fit(np.repeat(X, w, axis=0), np.repeat(y, w, axis=0)).predict(Xt)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-10)


def test_weights_that_differ_by_a_factor_change_an_absolute_ridge():
    X, y, w, Xt = problem()
    one = KernelRegressor(NET, alpha=1.0, alpha_scale="absolute").fit(X, y, sample_weight=w)
    two = KernelRegressor(NET, alpha=3.0, alpha_scale="absolute").fit(X, y, sample_weight=3 * w)
    np.testing.assert_allclose(one.predict(Xt), two.predict(Xt), rtol=1e-10, atol=1e-12)


def test_classifier_weights_are_repeated_rows():
    X, y, w, Xt = problem()
    labels = np.argmax(np.column_stack([y, np.zeros(30)]), axis=1)
    model = KernelClassifier(NET, alpha=1e-2)
    weighted = model.fit(X, labels, sample_weight=w).decision_function(Xt)
    repeated = model.fit(np.repeat(X, w, axis=0), np.repeat(labels, w)).decision_function(Xt)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-10)


def test_a_class_of_weight_zero_does_not_exist():
    X, _, _, _ = problem()
    labels = np.arange(30) % 3
    model = KernelClassifier(NET).fit(X, labels, sample_weight=(labels != 1).astype(float))
    assert model.classes_.tolist() == [0, 2]


@pytest.mark.parametrize("weights", [-1.0, [-1.0] * 30, [np.nan] * 30, [1.0] * 29, [0.0] * 30])
def test_unusable_weights(weights):
    X, y, _, _ = problem()
    with pytest.raises(ValueError, match=r"(?i)weight"):
        KernelRegressor(NET).fit(X, y, sample_weight=weights)


@pytest.mark.parametrize(
    "weights",
    [np.nan, np.inf, -np.inf, np.r_[np.ones(29), np.nan], np.r_[np.inf, np.ones(29)].tolist()],
)
@pytest.mark.parametrize("model", [KernelRegressor(NET), KernelClassifier(NET, alpha=0.1)])
def test_weights_that_are_no_numbers_are_named_first(model, weights):
    """Whatever else is wrong."""
    with pytest.raises(InvalidInputError, match=r"^sample_weight contains NaN or infinity"):
        model.fit(np.full((30, 2), np.nan), None, sample_weight=weights)


@pytest.mark.parametrize("weights", [np.full(30, 1e308), np.r_[1e-310, np.ones(29)]])
def test_weights_beyond_what_can_be_added(weights):
    X, y, _, _ = problem()
    with pytest.raises(InvalidInputError, match=r"^sample_weight ranges from .* scale the weights"):
        KernelRegressor(NET).fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("labels", [np.arange(30) % 3, np.array(list("aab"))[np.arange(30) % 3]])
def test_weights_of_classes_are_weights_of_their_rows(labels):
    X, _, w, Xt = problem()
    names = np.unique(labels)
    factors = dict(zip(names.tolist(), [3.0, 0.5, 2.0], strict=False))
    model = KernelClassifier(NET, alpha=1e-2, class_weight=factors).fit(X, labels, sample_weight=w)
    each = w * np.array([factors[label] for label in labels.tolist()])
    plain = KernelClassifier(NET, alpha=1e-2).fit(X, labels, sample_weight=each)
    assert np.array_equal(model.decision_function(Xt), plain.decision_function(Xt))


def test_balanced_classes_weigh_the_same():
    X, y, w, Xt = problem()
    labels = (y[:, 0] > 1).astype(int)
    balanced = KernelClassifier(NET, alpha=1e-2, class_weight="balanced")
    found = balanced.fit(X, labels).decision_function(Xt)
    factors = dict(enumerate(compute_class_weight("balanced", classes=np.arange(2), y=labels)))
    named = KernelClassifier(NET, alpha=1e-2, class_weight=factors).fit(X, labels)
    np.testing.assert_allclose(found, named.decision_function(Xt), rtol=1e-12)
    assert balanced.y_mean_ == pytest.approx(0.0, abs=1e-15)
    # Weights count as rows, here too.
    weighted = balanced.fit(X, labels, sample_weight=w).decision_function(Xt)
    repeated = balanced.fit(np.repeat(X, w, axis=0), np.repeat(labels, w)).decision_function(Xt)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-9, atol=1e-10)


def test_a_class_without_weight_does_not_exist():
    X, _, _, _ = problem()
    model = KernelClassifier(NET, class_weight={0: 1, 1: 0, 2: 2}).fit(X, np.arange(30) % 3)
    assert model.classes_.tolist() == [0, 2]


def test_class_weights_in_files(tmp_path):
    X, _, _, Xt = problem()
    for weight in ("balanced", {0: 2.0, 1: 0.5}):
        model = KernelClassifier(NET, class_weight=weight).fit(X, np.arange(30) % 2)
        model.save(tmp_path / "model")
        again = load(tmp_path / "model")
        assert again.class_weight == weight
        assert np.array_equal(again.predict(Xt), model.predict(Xt))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("even", "'class_weight' parameter"),
        ({0: 1.0, 1: -1.0}, "class_weight must hold finite numbers >= 0"),
        ({0: 1.0, 1: np.nan}, "class_weight must hold finite numbers >= 0"),
        ({0: 1.0, "b": 2.0}, "not in class_weight"),
    ],
)
def test_unusable_weights_of_classes(weight, message):
    X, _, _, _ = problem()
    with pytest.raises(ValueError, match=message):
        KernelClassifier(NET, class_weight=weight).fit(X, np.arange(30) % 2)
