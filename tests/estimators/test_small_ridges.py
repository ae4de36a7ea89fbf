"""Ridges near rounding, and targets of any size, as a user of the estimators meets them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from kernreg import KernelOperator, KernelRegressor, gram, nn
from kernreg.exceptions import RoundingWarning
from kernreg.solvers import PCG, Restricted
from tests.contracts.solver import gaussian_points

NET = nn.mlp(depth=2, b_std=0.2)


def points(n, d=4, seed=0):
    return gaussian_points(n, d, seed)


def rounding(call):
    """What a call returns, and how many warnings of rounding it gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, sum(w.category is RoundingWarning for w in caught)


class TestEqualRows:
    X = np.vstack([points(25), points(25)[::-1], points(25)[:5]])
    y = np.cos(X[:, 0]) + 0.2 * points(55, 1, seed=7)[:, 0]
    new = points(12, seed=3)

    @pytest.mark.parametrize("solver", ["cholesky", "pcg", "sketch", PCG(tol=1e-12)])
    @pytest.mark.parametrize("alpha", [1e-9, 1e-11, 1e-13, 1e-15])
    @pytest.mark.parametrize("scale", ["mean_diag", "absolute"])
    def test_tiny_ridges_predict_as_none(self, solver, alpha, scale):
        """The ridge itself changes predictions by some alpha: no rounding of eps over alpha."""
        tol = 1e-6 if solver == "sketch" else 1e-7
        exact = KernelRegressor(NET, alpha=0).fit(self.X, self.y).predict(self.new)
        model = KernelRegressor(NET, alpha=alpha, alpha_scale=scale, solver=solver)
        found, warned = rounding(lambda: model.fit(self.X, self.y).predict(self.new))
        assert model.X_fit_.shape == (25, 4)
        assert not warned
        assert np.abs(found - exact).max() <= 1e3 * alpha + 20 * tol

    @pytest.mark.parametrize("alpha", [1e-3, 1e-6])
    def test_fair_ridges_keep_all_rows(self, alpha):
        model, warned = rounding(lambda: KernelRegressor(NET, alpha=alpha).fit(self.X, self.y))
        assert model.X_fit_.shape == self.X.shape
        assert not warned

    def test_weights_join(self):
        weights = np.linspace(0.5, 2.0, 55)
        found, exact = (
            KernelRegressor(NET, alpha=alpha).fit(self.X, self.y, weights).predict(self.new)
            for alpha in (1e-13, 0.0)
        )
        np.testing.assert_allclose(found, exact, atol=1e-9)

    def test_rows_that_are_named_stay(self):
        solver = Restricted(centres=np.arange(10))
        model = KernelRegressor(NET, alpha=1e-12, solver=solver).fit(self.X, self.y)
        assert model.X_fit_.shape == (10, 4)

    @pytest.mark.parametrize("solver", ["cholesky", "pcg", "banded", "eigh"])
    def test_rows_that_cannot_be_merged_warn(self, solver):
        """Not equal in a last bit, and with different targets."""
        X = np.vstack([points(30), points(30) * (1 + 1e-12)])
        y = np.repeat([1.0, -1.0], 30)
        model = KernelRegressor(NET, alpha=1e-12, solver=solver)
        assert rounding(lambda: model.fit(X, y))[1] == 1 or not model.solution_.ok
        assert not rounding(lambda: KernelRegressor(NET, alpha=1e-3, solver=solver).fit(X, y))[1]


class TestFloat32:
    @pytest.mark.parametrize("alpha", [1e-1, 1e-4, 1e-7, 1e-9])
    @pytest.mark.parametrize("kernel", ["ntk", "nngp"])
    def test_predictions_are_those_of_float64(self, alpha, kernel):
        """Coefficients that float32 entries would spoil are multiplied by float64 ones."""
        X, new = points(60, 2, seed=1), points(20, 2, seed=2)
        y = np.sign(X[:, 0] * X[:, 1])
        settings = {"kernel": kernel, "alpha": alpha}
        narrow = KernelRegressor(NET, dtype="float32", **settings)
        found, warned = rounding(lambda: narrow.fit(X, y).predict(new))
        same = X.astype(np.float32).astype(np.float64)
        # Of the same rounded rows: what float32 does to data is no question of the ridge.
        wide = KernelRegressor(NET, **settings).fit(same, y)
        expected = wide.predict(new.astype(np.float32).astype(np.float64))
        assert np.abs(found - expected).max() <= 2e-3
        assert not warned

    def test_fair_ridges_predict_in_float32(self):
        X = points(60).astype(np.float32)
        model = KernelRegressor(NET, alpha=1e-2).fit(X, np.sin(X[:, 0]))
        assert model.dual_coef_.dtype == np.float32

    @pytest.mark.parametrize("factor", [1e-60, 1e-42, 1e-36, 1e36, 1e39, 1e80])
    @pytest.mark.parametrize("solver", ["cholesky", "pcg"])
    def test_targets_beyond_float32(self, factor, solver):
        X = points(40).astype(np.float32)
        y = np.sin(X[:, 0].astype(np.float64))
        model = KernelRegressor(NET, solver=solver)
        expected = model.fit(X, y).predict(X).astype(np.float64)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = model.fit(X, factor * y).predict(X)
        assert model.solution_.ok
        np.testing.assert_allclose(found.astype(np.float64) / factor, expected, atol=1e-5)


@pytest.mark.parametrize("solver", ["cholesky", "pcg", "sketch", "restricted"])
@pytest.mark.parametrize("factor", [1e-310, 1e-200, 1e-160, 1e156, 1e300])
def test_targets_whose_squares_are_out_of_range(solver, factor):
    X, y = points(35), np.sin(points(35)[:, 1])
    model = KernelRegressor(NET, solver=solver, fit_intercept=False)
    expected = model.fit(X, y).predict(X)
    Y = np.column_stack([factor * y, y, np.zeros(35)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.fit(X, Y).predict(X)
    assert model.solution_.ok
    # Two solutions within the tolerance of the solver.
    np.testing.assert_allclose(found[:, 0] / factor, expected, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], expected, atol=1e-5)
    assert not found[:, 2].any()


def test_restricted_to_all_rows_is_ridge_regression():
    """With rows that are nearly equal; 1e-7 apart, features alone err by 1e-5."""
    X, new = points(40, 3, seed=6), points(10, 3, seed=7)
    X[20:] = X[:20] + 1e-7 * points(20, 3, seed=8)
    y = points(40, 1, seed=9)[:, 0]
    K = KernelOperator(nn.mlp(1, nn.Erf()), X).to_dense()
    ridge = 1e-3 * np.trace(K) / 40
    expected = gram(nn.mlp(1, nn.Erf()), new, X) @ np.linalg.solve(K + ridge * np.eye(40), y)
    model = KernelRegressor(
        nn.mlp(1, nn.Erf()), alpha=[1e-3], solver=Restricted(centres=40), fit_intercept=False
    )
    np.testing.assert_allclose(model.fit(X, y).predict(new), expected, atol=1e-9)
