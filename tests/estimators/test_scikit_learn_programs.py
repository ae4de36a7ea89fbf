"""Programs for scikit-learn's Gaussian processes: only the constructor changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessClassifier as SklearnClassifier
from sklearn.gaussian_process import GaussianProcessRegressor as Sklearn
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import log_loss

from kernreg import GaussianProcessClassifier, GaussianProcessRegressor, nn

WAVE = nn.mlp(depth=1, activation=nn.Sin(), W_std=1.2, b_std=1.0)


def their_fixed(alpha: Any, **settings: Any) -> Sklearn:
    return Sklearn(ConstantKernel(1.0) * RBF(1.0), alpha=alpha, optimizer=None, **settings)


def our_fixed(alpha: Any, **settings: Any) -> GaussianProcessRegressor:
    return GaussianProcessRegressor(
        WAVE, alpha=alpha, alpha_scale="absolute", optimizer=None, **settings
    )


def their_tuned(**settings: Any) -> Sklearn:
    kernel = ConstantKernel(1.0) * RBF(1.0) + WhiteKernel(0.1, (1e-5, 1e2))
    return Sklearn(kernel, alpha=0.0, normalize_y=True, **settings)


def our_tuned(**settings: Any) -> GaussianProcessRegressor:
    network = nn.mlp(depth=2, activation=nn.Gaussian(1.0, -0.5))
    return GaussianProcessRegressor(network, **settings)


@pytest.mark.parametrize("model", [their_fixed, our_fixed])
def test_a_noisy_sine_from_prior_to_posterior(model: Callable[..., Any]) -> None:
    rng = np.random.RandomState(0)
    grid = np.linspace(0, 6, 60)[:, None]
    level = 0.2 + 0.3 * rng.rand(12)
    X = rng.uniform(0, 4, (12, 1))
    y = np.sin(X).ravel() + level * rng.standard_normal(12)

    process = model(alpha=level**2)
    prior, wide = process.predict(grid, return_std=True)
    functions = process.sample_y(grid, n_samples=5)
    assert prior.shape == wide.shape == (60,)
    assert functions.shape == (60, 5)
    assert (prior == 0).all()

    process.fit(X, y)
    mean, std = process.predict(grid, return_std=True)
    samples = process.sample_y(grid, n_samples=200, random_state=1)
    assert mean.shape == std.shape == (60,)
    assert samples.shape == (60, 200)
    assert (std < wide).all()
    known = grid[:, 0] < 4
    # Twelve observations of noise up to 0.5 leave some 0.3.
    assert np.sqrt(np.mean((mean - np.sin(grid[:, 0]))[known] ** 2)) < 0.4
    assert std[-1] > 1.5 * std[known].mean()
    error = 5 * std / np.sqrt(200)
    assert (np.abs(samples.mean(axis=1) - mean) <= error + 1e-3).all()
    assert process.X_train_.shape == (12, 1)
    np.testing.assert_allclose(process.y_train_, y)
    assert process.score(X, y) > 0.5


@pytest.mark.parametrize("model", [their_tuned, our_tuned])
def test_how_much_noise_there_is(model: Callable[..., Any]) -> None:
    rng = np.random.RandomState(1)
    X = rng.uniform(0, 5, (40, 1))
    y = np.sin(2 * X[:, 0]) + 0.3 * rng.standard_normal(40)

    process = model(n_restarts_optimizer=1, random_state=0).fit(X, y)
    theta = np.asarray(process.theta_ if hasattr(process, "theta_") else process.kernel_.theta)
    top = process.log_marginal_likelihood(theta)
    assert top == pytest.approx(process.log_marginal_likelihood_value_, rel=1e-8)
    value, slope = process.log_marginal_likelihood(theta, eval_gradient=True, clone_kernel=False)
    assert slope.shape == theta.shape
    assert value == pytest.approx(top, rel=1e-12)

    # The surface over the noise and another number has its top about where the fit ended.
    steps = np.linspace(-1, 1, 5)
    surface = np.empty((5, 5))
    for i, first in enumerate(steps):
        for j, last in enumerate(steps):
            moved = theta.copy()
            moved[0] += first
            moved[-1] += last
            surface[i, j] = process.log_marginal_likelihood(moved)
    assert surface[2, 2] == pytest.approx(top, rel=1e-9)
    assert surface[2].argmax() == 2
    assert surface.max() < top + 0.5

    mean, std = process.predict(X, return_std=True)
    assert mean.shape == std.shape == (40,)
    residual = y - mean
    # Known to sqrt(1 / 2n) = 0.11 of itself, and smaller by what the fit takes.
    assert 0.15 < np.sqrt(np.mean(residual**2)) < 0.4


@pytest.mark.parametrize("model", [their_tuned, our_tuned])
def test_two_series_and_what_comes_next(model: Callable[..., Any]) -> None:
    rng = np.random.RandomState(2)
    months = np.arange(48.0)[:, None]
    trend = 0.05 * months[:, 0]
    series = np.column_stack([3 + trend, 10 - 2 * trend]) + 0.1 * rng.standard_normal((48, 2))
    past, later = months[:36] / 12, months[36:] / 12

    process = model().fit(past, series[:36])
    mean, std = process.predict(later, return_std=True)
    assert mean.shape == std.shape == (12, 2)
    same, cov = process.predict(later, return_cov=True)
    assert cov.shape == (12, 12, 2)
    np.testing.assert_allclose(same, mean)
    np.testing.assert_allclose(np.sqrt(np.einsum("iik->ik", cov)), std, rtol=1e-5, atol=1e-7)
    assert np.isfinite(std).all()
    assert (std > 0).all()
    # A step ahead is a step away from what is known.
    assert (np.abs(mean[0] - series[36]) < 0.5).all()
    assert (std[-1] > std[0]).all()
    assert process.sample_y(later, 3).shape == (12, 2, 3)
    assert process.score(past, series[:36]) > 0.8


@pytest.mark.parametrize("model", [SklearnClassifier, GaussianProcessClassifier])
def test_two_moons(model: Callable[..., Any]) -> None:
    rng = np.random.RandomState(3)
    angle = np.pi * rng.rand(80)
    labels = np.where(np.arange(80) % 2, "up", "down")
    up = labels == "up"
    X = np.column_stack(
        [np.where(up, np.cos(angle), 1 - np.cos(angle)), np.where(up, 1, -1) * np.sin(angle)]
    )
    X[:, 1] += np.where(up, 0, 0.5)
    X += 0.1 * rng.standard_normal(X.shape)

    process = model().fit(X[:60], labels[:60])
    shares = process.predict_proba(X[60:])
    assert shares.shape == (20, 2)
    assert process.classes_.tolist() == ["down", "up"]
    assert process.score(X[60:], labels[60:]) > 0.8
    assert log_loss(labels[60:], shares) < 0.5
    assert np.isfinite(process.log_marginal_likelihood_value_)
