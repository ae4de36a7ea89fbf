"""Closed-form leave-one-out against explicit refits."""

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn

NET = nn.mlp(depth=2)
ALPHAS = [1e-2, 1.0, 0.1]


def problem(n=24):
    rng = np.random.default_rng(2)
    X = rng.standard_normal((n, 4))
    Y = np.column_stack([np.sin(2 * X[:, 0]), X[:, 1]]) + 0.3 * rng.standard_normal((n, 2)) + 5
    return X, Y, rng.uniform(0.5, 3.0, n)


def refits(model, X, y, w):
    """Prediction for each row of a fit to all others."""
    rows = []
    for i in range(len(X)):
        kept = np.arange(len(X)) != i
        model.fit(X[kept], y[kept], sample_weight=None if w is None else w[kept])
        predict = getattr(model, "decision_function", model.predict)
        rows.append(predict(X[i : i + 1])[0])
    return np.array(rows)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("column", [0, slice(None)])
@pytest.mark.parametrize("solver", ["cholesky", "eigh"])
def test_predictions_are_those_of_refits(solver, column, weighted, fit_intercept):
    X, Y, w = problem()
    y, w = Y[:, column], w if weighted else None
    settings = {"alpha_scale": "absolute", "solver": solver, "fit_intercept": fit_intercept}
    model = KernelRegressor(NET, alpha=ALPHAS, **settings).fit(X, y, sample_weight=w)
    errors = []
    for alpha in ALPHAS:
        expected = refits(KernelRegressor(NET, alpha=alpha, **settings), X, y, w)
        squared = ((y - expected) ** 2).reshape(len(X), -1).mean(axis=1)
        errors.append(np.average(squared, weights=w))
        if alpha == model.alpha_:
            np.testing.assert_allclose(model.loo_.predictions, expected, rtol=1e-10)
    np.testing.assert_allclose(model.loo_.squared_error, errors, rtol=1e-9)
    assert model.alpha_ == ALPHAS[int(np.argmin(errors))] == ALPHAS[model.loo_.best]
    assert model.loo_.alphas.tolist() == ALPHAS
    assert model.loo_.accuracy is None


@pytest.mark.parametrize("solver", ["auto", "cholesky", "eigh"])
def test_the_chosen_alpha_gives_the_model_of_that_alpha(solver):
    X, Y, w = problem()
    path = KernelRegressor(NET, alpha=np.logspace(-4, 1, 9), solver=solver)
    chosen = path.fit(X, Y, sample_weight=w).alpha_
    single = KernelRegressor(NET, alpha=chosen, solver=solver).fit(X, Y, sample_weight=w)
    np.testing.assert_allclose(path.predict(X), single.predict(X), rtol=1e-9)
    assert path.plan_.solver == ("eigh" if solver == "auto" else solver)


def test_eigh_gives_leave_one_out_for_one_alpha():
    X, Y, _ = problem()
    scalar = KernelRegressor(NET, alpha=0.1, solver="eigh").fit(X, Y)
    path = KernelRegressor(NET, alpha=[0.1], solver="cholesky").fit(X, Y)
    np.testing.assert_allclose(scalar.loo_.predictions, path.loo_.predictions, rtol=1e-11)


@pytest.mark.parametrize(("n_classes", "fit_intercept"), [(2, True), (3, True), (3, False)])
def test_classifier_chooses_by_accuracy_then_by_error(n_classes, fit_intercept):
    X, Y, w = problem(40)
    labels = np.digitize(Y[:, 0], np.quantile(Y[:, 0], np.arange(1, n_classes) / n_classes))
    alphas = [1e-3, 0.03, 0.3, 10.0]
    settings = {"alpha_scale": "absolute", "solver": "eigh", "fit_intercept": fit_intercept}
    model = KernelClassifier(NET, alpha=alphas, **settings).fit(X, labels, sample_weight=w)
    accuracy = []
    for alpha in alphas:
        decision = refits(KernelClassifier(NET, alpha=alpha, **settings), X, labels, w)
        predicted = decision > 0 if n_classes == 2 else decision.argmax(axis=1)
        accuracy.append(np.average(predicted == labels, weights=w))
    np.testing.assert_allclose(model.loo_.accuracy, accuracy, rtol=1e-14)
    order = sorted(range(4), key=lambda i: (-model.loo_.accuracy[i], model.loo_.squared_error[i]))
    assert model.loo_.best == order[0]
    assert model.alpha_ == alphas[order[0]]


def test_ties_of_accuracy_go_to_the_smaller_error():
    X = np.vstack([np.full((10, 2), 3.0), np.full((10, 2), -3.0)])
    X += 0.1 * np.random.default_rng(0).standard_normal(X.shape)
    labels = np.repeat(["a", "b"], 10)
    model = KernelClassifier(NET, alpha=[10.0, 1e-2]).fit(X, labels)
    assert model.loo_.accuracy.tolist() == [1.0, 1.0]
    assert model.loo_.squared_error[1] < model.loo_.squared_error[0]
    assert model.alpha_ == 1e-2


def test_one_row_has_nothing_to_leave_out():
    with pytest.raises(ValueError, match="n_samples=1"):
        KernelRegressor(NET, alpha=[0.1, 1.0]).fit([[1.0]], [2.0])
