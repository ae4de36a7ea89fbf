"""Sample weights: a weight is a number of equal rows."""

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn

NET = nn.mlp(depth=2)


def problem():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 4))
    w = rng.integers(0, 4, 30)
    w[:2] = 0, 3
    return X, rng.standard_normal((30, 2)), w, rng.standard_normal((20, 4))


@pytest.mark.parametrize("solver", ["cholesky", "eigh"])
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
