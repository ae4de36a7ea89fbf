"""Fixed points of norms and correlations, against other ways to find them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.fixed_points import (
    correlation_fixed_point,
    depth_scale,
    fixed_points,
)
from kernreg.theory.criticality.phases import edge_of_chaos
from kernreg.theory.criticality.single_input import recursion, susceptibilities


@settings(max_examples=15)
@given(
    C_b=st.floats(1e-6, 2),
    C_W=st.floats(0.05, 8),
    sigma=st.sampled_from([nn.Tanh(), nn.Erf(), nn.Sin(), nn.SigmoidLike(), nn.Gaussian()]),
)
def test_bounded_functions_have_a_stable_one(
    C_b: float, C_W: float, sigma: nn.Nonlinearity
) -> None:
    """g rises above the diagonal at 0 and ends below it; g(K) = K to rounding."""
    found = fixed_points(sigma, C_b, C_W)
    assert found[0].stability == "stable"
    assert len(found) % 2 == 1
    for point in found:
        s = susceptibilities(sigma, C_b, C_W, point.K)
        # An error of eps in g moves the root by eps / (1 - chi_par).
        assert s.g == pytest.approx(point.K, rel=1e-13)
        assert point.chi_par == pytest.approx(s.chi_par, rel=1e-10, abs=1e-13)
        assert point.chi_perp == pytest.approx(s.chi_perp, rel=1e-12)
        assert (point.chi_par < 1) == (point.stability == "stable")
        assert point.chi_par > -0.5


def test_iteration_ends_there() -> None:
    """chi_par = 0.38: 40 layers reach rounding."""
    (point,) = fixed_points(nn.Tanh(), 0.05, 3.0)
    end = recursion(nn.Tanh(), 0.05, 3.0, 0.5, depth=40).K[-1]
    assert pytest.approx(end, rel=1e-13) == point.K


def test_several_at_once() -> None:
    """sin(2 z)^2 + 0.1 z has a second stable variance above the first."""

    def wave(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(2 * x) ** 2 + 0.3 * x

    found = fixed_points(wave, 0.0, 1.6)
    assert [p.stability for p in found] == ["stable", "unstable", "stable"]
    assert found[0].K == 0.0
    assert found[0].chi_par == found[0].chi_perp == pytest.approx(1.6 * 0.09)
    # Both sides of the unstable one lead away from it.
    for factor, end in ((0.98, found[0].K), (1.02, found[2].K)):
        K = recursion(wave, 0.0, 1.6, factor * found[1].K, depth=60).K[-1]
        assert pytest.approx(end, rel=1e-3, abs=1e-6) == K


def test_zero_is_one_without_bias() -> None:
    (ordered,) = fixed_points(nn.Tanh(), 0.0, 0.9)
    assert (ordered.K, ordered.stability) == (0.0, "stable")
    zero, other = fixed_points(nn.Tanh(), 0.0, 1.1)
    assert (zero.K, zero.stability, other.stability) == (0.0, "unstable", "stable")
    # K = 2 K^2 (C_W - 1)... near the transition: C_W (1 - 2 K) = 1 to first order.
    assert pytest.approx((1 - 1 / 1.1) / 2, rel=0.2) == other.K
    (critical_zero,) = fixed_points(nn.Tanh(), 0.0, 1.0)
    assert (critical_zero.K, critical_zero.stability) == (0.0, "stable")
    kinked = fixed_points(nn.Relu(), 0.0, 1.5)
    assert [(p.K, p.chi_par, p.stability) for p in kinked] == [(0.0, pytest.approx(0.75), "stable")]


def test_tiny_biases() -> None:
    """Below the grid of variances: K = C_b / (1 - C_W) to first order in K."""
    (point,) = fixed_points(nn.Tanh(), 1e-12, 0.5)
    assert pytest.approx(2e-12, rel=1e-9) == point.K


def test_relu_has_one_or_none() -> None:
    """K = C_b / (1 - C_W / 2)."""
    (point,) = fixed_points(nn.Relu(), 0.3, 1.9)
    assert pytest.approx(0.3 / 0.05, rel=1e-12) == point.K
    assert fixed_points(nn.Relu(), 0.3, 2.0) == ()
    (line,) = fixed_points(nn.Relu(), 0.0, 2.0)
    assert (line.K, line.stability) == (1.0, "neutral")


@pytest.mark.parametrize(
    ("sigma", "side", "other"),
    [(nn.Gelu(), "stable from above", 0.852), (nn.Swish(), "stable from below", 1.019)],
    ids=repr,
)
def test_double_roots(sigma: nn.Nonlinearity, side: str, other: float) -> None:
    """The half-stable point and the stable one close by, which theory gives to three digits."""
    point = critical(sigma)
    assert point.C_b is not None
    assert point.C_W is not None
    found = {p.stability: p for p in fixed_points(sigma, point.C_b, point.C_W)}
    assert set(found) == {side, "stable"}
    assert found[side].K == point.K
    assert pytest.approx(other, abs=5e-4) == found["stable"].K / found[side].K


def mehler(sigma: Any, C_b: float, C_W: float, K: float, terms: int) -> float:
    """Fixed point of the correlation from Hermite coefficients, by the trapezoid rule."""
    count = 40_001
    x = np.linspace(-12.0, 12.0, count)
    weight = np.exp(-x * x / 2) / math.sqrt(2 * math.pi) * 24 / (count - 1)
    value = sigma(torch.from_numpy(math.sqrt(K) * x)).numpy() * weight
    before, now = np.ones_like(x), x
    a = [value.sum(), value @ x]
    for k in range(1, terms):
        before, now = now, (x * now - math.sqrt(k) * before) / math.sqrt(k + 1)
        a.append(value @ now)
    squares = np.array(a) ** 2
    return float(
        brentq(lambda c: (C_b + C_W * (squares @ c ** np.arange(terms + 1))) / K - c, 0, 0.95)
    )


@pytest.mark.parametrize(
    ("sigma", "C_b", "C_W"),
    [
        (torch.tanh, 0.05, 3.0),
        (torch.tanh, 0.3, 4.0),
        (torch.erf, 0.1, 3.0),
        (torch.nn.functional.silu, 0.01, 1.9),
    ],
    ids=["tanh", "tanh2", "erf", "swish"],
)
def test_correlations_by_hermite_series(sigma: Any, C_b: float, C_W: float) -> None:
    """brentq stops at 2e-12; the series to 120 is better than that up to c = 0.8."""
    for point in fixed_points(sigma, C_b, C_W):
        if point.stability != "stable":
            continue
        c, slope = correlation_fixed_point(sigma, C_b, C_W, point.K)
        if point.chi_perp > 1:
            assert c == pytest.approx(mehler(sigma, C_b, C_W, point.K, 120), abs=1e-11)
            assert 0 < slope < 1
        else:
            assert c == 1.0
            assert slope == pytest.approx(point.chi_perp, rel=1e-11)


def test_deep_networks_have_that_correlation() -> None:
    """The engine after 200 layers: e^(-200 / 9) = 2e-10 of the way is left."""
    C_b, C_W = 0.05, 3.0
    (point,) = fixed_points(nn.Tanh(), C_b, C_W)
    c, slope = correlation_fixed_point(nn.Tanh(), C_b, C_W, point.K)
    x = np.array([[1.0, 0.5, -1.0], [0.2, -1.0, 0.3]])
    net = nn.mlp(depth=200, activation=nn.Tanh(), W_std=C_W**0.5, b_std=C_b**0.5)
    deep = kernreg.gram(net, x, kernel="nngp")
    assert deep[0, 1] / math.sqrt(deep[0, 0] * deep[1, 1]) == pytest.approx(c, abs=1e-8)
    # The last of them approach it by the slope per layer.
    gaps = [
        kernreg.gram(net.with_params(depth=depth), x, kernel="nngp")[0, 1] / point.K - c
        for depth in (60, 61)
    ]
    assert gaps[1] / gaps[0] == pytest.approx(slope, rel=1e-4)


@pytest.mark.parametrize("excess", [1e-3, 1e-5, 1e-7])
def test_near_the_edge_of_chaos(excess: float) -> None:
    """1 - c* is proportional to the distance from the edge, with all its digits.

    1 - c' = chi_perp d - curve d^2 / 2: d = 2 (chi_perp - 1) / curve to first order; the ratio to
    that at another small excess is good to about the larger excess times a constant.
    """
    edge = edge_of_chaos(nn.Erf(), 0.05)
    gaps = []
    for e in (excess, excess / 2):
        (point,) = fixed_points(nn.Erf(), 0.05, edge.C_W * (1 + e))
        c, _ = correlation_fixed_point(nn.Erf(), 0.05, edge.C_W * (1 + e), point.K)
        gaps.append((1 - c) / (point.chi_perp - 1))
    # chi_perp - 1 and 1 - c are good to 1e-13 and 1e-16.
    assert gaps[0] == pytest.approx(gaps[1], rel=3 * excess + 1e-9 / (excess * 1e4))


def test_odd_functions_without_bias_forget_everything() -> None:
    (_, point) = fixed_points(nn.Sin(), 0.0, 2.0)
    assert correlation_fixed_point(nn.Sin(), 0.0, 2.0, point.K)[0] == pytest.approx(0, abs=1e-14)


def test_kinks() -> None:
    """ReLU's map has slope 1 at c = 1 for C_b = 0, and c* = 1, however slowly."""
    assert correlation_fixed_point(nn.Relu(), 0.0, 2.0, 3.0) == (1.0, pytest.approx(1.0))


@pytest.mark.parametrize(
    ("slope", "scale"),
    [(0.5, 1 / math.log(2)), (-0.5, 1 / math.log(2)), (1.0, math.inf), (1.2, math.inf), (0.0, 0)],
)
def test_depth_scale(slope: float, scale: float) -> None:
    assert depth_scale(slope) == pytest.approx(scale)


def test_bad_arguments() -> None:
    with pytest.raises(InvalidInputError, match="C_W must be"):
        fixed_points(nn.Tanh(), 0.1, -1.0)
    with pytest.raises(InvalidInputError, match="K must be a finite number > 0"):
        correlation_fixed_point(nn.Tanh(), 0.1, 1.0, 0.0)
    with pytest.raises(InvalidInputError, match="jumps"):
        fixed_points(nn.Sign(), 0.1, 1.0)
