"""Ensembles against linear networks that are trained by their definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.theory.training import Dynamics, Ensemble
from tests.theory.training.linear import Linear, linear

EPS = float(np.finfo(np.float64).eps)

LINEAR = st.builds(
    linear,
    st.integers(0, 1000),
    n=st.integers(1, 8),
    m=st.integers(1, 5),
    rank=st.integers(1, 12),
    weighted=st.booleans(),
    ridge=st.sampled_from([0.0, 0.1, 2.0]),
    noise=st.sampled_from([0.0, 0.3]),
)
MOMENTA = st.sampled_from([0.0, 0.5, 0.9])


def steps_of(net: Linear, momentum: float, share: float = 0.9) -> Dynamics:
    """Below the largest learning rate."""
    return Dynamics(share * 2 * (1 + momentum) / net.largest, momentum, discrete=True)


def flow_of(net: Linear, momentum: float) -> Dynamics:
    return Dynamics(1.0 / net.largest, momentum)


def check(net: Linear, dynamics: Dynamics, time: float, bound: float) -> None:
    """Means and covariances, relative to the numbers that they are sums of."""
    targets = np.random.default_rng(0).standard_normal((len(net.features), 2))
    made = net.ensemble(dynamics)
    (moved,) = made.coefficients(targets, (time,))
    expected = net.new @ net.trained(targets, dynamics, time)
    response = np.abs(net.response(dynamics, time)).sum(axis=1).max()
    scale = 1 + response
    np.testing.assert_allclose(
        net.between @ moved, expected, rtol=0, atol=bound * scale * np.abs(targets).max()
    )
    size = np.abs(net.own).max() + np.abs(net.prior).max() + net.noise / net.weights.min()
    expected = net.covariance(dynamics, time)
    covariance = made.covariance(net.between, net.prior_between, net.own, time)
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=bound * scale**2 * size)
    (variance,) = made.variance(net.between, net.prior_between, net.own.diagonal(), (time,))
    np.testing.assert_allclose(variance, expected.diagonal(), rtol=0, atol=bound * scale**2 * size)


@settings(max_examples=100)
@given(net=LINEAR, momentum=MOMENTA, count=st.integers(0, 300))
def test_steps(net: Linear, momentum: float, count: int) -> None:
    """Gradient descent on the weights themselves, with momentum, weights of rows, and ridge."""
    # Both err by eps in each step, which momentum makes 1/(1 - m)^2 of.
    bound = 20 * EPS * (len(net.features) + (1 + count) / (1 - momentum) ** 2)
    check(net, steps_of(net, momentum), count, bound)


@settings(max_examples=100)
@given(net=LINEAR, momentum=MOMENTA, time=st.floats(0.01, 300.0))
def test_flow(net: Linear, momentum: float, time: float) -> None:
    """The exponential of the matrix of the weights' equation.

    Its squarings err as steps do, and some of its entries grow with rate and time.
    """
    dynamics = flow_of(net, momentum)
    grown = (1 + dynamics.learning_rate) * (1 + time)
    check(net, dynamics, time, 20 * EPS * (len(net.features) + grown / (1 - momentum) ** 2))


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_end_is_ridge_regression(discrete: bool, momentum: float, ridge: float) -> None:
    net = linear(3, weighted=True, ridge=ridge, noise=0.2)
    dynamics = Dynamics(1.0 / net.largest, momentum, discrete)
    made = net.ensemble(dynamics)
    system = net.train + np.diag(ridge / net.weights)
    response = np.linalg.solve(system, net.between.T).T
    targets = np.eye(7)
    (moved,) = made.coefficients(targets, (np.inf,))
    condition = np.linalg.cond(system)
    np.testing.assert_allclose(net.between @ moved, response, atol=40 * EPS * condition)
    root = net.start_new - response @ net.start
    noisy = response * np.sqrt(0.2 / net.weights)
    np.testing.assert_allclose(
        made.covariance(net.between, net.prior_between, net.own, np.inf),
        root @ root.T + noisy @ noisy.T,
        atol=1000 * EPS * condition,
    )


def test_last_layer_is_the_posterior() -> None:
    """T is K, and every member has noise in its targets: Bayesian inference."""
    net = linear(5, weighted=True, ridge=0.3)
    modes = net.ensemble(Dynamics()).modes
    made = Ensemble(modes, Dynamics(), target_noise=0.3)
    own = net.new @ net.new.T
    system = net.train + np.diag(0.3 / net.weights)
    expected = own - net.between @ np.linalg.solve(system, net.between.T)
    found = made.covariance(net.between, net.between, own, np.inf)
    np.testing.assert_allclose(found, expected, atol=200 * EPS * np.linalg.cond(system))


@settings(max_examples=60)
@given(
    net=LINEAR,
    momentum=MOMENTA,
    discrete=st.booleans(),
    times=st.lists(st.sampled_from([0, 1, 4, 30, 1000]), min_size=1, max_size=3),
)
def test_what_holds_always(
    net: Linear, momentum: float, discrete: bool, times: list[float]
) -> None:
    dynamics = steps_of(net, momentum) if discrete else flow_of(net, momentum)
    made = net.ensemble(dynamics)
    n, m = len(net.features), len(net.new)
    targets = np.random.default_rng(1).standard_normal((n, 3))
    coefficients = made.coefficients(targets, times)
    assert coefficients.shape == (len(times), n, 3)
    variances = made.variance(net.between, net.prior_between, net.own.diagonal(), times)
    assert variances.shape == (len(times), m)
    assert (variances >= 0).all()
    for index, time in enumerate(times):
        alone = made.coefficients(targets[:, 1:2], (time,))[0, :, 0]
        scale = np.abs(coefficients[index]).max() + 1e-300
        # Products with one column or several are added up in another order.
        assert np.abs(alone - coefficients[index][:, 1]).max() <= 100 * EPS * scale
        covariance = made.covariance(net.between, net.prior_between, net.own, time)
        np.testing.assert_array_equal(covariance, covariance.T)
        size = np.abs(net.own).max() + np.abs(covariance).max()
        gain = 1 + np.abs(net.response(dynamics, time)).sum(axis=1).max()
        slack = 200 * EPS * size * gain**2
        slack *= 1 + 0.02 * time / (1 - momentum) ** 2
        assert np.linalg.eigvalsh(covariance)[0] >= -m * slack
        np.testing.assert_allclose(variances[index], covariance.diagonal(), rtol=0, atol=slack)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.7])
def test_start_is_the_prior(discrete: bool, momentum: float) -> None:
    net = linear(1, weighted=True, ridge=0.1, noise=0.1)
    made = net.ensemble(Dynamics(0.01, momentum, discrete))
    assert not made.coefficients(np.ones((7, 1)), (0.0,)).any()
    found = made.covariance(net.between, net.prior_between, net.own, 0.0)
    np.testing.assert_array_equal(found, net.own)
    (variance,) = made.variance(net.between, net.prior_between, net.own.diagonal(), (0.0,))
    np.testing.assert_array_equal(variance, net.own.diagonal())


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("time", [1, 6, 50, np.inf])
@pytest.mark.parametrize("free", [False, True])
def test_weights_repeat_rows(discrete: bool, time: float, free: bool) -> None:
    """A row of weight 2 is two equal rows, each with noise of its own."""
    one = linear(2, n=5, rank=9, ridge=0.2, noise=0.3)
    counts = np.array([1, 2, 1, 3, 1])
    repeated = np.repeat(np.arange(5), counts)
    one = Linear(one.features, one.new, one.start, one.start_new, counts.astype(float), 0.2, 0.3)
    many = Linear(
        one.features[repeated], one.new, one.start[repeated], one.start_new, np.ones(8), 0.2, 0.3
    )
    dynamics = Dynamics(1.0 / one.largest, 0.5, discrete)
    targets = np.random.default_rng(2).standard_normal((5, 2))
    results = []
    for net, rows in ((one, np.arange(5)), (many, repeated)):
        made = net.matrix_free(dynamics) if free else net.ensemble(dynamics)
        (moved,) = made.coefficients(targets[rows], (time,))
        covariance = made.covariance(net.between, net.prior_between, net.own, time)
        results.append((net.between @ moved, covariance))
    for first, second in zip(*results, strict=True):
        # The condition number is 2e2, and 1e-11 the tolerance of products.
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-9 if free else 1e-12)


@settings(max_examples=60)
@given(net=LINEAR, momentum=MOMENTA, discrete=st.booleans(), time=st.integers(0, 100))
def test_matrix_free(net: Linear, momentum: float, discrete: bool, time: int) -> None:
    """The same numbers from products alone."""
    dynamics = steps_of(net, momentum) if discrete else flow_of(net, momentum)
    made, free = net.ensemble(dynamics), net.matrix_free(dynamics)
    targets = np.random.default_rng(3).standard_normal((len(net.features), 2))
    gain = 1 + np.abs(net.response(dynamics, time)).sum(axis=1).max()
    size = np.abs(net.own).max() + np.abs(net.prior).max() + net.noise / net.weights.min()
    # Of few rows the spaces are exhausted; what is left are rounding errors, as of steps.
    bound = 1e-11 * gain**2 * size
    expected, found = (one.coefficients(targets, (time, 2)) for one in (made, free))
    np.testing.assert_allclose(net.between @ found[0], net.between @ expected[0], atol=bound)
    np.testing.assert_allclose(net.between @ found[1], net.between @ expected[1], atol=bound)
    kernels = net.between, net.prior_between
    expected, found = (one.variance(*kernels, net.own.diagonal(), (time,)) for one in (made, free))
    np.testing.assert_allclose(found, expected, atol=bound)
    expected, found = (one.covariance(*kernels, net.own, time) for one in (made, free))
    np.testing.assert_allclose(found, expected, atol=bound)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("time", [5.0, np.inf])
def test_matrix_free_before_the_space_is_exhausted(time: float) -> None:
    """Of 80 rows and a fast spectrum, few products do."""
    rng = np.random.default_rng(4)
    features = rng.standard_normal((80, 80)) * np.geomspace(1, 1e-3, 80)
    net = Linear(features, features[:3], features, features[:3], np.ones(80), 1e-2, 0.0)
    dynamics = Dynamics(1.0)
    calls = []

    def counted(V: np.ndarray) -> np.ndarray:
        calls.append(1)
        return net.train @ V

    free = net.matrix_free(dynamics, 1e-9)
    free = type(free)(counted, free.prior, dynamics, free.root_weights, 1e-2, tol=1e-9)
    targets = rng.standard_normal((80, 1))
    (found,) = free.coefficients(targets, (time,))
    (expected,) = net.ensemble(dynamics).coefficients(targets, (time,))
    assert len(calls) <= 60
    # A change below 1e-9 in five products, of a series that converges geometrically.
    assert np.linalg.norm(found - expected) <= 1e-7 * np.linalg.norm(expected)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("free", [False, True])
def test_end_on_a_singular_kernel(discrete: bool, free: bool) -> None:
    """Targets off the range of the kernel, as of equal rows, move nothing at any time."""
    for seed in range(10):
        net = linear(seed, n=10, rank=4)
        dynamics = Dynamics(1.0 / net.largest, discrete=discrete)
        made = net.matrix_free(dynamics) if free else net.ensemble(dynamics)
        response = net.between @ np.linalg.pinv(net.train, rcond=1e-10)
        targets = np.random.default_rng(0).standard_normal((10, 1))
        (moved,) = made.coefficients(targets, (np.inf,))
        np.testing.assert_allclose(net.between @ moved, response @ targets, rtol=0, atol=1e-8)
        root = net.start_new - response @ net.start
        covariance = made.covariance(net.between, net.prior_between, net.own, np.inf)
        np.testing.assert_allclose(covariance, root @ root.T, rtol=0, atol=1e-8)
