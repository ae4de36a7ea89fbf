from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.numerics.hermite import hermite_coefficients, series_length
from kernreg.numerics.octaves import coefficients_at, length_between, moments_at
from kernreg.numerics.quadrature import row_moments

EPS = float(np.finfo(np.float64).eps)
SMOOTH = [nn.Tanh(), nn.Softplus(), nn.Swish(), nn.Elementwise(torch.arctan)]
# Both ends of octaves, the middle of one, and below the lowest.
SIZES = torch.cat([torch.tensor([2.0**-45, 0.5, 1.0, 1.5, 4.0]), torch.logspace(-8, 1, 200)])


@pytest.mark.parametrize("fn", SMOOTH, ids=lambda fn: type(fn).__name__)
def test_interpolation_is_quadrature(fn):
    """Barycentric sums over 20 nodes: the Lebesgue constant is 3, and some roundings add up."""
    s = SIZES.to(torch.float64)
    for found, exact in zip(moments_at(fn, s), row_moments(fn, s), strict=True):
        assert ((found / exact - 1).abs() < 40 * EPS).all()
    found, exact = coefficients_at(fn, s, 30), hermite_coefficients(fn, s, 30).coefficients
    size = row_moments(fn, s)[0].sqrt()[:, None]
    # Before interpolation, both come from sums over some 800 nodes.
    assert ((found - exact).abs() < 100 * EPS * size).all()


@pytest.mark.parametrize(
    "f",
    [torch.exp, lambda x: x**9, lambda x: torch.sin(8 * x), lambda x: torch.exp(x * x / 100)],
    ids=["exp", "x^9", "sin 8x", "exp x^2/100"],
)
def test_what_varies_too_much_is_integrated(f):
    """Of these some octaves are interpolated, others are not."""
    fn = nn.Elementwise(f)
    s = torch.exp2(torch.linspace(-6, 1.3, 300, dtype=torch.float64))
    for found, exact in zip(moments_at(fn, s), row_moments(fn, s), strict=True):
        assert ((found / exact - 1).abs() < 2 * 64 * EPS).all()
    found, exact = coefficients_at(fn, s, 30), hermite_coefficients(fn, s, 30).coefficients
    size = row_moments(fn, s)[0].sqrt()[:, None]
    assert ((found - exact).abs() < 200 * EPS * size).all()


class Changing(torch.nn.Module):
    """A function with a state, and without a hash."""

    __hash__ = None

    def __init__(self):
        super().__init__()
        self.a = 1.0

    def __eq__(self, other):
        return isinstance(other, Changing)

    def forward(self, x):
        return torch.tanh(self.a * x)


def test_nothing_is_kept_of_functions_of_a_user():
    g = Changing()
    s = torch.linspace(0.5, 1.0, 100, dtype=torch.float64)
    first = moments_at(nn.Elementwise(g), s)[0]
    g.a = 2.0
    second = moments_at(nn.Elementwise(g), s)[0]
    assert (second > 1.5 * first).all()
    assert length_between(nn.Elementwise(g), 0.5, 1.0, 1e-6) > 10


def test_a_longer_series_begins_alike():
    s = torch.linspace(0.3, 3.0, 50, dtype=torch.float64)
    short, long = (coefficients_at(nn.Tanh(), s, terms) for terms in (20, 60))
    np.testing.assert_array_equal(short, long[:, :20])


def test_kinks_are_integrated():
    for found, exact in zip(moments_at(nn.Elu(), SIZES), row_moments(nn.Elu(), SIZES), strict=True):
        np.testing.assert_array_equal(found, exact)


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (1e-8, 0.3), (1.0, 1.0)])
def test_lengths_serve_the_range(low, high):
    found = length_between(nn.Tanh(), low, high, 1e-13)
    assert found >= series_length(nn.Tanh(), [low, high], 1e-13)
    assert found <= series_length(nn.Tanh(), [low, 2**0.126 * high], 1e-13)
