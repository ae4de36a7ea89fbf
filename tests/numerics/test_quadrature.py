"""Gaussian averages against integrals known in closed form."""

from __future__ import annotations

import math

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Pair
from kernreg.numerics.quadrature import moment_table, pair_moments, row_moments
from kernreg.numerics.torchmath import TorchMath

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


def test_gap_keeps_its_digits_near_parallel_rows() -> None:
    """Elu(0) is ReLU, whose dual has a gap without cancellation; a mean square has none either."""
    gap = torch.tensor([0.0, 1e-14, 1e-10, 1e-4], dtype=torch.float64)
    one = torch.ones_like(gap)
    want = nn.Relu().dual(TorchMath, Pair(1.0 - gap, gap, one, one)).gap
    got = pair_moments(nn.Elu(alpha=0.0), 1.0 - gap, gap, 1.0, 2.0).gap
    # Values u, v of mean square 1, each rounded by e: E(u - v)^2 / 2 is off by E|u - v| |e| <=
    # 4 eps sqrt(gap) (Cauchy-Schwarz, E(u - v)^2 = 2 gap) and by E e^2 <= 4 eps^2, while a
    # subtraction from 1 would leave eps.
    eps = torch.finfo(gap.dtype).eps
    bound = 4.0 * eps * torch.sqrt(want) + 4.0 * eps**2 + 1e-12 * want
    assert bool((abs(got - want) <= bound).all())


@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Selu()], ids=repr)
def test_table_is_the_pairs_one_by_one(fn: nn.Nonlinearity) -> None:
    rho = torch.tensor([-0.8, 0.3, 1.0], dtype=torch.float64)
    s = torch.tensor([0.5, 2.0], dtype=torch.float64)
    table = moment_table(fn, rho, 1.0 - abs(rho), s)
    pairs = pair_moments(fn, rho[:, None, None], 1.0 - abs(rho)[:, None, None], s[:, None], s)
    # Both are good to 1e-13 of the norms, which are below 10 here.
    torch.testing.assert_close(table.kappa, pairs.kappa, rtol=0, atol=2e-12)
    torch.testing.assert_close(table.kappa_dot, pairs.kappa_dot, rtol=0, atol=2e-12)


@pytest.mark.parametrize("s", [5.0, 20.0, 30.0, 400.0])
def test_no_rule_fits(s: float) -> None:
    """``E[e^(2 s z)] = e^(2 s^2)``: mass out of reach, and from s = 19 beyond float64."""
    with pytest.raises(NetworkError, match=f"cannot be integrated at standard deviation {s:g}"):
        pair_moments(nn.Exp(), 0.5, 0.5, s, s)
