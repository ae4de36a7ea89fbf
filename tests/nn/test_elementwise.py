"""Nonlinearities without a closed form, and any Python function."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.numerics.torchmath import TorchMath
from tests.contracts.nonlinearity import NumpyMath, gaussian_average
from tests.nn.kernels import KERNELS, rows


def hinge(x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > 0, x, 0.0)


def kernels(fn: nn.Nonlinearity, W_std: float = 1.3) -> list[np.ndarray]:
    net = nn.serial(nn.Dense(W_std, 0.2), fn, nn.Dense())
    return list(kernreg.gram(net, rows()[:3], kernel=KERNELS, backend="reference"))


@pytest.mark.parametrize(
    ("fn", "closed"),
    [
        (nn.Elementwise(torch.erf), nn.Erf()),
        (nn.Elementwise(lambda x: torch.exp(-x * x)), nn.Gaussian()),
        (nn.Elementwise(torch.sin), nn.Sin()),
        (nn.Elementwise(torch.abs, smooth=False), nn.Abs()),
        (nn.Elementwise(hinge, smooth=False), nn.Relu()),
        (nn.Elu(alpha=0.0), nn.Relu()),
    ],
)
@pytest.mark.parametrize("W_std", [0.1, 5.0])
def test_a_function_whose_dual_is_known(
    fn: nn.Nonlinearity, closed: nn.Nonlinearity, W_std: float
) -> None:
    """The quadrature is accepted at 1e-12 only; ten times that for both moments and a sum."""
    for got, want in zip(kernels(fn, W_std), kernels(closed, W_std), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-11 * np.abs(want).max())


@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Swish(), nn.Softplus(), nn.Elu(0.7), nn.Selu()])
@pytest.mark.parametrize(("s1", "s2", "rho"), [(1.0, 1.0, 0.5), (0.3, 3.0, -0.8)])
def test_against_other_quadrature(fn: nn.Nonlinearity, s1: float, s2: float, rho: float) -> None:
    """The rule of the contracts shares no code with the library, and is good to 1e-13."""

    def phi(x: np.ndarray) -> np.ndarray:
        return fn.phi(NumpyMath, x)

    x = np.array([[s1, 0.0], [s2 * rho, s2 * math.sqrt(1 - rho * rho)]]) * math.sqrt(2)
    net = nn.serial(nn.Dense(), fn)
    K = kernreg.gram(net, x, kernel="nngp", backend="reference")
    gap = 1 - abs(rho)
    assert K[0, 1] == pytest.approx(gaussian_average(phi, phi, rho, gap, s1, s2), rel=1e-11)
    assert K[1, 1] == pytest.approx(gaussian_average(phi, phi, 1.0, 0.0, s2, s2), rel=1e-12)


@pytest.mark.parametrize(
    ("fn", "value"),
    [
        (nn.Tanh(), math.tanh(-0.7)),
        (nn.Swish(), -0.7 / (1 + math.exp(0.7))),
        (nn.Softplus(), math.log1p(math.exp(-0.7))),
        (nn.Elu(0.5), 0.5 * math.expm1(-0.7)),
        (nn.Selu(), 1.0507009873554805 * 1.6732632423543772 * math.expm1(-0.7)),
    ],
)
def test_phi(fn: nn.Nonlinearity, value: float) -> None:
    x = torch.tensor([-0.7], dtype=torch.float64)
    assert float(fn.phi(TorchMath, x)) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("fn", "smooth", "message"),
    [
        (3, True, "fn must be a callable, found 3"),
        (lambda x: 1 / 0, True, "must map a torch tensor .* failed with: division by zero"),
        (lambda x: x.detach() * 2, True, "differentiable torch functions"),
        (lambda x: x.sum() * x[:2], True, r"of shape \(4,\).*found"),
        (lambda x: x.float(), True, "must return a float64 tensor"),
        (torch.log, True, "is not finite on"),
        (lambda x: torch.sign(x) + x, True, "jumps at 0"),
        (torch.abs, True, "has a kink at 0; pass smooth=False"),
    ],
)
def test_refused_functions(fn: object, smooth: bool, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        nn.Elementwise(fn, smooth)  # type: ignore[arg-type]


def softmax(x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(x, dim=-1)


def with_noise(x: torch.Tensor) -> torch.Tensor:
    return x + 0.1 * torch.randn_like(x)


@pytest.mark.parametrize(
    "fn",
    [
        softmax,
        with_noise,
        lambda x: torch.sort(x.reshape(-1)).values.reshape(x.shape),
        lambda x: x - x.mean(),
        lambda x: x / x.abs().amax(),
        lambda x: torch.cumsum(x, dim=-1),
        lambda x: torch.flip(x, (-1,)),
        lambda x: torch.nn.functional.dropout(x, 0.3),
        lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:]),
        lambda x: x + 0.0 * x if x.numel() > 4 else 2 * x,
        lambda x: x * torch.arange(1.0, 1.0 + x.shape[-1], dtype=x.dtype),
    ],
)
def test_functions_that_are_not_elementwise(fn: object) -> None:
    with pytest.raises(NetworkError, match=r"is not elementwise|derivative is not finite"):
        nn.Elementwise(fn)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fn",
    [
        torch.tanh,
        lambda x: torch.sqrt(2.0 - x * x),  # finite near 0 only, which others will tell
        lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
        lambda x: x * torch.sigmoid(1.702 * x),
        lambda x: torch.log1p(torch.exp(-(x**2))) / 7,
    ],
)
def test_functions_that_are_elementwise(fn: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert nn.Elementwise(fn).fn is fn


def test_a_function_that_cannot_be_integrated() -> None:
    """Better an error than wrong digits: nothing resolves hundreds of waves per deviation."""
    with pytest.raises(NetworkError, match="cannot be integrated"):
        kernels(nn.Elementwise(lambda x: torch.sin(3e3 * x)))
