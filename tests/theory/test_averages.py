"""Averages over one preactivation, against integrals known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.theory.averages import as_nonlinearity, line

# sigma, <sigma^2>, <sigma'^2> as functions of K.
CASES: list[tuple[nn.Nonlinearity, Callable, Callable]] = [
    (nn.Relu(), lambda K: K / 2, lambda K: 0.5 + 0 * K),
    (nn.Abs(), lambda K: K, lambda K: 1 + 0 * K),
    (nn.Sin(), lambda K: (1 - np.exp(-2 * K)) / 2, lambda K: (1 + np.exp(-2 * K)) / 2),
    (
        nn.Erf(),
        lambda K: 2 / np.pi * np.arcsin(2 * K / (1 + 2 * K)),
        lambda K: 4 / np.pi / np.sqrt(1 + 4 * K),
    ),
    (nn.Gaussian(), lambda K: (1 + 4 * K) ** -0.5, lambda K: 4 * K * (1 + 4 * K) ** -1.5),
    (nn.Monomial(3), lambda K: 15 * K**3, lambda K: 27 * K**2),
]


@pytest.mark.parametrize(("sigma", "square", "slope_square"), CASES, ids=lambda c: repr(c)[:12])
@given(log_K=st.floats(-6, 3))
def test_mean_squares(
    sigma: nn.Nonlinearity, square: Callable, slope_square: Callable, log_K: float
) -> None:
    """To 1e-13: Gauss rules of 24 nodes per panel are exact to rounding for these functions."""
    K = 10.0**log_K
    nodes = line(sigma, K)
    # 1 - exp(-2 K) loses eps / K in the formula, not in the rule.
    rel = 1e-13 + 4e-16 / K
    assert nodes.mean(nodes.value**2) == pytest.approx(square(K), rel=rel)
    assert nodes.mean(nodes.slope**2) == pytest.approx(slope_square(K), rel=rel)


def test_vector_and_number_agree() -> None:
    """Another rule for each number: its panels are graded by the largest variance."""
    K = np.array([1e-4, 0.3, 50.0])
    many = line(nn.Tanh(), K)
    assert many.K.shape == (3, 1)
    assert many.z.shape == many.value.shape == many.slope.shape == (3, many.weights.size)
    for i, k in enumerate(K):
        one = line(nn.Tanh(), k)
        assert one.K.shape == (1,)
        assert one.z.shape == one.weights.shape
        for power in (2, 4):
            assert one.mean(one.value**power) == pytest.approx(
                many.mean(many.value**power)[i], rel=1e-12
            )


@given(log_K=st.floats(-8, 6))
def test_moments_of_the_variable(log_K: float) -> None:
    """1, K, 3 K^2: weights, nodes and K belong together."""
    nodes = line(nn.Monomial(1), 10.0**log_K)
    found = [nodes.mean((nodes.z / np.sqrt(nodes.K)) ** p) for p in (0, 2, 4)]
    assert found == pytest.approx([1.0, 1.0, 3.0], rel=1e-13)


def test_mean_over_leading_axes() -> None:
    nodes = line(nn.Relu(), 1.0)
    powers = np.stack([nodes.z**p for p in range(4)]).reshape(2, 2, -1)
    np.testing.assert_allclose(nodes.mean(powers), [[1, 0], [1, 0]], atol=1e-14)
    assert type(nodes.mean(nodes.z**2)) is float


def test_variance_zero_sees_both_sides_of_a_kink() -> None:
    """<relu'^2> = 1/2 as for every K > 0, not the square of the mean slope at 0."""
    assert line(nn.Relu(), 0.0).mean(line(nn.Relu(), 0.0).slope ** 2) == pytest.approx(0.5)
    smooth = line(nn.Cos(), 0.0)
    assert smooth.mean(smooth.value**2) == pytest.approx(1.0, rel=1e-14)
    assert smooth.mean(smooth.slope**2) == 0.0


def test_functions_become_nonlinearities() -> None:
    assert as_nonlinearity(nn.Gelu()) == nn.Gelu()
    assert as_nonlinearity(torch.tanh) == nn.Elementwise(torch.tanh)
    assert as_nonlinearity(torch.relu) == nn.Elementwise(torch.relu, smooth=False)


@pytest.mark.parametrize(
    ("sigma", "words"),
    [
        ("tanh", "found 'tanh'"),
        (None, "found None"),
        (nn.Tanh, "parentheses"),
        (np.tanh, "differentiable torch functions"),
        (lambda x: torch.where(x > 0, x + 1, x), "jumps at 0"),
    ],
    ids=["name", "none", "class", "numpy", "jump"],
)
def test_what_is_no_nonlinearity(sigma: object, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        as_nonlinearity(sigma)


@pytest.mark.parametrize(
    ("sigma", "K", "words"),
    [
        (nn.Exp(), 40.0, "infinite or lies beyond"),
        (nn.Exp(), 1e6, "not finite"),
        (lambda x: torch.exp(x * x / 5), 3.0, "infinite or lies beyond"),
        (lambda x: torch.exp(x * x / 5), 1e3, "not finite at z"),
        (lambda x: torch.sqrt(torch.abs(x)), 1.0, "cannot be averaged"),
        (lambda x: torch.relu(x - 0.7), 1.0, "smooth except at 0"),
        (lambda x: torch.sin(200 * x), 1.0, "oscillate"),
        (nn.Tanh(), -1.0, "finite and >= 0"),
        (nn.Tanh(), math.nan, "finite and >= 0"),
        (nn.Tanh(), [], "vector of variances"),
        (nn.Tanh(), [[1.0]], "vector of variances"),
    ],
    ids=["tail", "overflow", "gaussian", "inf", "root", "kink", "fast", "<0", "nan", "[]", "2d"],
)
def test_what_cannot_be_averaged(sigma: object, K: object, words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        line(sigma, K)


def test_a_map_of_kernels_has_no_values() -> None:
    with pytest.raises(NetworkError, match="without an elementwise function"):
        line(nn.ExpNormalized(), 1.0)


def test_an_average_that_grows_too_fast_is_refused() -> None:
    """<exp(z)^2> exists at K = 4, but <exp(z)^8> peaks at 16 standard deviations."""
    nodes = line(nn.Exp(), 4.0)
    assert nodes.mean(nodes.value**2) == pytest.approx(math.exp(8.0), rel=1e-12)
    with pytest.raises(InvalidInputError, match="beyond 13 standard deviations"):
        nodes.mean(nodes.value**8)
