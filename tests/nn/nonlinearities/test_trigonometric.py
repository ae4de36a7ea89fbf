"""Sines, cosines and the Gabor function."""

from __future__ import annotations

import math

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Pair
from kernreg.numerics.torchmath import TorchMath
from tests.contracts.nonlinearity import NonlinearityContract, correlations, evaluate


class TestSin(NonlinearityContract):
    fn = nn.Sin()
    sizes = ((1.0, 1.0), (0.5, 2.0), (1e-3, 0.7), (3.0, 3.1))


class TestSinGeneral(NonlinearityContract):
    fn = nn.Sin(2.0, 0.7, 0.4)


class TestSinOtherQuadrant(NonlinearityContract):
    fn = nn.Sin(1.0, 0.7, 1.2)


class TestCos(NonlinearityContract):
    fn = nn.Cos()


class TestCosGeneral(NonlinearityContract):
    fn = nn.Cos(1.5, 1.2, -0.3)


class TestGabor(NonlinearityContract):
    fn = nn.Gabor()


def test_cos_is_sin_a_quarter_turn_on() -> None:
    rho, gap = correlations()
    s1, s2 = torch.full_like(rho, 0.8), torch.full_like(rho, 1.7)
    m = evaluate(nn.Cos(1.2, 0.9, 0.3), rho, gap, s1, s2)
    n = evaluate(nn.Sin(1.2, 0.9, 0.3 + math.pi / 2), rho, gap, s1, s2)
    torch.testing.assert_close(m.kappa, n.kappa, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(m.kappa_dot, n.kappa_dot, rtol=1e-14, atol=1e-15)


def test_no_overflow_at_large_variance() -> None:
    rho = torch.tensor([1.0, 0.5, -0.5, -1.0])
    s = torch.full_like(rho, 1e4)
    m = nn.Sin().dual(TorchMath, Pair(rho, 1 - rho.abs(), s, s))
    assert m.kappa.tolist() == [0.5, 0.0, 0.0, -0.5]
    assert m.kappa_dot.tolist() == [0.5, 0.0, 0.0, 0.5]


def test_the_phase_compiles_nothing_new() -> None:
    assert nn.Sin(c=0.1).structure() == nn.Sin(c=0.7).structure()
    assert nn.Cos(c=0.1).structure() == nn.Cos(c=0.7).structure()


@pytest.mark.parametrize("layer", [nn.Sin, nn.Cos])
def test_parameters_must_be_finite(layer: type) -> None:
    with pytest.raises(NetworkError, match="c must be a finite number"):
        layer(c="0")
