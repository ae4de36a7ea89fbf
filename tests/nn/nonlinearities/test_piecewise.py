"""Nonlinearities with a kink or a jump at 0."""

from __future__ import annotations

import math

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from tests.contracts.nonlinearity import NonlinearityContract, correlations, evaluate


class TestRelu(NonlinearityContract):
    fn = nn.Relu()


class TestLeakyRelu(NonlinearityContract):
    fn = nn.LeakyRelu(0.2)


class TestAbs(NonlinearityContract):
    fn = nn.Abs()


class TestABRelu(NonlinearityContract):
    fn = nn.ABRelu(-0.5, 1.5)


class TestABReluAlmostAbs(NonlinearityContract):
    fn = nn.ABRelu(-1.0, 1.001)


class TestABReluAlmostLinear(NonlinearityContract):
    fn = nn.ABRelu(0.999, 1.0)


class TestSign(NonlinearityContract):
    fn = nn.Sign()
    jump = True


class TestStep(NonlinearityContract):
    fn = nn.RectifiedMonomial(0)
    jump = True


class TestRectifiedLine(NonlinearityContract):
    fn = nn.RectifiedMonomial(1)


class TestRectifiedSquare(NonlinearityContract):
    fn = nn.RectifiedMonomial(2)


class TestRectifiedFifth(NonlinearityContract):
    fn = nn.RectifiedMonomial(5)


@pytest.mark.parametrize(
    ("general", "special"),
    [
        (nn.ABRelu(0.0, 1.0), nn.Relu()),
        (nn.ABRelu(-1.0, 1.0), nn.Abs()),
        (nn.ABRelu(0.3, 1.0), nn.LeakyRelu(0.3)),
        (nn.RectifiedMonomial(1), nn.Relu()),
    ],
)
def test_special_cases_agree(general: nn.Nonlinearity, special: nn.Nonlinearity) -> None:
    rho, gap = correlations()
    one = torch.ones_like(rho)
    m, n = evaluate(general, rho, gap, one, one), evaluate(special, rho, gap, one, one)
    for a, b in ((m.kappa, n.kappa), (m.kappa_dot, n.kappa_dot), (m.gap, n.gap)):
        torch.testing.assert_close(a, b, rtol=1e-15, atol=1e-15)


def test_relu_gap_series() -> None:
    """1 - cos(theta') = gap - theta^3 / (3 pi) + O(theta^5) for nearly parallel inputs."""
    gap = torch.tensor([1e-8], dtype=torch.float64)
    one = torch.ones_like(gap)
    theta = math.sqrt(2e-8)
    expected = 1e-8 - theta**3 / (3 * math.pi)
    # The next term is theta^5 / 30 pi plus the one of theta against sqrt(2 gap): about 1e-21.
    assert float(evaluate(nn.Relu(), 1 - gap, gap, one, one).gap) == pytest.approx(
        expected, abs=1e-20
    )


@pytest.mark.parametrize("degree", [-1, 1.5, True, "2", None])
def test_degree_must_be_a_natural_number(degree: object) -> None:
    with pytest.raises(NetworkError, match="degree must be an integer"):
        nn.RectifiedMonomial(degree)  # type: ignore[arg-type]


def test_constant_network_is_refused() -> None:
    with pytest.raises(NetworkError, match="both 0"):
        nn.ABRelu(0.0, 0.0)


def test_slope_must_be_finite() -> None:
    with pytest.raises(NetworkError, match="slope must be a finite number"):
        nn.LeakyRelu(math.nan)
