"""Closed-form leave-one-out against explicit refits."""

import warnings

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.estimators.loo import Scores, mean_shifts
from kernreg.estimators.targets import Targets
from kernreg.exceptions import InvalidInputError, JitterWarning
from kernreg.solvers import Restricted

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
@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
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


@pytest.mark.parametrize("solver", ["auto", "cholesky", "banded", "eigh"])
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
def test_classifier_chooses_by_error_then_by_accuracy(n_classes, fit_intercept):
    X, Y, w = problem(40)
    labels = np.digitize(Y[:, 0], np.quantile(Y[:, 0], np.arange(1, n_classes) / n_classes))
    alphas = [1e-3, 0.03, 0.3, 10.0]
    settings = {"alpha_scale": "absolute", "solver": "eigh", "fit_intercept": fit_intercept}
    model = KernelClassifier(NET, alpha=alphas, **settings).fit(X, labels, sample_weight=w)
    accuracy, errors = [], []
    codes = np.where(labels[:, None] == np.arange(n_classes), 1.0, -1.0)
    codes = codes[:, 1] if n_classes == 2 else codes
    for alpha in alphas:
        decision = refits(KernelClassifier(NET, alpha=alpha, **settings), X, labels, w)
        predicted = decision > 0 if n_classes == 2 else decision.argmax(axis=1)
        accuracy.append(np.average(predicted == labels, weights=w))
        squared = ((codes - decision) ** 2).reshape(40, -1).mean(axis=1)
        errors.append(np.average(squared, weights=w))
    np.testing.assert_allclose(model.loo_.accuracy, accuracy, rtol=1e-14)
    np.testing.assert_allclose(model.loo_.squared_error, errors, rtol=1e-9)
    assert model.loo_.best == int(np.argmin(errors)) != int(np.argmax(accuracy))
    assert model.alpha_ == alphas[model.loo_.best]


def test_ties_of_errors_go_to_the_better_labels():
    """Residuals of the same size on both sides of the threshold."""
    targets = np.array([[1.0], [1.0], [-1.0]])
    right = KernelClassifier()._correct
    scores = Scores(2, Targets(targets, np.ones(3), False, right))
    for index, sign in enumerate([-1.0, 1.0]):
        scores.add(index, sign * -1.5 * targets)
    assert scores.squared_error.tolist() == [2.25, 2.25]
    assert scores.accuracy.tolist() == [0.0, 1.0]
    assert scores.best() == 1


def test_one_row_has_nothing_to_leave_out():
    with pytest.raises(ValueError, match="n_samples=1"):
        KernelRegressor(NET, alpha=[0.1, 1.0]).fit([[1.0]], [2.0])


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("estimator", [KernelRegressor, KernelClassifier])
def test_chunks_of_rows_add_up(estimator, fit_intercept):
    """Errors, labels and predictions of 150 rows in blocks of 64, 64 and 22 are those of one."""
    X, Y, w = problem(150)
    y = np.digitize(Y[:, 0], [4.6, 5.4]) if estimator is KernelClassifier else Y
    models = [
        estimator(
            NET,
            alpha=[1e-3, 1e-2, 0.1, 1.0],
            fit_intercept=fit_intercept,
            solver=Restricted(centres=30, chunk=chunk),
        ).fit(X, y, sample_weight=w)
        for chunk in (64, 150)
    ]
    few, one = (model.loo_ for model in models)
    np.testing.assert_allclose(few.squared_error, one.squared_error, rtol=1e-7)
    np.testing.assert_allclose(few.predictions, one.predictions, rtol=1e-6, atol=1e-7)
    assert few.best == one.best
    error = np.average(np.mean((code(y) - few.predictions) ** 2, axis=1), weights=w)
    assert few.squared_error[few.best] == pytest.approx(error, rel=1e-9)
    if estimator is KernelClassifier:
        np.testing.assert_allclose(few.accuracy, one.accuracy, rtol=1e-14)
        right = few.predictions.argmax(axis=1) == y
        assert few.accuracy[few.best] == pytest.approx(np.average(right, weights=w), rel=1e-14)
    else:
        assert few.accuracy is None


def code(y):
    """Targets as columns."""
    return np.where(y[:, None] == np.unique(y), 1.0, -1.0) if y.ndim == 1 else y


