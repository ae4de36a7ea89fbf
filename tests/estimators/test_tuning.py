"""Hyperparameters that maximise the marginal likelihood."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor as Sklearn
from sklearn.gaussian_process.kernels import WhiteKernel

from kernreg import GaussianProcessClassifier, GaussianProcessRegressor, nn
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from tests.estimators.network_kernel import NetworkKernel

N = 40
NET = nn.mlp(depth=2, b_std=0.3)
RNG = np.random.default_rng(9)
X = RNG.uniform(-2, 2, (N, 2))
Y = np.sin(2 * X[:, 0]) + 0.2 * RNG.standard_normal(N)


def test_reaches_a_maximum() -> None:
    """L-BFGS ends where a step gains 1e-6 of the likelihood of a row."""
    model = GaussianProcessRegressor(NET).fit(X, Y)
    value, slope = model.log_marginal_likelihood(eval_gradient=True)
    assert value == pytest.approx(model.log_marginal_likelihood_value_, rel=1e-9)
    start = GaussianProcessRegressor(NET, optimizer=None).fit(X, Y)
    assert value > start.log_marginal_likelihood_value_ + 1
    assert np.abs(slope).max() <= 0.01 * N
    for axis in 0.3 * np.eye(3):
        assert model.log_marginal_likelihood(model.theta_ + axis) < value
        assert model.log_marginal_likelihood(model.theta_ - axis) < value


def test_finds_the_noise() -> None:
    """Its logarithm is known to sqrt(2 / n) = 0.22: four of these are a factor of 2.4."""
    model = GaussianProcessRegressor(NET).fit(X, Y)
    assert 0.04 / 2.4 < model.noise_ < 0.04 * 2.4
    np.testing.assert_allclose(np.exp(model.theta_[-1]), model.alpha_, rtol=1e-12)
    assert model.theta_names_ == ["log(W_std)", "log(b_std)", "log(alpha)"]
    assert model.network_ == NET.with_params(
        W_std=float(np.exp(model.theta_[0])), b_std=float(np.exp(model.theta_[1]))
    )
    assert model.network == NET


def test_is_as_good_as_scikit_learn() -> None:
    kernel = NetworkKernel(NET, NET.W_std, NET.b_std) + WhiteKernel(0.1, (1e-4, 1e2))
    other = Sklearn(kernel, alpha=0, normalize_y=False).fit(X, Y - Y.mean())
    model = GaussianProcessRegressor(NET, alpha=0.1, alpha_scale="absolute").fit(X, Y)
    # Both stop near the top, ours within 1e-6 a row and step.
    assert model.log_marginal_likelihood_value_ > other.log_marginal_likelihood_value_ - 0.01


@pytest.mark.parametrize("size", [1e-8, 1e8])
def test_units_of_targets_do_not_matter(size: float) -> None:
    """Divided by their deviation they are the same numbers, to the rounding of that."""
    one, other = (
        GaussianProcessRegressor(NET, normalize_y=True).fit(X, unit * Y) for unit in (1.0, size)
    )
    np.testing.assert_allclose(other.theta_, one.theta_, rtol=0, atol=1e-5)
    for found, expected in zip(
        other.predict(X, return_std=True), one.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(found / size, expected, rtol=0, atol=1e-5)


def test_noise_only_in_tiny_targets_is_said() -> None:
    """Layers that share their numbers cannot shrink to a hundredth of their outputs."""
    with pytest.warns(UserWarning, match="noise only.*normalize_y=True"):
        GaussianProcessRegressor(nn.mlp(depth=3)).fit(X, 1e-4 * Y)


def test_further_starts_never_do_worse() -> None:
    one = GaussianProcessRegressor(NET).fit(X, Y)
    more = GaussianProcessRegressor(NET, n_restarts_optimizer=3, random_state=0).fit(X, Y)
    again = GaussianProcessRegressor(NET, n_restarts_optimizer=3, random_state=0).fit(X, Y)
    least = one.log_marginal_likelihood_value_ - 1e-9
    assert more.log_marginal_likelihood_value_ >= least
    assert np.array_equal(more.theta_, again.theta_)


def test_an_optimizer_of_the_user() -> None:
    """It is called as scikit-learn calls it."""
    seen: list[Any] = []

    def best_of_some(function: Any, start: Any, bounds: Any) -> Any:
        value, slope = function(start)
        seen.append((start, bounds, value, slope))
        assert function(start, eval_gradient=False) == pytest.approx(value, rel=1e-12)
        moved = start - 1e-3 * slope
        return min(((moved, function(moved)[0]), (start, value)), key=lambda found: found[1])

    model = GaussianProcessRegressor(NET, optimizer=best_of_some, n_restarts_optimizer=1)
    model.set_params(random_state=4).fit(X, Y)
    assert len(seen) == 2
    for start, bounds, value, slope in seen:
        assert start.shape == slope.shape == (3,)
        assert bounds.shape == (3, 2)
        assert (bounds[:, 0] <= start).all()
        assert (start <= bounds[:, 1]).all()
        # The better of the two starts, moved downhill.
        assert -model.log_marginal_likelihood_value_ <= value + 1e-9 * abs(value)


def test_nothing_is_tuned_without_an_optimizer() -> None:
    model = GaussianProcessRegressor(NET, optimizer=None, alpha=0.05).fit(X, Y)
    assert model.network_ == NET
    assert model.alpha_ == 0.05
    np.testing.assert_allclose(model.theta_, np.log([NET.W_std, 0.3, 0.05]), rtol=1e-14)


def test_what_is_zero_stays_zero() -> None:
    net = nn.serial(nn.Dense(1.3, 0.0), nn.Relu(), nn.Dense(1.1))
    model = GaussianProcessRegressor(net).fit(X, Y)
    assert all("W_std" in name for name in model.theta_names_[:-1])
    assert len(model.theta_) == 3
    assert model.network_.get_params()["0__b_std"] == 0.0


def test_numbers_of_nonlinearities() -> None:
    net = nn.mlp(depth=1, activation=nn.LeakyRelu(0.3))
    model = GaussianProcessRegressor(net).fit(X, Y)
    assert model.theta_names_[0] == "activation__slope"
    assert model.network_.get_params()["activation__slope"] == model.theta_[0] != 0.3


def test_the_mean_of_noise_for_each_row() -> None:
    """Rows of ten times the noise, of which the mean is tuned and the shares stay."""
    levels = np.where(np.arange(N) % 2, 0.1, 1.0)
    noisy = np.sin(2 * X[:, 0]) + 0.2 * np.sqrt(levels) * RNG.standard_normal(N)
    model = GaussianProcessRegressor(NET, alpha=levels, alpha_scale="absolute").fit(X, noisy)
    # Mean 0.55 of 0.04, known to a factor of 2.4.
    assert 0.022 / 2.4 < model.noise_ < 0.022 * 2.4
    noise = model.noise_ * levels / levels.mean()
    plain = {"alpha_scale": "absolute", "optimizer": None}
    same = GaussianProcessRegressor(model.network_, alpha=noise, **plain)
    same.fit(X, noisy, sample_weight=None)
    # The prior mean is the mean by weights in both.
    for found, expected in zip(
        model.predict(X, return_std=True), same.predict(X, return_std=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_many_rows_are_tuned_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    base = importlib.import_module("kernreg.estimators.gaussian_process.base")
    monkeypatch.setattr(base, "TUNED_ROWS", 25)
    model = GaussianProcessRegressor(NET).fit(X, Y)
    again = GaussianProcessRegressor(NET).fit(X, Y)
    assert np.array_equal(model.theta_, again.theta_)
    assert len(model.X_fit_) == N
    # Tuned elsewhere, the likelihood is that of all rows.
    value = model.log_marginal_likelihood(model.theta_)
    assert model.log_marginal_likelihood_value_ == pytest.approx(value, rel=1e-9)
    monkeypatch.undo()
    assert GaussianProcessRegressor(NET).fit(X, Y).log_marginal_likelihood_value_ >= value - 1e-3


@pytest.mark.parametrize("cls", [GaussianProcessRegressor, GaussianProcessClassifier])
def test_too_large_for_memory(cls: Any) -> None:
    targets = Y if cls is GaussianProcessRegressor else Y > 0
    with pytest.raises(MemoryBudgetError, match=r"Tuning on 40 rows takes .* optimizer=None"):
        cls(NET, max_memory="1MB").fit(X, targets)


@pytest.mark.parametrize("cls", [GaussianProcessRegressor, GaussianProcessClassifier])
def test_what_cannot_be_tuned(cls: Any) -> None:
    targets = Y if cls is GaussianProcessRegressor else Y > 0
    with pytest.raises(InvalidInputError, match=r"alpha=0 cannot be tuned.*or optimizer=None"):
        cls(NET, alpha=0).fit(X, targets)
    with pytest.raises(ValueError, match="'optimizer' parameter"):
        cls(NET, optimizer="adam").fit(X, targets)
    with pytest.raises(ValueError, match="'n_restarts_optimizer' parameter"):
        cls(NET, n_restarts_optimizer=-1).fit(X, targets)


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_targets_beyond_what_a_likelihood_can_hold() -> None:
    model = GaussianProcessRegressor(NET)
    with pytest.raises(InvalidInputError, match=r"not finite at any start: look for huge targets"):
        model.fit(X, 1e155 * Y)
    assert not hasattr(model, "dual_coef_")
    kept = GaussianProcessRegressor(NET, optimizer=None)
    small, large = (kept.fit(X, size * Y).predict(X) for size in (1.0, 1e150))
    np.testing.assert_allclose(large / 1e150, small, rtol=1e-10)
