"""Single modes, against their differential and difference equations in 80 digits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from kernreg.exceptions import InvalidInputError
from kernreg.theory.training import Dynamics, largest_learning_rate

EPS = float(np.finfo(np.float64).eps)
RATES = st.sampled_from([0.37, 1.0, 1e-3, 20.0])
MOMENTA = st.sampled_from([0.1, 0.5, 0.9, 0.99])


def powers(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda exponent: 10.0**exponent)


def exact(dynamics: Dynamics, value: float, time: float) -> tuple[float, float]:
    """What is gained, and the residual: of ``f'' + (1 - m) f' + r a f = r`` or its steps."""
    with mp.workdps(80):
        a, r, m = (mpf(x) for x in (value, dynamics.learning_rate, dynamics.momentum))
        if dynamics.discrete:
            step = mp.matrix([[1 + m - r * a, -m, r], [1, 0, 0], [0, 0, 1]])
            gained = (step ** int(time))[0, 2]
        elif m == 0:
            x = r * a * mpf(time)
            return float(-mp.expm1(-x) / a), float(mp.exp(-x))
        else:
            slope = mp.matrix([[0, 1, 0], [-r * a, m - 1, r], [0, 0, 0]])
            gained = mp.expm(slope * mpf(time))[0, 2]
        return float(gained), float(1 - a * gained)


@settings(max_examples=200)
@given(rate=RATES, value=powers(-30, 6), time=powers(-8, 8))
def test_flow(rate: float, value: float, time: float) -> None:
    dynamics = Dynamics(rate)
    gained, residual = exact(dynamics, value, time)
    # 1 - exp(-x) has no larger relative error than x, and exp(-x) that of x times x.
    (found,) = dynamics.gained([value], time)
    assert abs(found - gained) <= 8 * EPS * gained
    (left,) = dynamics.residual([value], time)
    x = rate * value * time
    assert abs(left - residual) <= (2 + 4 * x) * EPS * residual + 1e-300


@settings(max_examples=200)
@given(rate=RATES, shrink=powers(-30, 0.4), steps=powers(0, 6))
def test_steps(rate: float, shrink: float, steps: float) -> None:
    """Up to beyond the largest learning rate."""
    value, count = shrink / rate, int(steps)
    if shrink > 2:
        count = min(count, 500)
    dynamics = Dynamics(rate, discrete=True)
    gained, left = exact(dynamics, value, count)
    (found,) = dynamics.gained([value], count)
    assert abs(dynamics.residual([value], count)[0] - (1 - value * found)) <= EPS * (1 + abs(left))
    if shrink < 0.5:
        assert abs(found - gained) <= 8 * EPS * gained
        return
    # The rounding of r a moves (1 - r a)^t.
    moved = 2 * count * shrink * abs(1 - shrink) ** (count - 1)
    assert abs(found - gained) * value <= EPS * (4 + 4 * abs(left) + moved)


def momentum_bound(dynamics: Dynamics, value: float, time: float, gained: float) -> float:
    """Error that rounding makes in what is gained by flow with momentum."""
    drag = 1 - dynamics.momentum
    phase = np.sqrt(dynamics.learning_rate * value) * time
    if dynamics.learning_rate * value <= drag**2 / 4 * (1 + 1e-9):
        # What is gained is t^2/2 at first, a difference of terms of t over the drag.
        return EPS * (16 + 16 / (drag * time)) * gained
    if phase < 2e-3:
        # The polynomial leaves the third order of drag and phase, (2e-3)^3/60.
        return 5e-10 * gained
    return EPS * (8 + 4 * phase) / value


