"""Polynomials."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from tests.contracts.nonlinearity import (
    NonlinearityContract,
    NumpyMath,
    correlations,
    evaluate,
)


class TestConstant(NonlinearityContract):
    fn = nn.Monomial(0)


class TestLine(NonlinearityContract):
    fn = nn.Monomial(1)


class TestSquare(NonlinearityContract):
    fn = nn.Monomial(2)


class TestFifth(NonlinearityContract):
    fn = nn.Monomial(5)


class TestPolynomial(NonlinearityContract):
    fn = nn.Polynomial((0.3, 1.0, -0.5, 0.2))
    bounded = False


class TestOddPolynomial(NonlinearityContract):
    fn = nn.Polynomial((0.0, 1.0, 0.0, 0.4))
    bounded = False


class TestHermite(NonlinearityContract):
    fn = nn.Hermite((0.2, 0.5, -0.1, 0.3, 0.2))
    bounded = False


class TestSingleHermite(NonlinearityContract):
    fn = nn.Hermite((0.0, 0.0, 0.0, 1.0))
    bounded = False


def test_single_hermite_is_a_power_at_unit_variance() -> None:
    rho, gap = correlations()
    one = torch.ones_like(rho)
    for k in range(1, 7):
        m = evaluate(nn.Hermite((0.0,) * k + (1.0,)), rho, gap, one, one)
        torch.testing.assert_close(m.kappa, rho**k, rtol=1e-15, atol=1e-16)
        torch.testing.assert_close(m.kappa_dot, k * rho ** (k - 1), rtol=1e-15, atol=1e-16)


def test_hermite_and_polynomial_are_the_same_function() -> None:
    fn = nn.Hermite((0.2, 0.0, 1.0))
    same = nn.Polynomial((0.2 - math.sqrt(0.5), 0.0, math.sqrt(0.5)))
    x = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(fn.phi(NumpyMath, x), same.phi(NumpyMath, x), atol=1e-15)
    rho, gap = correlations()
    s1, s2 = torch.full_like(rho, 0.4), torch.full_like(rho, 1.9)
    m, n = evaluate(fn, rho, gap, s1, s2), evaluate(same, rho, gap, s1, s2)
    torch.testing.assert_close(m.kappa, n.kappa, rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(m.gap, n.gap, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("coef", [(), (0.0, 0.0), 3.0, "12", (1.0, math.nan), (1.0, None)])
def test_refused_coefficients(coef: object) -> None:
    for layer in (nn.Polynomial, nn.Hermite):
        with pytest.raises(NetworkError, match="coef"):
            layer(coef)  # type: ignore[arg-type]


def test_lists_become_tuples() -> None:
    assert nn.Polynomial([1, 2]) == nn.Polynomial((1.0, 2.0))  # type: ignore[arg-type]
