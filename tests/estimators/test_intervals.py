"""Intervals that new observations are within."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.exceptions import NotFittedError

from kernreg import GaussianProcessRegressor, KernelRegressor, load, nn
from kernreg.exceptions import InvalidInputError
from kernreg.solvers import Restricted

NET = nn.mlp(depth=2, b_std=0.3)
N, NEW = 300, 4000


def drawn(n: int, seed: int, noise: str = "normal") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (n, 2))
    match noise:
        case "normal":
            errors = rng.standard_normal(n)
        case "heavy":
            errors = rng.standard_t(3, n) / np.sqrt(3)
        case "skewed":
            errors = rng.exponential(1.0, n) - 1
    return X, np.sin(2 * X[:, 0]) + 0.3 * errors


def allowed(level: float, seen: int) -> float:
    """Four standard errors of a coverage: of the quantile of n rows, and of what is counted."""
    return float(4 * np.sqrt(level * (1 - level) * (1 / seen + 1 / NEW)))


def covered(model: Any, level: float, noise: str, **how: str) -> float:
    X, y = drawn(NEW, 1, noise)
    lower, upper = model.predict_interval(X, level=level, **how)
    return float(np.mean((lower <= y) & (y <= upper)))


@pytest.mark.parametrize("noise", ["normal", "heavy", "skewed"])
@pytest.mark.parametrize("kind", ["kernel", "alphas", "eigh", "process", "ntk", "centres"])
def test_cover_as_often_as_they_say(kind: str, noise: str) -> None:
    """Whatever the noise: rows that are left out are like new ones, but for a row less in fits."""
    models = {
        "kernel": KernelRegressor(NET),
        "alphas": KernelRegressor(NET, alpha=[1e-2, 1e-1, 1.0], solver="cholesky"),
        "eigh": KernelRegressor(NET, alpha=0.05, solver="eigh"),
        "process": GaussianProcessRegressor(NET, alpha=0.05, optimizer=None),
        "ntk": GaussianProcessRegressor(NET, "ntk", alpha=0.05, optimizer=None),
        "centres": KernelRegressor(NET, alpha=[1e-2, 1e-1], solver="restricted"),
    }
    model = models[kind].fit(*drawn(N, 0, noise))
    for level in (0.5, 0.8, 0.95):
        assert abs(covered(model, level, noise) - level) < allowed(level, N)


def test_of_a_tuned_process() -> None:
    X, y = drawn(N, 2)
    model = GaussianProcessRegressor(NET).fit(X, y)
    for level in (0.5, 0.8, 0.95):
        for method in ("calibrated", "gaussian"):
            found = covered(model, level, "normal", method=method)
            assert abs(found - level) < allowed(level, N)


def test_are_those_of_the_rows_left_out() -> None:
    X, y = drawn(60, 3)
    targets = np.column_stack([y, 3 * y[::-1]])
    model = KernelRegressor(NET, alpha=[0.01, 0.1], solver="cholesky").fit(X, targets)
    mean = model.predict(X)
    lower, upper = model.predict_interval(X, level=0.8)
    sizes = np.sort(np.abs(model.loo_.targets - model.loo_.predictions), axis=0)
    # The 49th of 60: the smallest k with k >= 0.8 * 61.
    np.testing.assert_allclose(upper - mean, np.tile(sizes[48], (60, 1)), rtol=1e-10)
    np.testing.assert_allclose(mean - lower, np.tile(sizes[48], (60, 1)), rtol=1e-10)
    one = KernelRegressor(NET, alpha=[0.01, 0.1], solver="cholesky").fit(X, y)
    assert one.predict_interval(X)[0].shape == (60,)


def test_of_gaussian_noise() -> None:
    X, y = drawn(60, 3)
    for targets in (y, np.column_stack([y, 3 * y])):
        model = GaussianProcessRegressor(NET, alpha=0.05, optimizer=None).fit(X, targets)
        mean, std = model.predict(X, return_std=True)
        lower, upper = model.predict_interval(X, level=0.9, method="gaussian")
        half = scipy.stats.norm.ppf(0.95) * np.sqrt(std**2 + model.noise_)
        np.testing.assert_allclose(upper, mean + half, rtol=1e-12)
        np.testing.assert_allclose(lower, mean - half, rtol=1e-12)


def test_leave_one_out_is_what_a_process_says_without_the_row() -> None:
    """The largest of 20 standardised residuals is that of level 20 / 21."""
    X, y = drawn(20, 4)
    settings = {"alpha": 0.1, "alpha_scale": "absolute", "optimizer": None, "fit_intercept": False}
    sizes = []
    for row in range(20):
        rest = np.arange(20) != row
        model = GaussianProcessRegressor(NET, **settings).fit(X[rest], y[rest])
        mean, std = model.predict(X[[row]], return_std=True)
        sizes.append(abs(y[row] - mean[0]) / np.sqrt(std[0] ** 2 + 0.1))
    model = GaussianProcessRegressor(NET, **settings).fit(X, y)
    mean, std = model.predict(X, return_std=True)
    upper = model.predict_interval(X, level=20 / 21 - 1e-9)[1]
    np.testing.assert_allclose(upper - mean, max(sizes) * np.sqrt(std**2 + 0.1), rtol=1e-9)


def test_higher_levels_are_wider() -> None:
    X, y = drawn(60, 3)
    for model in (KernelRegressor(NET), GaussianProcessRegressor(NET, optimizer=None)):
        model.fit(X, y)
        widths = [np.subtract(*model.predict_interval(X, level)[::-1]) for level in (0.3, 0.6, 0.9)]
        assert (np.diff(widths, axis=0) >= 0).all()
        assert (widths[0] >= 0).all()


@pytest.mark.parametrize("cls", [KernelRegressor, GaussianProcessRegressor])
def test_levels_that_cannot_be(cls: Any) -> None:
    X, y = drawn(19, 5)
    model = cls(NET, alpha=[0.1, 1.0]) if cls is KernelRegressor else cls(NET, optimizer=None)
    with pytest.raises(NotFittedError):
        model.predict_interval(X)
    model.fit(X, y)
    for level in (0.0, 1.0, -0.5, 1.5, np.nan, 90):
        with pytest.raises(InvalidInputError, match="expected a level between 0 and 1"):
            model.predict_interval(X, level=level)
    model.predict_interval(X, level=0.949)
    with pytest.raises(
        InvalidInputError, match=r"19 rows left out cannot tell .* 0\.96: at least 24 are needed"
    ):
        model.predict_interval(X, level=0.96)


def test_methods_that_cannot_be() -> None:
    model = GaussianProcessRegressor(NET, optimizer=None).fit(*drawn(30, 5))
    with pytest.raises(InvalidInputError, match="expected method calibrated or gaussian"):
        model.predict_interval(np.zeros((1, 2)), method="bayes")


@pytest.mark.parametrize("solver", ["cholesky", "pcg", "sketch"])
def test_of_solvers_that_leave_nothing_out(solver: str) -> None:
    """They are found later, by one factor of the rows."""
    X, y = drawn(30, 5)
    known = KernelRegressor(NET, alpha=0.1, solver="eigh").fit(X, y).predict_interval(X)
    model = KernelRegressor(NET, alpha=0.1, solver=solver).fit(X, y)
    assert model.loo_ is None
    for found, expected in zip(model.predict_interval(X), known, strict=True):
        # Predictions are solved to 1e-8.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_without_rows_left_out() -> None:
    X, y = drawn(30, 5)
    model = KernelRegressor(NET, alpha=0.1, solver=Restricted(centres=10)).fit(X, y)
    with pytest.raises(InvalidInputError, match=r"keeps too little.*alpha='auto'"):
        model.predict_interval(X)


@pytest.mark.parametrize("cls", [KernelRegressor, GaussianProcessRegressor])
def test_in_files(cls: Any, tmp_path: Any) -> None:
    X, y = drawn(40, 6)
    model = cls(NET).fit(X, np.column_stack([y, -y]))
    model.save(tmp_path / "model")
    for found, expected in zip(
        load(tmp_path / "model").predict_interval(X), model.predict_interval(X), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
