"""Estimators on every solver: the same predictions, whatever is kept of the matrix."""

import importlib

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, config, load, nn
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.solvers import (
    PCG,
    LowPrecisionCholesky,
    Nystrom,
    OutOfCoreCholesky,
    Restricted,
    RPCholesky,
    SketchAndProject,
)
from tests.backends.compare import chosen_freely

kernel = importlib.import_module("kernreg.operators.kernel")
cost = importlib.import_module("kernreg.solvers.pcg.cost")

NET = nn.mlp(depth=2, b_std=0.1)
# An interpreter of GPU kernels takes a fraction of a second for each product.
N = 200 if config.backend() == "auto" else 40
SOLVERS = {
    "pcg": "pcg",
    "no preconditioner": PCG(None),
    "kept": PCG(RPCholesky(rank=30), storage="packed"),
    "recomputed": PCG(Nystrom(rank=30), storage="recomputed"),
    "factor": PCG(LowPrecisionCholesky(block=N // 3)),
    "sketch": SketchAndProject(block=N // 4, tol=1e-8),
}


def data(n=N):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 4))
    return X, np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2.0, N)], ids=["", "weighted"])
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_predictions_are_those_of_cholesky(solver, weights, dtype):
    """Both have a residual below 1e-8; float32 predictions are rounded to 1e-7 of their scale."""
    X, Y = data()
    new = np.random.default_rng(4).standard_normal((50, 4)).astype(dtype)
    found = [
        KernelRegressor(NET, alpha=1e-4, solver=s, dtype=dtype)
        .fit(X, Y, sample_weight=weights)
        .predict(new)
        for s in (solver, "cholesky")
    ]
    bound = 1e-6 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(found[0], found[1], atol=bound * np.abs(found[1]).max())


@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2.0, N)], ids=["", "weighted"])
def test_with_every_row_a_centre(weights):
    """Normal equations square the condition, about 1e5 here, so float64 keeps 1e-6."""
    X, Y = data()
    found = [
        KernelRegressor(NET, alpha=1e-4, solver=s).fit(X, Y, sample_weight=weights).predict(X[:50])
        for s in (Restricted(centres=N), "cholesky")
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6 * np.abs(found[1]).max())


def test_on_disk(tmp_path):
    X, Y = data()
    solver = OutOfCoreCholesky(tmp_path, block=32)
    direct = KernelRegressor(NET, alpha=1e-4, solver=solver).fit(X, Y)
    in_memory = KernelRegressor(NET, alpha=1e-4, solver="cholesky").fit(X, Y)
    np.testing.assert_allclose(direct.dual_coef_, in_memory.dual_coef_, rtol=1e-7)
    assert direct.plan_.storage == "disk"
    with pytest.raises(InvalidInputError, match="give alpha as one number"):
        KernelRegressor(NET, alpha=[1e-2, 1e-4], solver=solver).fit(X, Y)