def test_leaving_out_a_row_that_outweighs_all_others():
    """Row 0 left out leaves a mean that the total of the weights has no digits of."""
    X, Y, w = problem()
    w[0] = 1e14
    settings = {"alpha_scale": "absolute", "solver": "cholesky"}
    model = KernelRegressor(NET, alpha=[0.1, 1.0], **settings).fit(X, Y, sample_weight=w)
    kept = np.arange(len(X)) != 0
    alone = KernelRegressor(NET, alpha=model.alpha_, **settings)
    expected = alone.fit(X[kept], Y[kept], sample_weight=w[kept]).predict(X[:1])[0]
    # Its own coefficient is the difference of its target and the prediction over 1e14, of which
    # two digits are left; the mean of the others has them all.
    np.testing.assert_allclose(model.loo_.predictions[0], expected, rtol=0.1)
    assert np.isfinite(model.loo_.squared_error).all()


@pytest.mark.parametrize("t", [1, 3])
def test_shifts_of_the_mean(t):
    """Against means of the rows that stay."""
    rng = np.random.default_rng(6)
    y, w = rng.standard_normal((7, t)), rng.uniform(0.1, 2.0, 7)
    centered = y - np.average(y, axis=0, weights=w)
    for i, shift in enumerate(mean_shifts(centered, w)):
        kept = np.arange(7) != i
        expected = -np.average(centered[kept], axis=0, weights=w[kept])
        np.testing.assert_allclose(shift, expected, rtol=1e-12)
    huge = np.r_[1e20, np.ones(6)]
    apart = mean_shifts(centered, huge)
    np.testing.assert_allclose(apart[0], -centered[1:].mean(axis=0), rtol=1e-12)


def test_an_error_that_is_no_number_is_never_chosen():
    targets = np.ones((4, 1))
    scores = Scores(3, Targets(targets, np.ones(4), False, lambda *_: None))
    for index, residual in enumerate([np.nan, 0.5, np.inf]):
        scores.add(index, np.full((4, 1), residual))
    assert scores.best() == 1
    assert scores.accuracy is None
    broken = Scores(2, Targets(targets, np.ones(4), False, lambda *_: None))
    broken.add(0, np.full((4, 1), np.nan))
    broken.add(1, np.full((4, 1), np.inf))
    with pytest.raises(InvalidInputError, match="No alpha has a finite leave-one-out error"):
        broken.best()


def test_errors_of_parts_in_units_of_the_targets():
    """Sums over blocks by their own weights, with the variance inside merged rows on top."""
    targets = np.array([[1e180, 3e180], [-2e180, 0.0], [0.0, -1e180]])
    weights, spread = np.array([1.0, 2.0, 5.0]), np.array([0.0, 4.0, 0.0])
    scores = Scores(2, Targets(targets, weights, False, lambda *_: None))
    residuals = 1e170 * np.array([[1.0, 2.0], [3.0, -1.0], [0.0, 2.0]])
    for rows in (slice(0, 1), slice(1, 3)):
        scores.add(1, residuals[rows], rows)
        scores.add(0, 2 * residuals[rows], rows)
    assert scores.best() == 1
    small = Scores(1, Targets(1e-180 * targets, weights, False, lambda *_: None, spread))
    small.add(0, 1e-170 * residuals)
    expected = np.average([2.5, 5.0, 2.0], weights=weights) + np.average(spread, weights=weights)
    assert small.squared_error[0] == pytest.approx(expected, rel=1e-13)


def test_equal_errors_keep_the_first():
    scores = Scores(3, Targets(np.ones((2, 1)), np.ones(2), False, lambda *_: None))
    for index in range(3):
        scores.add(index, np.full((2, 1), 0.25))
    assert scores.best() == 0


def test_warnings_are_those_of_the_chosen_ridge(monkeypatch):
    """A ridge that is only tried must not alarm."""
    X, Y, _ = problem()
    X[1] = X[0] + 1e-9
    model = KernelRegressor(NET, alpha=[1e-300, 0.1], solver="cholesky")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(X, Y).alpha_ == 0.1
    with pytest.warns(JitterWarning):
        KernelRegressor(NET, alpha=[1e-300], solver="cholesky").fit(
            np.vstack([X, X]), np.tile(Y, (2, 1))
        )


@pytest.mark.parametrize("solver", ["auto", "banded", "eigh"])
def test_a_row_of_huge_weight_hides_no_other(solver):
    """Of a matrix of rows times roots of weights, rounding would leave the light rows nothing."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3))
    y, weights = X[:, 0] + 0.1 * rng.standard_normal(60), np.ones(60)
    weights[7] = 1e16
    alphas = np.logspace(-3, 1, 9)
    found, exact = (
        KernelRegressor(NET, alpha=alphas, solver=s).fit(X, y, sample_weight=weights)
        for s in (solver, "cholesky")
    )
    assert found.alpha_ == exact.alpha_
    np.testing.assert_allclose(found.loo_.squared_error, exact.loo_.squared_error, rtol=1e-6)
    np.testing.assert_allclose(found.predict(X), exact.predict(X), atol=1e-6)
