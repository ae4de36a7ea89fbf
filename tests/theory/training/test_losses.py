"""Gradients of losses, and training on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.exceptions import InvalidInputError
from kernreg.theory.training import LOSSES, Dynamics, trajectory
from tests.theory.training.linear import linear

Floats = np.ndarray


def mse(f: Floats, y: Floats) -> float:
    return float(np.sum((f - y) ** 2) / 2)


def cross_entropy(f: Floats, y: Floats) -> float:
    return float(-np.sum(y * scipy.special.log_softmax(f, axis=1)))


def logistic(f: Floats, y: Floats) -> float:
    return float(np.sum(np.logaddexp(0.0, -y * f)))


def huber(f: Floats, y: Floats) -> float:
    return float(np.sum(scipy.special.huber(1.0, f - y)))


VALUES = {"mse": mse, "cross_entropy": cross_entropy, "logistic": logistic, "huber": huber}


def targets_for(loss: str, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    match loss:
        case "cross_entropy":
            return rng.dirichlet(np.ones(shape[1]), shape[0])
        case "logistic":
            return rng.choice([-1.0, 1.0], shape)
        case _:
            return rng.standard_normal(shape)


def test_each_has_a_value_here() -> None:
    assert LOSSES.keys() == VALUES.keys()


@settings(max_examples=60)
@given(
    loss=st.sampled_from(sorted(LOSSES)),
    n=st.integers(1, 4),
    t=st.integers(1, 4),
    size=st.sampled_from([0.1, 1.0, 5.0]),
    seed=st.integers(0, 10_000),
)
def test_gradients(loss: str, n: int, t: int, size: float, seed: int) -> None:
    """By differences, whose error is of second order: ``step^2`` times a third derivative."""
    rng = np.random.default_rng(seed)
    f, y = size * rng.standard_normal((n, t)), targets_for(loss, (n, t), rng)
    step = 1e-5
    numerical = np.zeros_like(f)
    for index in np.ndindex(f.shape):
        there, here = f.copy(), f.copy()
        there[index] += step
        here[index] -= step
        numerical[index] = (VALUES[loss](there, y) - VALUES[loss](here, y)) / (2 * step)
    found = LOSSES[loss](f, y)
    # Rounding of the sum over the step, and the corner in the slope of huber.
    rounding = 1e-15 * (1 + abs(VALUES[loss](f, y))) / step
    corner = step * (loss == "huber")
    np.testing.assert_allclose(found, numerical, rtol=0, atol=1e-9 + 4 * rounding + corner)


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "huber"])
def test_gradients_of_large_outputs(loss: str) -> None:
    """Finite, and never larger than 1 or the sum of the targets."""
    f = np.array([[1e4, -1e4, 0.0], [-1e300, 1e300, 1e300]])
    y = np.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    if loss == "logistic":
        y = 2 * y - 1
    found = LOSSES[loss](f, y)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 1


def test_cross_entropy_ignores_a_common_shift() -> None:
    f, y = np.random.default_rng(0).standard_normal((2, 5, 3))
    y = np.abs(y) / np.abs(y).sum(axis=1, keepdims=True)
    gradient = LOSSES["cross_entropy"]
    np.testing.assert_allclose(gradient(f + 7.0, y), gradient(f, y), atol=1e-14)
    np.testing.assert_allclose(gradient(f, y).sum(axis=1), 0.0, atol=1e-14)


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_mse_is_the_closed_form(discrete: bool, momentum: float, ridge: float) -> None:
    net = linear(11, ridge=ridge)
    dynamics = Dynamics(1.0 / net.largest, momentum, discrete)
    rng = np.random.default_rng(0)
    targets, start = rng.standard_normal((2, 7, 2))
    times = [4.0, 0.0, 60.0, 4.0]
    found = trajectory(
        lambda V: net.train @ V,
        LOSSES["mse"],
        targets,
        times,
        dynamics,
        start=start,
        ridge=ridge,
    )
    expected = net.ensemble(dynamics).coefficients(targets - start, times)
    assert found.shape == expected.shape == (4, 7, 2)
    np.testing.assert_array_equal(found[0], found[3])
    assert not found[1].any()
    # Steps are the same numbers in another order; flow has 1e-8 in each step of 100 or so.
    tolerance = 1e-11 if discrete else 1e-6
    np.testing.assert_allclose(
        net.train @ found, net.train @ expected, rtol=0, atol=tolerance * np.abs(targets).max()
    )


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "huber"])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_steps_are_those_of_the_weights(loss: str, momentum: float) -> None:
    """Gradient descent on the weights of a linear network, with a penalty on them."""
    net, rng = linear(12, ridge=0.2), np.random.default_rng(1)
    targets, start = targets_for(loss, (7, 3), rng), rng.standard_normal((7, 3))
    dynamics = Dynamics(0.5 / net.largest, momentum, discrete=True)
    gradient = LOSSES[loss]
    found = trajectory(
        lambda V: net.train @ V, gradient, targets, [30, 3], dynamics, start=start, ridge=0.2
    )
    theta, move = np.zeros((9, 3)), np.zeros((9, 3))
    for step in range(1, 31):
        slope = net.features.T @ gradient(start + net.features @ theta, targets) + 0.2 * theta
        move = momentum * move - dynamics.learning_rate * slope
        theta = theta + move
        if step in (3, 30):
            got = net.features.T @ found[int(step == 3)]
            np.testing.assert_allclose(got, theta, rtol=0, atol=1e-12 * np.abs(theta).max())


def trained(loss: str, dynamics: Dynamics, time: float) -> Floats:
    net, rng = linear(13), np.random.default_rng(2)
    targets = targets_for(loss, (7, 2), rng)
    # The rate is in units of the largest curvature of the squared error.
    dynamics = replace(dynamics, learning_rate=dynamics.learning_rate / net.largest)
    return trajectory(lambda V: net.train @ V, LOSSES[loss], targets, [time], dynamics)[0]


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_flow_is_the_limit_of_steps(loss: str) -> None:
    """Two extrapolations of small rates: what is left is of their third order."""
    flow = trained(loss, Dynamics(), 4.0)
    coarse, middle, fine = (
        trained(loss, Dynamics(1.0 / k, discrete=True), 4 * k) for k in (100, 200, 400)
    )
    first, second = 2 * middle - coarse, 2 * fine - middle
    found = (4 * second - first) / 3
    np.testing.assert_allclose(found, flow, rtol=0, atol=2e-6 * np.abs(flow).max())


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_flow_with_momentum_is_that_of_small_steps(loss: str) -> None:
    """Both start from rest; steps are ahead by 5 of 400/(1 - m) - 25 at momentum 0.8."""
    flow = trained(loss, Dynamics(1e-4, 0.8), 400.0)
    steps = trained(loss, Dynamics(1e-4, 0.8, discrete=True), 400)
    assert np.abs(steps - flow).max() <= 0.005 * np.abs(flow).max()


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "huber"])
def test_end_is_the_minimum(loss: str) -> None:
    """With a ridge the loss of the coefficients is convex, and flow ends at its minimum."""
    net, rng = linear(14, ridge=1.0), np.random.default_rng(3)
    targets = targets_for(loss, (7, 2), rng)
    found = trajectory(
        lambda V: net.train @ V,
        LOSSES[loss],
        targets,
        [40.0],
        Dynamics(1.0),
        ridge=1.0,
    )[0]

    def value(theta: Floats) -> float:
        theta = theta.reshape(9, 2)
        return VALUES[loss](net.features @ theta, targets) + np.sum(theta**2) / 2

    best = scipy.optimize.minimize(value, np.zeros(18), method="BFGS", options={"gtol": 1e-7})
    # exp(-40), the tolerance 1e-8, and gradients of BFGS by differences.
    np.testing.assert_allclose(net.features.T @ found, best.x.reshape(9, 2), rtol=0, atol=1e-5)


class TestBadInput:
    targets = np.ones((3, 1))

    def follow(self, times: list[float], dynamics: Dynamics, rate: float = 1.0) -> Floats:
        return trajectory(lambda V: rate * V, LOSSES["mse"], self.targets, times, dynamics)

    @pytest.mark.parametrize("times", [[-1.0], [np.inf], [np.nan], [1.0, -2.0]])
    @pytest.mark.parametrize("discrete", [False, True])
    def test_times(self, times: list[float], discrete: bool) -> None:
        with pytest.raises(InvalidInputError, match="finite times >= 0"):
            self.follow(times, Dynamics(discrete=discrete))

    def test_parts_of_steps(self) -> None:
        with pytest.raises(InvalidInputError, match="whole numbers of steps"):
            self.follow([1.5], Dynamics(discrete=True))

    @pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid:RuntimeWarning")
    def test_divergence(self) -> None:
        with pytest.raises(InvalidInputError, match="diverged at step"):
            self.follow([10_000], Dynamics(1.0, discrete=True), rate=5.0)

    @pytest.mark.parametrize("discrete", [False, True])
    def test_no_time(self, discrete: bool) -> None:
        found = self.follow([0.0, 0.0], Dynamics(discrete=discrete))
        assert found.shape == (2, 3, 1)
        assert not found.any()

    def test_targets_that_are_reached(self) -> None:
        """Nothing pushes, so nothing moves."""
        found = trajectory(
            lambda V: V,
            LOSSES["mse"],
            self.targets,
            [3.0],
            Dynamics(momentum=0.5),
            start=self.targets,
        )
        assert not found.any()
