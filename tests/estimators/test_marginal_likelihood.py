"""The log marginal likelihood and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor as Sklearn
from sklearn.gaussian_process.kernels import WhiteKernel

from kernreg import GaussianProcessRegressor, gram, nn
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from tests.estimators.network_kernel import NetworkKernel

N = 25
RNG = np.random.default_rng(3)
X = RNG.standard_normal((N, 3))
Y = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]]) + 0.1 * RNG.standard_normal((N, 2))
WEIGHTS = RNG.uniform(0.3, 3.0, N)
NET = nn.mlp(depth=2, b_std=0.3)
THETAS = [np.log([1.5, 0.3, 0.1]), np.log([0.8, 1.0, 0.02]), np.log([3.0, 0.05, 2.0])]


def fitted(net: nn.Layer = NET, kernel: str = "nngp", **settings: Any) -> GaussianProcessRegressor:
    plain = {"alpha": 0.1, "alpha_scale": "absolute", "optimizer": None, "fit_intercept": False}
    return GaussianProcessRegressor(net, kernel, **(plain | settings)).fit(X, Y)


@pytest.mark.parametrize("theta", THETAS, ids=lambda theta: str(np.exp(theta).round(2)))
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_is_that_of_scikit_learn(kernel: str, theta: np.ndarray) -> None:
    model = fitted(kernel=kernel)
    assert model.theta_names_ == ["log(W_std)", "log(b_std)", "log(alpha)"]
    own = NetworkKernel(NET, NET.W_std, NET.b_std, kernel) + WhiteKernel(0.1, (1e-3, 1e3))
    other = Sklearn(own, alpha=0, optimizer=None).fit(X, Y)
    np.testing.assert_allclose(model.theta_, own.theta, rtol=1e-14)
    value, slope = model.log_marginal_likelihood(theta, eval_gradient=True)
    expected, slopes = other.log_marginal_likelihood(theta, eval_gradient=True)
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert model.log_marginal_likelihood(theta) == value
    # What a gradient is the sum of, which cancels where the likelihood is largest.
    cov, slopes_of = own.clone_with_theta(theta)(X, eval_gradient=True)
    inverse = np.linalg.inv(cov)
    dual = inverse @ Y
    size = np.abs(slopes_of * (np.abs(dual @ dual.T) + 2 * np.abs(inverse))[..., None]).sum((0, 1))
    assert (np.abs(slope - slopes) <= 1e-9 * size).all()


CASES: dict[str, tuple[nn.Layer, dict[str, Any]]] = {
    "mean diagonal": (NET, {"alpha_scale": "mean_diag"}),
    "ntk": (NET, {"kernel": "ntk", "alpha_scale": "mean_diag"}),
    "rows": (NET, {"alpha": 0.1 / WEIGHTS}),
    "rows, mean diagonal": (NET, {"alpha": 0.1 / WEIGHTS, "alpha_scale": "mean_diag"}),
    "intercept": (NET, {"fit_intercept": True}),
    "slope": (nn.mlp(depth=2, activation=nn.LeakyRelu(0.2), b_std=0.3), {}),
    "erf": (nn.mlp(depth=1, activation=nn.Erf(1.2, 0.7, 0.3), b_std=0.3), {}),
    "several": (nn.serial(nn.Dense(1.2, 0.3), nn.Relu(), nn.Dense(0.9, 0.1)), {"kernel": "ntk"}),
    "deep": (nn.mlp(depth=8, b_std=0.2), {}),
    "nested": (
        nn.serial(nn.Dense(1.2), nn.residual(nn.serial(nn.Relu(), nn.Dense(0.9)), nn.Dense(1.1))),
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_gradient_by_differences(case: str) -> None:
    """Differences of order four over 0.003: 1e-9 of a fifth derivative, rounding 1e-10 of 100."""
    net, settings = CASES[case]
    model = fitted(net, **settings)
    theta, step = model.theta_ + 0.05, 3e-3
    _, slope = model.log_marginal_likelihood(theta, eval_gradient=True)
    for index, axis in enumerate(np.eye(len(theta))):
        near, below, far, under = (
            model.log_marginal_likelihood(theta + sign * step * axis) for sign in (1, -1, 2, -2)
        )
        expected = (8 * (near - below) - (far - under)) / (12 * step)
        assert abs(slope[index] - expected) <= 1e-6 * max(1.0, np.abs(slope).max())


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
@pytest.mark.parametrize("levels", [0.1, 0.1 / WEIGHTS], ids=["scalar", "rows"])
def test_that_of_the_fit_is_that_of_its_theta(solver: str, levels: Any) -> None:
    """By another factorisation: determinants and products are good to n eps of condition 5e3."""
    model = fitted(alpha=levels, solver=solver, alpha_scale="mean_diag", fit_intercept=True)
    value = model.log_marginal_likelihood_value_
    assert model.log_marginal_likelihood() == value
    assert model.log_marginal_likelihood(model.theta_) == pytest.approx(value, rel=1e-10)
    assert model.log_marginal_likelihood(eval_gradient=True)[0] == pytest.approx(value, rel=1e-10)


def test_targets_are_independent() -> None:
    both = fitted().log_marginal_likelihood(eval_gradient=True)
    plain = {"alpha": 0.1, "alpha_scale": "absolute", "optimizer": None, "fit_intercept": False}
    one, two = (
        GaussianProcessRegressor(NET, **plain).fit(X, y).log_marginal_likelihood(eval_gradient=True)
        for y in Y.T
    )
    assert both[0] == pytest.approx(one[0] + two[0], rel=1e-12)
    np.testing.assert_allclose(both[1], one[1] + two[1], rtol=1e-9, atol=1e-9)


def test_without_a_factor() -> None:
    rows = np.vstack([X, X])
    model = GaussianProcessRegressor(NET, optimizer=None).fit(rows, np.vstack([Y, Y]))
    theta = np.array([*model.theta_[:2], -80.0])
    value, slope = model.log_marginal_likelihood(theta, eval_gradient=True)
    if value == -np.inf:
        assert (slope == 0).all()
    assert model.log_marginal_likelihood(theta) == value
    assert model.log_marginal_likelihood([np.nan] * 3) == -np.inf


@pytest.mark.parametrize("theta", [[], [1.0], [1.0] * 4, [[1.0] * 3], 1.0])
def test_vectors_of_another_length(theta: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"expected theta of shape \(3,\) \(log\(W_std\)"):
        fitted().log_marginal_likelihood(theta)


def test_too_large_for_memory() -> None:
    model = fitted().set_params(max_memory="1MB")
    with pytest.raises(MemoryBudgetError, match=r"likelihood of 25 rows takes .* fit to fewer"):
        model.log_marginal_likelihood(eval_gradient=True)


def test_is_the_density_of_a_gaussian() -> None:
    """By its definition, with the eigenvalues of the covariance."""
    cov = gram(NET, X, kernel="nngp") + 0.1 * np.eye(N)
    values, vectors = np.linalg.eigh(cov)
    along = vectors.T @ Y
    expected = -0.5 * np.sum(along**2 / values[:, None]) - np.sum(np.log(2 * np.pi * values))
    assert fitted().log_marginal_likelihood() == pytest.approx(expected, rel=1e-11)
