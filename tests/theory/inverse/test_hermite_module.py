"""The torch modules: values in 50 digits, derivatives of every kind, scales of the network."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest
import torch
from torch.func import functional_call, jacrev, vmap

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.numerics.torchmath import TorchMath
from kernreg.theory.inverse.hermite_module import HermiteActivation, ShallowNetwork

SMALL = (0.3, 1.0, -0.5, 0.0, 0.1)


def coefficients(degree: int) -> list[float]:
    return [(1 if k % 4 < 2 else -1) / (1 + k) ** 0.75 for k in range(degree + 1)]


def exact(coef: list[float], x: float) -> float:
    """The series in 50 digits."""
    with mpmath.workdps(50):
        before, now, total = mpmath.mpf(0), mpmath.mpf(1), mpmath.mpf(coef[0])
        for k, c in enumerate(coef[1:]):
            step = (x * now - mpmath.sqrt(k) * before) / mpmath.sqrt(k + 1)
            before, now = now, step
            total += c * now
        return float(total)


@pytest.mark.parametrize("degree", [0, 1, 12, 40, 100, 200])
def test_recurrence_is_stable(degree: int) -> None:
    coef = coefficients(degree)
    module = HermiteActivation(coef)
    x = torch.linspace(-6, 6, 13, dtype=torch.float64)
    expected = torch.tensor([exact(coef, float(v)) for v in x], dtype=torch.float64)
    # An error of one step, of rounding, is amplified like the polynomials themselves, which reach
    # 100 here where sums of both signs are of order 1.
    for dtype in (torch.float64, torch.float32):
        found = module(x.to(dtype))
        assert found.dtype == dtype
        error = (found.double() - expected).abs() / (1.0 + expected.abs())
        assert float(error.max()) <= 1000 * torch.finfo(dtype).eps


def test_it_is_the_nonlinearity_of_kernreg() -> None:
    x = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    fn = nn.Hermite(SMALL)
    same = nn.Elementwise(HermiteActivation(SMALL))
    torch.testing.assert_close(same.phi(TorchMath, x), fn.phi(TorchMath, x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("coef", [SMALL, (0.7,), (0.0, 2.0)])
def test_derivatives(coef: tuple[float, ...]) -> None:
    module = HermiteActivation(coef)
    x = torch.linspace(-2, 2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(module, x)


def test_one_tensor_is_kept_for_gradients() -> None:
    """Not one for every step of the recurrence."""
    kept = []
    x = torch.ones(10, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        HermiteActivation(coefficients(30))(x)
    assert len(kept) == 1


def test_jacobians_of_a_batch_give_the_tangent_kernel() -> None:
    """Entries are means over the units, whose terms deviate by a few times K(1)."""
    first, second = (0.8, 0.6), (1.3, 0.4)
    module = ShallowNetwork(
        HermiteActivation(SMALL), 4, 2**13, 2, first=first, second=second, seed=3
    ).double()
    X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    X = 2.0 * X / X.norm(dim=1, keepdim=True)
    parameters = dict(module.named_parameters())

    def output(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return functional_call(module, p, (x[None],))[0]

    jacobians = vmap(jacrev(output), (None, 0))(parameters, X)
    flat = torch.cat([j.flatten(2) for j in jacobians.values()], dim=2)
    empirical = torch.einsum("iap,jbp->abij", flat, flat).detach().numpy()
    net = nn.serial(nn.Dense(*first), nn.Hermite(SMALL), nn.Dense(*second))
    K = kernreg.gram(net, X.numpy(), backend="reference")
    scale = np.sqrt(np.outer(np.diag(K), np.diag(K)))
    for a in range(2):
        for b in range(2):
            error = np.abs(empirical[a, b] - (K if a == b else 0.0)) / scale
            assert error.max() <= 10 / math.sqrt(2**13)


def test_network_is_its_formula() -> None:
    module = ShallowNetwork(torch.nn.Tanh(), 3, 5, first=(1.5, 0.5), second=(0.7, 0.2), seed=1)
    x = torch.ones(2, 3)
    hidden = torch.tanh(1.5 / 3**0.5 * x @ module.hidden.T + 0.5 * module.hidden_bias)
    expected = 0.7 / 5**0.5 * hidden @ module.output.T + 0.2 * module.output_bias
    torch.testing.assert_close(module(x), expected)
    again = ShallowNetwork(torch.nn.Tanh(), 3, 5, first=(1.5, 0.5), second=(0.7, 0.2), seed=1)
    pairs = zip(module.parameters(), again.parameters(), strict=True)
    assert all(torch.equal(p, q) for p, q in pairs)
    plain = ShallowNetwork(torch.nn.Tanh(), 3, 5)
    assert [name for name, _ in plain.named_parameters()] == ["hidden", "output"]


@pytest.mark.parametrize("sizes", [(0, 4, 1), (3, -1, 1), (3, 4, True), (3, 4.0, 1)])
def test_sizes_that_are_refused(sizes: tuple) -> None:
    with pytest.raises(InvalidInputError, match="must be a positive integer"):
        ShallowNetwork(torch.nn.ReLU(), *sizes)


def test_printed() -> None:
    assert repr(HermiteActivation(SMALL)) == "HermiteActivation(degree=4)"