@settings(max_examples=200)
@given(
    rate=RATES,
    momentum=MOMENTA,
    value=st.one_of(st.just(0.0), powers(-30, 6)),
    time=powers(-3, 4),
)
def test_flow_with_momentum(rate: float, momentum: float, value: float, time: float) -> None:
    dynamics = Dynamics(rate, momentum)
    gained, left = exact(dynamics, value, time)
    (found,) = dynamics.gained([value], time)
    bound = momentum_bound(dynamics, value, time, gained)
    assert abs(found - gained) <= bound
    (residual,) = dynamics.residual([value], time)
    assert abs(residual - left) <= 2 * EPS + value * bound


@pytest.mark.parametrize("momentum", [0.1, 0.9, 0.99])
@pytest.mark.parametrize("time", [1e-3, 1.0, 7.5, 300.0])
def test_flow_near_the_critical_damping(momentum: float, time: float) -> None:
    """The difference of the roots is noise there, what is gained is not."""
    dynamics = Dynamics(0.37, momentum)
    critical = (1 - momentum) ** 2 / (4 * 0.37)
    offsets = np.concatenate([[0.0], *(s * np.geomspace(1e-16, 0.3, 30) for s in (-1, 1))])
    values = critical * (1 + offsets)
    found = dynamics.gained(values, time)
    for value, got in zip(values, found, strict=True):
        gained, _ = exact(dynamics, value, time)
        bound = momentum_bound(dynamics, value, time, gained)
        # On the other side there is the polynomial, or 1 less what is left.
        other = 5e-10 * gained if time < 1 else EPS * 8 / value
        assert abs(got - gained) <= max(bound, other)


def step_bound(dynamics: Dynamics, value: float, count: int, gained: float, left: float) -> float:
    """Each step errs by eps, and later steps make ``1/(1 - m)`` of an error, as of a step."""
    share = EPS * (4 + 4 * count / (1 - dynamics.momentum) ** 2)
    if dynamics.learning_rate * value * count < 1:
        return share * gained
    return share * (1 + abs(left)) / value


@settings(max_examples=200)
@given(
    rate=RATES,
    momentum=MOMENTA,
    shrink=st.one_of(st.just(0.0), powers(-30, 0), st.floats(0.1, 1.9)),
    steps=powers(0, 5),
)
def test_steps_with_momentum(rate: float, momentum: float, shrink: float, steps: float) -> None:
    dynamics = Dynamics(rate, momentum, discrete=True)
    value, count = shrink / rate, int(steps)
    gained, left = exact(dynamics, value, count)
    bound = step_bound(dynamics, value, count, gained, left)
    assert abs(dynamics.gained([value], count)[0] - gained) <= bound
    assert abs(dynamics.residual([value], count)[0] - left) <= 4 * EPS + value * bound


@pytest.mark.parametrize("momentum", [0.1, 0.9, 0.99])
@pytest.mark.parametrize("count", [1, 20, 1000])
def test_steps_near_the_critical_damping(momentum: float, count: int) -> None:
    dynamics = Dynamics(0.37, momentum, discrete=True)
    critical = (1 - momentum**0.5) ** 2 / 0.37
    for offset in (0.0, *(s * 10.0**-k for k in range(1, 17, 3) for s in (-1, 1))):
        value = critical * (1 + offset)
        gained, left = exact(dynamics, value, count)
        bound = step_bound(dynamics, value, count, gained, left)
        assert abs(dynamics.gained([value], count)[0] - gained) <= bound


KINDS = [(0.0, False), (0.0, True), (0.6, False), (0.6, True)]


