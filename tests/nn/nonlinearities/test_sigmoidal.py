"""Error functions and GELU."""

from __future__ import annotations

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Pair
from kernreg.numerics.torchmath import TorchMath
from tests.contracts.nonlinearity import NonlinearityContract, evaluate


class TestErf(NonlinearityContract):
    fn = nn.Erf()
    sizes = ((1.0, 1.0), (0.5, 2.0), (1e-3, 0.7), (6.0, 9.0))


class TestErfGeneral(NonlinearityContract):
    fn = nn.Erf(0.5, 2.0, 0.3)


class TestSigmoidLike(NonlinearityContract):
    fn = nn.SigmoidLike()


class TestGelu(NonlinearityContract):
    fn = nn.Gelu()
    sizes = ((1.0, 1.0), (0.5, 2.0), (1e-3, 0.7), (6.0, 9.0))


def test_erf_tends_to_sign() -> None:
    """The two differ by O(1/s) at most, which is the angle 1/s that the steep part covers."""
    rho = torch.tensor([0.9, -0.3], dtype=torch.float64)
    one = torch.ones_like(rho)
    steep = evaluate(nn.Erf(), rho, 1 - rho.abs(), 1e6 * one, 1e6 * one).kappa
    sign = evaluate(nn.Sign(), rho, 1 - rho.abs(), one, one).kappa
    torch.testing.assert_close(steep, sign, rtol=0, atol=1e-6)


def test_gelu_tends_to_relu() -> None:
    rho = torch.tensor([0.9, -0.3], dtype=torch.float64)
    one = torch.ones_like(rho)
    steep = evaluate(nn.Gelu(), rho, 1 - rho.abs(), 1e6 * one, 1e6 * one)
    relu = evaluate(nn.Relu(), rho, 1 - rho.abs(), one, one)
    torch.testing.assert_close(steep.kappa / 1e12, relu.kappa, rtol=0, atol=1e-6)
    torch.testing.assert_close(steep.kappa_dot, relu.kappa_dot, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fn", [nn.Erf(), nn.Gelu(), nn.SigmoidLike()])
def test_large_variance_in_float32(fn: nn.Nonlinearity) -> None:
    rho = torch.tensor([1.0, 0.5, -0.5, -1.0])
    s = torch.full_like(rho, 1e9)
    m = fn.dual(TorchMath, Pair(rho, 1 - rho.abs(), s, s))
    assert bool(torch.isfinite(m.kappa).all())
    assert bool(torch.isfinite(m.kappa_dot).all())


def test_parameters_must_be_finite() -> None:
    with pytest.raises(NetworkError, match="Erf: b must be a finite number"):
        nn.Erf(b=float("inf"))
