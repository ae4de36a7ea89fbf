"""KernelClassifier: codes, labels and shapes."""

import numpy as np
import pandas as pd
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn

NET = nn.mlp(depth=2)


def data(n_classes, n=60, d=3, seed=11):
    """Points around the corners of a simplex of well separated centres, and their numbers."""
    rng = np.random.default_rng(seed)
    numbers = np.arange(n) % n_classes
    angle = 2 * np.pi * numbers / n_classes
    centres = np.column_stack([np.cos(angle), np.sin(angle), np.ones(n)])
    return 3 * centres[:, :d] + 0.2 * rng.standard_normal((n, d)), numbers


@pytest.mark.parametrize("n_classes", [2, 3, 5])
@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
def test_decision_is_the_regression_of_codes(n_classes, solver):
    X, numbers = data(n_classes)
    codes = 2.0 * (numbers[:, None] == np.arange(n_classes)) - 1
    if n_classes == 2:
        codes = codes[:, 1]
    model = KernelClassifier(NET, solver=solver, alpha=1e-2).fit(X, numbers)
    expected = KernelRegressor(NET, solver=solver, alpha=1e-2).fit(X, codes).predict(X)
    decision = model.decision_function(X)
    assert decision.shape == ((60,) if n_classes == 2 else (60, n_classes))
    assert model.dual_coef_.shape == decision.shape
    assert np.array_equal(decision, expected)
    best = (decision > 0).astype(int) if n_classes == 2 else decision.argmax(axis=1)
    assert np.array_equal(model.predict(X), best)
    assert np.array_equal(best, numbers)


@pytest.mark.parametrize(
    "names",
    [
        np.array(["zebra", "ant", "mole"]),
        np.array(["zebra", "ant", "möle"], dtype=object),
        np.array([10, -3, 4]),
        np.array([1.0, 0.0, 2.0]),
        np.array([3, 1, 2], dtype=np.uint8),
        np.array([True, False]),
        np.array(["yes", "no"]),
    ],
)
def test_labels_of_any_kind_and_order(names):
    X, numbers = data(len(names))
    model = KernelClassifier(NET).fit(X, names[numbers])
    assert model.classes_.tolist() == sorted(names.tolist())
    assert model.classes_.dtype == names.dtype
    predicted = model.predict(X)
    assert predicted.dtype == names.dtype
    assert np.array_equal(predicted, names[numbers])
    assert model.score(X, names[numbers]) == 1.0


@pytest.mark.parametrize("dtype", ["object", "category", "string"])
def test_labels_from_pandas(dtype):
    X, numbers = data(3)
    labels = pd.Series(np.array(["c", "a", "b"])[numbers], dtype=dtype)
    model = KernelClassifier(NET).fit(pd.DataFrame(X, columns=["u", "v", "w"]), labels)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert model.predict(pd.DataFrame(X, columns=["u", "v", "w"])).tolist() == labels.tolist()


def test_positive_decision_speaks_for_the_second_class():
    X, numbers = data(2)
    model = KernelClassifier(NET).fit(X, np.array(["low", "high"])[numbers])
    assert model.classes_.tolist() == ["high", "low"]
    assert np.array_equal(model.decision_function(X) > 0, numbers == 0)


def test_renaming_labels_renames_predictions():
    X, numbers = data(4)
    X = X + np.random.default_rng(0).standard_normal(X.shape)
    one = KernelClassifier(NET).fit(X, numbers)
    other = KernelClassifier(NET).fit(X, np.array(["a", "b", "c", "d"])[numbers])
    assert np.array_equal(one.decision_function(X), other.decision_function(X))


def test_column_vector_of_labels_warns():
    X, numbers = data(2)
    with pytest.warns(UserWarning, match="column-vector"):
        model = KernelClassifier(NET).fit(X, numbers[:, None])
    assert model.predict(X).shape == (60,)


def test_probabilities_are_of_the_labels_that_are_predicted():
    """What they are worth is in test_probabilities."""
    X, numbers = data(3)
    model = KernelClassifier(NET).fit(X, np.array(["c", "a", "b"])[numbers])
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (60, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-14)
    assert np.array_equal(model.classes_[probabilities.argmax(axis=1)], model.predict(X))
    assert np.array_equal(model.predict_log_proba(X), np.log(probabilities))


def test_two_rows_of_two_classes():
    model = KernelClassifier(NET).fit([[1.0, 0.0], [0.0, 1.0]], ["a", "b"])
    assert model.predict([[1.0, 0.0], [0.0, 1.0]]).tolist() == ["a", "b"]


def test_decisions_of_float32_data():
    X, numbers = data(3)
    model = KernelClassifier(NET, alpha=1e-2).fit(X.astype("float32"), numbers)
    assert model.dual_coef_.dtype == model.X_fit_.dtype == np.float32
    double = KernelClassifier(NET, alpha=1e-2).fit(X, numbers).decision_function(X)
    # Entries are good to 2e-5 of the diagonal, codes are at most 1, see test_regressor.
    assert np.abs(model.decision_function(X) - double).max() < 2e-5 * 60 / 1e-2


def test_leave_one_out_predictions_are_decisions():
    X, numbers = data(3)
    model = KernelClassifier(NET, alpha=[1e-3, 0.1]).fit(X, numbers)
    assert model.loo_.predictions.shape == (60, 3)
    share = np.mean(model.loo_.predictions.argmax(axis=1) == numbers)
    assert model.loo_.accuracy[model.loo_.best] == share
    pair = KernelClassifier(NET, alpha=[1e-3, 0.1]).fit(X, numbers > 0)
    assert pair.loo_.predictions.shape == (60,)
