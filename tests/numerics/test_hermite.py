"""Hermite series against coefficients known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from kernreg import nn
from kernreg.numerics.hermite import hermite_coefficients, series_length
from kernreg.numerics.quadrature import row_moments


@pytest.mark.parametrize("s", [0.5, 1.0, 3.0])
def test_hermite_coefficients(s: float) -> None:
    """``E[sin(s z) h_j(z)] = Im(i^j) s^j e^(-s^2/2) / sqrt(j!)``."""
    table = hermite_coefficients(nn.Sin(), [s], 30)
    for j, a in enumerate(table.coefficients[0].tolist()):
        size = math.exp(j * math.log(s) - s * s / 2 - math.lgamma(j + 1) / 2)
        want = size * (0.0, 1.0, 0.0, -1.0)[j % 4]
        assert a == pytest.approx(want, abs=1e-14)


def test_tails_are_what_the_series_leaves_out() -> None:
    square, slope = row_moments(nn.Sin(), [1.0])
    table = hermite_coefficients(nn.Sin(), [1.0], 4)
    a1, a3 = math.exp(-0.5), math.exp(-0.5) / math.sqrt(6)
    assert float(table.tail) == pytest.approx(float(square) - a1**2 - a3**2, rel=1e-12)
    assert float(table.slope_tail) == pytest.approx(float(slope) - a1**2 - 3 * a3**2, rel=1e-12)


@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Softplus(), nn.Swish()], ids=repr)
@pytest.mark.parametrize("tol", [1e-4, 1e-8])
def test_series_length(fn: nn.Nonlinearity, tol: float) -> None:
    """Long enough for the tolerance at every deviation, and no longer than needed."""
    s = torch.tensor([0.4, 1.0], dtype=torch.float64)
    terms = series_length(fn, s, tol)
    assert terms is not None

    def worst(n: int) -> float:
        table = hermite_coefficients(fn, s, n)
        square, slope = row_moments(fn, s)
        parts = (table.tail / square).max(), (table.slope_tail / (s * s * slope)).max()
        return float(max(parts))

    assert worst(terms) <= tol * (1 + 1e-6)
    assert worst(terms - 1) > tol * (1 - 1e-6)


def test_series_that_do_not_end() -> None:
    """A kink leaves a tail of about ``terms^(-1/2)`` in the slopes."""
    assert series_length(nn.Elu(), [1.0], 1e-6) is None
    assert series_length(nn.Tanh(), [30.0], 1e-8, max_terms=64) is None


def test_a_finite_series_is_exact() -> None:
    assert series_length(nn.Hermite((0.0, 1.0, 0.0, 2.0)), [1.0], 1e-13) == 4
