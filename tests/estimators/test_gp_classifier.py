"""GaussianProcessClassifier: the regression of codes, and what variances add."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kernreg import GaussianProcessClassifier, GaussianProcessRegressor, KernelClassifier, nn
from kernreg.exceptions import InvalidInputError
from kernreg.solvers import Restricted

NET = nn.mlp(depth=1, b_std=0.3)
RNG = np.random.default_rng(2)
X = RNG.standard_normal((60, 2))
NEW = 2 * RNG.standard_normal((30, 2))
FIXED = {"optimizer": None, "alpha": 0.05}


def labels(classes: int) -> np.ndarray:
    noisy = X[:, 0] + 0.3 * np.random.default_rng(0).standard_normal(60)
    return np.digitize(noisy, np.quantile(noisy, np.arange(1, classes) / classes))


def codes(classes: int) -> np.ndarray:
    found = np.where(labels(classes)[:, None] == np.arange(classes), 1.0, -1.0)
    return found[:, 1] if classes == 2 else found


@pytest.mark.parametrize("optimizer", ["fmin_l_bfgs_b", None])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_is_the_regression_of_codes(classes: int, optimizer: Any) -> None:
    settings = {"alpha": 0.05, "optimizer": optimizer}
    model = GaussianProcessClassifier(NET, **settings).fit(X, labels(classes))
    other = GaussianProcessRegressor(NET, **settings).fit(X, codes(classes))
    assert np.array_equal(model.decision_function(NEW), other.predict(NEW))
    assert np.array_equal(model.theta_, other.theta_)
    assert model.noise_ == other.noise_
    assert model.log_marginal_likelihood_value_ == other.log_marginal_likelihood_value_
    assert model.log_marginal_likelihood() == other.log_marginal_likelihood()
    assert model.classes_.tolist() == list(range(classes))


def test_with_one_kernel_it_decides_as_kernel_ridge() -> None:
    settings = {"kernel": "ntk", "alpha": 0.05}
    one = GaussianProcessClassifier(NET, optimizer=None, **settings).fit(X, labels(3))
    other = KernelClassifier(NET, **settings).fit(X, labels(3))
    np.testing.assert_allclose(
        one.decision_function(NEW), other.decision_function(NEW), rtol=0, atol=1e-10
    )
    assert np.array_equal(one.predict(NEW), other.predict(NEW))


def test_tuning_helps() -> None:
    fixed = GaussianProcessClassifier(NET, optimizer=None, alpha=10.0).fit(X, labels(2))
    tuned = GaussianProcessClassifier(NET, alpha=10.0).fit(X, labels(2))
    assert tuned.log_marginal_likelihood_value_ > fixed.log_marginal_likelihood_value_ + 5
    assert tuned.alpha_ < 10.0


def test_is_less_sure_where_it_knows_less() -> None:
    """Far away along the border a bounded network says nothing that the data said."""
    net = nn.mlp(depth=1, activation=nn.Rbf(1.0))
    model = GaussianProcessClassifier(net, **FIXED).fit(X, labels(2))
    near, far = model.predict_proba([[2.0, 0.0]])[0], model.predict_proba([[2.0, 200.0]])[0]
    assert near[1] > 0.9
    assert far[1] < near[1]


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg", Restricted(centres=60)])
def test_solvers(solver: Any) -> None:
    model = GaussianProcessClassifier(NET, solver=solver, **FIXED).fit(X, labels(3))
    other = GaussianProcessClassifier(NET, **FIXED).fit(X, labels(3))
    np.testing.assert_allclose(model.predict_proba(NEW), other.predict_proba(NEW), atol=1e-6)


def test_weights_are_levels_of_noise() -> None:
    weights = RNG.uniform(0.3, 3.0, 60)
    settings = {"alpha_scale": "absolute", "optimizer": None}
    one = GaussianProcessClassifier(NET, alpha=0.1, **settings)
    one.fit(X, labels(3), sample_weight=weights)
    other = GaussianProcessClassifier(NET, alpha=0.1 / weights, **settings).fit(X, labels(3))
    np.testing.assert_allclose(one.decision_function(NEW), other.decision_function(NEW), atol=1e-10)
    repeated = GaussianProcessClassifier(NET, alpha=0.1, **settings)
    counts = 1 + np.arange(60) % 3
    one.fit(X, labels(3), sample_weight=counts)
    repeated.fit(np.repeat(X, counts, axis=0), np.repeat(labels(3), counts))
    found, expected = one.decision_function(NEW), repeated.decision_function(NEW)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_a_class_of_weight_zero_does_not_exist() -> None:
    model = GaussianProcessClassifier(NET, **FIXED)
    model.fit(X, labels(3), sample_weight=(labels(3) != 1).astype(float))
    assert model.classes_.tolist() == [0, 2]


@pytest.mark.parametrize("names", [["b", "a", "c"], [3.0, 1.0, 2.0], [7, -1, 3]])
def test_labels_of_any_kind(names: Any) -> None:
    names = np.array(names)
    y = names[labels(3)]
    model = GaussianProcessClassifier(NET, **FIXED).fit(pd.DataFrame(X, columns=["u", "v"]), y)
    assert model.classes_.tolist() == sorted(names.tolist())
    found = model.predict(pd.DataFrame(NEW, columns=["u", "v"]))
    assert found.dtype == names.dtype
    plain = GaussianProcessClassifier(NET, **FIXED).fit(X, labels(3))
    assert np.array_equal(found, names[plain.predict(NEW)])


def test_in_the_tools_of_scikit_learn() -> None:
    pipeline = make_pipeline(StandardScaler(), GaussianProcessClassifier(NET, optimizer=None))
    name = "gaussianprocessclassifier"
    grid = {f"{name}__alpha": [1e-3, 0.1], f"{name}__network__b_std": [0.1, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=3, scoring="neg_log_loss").fit(X, labels(2))
    assert search.best_estimator_[-1].network.get_params()["b_std"] in (0.1, 1.0)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict_proba(NEW).shape == (30, 2)
    assert clone(search.best_estimator_[-1]).get_params() == search.best_estimator_[-1].get_params()


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(60), "at least two classes, found one class: 0.0"),
        (X[:, 0], "Unknown label type: continuous"),
        (np.column_stack([labels(2), labels(2)]), "y should be a 1d array"),
        (np.where(labels(2) > 0, np.nan, 1.0), "Input y contains NaN"),
        (labels(2)[:-1], "inconsistent numbers of samples"),
    ],
)
def test_unusable_labels(y: Any, message: str) -> None:
    model = GaussianProcessClassifier(NET, **FIXED)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    with pytest.raises(NotFittedError):
        model.predict_proba(X)


def test_noise_for_each_row_and_weights() -> None:
    model = GaussianProcessClassifier(NET, optimizer=None, alpha=np.ones(60))
    with pytest.raises(InvalidInputError, match="both say how much noise a row has"):
        model.fit(X, labels(2), sample_weight=np.ones(60))