@chosen_freely
def test_auto_iterates_within_a_budget_that_holds_no_matrix(monkeypatch):
    for module in (kernel, cost):
        monkeypatch.setattr(module, "PANEL_BYTES", 2**20)
    X, Y = data(1500)
    small = KernelRegressor(NET, alpha=1e-2, max_memory="7MB", dtype="float32").fit(X, Y)
    assert small.plan_.solver == "pcg"
    assert small.solution_.ok
    large = KernelRegressor(NET, alpha=1e-2, max_memory="1GB", dtype="float32").fit(X, Y)
    assert large.plan_.solver == "cholesky"
    found, expected = small.predict(X[:50]), large.predict(X[:50])
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_a_restricted_model_keeps_its_centres_only(tmp_path):
    X, Y = data()
    model = KernelRegressor(NET, alpha=1e-3, solver=Restricted(centres=N // 5)).fit(X, Y)
    assert model.X_fit_.shape == (N // 5, 4)
    assert model.dual_coef_.shape == (N // 5, 2)
    assert {tuple(row) for row in model.X_fit_} <= {tuple(row) for row in X}
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), model.predict(X))
    # The best function of the centres is at least as good as the mean.
    assert model.score(X, Y) > 0


def test_float32_models_on_centres_predict_with_float64_entries(tmp_path):
    """Coefficients of thousands cancel, which entries in float32 would spoil."""
    X = np.random.default_rng(8).standard_normal((400, 3)).astype(np.float32)
    y = np.sin(2 * X[:, 0]) + X[:, 1] * X[:, 2]
    net = nn.mlp(depth=1, activation=nn.Gelu())
    model = KernelRegressor(net, alpha=1e-8, solver=Restricted(centres=400)).fit(X[:300], y[:300])
    assert np.abs(model.dual_coef_).max() > 1e3
    wide = KernelRegressor(net, alpha=1e-8).fit(X[:300].astype(np.float64), y[:300])
    found, expected = model.predict(X), wide.predict(X.astype(np.float64))
    assert model.X_fit_.dtype == np.float32
    # The mean diagonal, found in float32, moves the ridge by 1e-7 of it.
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(load(tmp_path / "model").predict(X), found)


@pytest.mark.parametrize("solver", ["pcg", "sketch", PCG()])
def test_alpha_is_chosen_by_direct_solvers_only(solver):
    X, Y = data(20)
    with pytest.raises(InvalidInputError, match="give alpha as one number"):
        KernelRegressor(NET, alpha=[0.1, 1.0], solver=solver).fit(X, Y)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_alpha_is_chosen_on_centres(weighted, fit_intercept, tmp_path):
    """With every row a centre, as by a direct solver; features cost the solution 1e-7."""
    X, Y = data()
    weights = np.random.default_rng(5).uniform(0.5, 2.0, N) if weighted else None
    options = {"alpha": [1e-4, 1e-2, 1.0], "fit_intercept": fit_intercept}
    exact = KernelRegressor(NET, solver="eigh", **options).fit(X, Y, sample_weight=weights)
    every = Restricted(centres=N)
    found = KernelRegressor(NET, solver=every, **options).fit(X, Y, sample_weight=weights)
    assert found.alpha_ == exact.alpha_
    np.testing.assert_allclose(found.loo_.squared_error, exact.loo_.squared_error, rtol=1e-5)
    scale = np.abs(Y).max()
    np.testing.assert_allclose(
        found.loo_.predictions, exact.loo_.predictions, atol=1e-5 * scale, rtol=0
    )
    np.testing.assert_allclose(found.predict(X), exact.predict(X), atol=1e-6 * scale, rtol=0)
    found.save(tmp_path / "model")
    again = load(tmp_path / "model")
    np.testing.assert_array_equal(again.loo_.predictions, found.loo_.predictions)


def test_labels_choose_alpha_on_centres():
    X, Y = data()
    labels = Y[:, 0] > 0
    options = {"alpha": [1e-4, 1e-2, 10.0]}
    exact = KernelClassifier(NET, solver="cholesky", **options).fit(X, labels)
    found = KernelClassifier(NET, solver=Restricted(centres=N), **options).fit(X, labels)
    np.testing.assert_allclose(found.loo_.accuracy, exact.loo_.accuracy, rtol=1e-12)
    assert found.alpha_ == exact.alpha_


def test_numbers_of_centres_are_those_of_the_rows_given():
    X, Y = data(60)
    by_number = Restricted(centres=[0, 5, 7])
    model = KernelRegressor(NET, alpha=1e-3, solver=by_number).fit(X, Y)
    np.testing.assert_array_equal(model.X_fit_, X[[0, 5, 7]])
    weights = np.ones(60)
    weights[3] = 0
    with pytest.raises(InvalidInputError, match="1 of 60 rows have weight 0"):
        KernelRegressor(NET, alpha=1e-3, solver=by_number).fit(X, Y, sample_weight=weights)
    X[8] = X[9]
    with pytest.raises(InvalidInputError, match="equal another row"):
        KernelRegressor(NET, alpha=0, solver=by_number).fit(X, Y)


@chosen_freely
def test_a_choice_of_one_alpha_is_a_choice():
    """Leave-one-out is wanted, so conjugate gradients are not offered."""
    X, Y = data(1500)
    model = KernelRegressor(NET, alpha=[1e-3], max_memory="22MB")
    with pytest.raises(MemoryBudgetError, match="cholesky needs") as caught:
        model.fit(X, Y)
    assert "pcg needs" not in str(caught.value)
