"""Exponentials and Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from tests.contracts.nonlinearity import NonlinearityContract, correlations, evaluate


class TestExp(NonlinearityContract):
    fn = nn.Exp()
    sizes = ((1.0, 1.0), (0.5, 1.5), (1e-3, 0.7))
    bounded = False


class TestExpGeneral(NonlinearityContract):
    fn = nn.Exp(0.3, -0.7)
    bounded = False


class TestGaussian(NonlinearityContract):
    fn = nn.Gaussian()


class TestGaussianGeneral(NonlinearityContract):
    fn = nn.Gaussian(-2.0, -0.3)


class TestRbf(NonlinearityContract):
    fn = nn.Rbf(0.8)


class TestExpNormalized(NonlinearityContract):
    fn = nn.ExpNormalized(1.3, -0.9)
    has_phi = False


def test_rbf_is_the_gaussian_of_the_distance() -> None:
    x, y = np.array([0.3, -1.0]), np.array([0.5, 0.2])
    s1, s2 = np.linalg.norm(x), np.linalg.norm(y)
    rho = x @ y / (s1 * s2)
    values = [torch.tensor([v], dtype=torch.float64) for v in (rho, 1 - abs(rho), s1, s2)]
    kappa = float(evaluate(nn.Rbf(0.7), *values).kappa)
    assert kappa == pytest.approx(np.exp(-0.7 * np.sum((x - y) ** 2)), rel=1e-14)


def test_exp_normalized_keeps_variances_by_default() -> None:
    rho, gap = correlations()
    s = torch.full_like(rho, 3.0)
    m = evaluate(nn.ExpNormalized(), rho, gap, s, s)
    assert float(m.kappa[0]) == pytest.approx(9.0, rel=1e-15)
    with pytest.raises(NetworkError, match="map of kernels"):
        nn.ExpNormalized().phi(None, s)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Rbf(-1.0), "gamma must be a finite number >= 0"),
        (lambda: nn.ExpNormalized(gamma=-1.0), "gamma must be a finite number >= 0"),
        (lambda: nn.Gaussian(b=0.1), "b must be <= 0"),
        (lambda: nn.Gaussian(a=0.0), "a must not be 0"),
        (lambda: nn.Exp(a=0.0), "a must not be 0"),
    ],
)
def test_refused_parameters(make: object, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        make()  # type: ignore[operator]
