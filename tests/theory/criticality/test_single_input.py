"""The kernel of one input through the layers, against closed forms and the engine."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.criticality.single_input import (
    average_table,
    averages,
    recursion,
    susceptibilities,
)


@given(log_K=st.floats(-3, 2), C_W=st.floats(0.1, 5), C_b=st.floats(0, 2))
def test_sine(log_K: float, C_W: float, C_b: float) -> None:
    """g = C_b + C_W (1 - e^-2K) / 2 and its derivatives, all of which are known."""
    K = 10.0**log_K
    e = math.exp(-2 * K)
    s = susceptibilities(nn.Sin(), C_b, C_W, K)
    assert s.g == pytest.approx(C_b - C_W * math.expm1(-2 * K) / 2, rel=1e-13)
    # Averages of numbers of size 1: absolute rounding where e^-2K is small.
    assert s.chi_par == pytest.approx(C_W * e, rel=1e-12, abs=1e-14 * C_W)
    assert s.chi_perp == pytest.approx(C_W * (1 + e) / 2, rel=1e-13)
    assert s.h == pytest.approx(-C_W * e / 2, rel=1e-12, abs=1e-14 * C_W / K)


@pytest.mark.parametrize(
    "sigma", [nn.Tanh(), nn.Gelu(), nn.Swish(), nn.Elu(), nn.Selu(), nn.Abs()], ids=repr
)
@pytest.mark.parametrize("K", [0.02, 1.0, 30.0])
def test_derivatives_of_the_map(sigma: nn.Nonlinearity, K: float) -> None:
    """chi_par = dg/dK and h = d chi_perp/dK / 2 by central differences, kinks included.

    A step of 1e-4 K: truncation 1e-8 times a third derivative times K^3, rounding 1e-12.
    """
    step = 1e-4 * K
    low, at, high = (susceptibilities(sigma, 0.1, 1.5, k) for k in (K - step, K, K + step))
    assert at.chi_par == pytest.approx((high.g - low.g) / (2 * step), rel=1e-7)
    slope = (high.chi_perp - low.chi_perp) / (2 * step)
    assert 2 * at.h * K == pytest.approx(slope * K, rel=1e-6, abs=1e-9)


def test_vectors() -> None:
    K = np.array([3.0, 0.5, 1e-3])
    many = susceptibilities(nn.Erf(), 0.1, 2.0, K)
    for i, k in enumerate(K):
        one = susceptibilities(nn.Erf(), 0.1, 2.0, k)
        for name in ("K", "g", "chi_par", "chi_perp", "h"):
            assert getattr(many, name)[i] == pytest.approx(getattr(one, name), rel=1e-11)


def test_averages_do_not_depend_on_the_company() -> None:
    """More variances than share a rule, in any order, give what each gives alone."""
    K = np.random.default_rng(0).permutation(np.logspace(-8, 6, 150))
    many = averages(nn.Gelu(), K)
    for i in (0, 70, 149):
        one = averages(nn.Gelu(), K[i])
        for name in ("square", "slope_square", "drift"):
            assert getattr(many, name)[i] == pytest.approx(getattr(one, name)[0], rel=1e-12)


@settings(max_examples=10)
@given(
    C_W=st.floats(0.5, 3),
    C_b=st.floats(0, 1),
    sigma=st.sampled_from([nn.Tanh(), nn.Relu(), nn.Gelu(), nn.Elu()]),
)
def test_recursion_is_the_kernel_of_the_engine(
    C_W: float, C_b: float, sigma: nn.Nonlinearity
) -> None:
    """The engine has other quadratures and closed forms: 1e-11 after ten layers."""
    x = np.array([[1.0, -2.0, 0.5]])
    found = recursion(sigma, C_b, C_W, C_b + C_W * (x**2).mean(), depth=10)
    for depth in (0, 3, 10):
        net = nn.mlp(depth=depth, activation=sigma, W_std=C_W**0.5, b_std=C_b**0.5)
        assert found.K[depth] == pytest.approx(kernreg.diag(net, x, "nngp")[0], rel=1e-11)


def test_trajectory() -> None:
    """Of a sine in closed form: ``E[sin(z)^2] = (1 - exp(-2 K)) / 2``."""
    C_b, C_W, K = 0.2, 1.5, 0.7
    found = recursion(nn.Sin(), C_b, C_W, K, depth=3)
    want = [K]
    for _ in range(3):
        want.append(C_b + C_W * -math.expm1(-2.0 * want[-1]) / 2.0)
    decay = np.exp(-2.0 * np.array(want[:-1]))
    np.testing.assert_allclose(found.K, want, rtol=1e-13)
    np.testing.assert_allclose(found.chi_par, C_W * decay, rtol=1e-12)
    np.testing.assert_allclose(found.chi_perp, C_W * (1.0 + decay) / 2.0, rtol=1e-12)
    at = susceptibilities(nn.Sin(), C_b, C_W, found.K[:-1])
    for name in ("chi_par", "chi_perp"):
        np.testing.assert_allclose(getattr(found, name), getattr(at, name), rtol=1e-13)
    empty = recursion(nn.Sin(), C_b, C_W, K, depth=0)
    assert empty.K.tolist() == [K]
    assert empty.chi_par.shape == empty.chi_perp.shape == (0,)


def test_signal_zero_stays_zero() -> None:
    found = recursion(nn.Relu(), 0.0, 2.0, 0.0, depth=2)
    assert found.K.tolist() == pytest.approx([0.0, 0.0, 0.0], abs=1e-290)
    assert found.chi_perp.tolist() == pytest.approx([1.0, 1.0])


def test_table_ends_where_averages_do() -> None:
    assert average_table(nn.Tanh()).complete
    growing = average_table(nn.Exp())
    assert not growing.complete
    # <exp(z)^2> = exp(2 K) wherever there is a value.
    np.testing.assert_allclose(growing.square, np.exp(2 * growing.K), rtol=1e-11)


@pytest.mark.parametrize("sigma", [nn.Sign(), nn.RectifiedMonomial(0)], ids=repr)
def test_jumps_are_refused(sigma: nn.Nonlinearity) -> None:
    with pytest.raises(InvalidInputError, match="jumps at 0"):
        susceptibilities(sigma, 0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((-0.1, 1.0, 1.0), "C_b must be a finite number >= 0, found -0.1"),
        ((0.0, 0.0, 1.0), "C_W must be a finite number > 0, found 0.0"),
        ((0.0, math.inf, 1.0), "C_W must be"),
        (("a", 1.0, 1.0), "C_b must be"),
        ((0.0, 1.0, 0.0), "K must be a finite number or vector > 0"),
        ((0.0, 1.0, [1.0, math.nan]), "K must be"),
    ],
)
def test_bad_numbers(arguments: tuple, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        susceptibilities(nn.Tanh(), *arguments)


@pytest.mark.parametrize("depth", [-1, 1.5, True])
def test_bad_depth(depth: object) -> None:
    with pytest.raises(InvalidInputError, match="depth must be an integer"):
        recursion(nn.Tanh(), 0.0, 1.0, 1.0, depth)  # type: ignore[arg-type]


def test_a_variance_that_overflows_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Exp"):
        recursion(nn.Exp(), 0.0, 1.0, 1.0, depth=5)