@pytest.mark.parametrize(("momentum", "discrete"), KINDS)
class TestEvery:
    values = np.array([0.0, 1e-8, 0.1, 1.0, 1.5])

    def test_nothing_is_gained_at_first(self, momentum: float, discrete: bool) -> None:
        dynamics = Dynamics(0.9, momentum, discrete)
        assert not dynamics.gained(self.values, 0).any()
        np.testing.assert_array_equal(dynamics.residual(self.values, 0), np.ones(5))

    def test_end(self, momentum: float, discrete: bool) -> None:
        dynamics = Dynamics(0.9, momentum, discrete)
        end = dynamics.gained(self.values, np.inf)
        np.testing.assert_array_equal(end[1:], 1 / self.values[1:])
        assert end[0] == np.inf
        late = dynamics.gained(self.values[2:], 3000)
        np.testing.assert_allclose(late, end[2:], rtol=4 * EPS * 3000)

    def test_rounding_below_zero_is_zero(self, momentum: float, discrete: bool) -> None:
        dynamics = Dynamics(0.9, momentum, discrete)
        for time in (1, 10, np.inf):
            found = dynamics.gained([-1e-15, 0.0], time)
            assert found[0] == found[1] > 0
        np.testing.assert_array_equal(dynamics.residual([-1e-15], 5), [1.0])

    def test_modes_do_not_see_each_other(self, momentum: float, discrete: bool) -> None:
        dynamics = Dynamics(0.9, momentum, discrete)
        together = dynamics.gained(self.values, 7)
        alone = [dynamics.gained([value], 7)[0] for value in self.values]
        np.testing.assert_array_equal(together, alone)
        assert dynamics.gained([], 7).shape == (0,)

    def test_rate_and_eigenvalue_are_one_number(self, momentum: float, discrete: bool) -> None:
        """Powers of two move no digit."""
        one = Dynamics(0.25, momentum, discrete).gained(self.values, 9)
        other = Dynamics(1.0, momentum, discrete).gained(self.values / 4, 9) / 4
        np.testing.assert_allclose(one, other, rtol=4 * EPS)

    def test_bad_times(self, momentum: float, discrete: bool) -> None:
        dynamics = Dynamics(0.9, momentum, discrete)
        for time in (-1.0, np.nan, -np.inf):
            with pytest.raises(InvalidInputError, match="time >= 0"):
                dynamics.gained(self.values, time)
            with pytest.raises(InvalidInputError, match="time >= 0"):
                dynamics.residual(self.values, time)
        if discrete:
            with pytest.raises(InvalidInputError, match="whole number of steps"):
                dynamics.gained(self.values, 1.5)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_small_steps_follow_the_flow(momentum: float) -> None:
    """The difference is of the order of ``r a`` over ``1 - m``."""
    values = np.array([0.0, 0.1, 0.4, 1.0])
    for rate, count in ((1e-3, 1000), (1e-4, 10_000)):
        flow = Dynamics(rate, momentum).residual(values, count)
        steps = Dynamics(rate, momentum, discrete=True).residual(values, count)
        drift = rate / (1 - momentum) ** 2 * values
        assert (np.abs(flow - steps) <= drift + 1e-11).all()


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("largest", [0.02, 7.0])
def test_largest_learning_rate(momentum: float, largest: float) -> None:
    limit = largest_learning_rate(largest, momentum)
    below = Dynamics(0.999 * limit, momentum, discrete=True)
    above = Dynamics(1.001 * limit, momentum, discrete=True)
    # At the limit a root of the steps is -1, and 2e-3 or more from it on both sides.
    assert abs(below.residual([largest], 4000)[0]) < 1e-3
    assert abs(above.residual([largest], 4000)[0]) > 1e3
    assert np.isfinite(below.gained([largest], np.inf)).all()
    assert above.gained([largest], np.inf)[0] == np.inf


def test_steps_of_a_zero_kernel_never_diverge() -> None:
    assert largest_learning_rate(0.0) == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate > 0"),
        ({"learning_rate": -1.0}, "learning_rate > 0"),
        ({"learning_rate": np.inf}, "learning_rate > 0"),
        ({"learning_rate": np.nan}, "learning_rate > 0"),
        ({"momentum": 1.0}, "momentum from 0"),
        ({"momentum": -0.1}, "momentum from 0"),
        ({"momentum": np.nan}, "momentum from 0"),
    ],
)
def test_bad_settings(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Dynamics(**arguments)
