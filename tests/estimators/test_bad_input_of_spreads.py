"""Data and settings that models with error bars cannot use, or only just."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from kernreg import (
    EnsembleRegressor,
    GaussianProcessClassifier,
    GaussianProcessRegressor,
    diag,
    nn,
)
from kernreg.exceptions import InvalidInputError, JitterWarning
from tests.nn.strategies import networks

NET = nn.mlp(depth=1, b_std=0.3)
RNG = np.random.default_rng(8)
X = RNG.standard_normal((15, 3))
Y = np.sin(X[:, 0])
LABELS = np.arange(15) % 3
MODELS = {
    "tuned": GaussianProcessRegressor(NET),
    "process": GaussianProcessRegressor(NET, optimizer=None),
    "classifier": GaussianProcessClassifier(NET, optimizer=None),
    "ensemble": EnsembleRegressor(NET),
}


def targets_of(model: Any) -> np.ndarray:
    return LABELS if isinstance(model, GaussianProcessClassifier) else Y


def changed(value: Any, dtype: Any = float) -> np.ndarray:
    rows = X.astype(dtype)
    rows[4, 1] = value
    return rows


ROWS = [
    (changed(np.nan), "Input X contains NaN"),
    (changed(np.inf), "Input X contains infinity"),
    (changed("red", object), "Column 1 of X holds text such as 'red'"),
    (X[:, 0], "Expected 2D array, got 1D array"),
    (X[None], "the network has no layer for positions"),
    (X[:0], r"Found array with 0 sample\(s\)"),
    (X + 1j, "Complex data not supported"),
    (pd.DataFrame(X, columns=list("uvw")).assign(v="x"), "Column 'v' of X holds text such as 'x'"),
]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize(("rows", "message"), ROWS)
def test_rows(name: str, rows: Any, message: str) -> None:
    model = clone(MODELS[name])
    y = targets_of(model)
    with pytest.raises(ValueError, match=message):
        model.fit(rows, y[: len(rows)])
    assert not hasattr(model, "dual_coef_")
    model.set_params(**({"optimizer": None} if name == "tuned" else {})).fit(X, y)
    calls = [model.predict_proba] if name == "classifier" else [model.sample_y]
    if name != "classifier":
        calls += [lambda X: model.predict(X, return_std=True)]
        calls += [lambda X: model.predict(X, return_cov=True)]
    for call in [model.predict, *calls]:
        with pytest.raises(ValueError, match=message):
            call(rows)


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_columns(name: str) -> None:
    model = clone(MODELS[name])
    model.fit(X, targets_of(model))
    with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
        model.predict(X[:, :2])
    if name != "classifier":
        for how in ("return_std", "return_cov"):
            with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
                model.predict(X[:, :2], **{how: True})


@pytest.mark.parametrize("name", ["tuned", "process", "ensemble"])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.where(Y > 0, np.nan, Y), "Input y contains NaN"),
        (np.where(Y > 0, np.inf, Y), "Input y contains infinity"),
        (np.where(Y > 0, "a", "b"), r"y holds text such as '[ab]'"),
        (Y[:-1], "inconsistent numbers of samples"),
        (np.ones((15, 2, 2)), "dim"),
        (None, "requires y to be passed"),
    ],
)
def test_targets(name: str, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        clone(MODELS[name]).fit(X, y)


def test_before_a_fit() -> None:
    for model in (EnsembleRegressor(NET), GaussianProcessClassifier(NET)):
        with pytest.raises(NotFittedError):
            model.predict(X)
    process = GaussianProcessRegressor(NET)
    with pytest.raises(NotFittedError):
        process.log_marginal_likelihood()
    with pytest.raises(NotFittedError):
        process.predict_interval(X)
    for how in ("return_std", "return_cov"):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            process.predict(changed(np.nan), **{how: True})
        with pytest.raises(ValueError, match="Expected 2D array"):
            process.predict(X[0], **{how: True})


@pytest.mark.parametrize("cls", [GaussianProcessRegressor, GaussianProcessClassifier])
@pytest.mark.parametrize(
    ("alpha", "message"),
    [
        (np.ones(14), "15 finite numbers > 0, one for each row"),
        (np.ones((15, 2)), "15 finite numbers > 0, one for each row"),
        (np.zeros(15), "15 finite numbers > 0"),
        (-np.ones(15), "15 finite numbers > 0"),
        (np.full(15, np.nan), "15 finite numbers > 0"),
        (-1.0, "'alpha' parameter"),
        (np.nan, "'alpha' parameter"),
        ("auto", "'alpha' parameter"),
    ],
)
def test_noise(cls: Any, alpha: Any, message: str) -> None:
    y = LABELS if cls is GaussianProcessClassifier else Y
    with pytest.raises(ValueError, match=message):
        cls(NET, alpha=alpha).fit(X, y)


def test_settings() -> None:
    with pytest.raises(InvalidInputError, match="both say how much noise a row has: give one"):
        GaussianProcessRegressor(NET, alpha=np.ones(15)).fit(X, Y, sample_weight=np.ones(15))
    with pytest.raises(InvalidInputError, match="expected dtype float64 or None, found float32"):
        GaussianProcessRegressor(NET, dtype=np.float32).fit(X, Y)
    with pytest.raises(ValueError, match="'dtype' parameter"):
        GaussianProcessRegressor(NET, dtype="float32").fit(X, Y)
    model = GaussianProcessRegressor(NET, optimizer=None).fit(X.astype(np.float32), Y)
    assert model.X_fit_.dtype == np.float64
    with pytest.raises(InvalidInputError, match="ask for one of return_std and return_cov"):
        model.predict(X, return_std=True, return_cov=True)
    with pytest.raises(InvalidInputError, match="expected method auto, exact or pathwise"):
        model.sample_y(X, method="best")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e-5, 1e5, 1e150])
@pytest.mark.parametrize("name", ["process", "ensemble"])
def test_huge_and_tiny_targets(name: str, size: float) -> None:
    """Means scale with them, but for rounding; error bars do not know them."""
    one, scaled = clone(MODELS[name]).fit(X, Y), clone(MODELS[name]).fit(X, size * Y)
    new = X + 0.1
    (mean, std), (large, same) = (m.predict(new, return_std=True) for m in (one, scaled))
    np.testing.assert_allclose(large / size, mean, rtol=1e-6, atol=1e-9)
    assert np.array_equal(std, same)
    assert np.isfinite(scaled.sample_y(new, 2)).all()


@pytest.mark.parametrize("target", [np.full(15, 3.0), np.zeros(15), np.ones((15, 2))])
def test_constant_targets(target: np.ndarray) -> None:
    process = GaussianProcessRegressor(NET, optimizer=None).fit(X, target)
    mean, std = process.predict(X + 1, return_std=True)
    assert np.array_equal(mean, target)
    assert (std > 0).all()
    tuned = GaussianProcessRegressor(NET).fit(X, target)
    mean, std = tuned.predict(X + 1, return_std=True)
    np.testing.assert_allclose(mean, target, rtol=1e-12)
    assert np.isfinite(std).all()
    centred = EnsembleRegressor(NET, fit_intercept=True).fit(X, target)
    assert np.array_equal(centred.predict(X + 1), target)


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
@pytest.mark.parametrize("rows", [np.ones((15, 3)), np.zeros((15, 3))], ids=["ones", "zeros"])
def test_equal_rows(rows: np.ndarray) -> None:
    """All that is seen is a mean, good to the noise over the root of 15."""
    process = GaussianProcessRegressor(NET, alpha=0.1, alpha_scale="absolute", optimizer=None)
    mean, std = process.fit(rows, Y).predict(rows, return_std=True)
    np.testing.assert_allclose(mean, Y.mean(), rtol=1e-10)
    size = diag(NET, rows[:1], kernel="nngp")[0]
    np.testing.assert_allclose(std**2, size - size**2 / (size + 0.1 / 15), rtol=1e-9)
    assert np.isfinite(GaussianProcessRegressor(NET).fit(rows, Y).predict(rows)).all()
    for solver in ("eigh", "krylov"):
        members = EnsembleRegressor(NET, solver=solver).fit(rows, Y)
        mean, std = members.predict(rows, return_std=True)
        np.testing.assert_allclose(mean, Y.mean(), rtol=1e-9)
        # The mean of equal rows is learned, to rounding of a variance near 1.
        assert std.max() < 1e-6


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")
@pytest.mark.parametrize("name", ["tuned", "process", "ensemble"])
def test_a_single_row(name: str) -> None:
    model = clone(MODELS[name]).fit(X[:1], Y[:1])
    mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean[0], Y[0], rtol=0.02)
    assert np.isfinite(std).all()
    assert std[0] == std.min()
    if name != "ensemble":
        with pytest.raises(InvalidInputError, match=r"[01] rows left out cannot tell"):
            model.predict_interval(X)


def test_rows_that_the_kernel_does_not_see() -> None:
    """Zeros, without a bias: the prior of these outputs is 0, and so they stay."""
    net = nn.mlp(depth=1, b_std=0.0)
    rows = np.vstack([np.zeros((2, 3)), X[2:]])
    for model in (GaussianProcessRegressor(net, optimizer=None), EnsembleRegressor(net)):
        mean, std = model.fit(rows, Y).predict(rows, return_std=True)
        assert (std[:2] == 0).all()
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
    none = np.zeros((15, 3))
    with pytest.raises(InvalidInputError, match=r"no.* at any start"):
        GaussianProcessRegressor(net).fit(none, Y)


TWICE, TARGETS = np.vstack([X, X]), np.concatenate([Y, Y])


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
def test_equal_rows_without_noise(solver: str) -> None:
    model = GaussianProcessRegressor(NET, alpha=0, optimizer=None, solver=solver)
    with pytest.warns(JitterWarning, match=r"raise alpha|remove dup"):
        model.fit(TWICE, TARGETS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mean, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, Y, rtol=0, atol=1e-6)
    assert (std < 1e-6).all()


def test_equal_rows_with_little_noise() -> None:
    """With noise a of both rows, half as much is left."""
    alpha = 1e-10
    model = GaussianProcessRegressor(NET, alpha=alpha, optimizer=None).fit(TWICE, TARGETS)
    once = GaussianProcessRegressor(NET, alpha=alpha / 2, optimizer=None).fit(X, Y)
    for found, known in zip(
        model.predict(X, return_std=True), once.predict(X, return_std=True), strict=True
    ):
        # Of 1e-10 of variance, rounding of some eps changes 1e-5.
        np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("solver", ["eigh", "krylov"])
def test_equal_rows_that_disagree(solver: str) -> None:
    """Members end at the mean of what they are told."""
    model = EnsembleRegressor(NET, solver=solver).fit(TWICE, np.concatenate([Y, Y + 1]))
    for time in (1e9, np.inf):
        np.testing.assert_allclose(model.predict(X, time=time), Y + 0.5, rtol=0, atol=1e-5)


@settings(max_examples=40)
@given(net=networks(max_leaves=3), kernel=st.sampled_from(["nngp", "ntk"]), seed=st.integers(0, 99))
def test_random_networks(net: nn.Layer, kernel: str, seed: int) -> None:
    """What data say never adds to the spread of the prior, and is never more than all of it."""
    rng = np.random.default_rng(seed)
    rows, new = rng.standard_normal((15, 3)), rng.standard_normal((10, 3))
    every = np.vstack([rows, new])
    y = np.sin(rows[:, 0])
    process = GaussianProcessRegressor(net, kernel, alpha=1e-4, optimizer=None).fit(rows, y)
    prior = np.sqrt(diag(net, every, kernel=kernel))
    mean, std = process.predict(every, return_std=True)
    assert np.isfinite(mean).all()
    assert ((std >= 0) & (std <= prior * (1 + 1e-12))).all()
    cov = process.predict(every, return_cov=True)[1]
    np.testing.assert_allclose(cov, cov.T, rtol=0, atol=1e-12 * prior.max() ** 2)
    np.testing.assert_allclose(cov.diagonal(), std**2, rtol=0, atol=1e-11 * prior.max() ** 2)
    value, slope = process.log_marginal_likelihood(eval_gradient=True)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
    members = EnsembleRegressor(net, kernel, alpha=1e-4).fit(rows, y)
    start = np.sqrt(diag(net, every, kernel="nngp"))
    mean, std = members.predict(every, time=[0.0, 10.0, np.inf], return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std >= 0).all()
    np.testing.assert_allclose(std[0], start, rtol=1e-7)


@settings(max_examples=8)
@given(net=networks(max_leaves=1))
def test_random_networks_are_tuned(net: nn.Layer) -> None:
    def short(function: Any, start: np.ndarray, bounds: Any) -> Any:
        """A step uphill, which all numbers take part in."""
        value, slope = function(start)
        moved = start - 0.1 * slope / max(1.0, float(np.abs(slope).max()))
        other = function(moved, eval_gradient=False)
        return (moved, other) if other < value else (start, value)

    model = GaussianProcessRegressor(net, optimizer=short).fit(X, Y)
    fixed = GaussianProcessRegressor(net, optimizer=None).fit(X, Y)
    assert model.log_marginal_likelihood_value_ >= fixed.log_marginal_likelihood_value_ - 1e-6
    mean, std = model.predict(X, return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
