"""The kernel object against kernreg's own Gaussian process, and inside scikit-learn's classes."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessClassifier, GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, WhiteKernel
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.svm import SVC

import kernreg
from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.interop.sklearn import NetworkKernel

RNG = np.random.default_rng(0)
X, Z = RNG.standard_normal((40, 3)), RNG.standard_normal((15, 3))
Y = np.sin(X[:, 0]) + 0.1 * RNG.standard_normal(40)
NET = nn.serial(nn.Dense(1.4, 0.3), nn.LeakyRelu(0.1), nn.Dense(1.2, 0.2))


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_posterior_is_that_of_kernreg(kind: str) -> None:
    theirs = GaussianProcessRegressor(NetworkKernel(NET, kind), alpha=0.01, optimizer=None)
    ours = kernreg.GaussianProcessRegressor(
        NET, kind, alpha=0.01, alpha_scale="absolute", optimizer=None, fit_intercept=False
    )
    theirs.fit(X, Y)
    ours.fit(X, Y)
    for got, want in zip(
        theirs.predict(Z, return_cov=True), ours.predict(Z, return_cov=True), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)
    value, slope = theirs.log_marginal_likelihood(theirs.kernel_.theta, eval_gradient=True)
    wanted, slopes = ours.log_marginal_likelihood(eval_gradient=True)
    np.testing.assert_allclose(value, wanted, rtol=1e-9)
    # Ours ends in that by the noise; both differ numbers of the network by steps.
    np.testing.assert_allclose(slope, slopes[:-1], rtol=1e-6, atol=1e-6 * abs(wanted))


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_gradient_of_a_dense_layer(kind: str) -> None:
    """``exp(2 theta)`` for each of its numbers, of which steps of 0.005 leave 4e-10."""
    kernel = NetworkKernel(nn.serial(nn.Dense(1.3, 0.4)), kind)
    K, gradient = kernel(X, eval_gradient=True)
    assert kernel.theta_names == ["log(0__W_std)", "log(0__b_std)"]
    by_weights, by_biases = np.moveaxis(gradient, 2, 0)
    bound = 1e-9 * np.abs(K).max()
    np.testing.assert_allclose(by_weights, 2 * 1.3**2 * X @ X.T / X.shape[1], rtol=0, atol=bound)
    np.testing.assert_allclose(by_biases, np.full_like(K, 2 * 0.4**2), rtol=0, atol=bound)
    np.testing.assert_array_equal(K, gram(kernel.network, X, kernel=kind))


def test_fitted_with_kernels_of_scikit_learn() -> None:
    kernel = ConstantKernel(1.0, "fixed") * NetworkKernel(NET) + WhiteKernel(0.5)
    process = GaussianProcessRegressor(kernel, alpha=0.0).fit(X, Y)
    before = process.log_marginal_likelihood(kernel.theta)
    assert process.log_marginal_likelihood_value_ > before + 1.0
    fitted = process.kernel_.k1.k2
    assert fitted.network != NET
    assert fitted.theta_names == [
        "log(0__W_std)", "log(0__b_std)", "1__slope", "log(2__W_std)", "log(2__b_std)"
    ]  # fmt: skip
    np.testing.assert_allclose(np.diag(process.kernel_(X)), process.kernel_.diag(X), rtol=1e-13)


def test_kept_numbers() -> None:
    kernel = NetworkKernel(NET, network_bounds="fixed")
    assert kernel.theta.shape == (0,)
    assert kernel.bounds.shape == (0, 2)
    K, gradient = kernel(X, eval_gradient=True)
    assert gradient.shape == (*K.shape, 0)
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.5)).fit(X, Y)
    assert process.kernel_.k1.network == NET


def test_whole_matrices_for_other_classes() -> None:
    kernel = NetworkKernel(NET, "ntk")
    np.testing.assert_array_equal(pairwise_kernels(X, Z, metric=kernel), gram(NET, X, Z))
    labels = (Y > 0).astype(int)
    machine = SVC(kernel=kernel).fit(X, labels)
    by_matrix = SVC(kernel="precomputed").fit(gram(NET, X), labels)
    found, want = machine.decision_function(Z), by_matrix.decision_function(gram(NET, Z, X))
    np.testing.assert_allclose(found, want, rtol=1e-9)
    features = Nystroem(kernel, n_components=40, random_state=0).fit_transform(X)
    np.testing.assert_allclose(features @ features.T, gram(NET, X), atol=1e-8)
    fixed = NetworkKernel(NET, network_bounds="fixed")
    classifier = GaussianProcessClassifier(fixed).fit(X, labels)
    assert classifier.score(X, labels) > 0.9


def test_copies() -> None:
    kernel = NetworkKernel(NET, "ntk")
    again = clone(kernel)
    assert again == kernel
    assert again.network == NET
    assert pickle.loads(pickle.dumps(kernel)) == kernel
    moved = kernel.clone_with_theta(kernel.theta + 0.1)
    np.testing.assert_allclose(moved.theta, kernel.theta + 0.1)
    assert kernel.network == NET
    assert repr(kernel) == f"NetworkKernel({NET!r}, kernel='ntk')"
    assert not kernel.is_stationary()
    assert NetworkKernel().n_dims == 2


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: NetworkKernel(NET, "nntk")(X), InvalidInputError, "found 'nntk'"),
        (lambda: NetworkKernel(NET, network_bounds=(0, 1))(X), InvalidInputError, "'fixed' or"),
        (lambda: NetworkKernel(NET)(X, Z, eval_gradient=True), InvalidInputError, "leave Y out"),
        (lambda: NetworkKernel(NET).clone_with_theta([0.0]), InvalidInputError, r"found \(1,\)"),
        (lambda: NetworkKernel("mlp(depht=1)")(X), NetworkError, "depht"),
        (lambda: NetworkKernel(3)(X), InvalidInputError, "network"),
    ],
)
def test_refusals(call: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        call()
