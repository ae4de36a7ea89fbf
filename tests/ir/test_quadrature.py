"""Gaussian averages against integrals known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Pair
from kernreg.ir.quadrature import (
    hermite_coefficients,
    pair_moments,
    row_moments,
    series_length,
)
from kernreg.ir.torchmath import TorchMath

# Moments are asked for at these standard deviations.
S = torch.tensor([0.0, 1e-3, 0.3, 1.0, 4.0], dtype=torch.float64)
# One function per rule: smooth, kinked, growing.
CASES = [nn.Sin(1.3, 1.1, 0.4), nn.Erf(), nn.Gelu(), nn.Relu(), nn.ABRelu(-0.5, 2.0)]


def moments(fn: nn.Nonlinearity, rho: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor) -> list:
    gap = 1.0 - abs(rho)
    if fn.homogeneous is None:
        m = fn.dual(TorchMath, Pair(rho, gap, s1, s2))
        return [m.kappa, m.kappa_dot]
    one = torch.ones_like(rho)
    m = fn.dual(TorchMath, Pair(rho, gap, one, one))
    return [m.kappa * s1 * s2, m.kappa_dot + 0 * s1 * s2]


@pytest.mark.parametrize("fn", CASES, ids=repr)
def test_rows(fn: nn.Nonlinearity) -> None:
    one = torch.ones_like(S)
    for got, want in zip(row_moments(fn, S), moments(fn, one, S, S), strict=True):
        # At s = 0 a kink has no slope.
        start = 0 if fn.smooth else 1
        torch.testing.assert_close(got[start:], want[start:], rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("fn", CASES, ids=repr)
@pytest.mark.parametrize(("s1", "s2"), [(1.0, 1.0), (0.1, 3.0), (5.0, 2.0)])
def test_pairs(fn: nn.Nonlinearity, s1: float, s2: float) -> None:
    """To the documented 1e-13 of the norms, and ten times that for rules accepted at 1e-12."""
    rho = torch.tensor([-1.0, -0.9, 0.5, 1 - 1e-9], dtype=torch.float64)
    m = pair_moments(fn, rho, 1.0 - abs(rho), s1, s2)
    one = torch.ones(1, dtype=torch.float64)
    ends = [moments(fn, one, s * one, s * one) for s in (s1, s2)]
    for k, got in enumerate((m.kappa, m.kappa_dot)):
        norm = math.sqrt(float(ends[0][k]) * float(ends[1][k]))
        want = moments(fn, rho, s1 * torch.ones_like(rho), s2 * torch.ones_like(rho))[k]
        torch.testing.assert_close(got, want, rtol=0, atol=1e-12 * norm)


def test_pairs_broadcast() -> None:
    rho = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)
    s1 = torch.tensor([[0.5], [1.0]], dtype=torch.float64)
    m = pair_moments(nn.Sin(), rho, 1 - rho, s1, 2.0)
    assert m.kappa.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            one = pair_moments(nn.Sin(), rho[0, j], 1 - rho[0, j], s1[i, 0], 2.0)
            assert float(m.kappa[i, j]) == pytest.approx(float(one.kappa), rel=1e-12)


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


@pytest.mark.parametrize("s", [5.0, 20.0, 30.0, 400.0])
def test_no_rule_fits(s: float) -> None:
    """``E[e^(2 s z)] = e^(2 s^2)``: mass out of reach, and from s = 19 beyond float64."""
    with pytest.raises(NetworkError, match=f"cannot be integrated at standard deviation {s:g}"):
        pair_moments(nn.Exp(), 0.5, 0.5, s, s)
