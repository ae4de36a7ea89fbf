"""Displays of error bars draw what was predicted, and count what intervals hold."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
import scipy.stats
from sklearn.gaussian_process import GaussianProcessRegressor as SklearnProcess
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from kernreg import EnsembleRegressor, GaussianProcessRegressor, KernelRegressor, nn
from kernreg.exceptions import InvalidInputError
from kernreg.plotting import CalibrationDisplay, EnsembleDisplay

NET = nn.mlp(depth=1, activation="erf")
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (20, 2))
Y = np.column_stack([np.sin(3 * X[:, 0]), X[:, 1]])
GP = GaussianProcessRegressor(NET, optimizer=None, alpha=0.1).fit(X, Y[:, 0])
FLOW = EnsembleRegressor(NET).fit(X, Y[:, 0])
STEPS = EnsembleRegressor(NET, steps=10).fit(X, Y[:, 0])
TIMES = [0.0, 1.0, 10.0, 100.0]


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def shares(**given):
    y = RNG.standard_normal(200)
    return CalibrationDisplay.from_predictions(y, np.zeros(200), np.ones(200), **given)


def make(kind, ax=None):
    match kind:
        case "posterior":
            return EnsembleDisplay.from_estimator(GP, X, Y[:, 0], ax=ax)
        case "ensemble":
            return EnsembleDisplay.from_estimator(FLOW, X, time=3.0, samples=0, ax=ax)
        case "time":
            return EnsembleDisplay.over_time(FLOW, X[:3], TIMES, Y[:3, 0], ax=ax)
    return shares(ax=ax)


KINDS = ("posterior", "ensemble", "time", "calibration")


@pytest.mark.parametrize("kind", KINDS)
def test_draws_into_given_axes_and_into_new_ones(kind, tmp_path):
    figure, ax = plt.subplots()
    shown = make(kind, ax)
    assert shown.ax_ is ax
    assert shown.figure_ is figure
    again = shown.plot()
    assert again is shown
    assert again.ax_ is not ax
    again.figure_.savefig(tmp_path / "picture.png")
    assert again.ax_.get_xlabel()
    legend = again.ax_.get_legend()
    assert legend.get_window_extent().y0 >= again.ax_.get_window_extent().y1 - 1
    # Nothing is cut off.
    assert legend.get_window_extent().x1 <= again.figure_.bbox.x1
    assert legend.get_window_extent().y1 <= again.figure_.bbox.y1


def test_along_one_feature_the_others_stay_at_their_medians():
    shown = EnsembleDisplay.from_estimator(
        GP, X, Y[:, 0], feature=1, limits=(-3, 2), grid_resolution=7, samples=4, random_state=1
    )
    grid = np.column_stack([np.full(7, np.median(X[:, 0])), np.linspace(-3, 2, 7)])
    mean, std = GP.predict(grid, return_std=True)
    np.testing.assert_allclose(shown.mean[:, 0], mean, rtol=1e-12)
    np.testing.assert_allclose(shown.std[:, 0], std, rtol=1e-12)
    np.testing.assert_allclose(shown.samples, GP.sample_y(grid, 4, random_state=1), rtol=1e-10)
    np.testing.assert_array_equal(shown.points, [X[:, 1], Y[:, 0]])
    assert shown.ax_.get_xlabel() == "feature 1"


def test_band_is_as_wide_as_asked_for():
    shown = EnsembleDisplay([0.0, 1.0], [1.0, 2.0], [0.5, 0.25], n_std=3.0).plot()
    corners = shown.bands_[0].get_paths()[0].vertices
    for x, low, high in ((0.0, -0.5, 2.5), (1.0, 1.25, 2.75)):
        at = corners[corners[:, 0] == x, 1]
        assert (at.min(), at.max()) == (low, high)


def test_time_is_that_of_the_fit_or_another():
    late, early = (
        EnsembleDisplay.from_estimator(FLOW, X, time=time, samples=2) for time in (None, 1.0)
    )
    grid = np.tile(np.median(X, axis=0), (200, 1))
    grid[:, 0] = late.x
    np.testing.assert_allclose(late.mean[:, 0], FLOW.predict(grid), rtol=1e-12)
    np.testing.assert_allclose(early.mean[:, 0], FLOW.predict(grid, time=1.0), rtol=1e-12)
    drawn = FLOW.sample_y(grid, 2, time=1.0)
    np.testing.assert_allclose(early.samples, drawn, rtol=1e-10)


def test_rows_over_time():
    shown = make("time")
    mean, std = FLOW.predict(X[:3], time=TIMES, return_std=True)
    np.testing.assert_array_equal(shown.mean, mean)
    np.testing.assert_array_equal(shown.std, std)
    assert [line.get_label() for line in shown.lines_] == ["row 0", "row 1", "row 2"]
    # Time 0 has no logarithm.
    assert shown.ax_.get_xscale() == "symlog"
    assert EnsembleDisplay.over_time(FLOW, X[:1], TIMES[1:]).ax_.get_xscale() == "log"
    assert EnsembleDisplay.over_time(FLOW, X[:1], [0.0, 1.0, 2.0]).ax_.get_xscale() == "linear"
    assert "time" in shown.ax_.get_xlabel()
    assert "steps" in EnsembleDisplay.over_time(STEPS, X[:1], [1, 2]).ax_.get_xlabel()


def test_one_of_several_targets():
    model = EnsembleRegressor(NET).fit(X, Y)
    shown = EnsembleDisplay.from_estimator(model, X, Y, target=1, time=5.0)
    grid = np.tile(np.median(X, axis=0), (200, 1))
    grid[:, 0] = shown.x
    np.testing.assert_allclose(shown.mean[:, 0], model.predict(grid, time=5.0)[:, 1], rtol=1e-12)
    drawn = model.sample_y(grid, 3, time=5.0)[:, 1]
    np.testing.assert_allclose(shown.samples, drawn, rtol=1e-10)
    np.testing.assert_array_equal(shown.points[1], Y[:, 1])
    moving = EnsembleDisplay.over_time(model, X[:2], [1.0, 2.0], Y[:2], target=1)
    expected = model.predict(X[:2], time=[1.0, 2.0])[..., 1]
    np.testing.assert_allclose(moving.mean, expected, rtol=1e-12)
    np.testing.assert_array_equal(moving.targets, Y[:2, 1])
    with pytest.raises(InvalidInputError, match="target from 0 to 1"):
        EnsembleDisplay.from_estimator(model, X, target=2)


@pytest.mark.filterwarnings("error")
def test_pipelines_and_tables():
    frame = pd.DataFrame(X, columns=["a", "b"])
    pipe = make_pipeline(StandardScaler(), EnsembleRegressor(NET)).fit(frame, Y[:, 0])
    shown = EnsembleDisplay.from_estimator(pipe, frame, feature="b", time=4.0, samples=2)
    assert shown.ax_.get_xlabel() == "b"
    assert shown.samples.shape == (200, 2)
    EnsembleDisplay.over_time(pipe, frame[:2], [1.0, 2.0])
    CalibrationDisplay.from_estimator(pipe, frame, Y[:, 0])
    with pytest.raises(InvalidInputError, match="it has a, b"):
        EnsembleDisplay.from_estimator(pipe, frame, feature="c")


def test_regressors_of_scikit_learn():
    shown = EnsembleDisplay.from_estimator(SklearnProcess(alpha=0.1).fit(X, Y[:, 0]), X)
    assert shown.samples.shape == (200, 3)
    assert (shown.std > 0).all()


def test_networks_are_followed_over_time():
    times = [0.0, 1.0, 10.0]
    shown = EnsembleDisplay.over_time(FLOW, X[:2], times, samples=3)
    drawn = FLOW.sample_y(X[:2], 3, time=times)
    drawn = drawn if drawn.ndim == 3 else drawn[:, :, 0]
    np.testing.assert_array_equal(shown.samples, drawn.reshape(3, 6))
    lines = [line for line in shown.ax_.lines if len(line.get_xdata()) == 3]
    colours = [line.get_color() for line in lines[2:8]]
    assert colours == [lines[0].get_color()] * 3 + [lines[1].get_color()] * 3


def test_shares_by_hand():
    shown = CalibrationDisplay.from_predictions(
        [0.0, 1.0, -3.0, 2.5], [0.0, 0.0, 0.0, 2.0], [0.0, 1.0, 2.0, 1.0], levels=[0.5, 0.8, 0.9]
    )
    # 0.67, 1.28 and 1.64 standard deviations; a std of 0 holds what it predicts.
    np.testing.assert_array_equal(shown.observed, [0.5, 0.75, 1.0])
    assert shown.count == 4
    np.testing.assert_array_equal(shown.line_.get_ydata(), shown.observed)


def test_band_is_binomial():
    shown = shares(levels=[0.5])
    lower, upper = (round(float(side[0]) * 200) for side in (shown.lower, shown.upper))
    inside = scipy.stats.binom.pmf(np.arange(lower, upper + 1), 200, 0.5).sum()
    assert 0.95 <= inside < 0.97


def test_noise_is_part_of_an_interval():
    shown = CalibrationDisplay.from_estimator(GP, X, Y[:, 0], levels=[0.3, 0.9])
    for level, share in zip((0.3, 0.9), shown.observed, strict=True):
        low, high = GP.predict_interval(X, level)
        assert share == np.mean((low <= Y[:, 0]) & (Y[:, 0] <= high))
    mean, std = GP.predict(X, return_std=True)
    bare = CalibrationDisplay.from_estimator(GP, X, Y[:, 0], noise=0.0)
    expected = CalibrationDisplay.from_predictions(Y[:, 0], mean, std)
    np.testing.assert_array_equal(bare.observed, expected.observed)
    assert bare.name == "GaussianProcessRegressor"


def test_several_models_share_axes():
    first = shares(name="one")
    second = shares(name="two", ax=first.ax_)
    labels = [text.get_text() for text in second.ax_.get_legend().get_texts()]
    assert labels == ["ideal", "95 % range by chance, n = 200", "one", "two"]
    assert first.line_.get_color() != second.line_.get_color()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: EnsembleDisplay([0.0, 1.0], [0.0], [0.0]), r"mean and std of shape \(2,\)"),
        (lambda: EnsembleDisplay([0.0], [0.0], [[0.0, 0.0]]), "mean and std of shape"),
        (lambda: EnsembleDisplay([1.0, 0.0], [0.0, 0.0], [0.0, 0.0]), "ascending"),
        (lambda: EnsembleDisplay([-1.0], [0.0], [1.0], time_axis=True), "times >= 0, found -1"),
        (lambda: EnsembleDisplay([0.0], [0.0], [-1.0]), "std >= 0, found -1"),
        (lambda: EnsembleDisplay([0.0], [np.nan], [1.0]), "finite numbers in mean"),
        (lambda: EnsembleDisplay(["a"], [0.0], [1.0]), "x as an array of numbers"),
        (lambda: EnsembleDisplay([0.0], [0.0], [1.0], n_std=0), "n_std > 0"),
        (lambda: EnsembleDisplay([0.0], [0.0], [1.0], samples=[1.0]), r"samples of shape \(1, s\)"),
        (lambda: EnsembleDisplay([0.0], [0.0], [1.0], points=([1.0], [])), "points as two"),
        (lambda: EnsembleDisplay([0.0], [0.0], [1.0], targets=[1.0, 2.0]), "1 targets"),
        (lambda: EnsembleDisplay([0.0], [0.0], [1.0], labels=[]), "1 labels"),
        (lambda: EnsembleDisplay.over_time(FLOW, X[:1], [-1.0, 1.0]), "times >= 0"),
        (lambda: EnsembleDisplay.over_time(FLOW, X[:1], []), "times >= 0"),
        (lambda: EnsembleDisplay.over_time(FLOW, X[:1], [1.0, np.inf]), "finite numbers in times"),
        (lambda: EnsembleDisplay.over_time(FLOW, X[:1], [2.0, 1.0]), "ascending"),
        (lambda: EnsembleDisplay.over_time(STEPS, X[:1], [0.5]), "whole numbers"),
        (lambda: EnsembleDisplay.over_time(GP, X[:1], [1.0]), "not trained over time"),
        (lambda: EnsembleDisplay.over_time(FLOW, X[:1], [1.0], samples=-1), "samples >= 0"),
        (lambda: EnsembleDisplay.over_time(FLOW, X[:2], [1.0], [0.0]), "2 targets"),
        (lambda: EnsembleDisplay.from_estimator(GP, X, time=1.0), "not trained over time"),
        (lambda: EnsembleDisplay.from_estimator(KernelRegressor(NET), X), "KernelRegressor pred"),
        (lambda: EnsembleDisplay.from_estimator(GP, X, feature=2), "feature from 0 to 1"),
        (lambda: EnsembleDisplay.from_estimator(GP, X, feature="a"), "X has no names"),
        (lambda: EnsembleDisplay.from_estimator(GP, X[:1]), "give limits"),
        (lambda: EnsembleDisplay.from_estimator(GP, X, samples=-1), "samples >= 0"),
        (lambda: EnsembleDisplay.from_estimator(GP, X, [1.0]), "20 targets"),
        (lambda: CalibrationDisplay.from_estimator(LinearRegression(), X, Y), "no standard dev"),
        (lambda: CalibrationDisplay.from_estimator(GP, X, Y), "y of shape"),
        (lambda: CalibrationDisplay.from_estimator(GP, X, Y[:, 0], noise=-1.0), "noise >= 0"),
        (lambda: CalibrationDisplay.from_predictions([1.0], [0.0], [-1.0]), "std >= 0"),
        (lambda: CalibrationDisplay.from_predictions([1.0], [0.0, 1.0], [1.0]), "one shape"),
        (lambda: CalibrationDisplay.from_predictions([], [], []), "found none"),
        (lambda: shares(levels=[0.5, 1.0]), "levels between 0 and 1"),
        (lambda: CalibrationDisplay([0.5], [1.5], 3), "shares from 0 to 1"),
        (lambda: CalibrationDisplay([0.5], [0.5, 0.6], 3), "nominal and observed"),
        (lambda: CalibrationDisplay([0.5], [0.5], 0), "at least one"),
    ],
)
def test_what_cannot_be_drawn(wrong, message):
    with pytest.raises(InvalidInputError, match=message):
        wrong()
