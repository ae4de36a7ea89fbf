"""The choice that ``alpha="auto"`` stands for."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone

from kernreg import KernelClassifier, KernelOperator, KernelRegressor, load, nn
from kernreg.estimators import alphas
from kernreg.operators import write_store
from kernreg.solvers import PCG, Restricted, SketchAndProject

NET = nn.mlp(depth=1)
GRID = np.logspace(-8, 0, 17)


def problem(n=60, noise=0.3):
    rng = np.random.default_rng(21)
    X = rng.standard_normal((n, 3))
    return X, np.sin(X[:, 0]) + X[:, 1] + noise * rng.standard_normal(n)


@pytest.mark.parametrize("solver", ["auto", "cholesky", "banded", "eigh", Restricted(centres=60)])
def test_auto_is_the_grid_by_leave_one_out(solver):
    X, y = problem()
    model = KernelRegressor(NET, solver=solver).fit(X, y)
    named = KernelRegressor(NET, alpha=GRID, solver=solver).fit(X, y)
    assert model.alpha_ == named.alpha_
    np.testing.assert_allclose(model.loo_.squared_error, named.loo_.squared_error, rtol=1e-9)
    assert model.loo_.rows is None
    assert np.array_equal(model.loo_.alphas, GRID)
    np.testing.assert_allclose(model.predict(X), named.predict(X), rtol=1e-9)


@pytest.mark.parametrize("estimator", [KernelRegressor, KernelClassifier])
def test_noise_gets_a_large_ridge_and_exact_data_a_small_one(estimator):
    rng = np.random.default_rng(5)
    X = rng.standard_normal((120, 2))
    noise = rng.standard_normal(120)
    exact = X[:, 0] > 0 if estimator is KernelClassifier else X[:, 0]
    assert estimator(NET).fit(X, noise > 0 if estimator is KernelClassifier else noise).alpha_ > 0.1
    assert estimator(NET).fit(X, exact).alpha_ < 1e-2


def test_equal_rows_are_left_out_together():
    """A copy of the row left out would tell its target, and the smallest ridge would win."""
    X, y = problem()
    once = KernelRegressor(NET).fit(X, y)
    twice = KernelRegressor(NET).fit(np.vstack([X, X]), np.r_[y, y])
    weighted = KernelRegressor(NET).fit(X, y, sample_weight=np.full(60, 2.0))
    assert twice.alpha_ == weighted.alpha_
    assert len(twice.X_fit_) == 60
    np.testing.assert_allclose(twice.loo_.squared_error, weighted.loo_.squared_error, rtol=1e-10)
    # Leaving out does not see the weight that all rows share, but through the ridge.
    assert twice.alpha_ == pytest.approx(once.alpha_ * 2, rel=1.0)


def test_errors_of_copies_with_targets_of_their_own():
    """``sum (y_i - f)^2`` over copies is that of their mean, and their variance."""
    X, y = problem(30)
    other = y + np.random.default_rng(2).standard_normal(30)
    model = KernelRegressor(NET).fit(np.vstack([X, X]), np.r_[y, other])
    f = model.loo_.predictions
    expected = np.mean(np.r_[(y - f) ** 2, (other - f) ** 2])
    assert model.loo_.squared_error[model.loo_.best] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("count", [2, 3])
def test_accuracy_of_copies_with_labels_of_their_own(count):
    X, y = problem(30)
    labels = np.digitize(y, np.quantile(y, np.arange(1, count) / count))
    other = np.roll(labels, 1)
    model = KernelClassifier(NET).fit(np.vstack([X, X]), np.r_[labels, other])
    f = model.loo_.predictions
    said = (f > 0).astype(int) if count == 2 else f.argmax(axis=1)
    expected = np.mean(np.r_[labels == said, other == said])
    assert model.loo_.accuracy[model.loo_.best] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("solver", ["pcg", PCG(None), SketchAndProject(block=20, tol=1e-8)])
def test_solvers_without_such_errors_choose_on_a_sample(solver):
    X, y = problem()
    model = KernelRegressor(NET, solver=solver).fit(X, y)
    direct = KernelRegressor(NET).fit(X, y)
    assert model.alpha_ == direct.alpha_
    assert model.loo_.rows.tolist() == list(range(60))
    np.testing.assert_allclose(model.loo_.predictions, direct.loo_.predictions, rtol=1e-9)
    # A residual of 1e-8, times a condition number of at most 60 / alpha.
    bound = 1e-8 * 60 / model.alpha_
    np.testing.assert_allclose(model.predict(X), direct.predict(X), atol=bound)


def test_more_rows_choose_on_a_sample_and_are_all_fitted(monkeypatch, tmp_path):
    monkeypatch.setattr(alphas, "ROWS", 40)
    X, y = problem(90)
    model = KernelRegressor(NET).fit(X, y)
    rows = model.loo_.rows
    assert len(np.unique(rows)) == 40
    assert len(model.X_fit_) == 90
    part = KernelRegressor(NET, alpha=GRID).fit(X[rows], y[rows])
    assert model.alpha_ == part.alpha_
    single = KernelRegressor(NET, alpha=model.alpha_).fit(X, y)
    assert np.array_equal(model.predict(X), single.predict(X))
    told = KernelRegressor(NET).explain(X, y, seconds=False)
    assert "17 from 1e-08 to 1 the best by leave-one-out on 40 rows" in str(told)
    model.save(tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").loo_.rows, rows)


def test_a_budget_without_room_for_the_matrix():
    """A sample of what fits; 48 rows of an eigendecomposition take about 90 kB."""
    X, y = problem(600)
    model = KernelRegressor(NET, max_memory="3.5MB").fit(X, y)
    assert model.plan_.solver == "pcg"
    assert 48 <= len(model.loo_.rows) < 600
    assert model.alpha_ in GRID


def test_no_room_at_all_is_said():
    X, y = problem(200)
    model = KernelRegressor(NET, solver="cholesky", max_memory="3MB")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)  # the whole grid fits
    approach = alphas.approach(
        "auto",
        (200, 3),
        1,
        dtype="float64",
        read="float64",
        solver="pcg",
        max_memory=1000,
        device=None,
        unit=lambda: 1.0,
    )
    assert approach.fixed
    assert approach.alphas.tolist() == [1e-3]


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_rows_for_a_choice(n):
    X, y = problem(n)
    model = KernelRegressor(NET).fit(X, y)
    assert model.alpha_ == 1e-3
    assert model.loo_ is None


def test_absolute_alphas_are_in_units_of_the_diagonal():
    X, y = problem()
    net = nn.mlp(depth=1, W_std=20.0)
    relative = KernelRegressor(net).fit(X, y)
    absolute = KernelRegressor(net, alpha_scale="absolute").fit(X, y)
    assert absolute.loo_.best == relative.loo_.best
    assert absolute.alpha_ > 1e3 * relative.alpha_
    np.testing.assert_allclose(absolute.predict(X), relative.predict(X), rtol=1e-9)


def test_float32_keeps_to_what_its_entries_resolve():
    X, y = problem(noise=0.0)
    model = KernelRegressor(NET).fit(X.astype(np.float32), y)
    assert model.loo_.alphas.min() == pytest.approx(1e-6)
    wide = KernelRegressor(NET, alpha=model.alpha_).fit(X, y)
    # Entries of the training rows and of the predictions err by 1e-7, the coefficients by as much
    # over alpha.
    error = 60 * 1e-7 * np.abs(wide.dual_coef_).max() * 10
    assert np.abs(model.predict(X) - wide.predict(X)).max() < error


def test_a_store_of_float32_entries(tmp_path):
    """Its rounding would hide what small ridges do, so the sample is evaluated in float64."""
    pytest.importorskip("zarr")
    X, y = problem()
    write_store(tmp_path / "store", KernelOperator(NET, X), dtype="float32")
    model = KernelRegressor(NET, store=tmp_path / "store").fit(X, y)
    direct = KernelRegressor(NET).fit(X, y)
    assert model.alpha_ == direct.alpha_
    np.testing.assert_allclose(model.loo_.squared_error, direct.loo_.squared_error, rtol=1e-9)
    assert model.loo_.rows is not None


def test_parameters_and_clones_keep_the_word():
    model = KernelClassifier("mlp(depth=1, activation='erf')")
    assert clone(model).get_params()["alpha"] == "auto"
    assert clone(model).network == "mlp(depth=1, activation='erf')"


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_targets_whose_squares_overflow(scale):
    X, y = problem()
    expected = KernelRegressor(NET).fit(X, y).alpha_
    assert KernelRegressor(NET).fit(X, scale * y).alpha_ == expected
