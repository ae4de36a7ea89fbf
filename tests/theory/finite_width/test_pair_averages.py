"""Averages over pairs and their derivatives, against closed forms and finite differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.numerics.quadrature import pair_moments
from kernreg.theory.averages import line
from kernreg.theory.finite_width.pair_averages import NodeSource, PairAverages, Pairs, pair_averages
from kernreg.theory.finite_width.pair_rules import count, derivatives, pair_rule

S1, S2 = 0.8, 1.3


def averages(fn: nn.Nonlinearity, rho: float, *, after: float = 0.2) -> PairAverages:
    """With unit scales and a correlation ``after`` in w."""
    one = torch.ones(1, dtype=torch.float64)
    pairs = Pairs(rho * one, (1 - abs(rho)) * one, S1 * one, S2 * one)
    rule = pair_rule(fn, S2, 1e-12, tangent=True)
    then = Pairs(after * one, (1 - abs(after)) * one, one, one)
    return pair_averages(NodeSource(fn, rule), pairs, one, one, then, tangent=True)


def relu_dual(y: Tensor) -> tuple[Tensor, Tensor]:
    n, cos = torch.sqrt(y[0] * y[2]), y[1] / torch.sqrt(y[0] * y[2])
    theta = torch.acos(cos)
    kappa = n * (torch.sin(theta) + (math.pi - theta) * cos) / (2 * math.pi)
    return kappa, (math.pi - theta) / (2 * math.pi)


def erf_dual(y: Tensor) -> tuple[Tensor, Tensor]:
    P = (1 + 2 * y[0]) * (1 + 2 * y[2])
    kappa = 2 / math.pi * torch.asin(2 * y[1] / torch.sqrt(P))
    return kappa, 4 / math.pi / torch.sqrt(P - 4 * y[1] ** 2)


def coordinates(rho: float) -> tuple[Tensor, Tensor]:
    """The covariance (K_11, K_12, K_22), and its changes with the three coordinates."""
    k = rho * S1 * S2
    change = [[S1**2, 0.0, 0.0], [k / 2, S1 * S2, k / 2], [0.0, 0.0, S2**2]]
    y = torch.tensor([S1**2, k, S2**2], dtype=torch.float64)
    return y, torch.tensor(change, dtype=torch.float64)


@pytest.mark.parametrize("rho", [-0.9, 0.0, 0.3, 0.95])
@pytest.mark.parametrize(("fn", "dual"), [(nn.Relu(), relu_dual), (nn.Erf(), erf_dual)])
def test_derivatives_of_closed_forms(fn: nn.Nonlinearity, dual: object, rho: float) -> None:
    """First and second derivatives of both moments, by autograd of their closed forms."""
    y, T = coordinates(rho)
    m = averages(fn, rho, after=0.0)
    t = m.tangent
    assert t is not None
    parts = [
        (m.jacobian[0, 1], m.hessian[0, 1], 1.0),
        (t.gradient[0], t.hessian[0], 1.0 / (S1 * S2)),
    ]
    for i, (gradient, hessian, unit) in enumerate(parts):
        f = lambda v, i=i: dual(v)[i]  # type: ignore[operator] # noqa: E731
        g = T.T @ torch.autograd.functional.jacobian(f, y)
        h = T.T @ torch.autograd.functional.hessian(f, y) @ T
        # Near rho = 1 the second derivative of kappa_dot is of size gap^(-3/2) = 100.
        torch.testing.assert_close(unit * gradient, g, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(unit * hessian, h, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rho", [-0.4, 0.7])
@pytest.mark.parametrize("fn", [nn.Elu(), nn.Selu(), nn.Tanh(), nn.RectifiedMonomial(2)], ids=repr)
def test_derivatives_by_differences(fn: nn.Nonlinearity, rho: float) -> None:
    """Central differences of the engine's moments: 1e-8 of truncation, 1e-13/step^2 of rounding."""
    _, T = coordinates(rho)
    m = averages(fn, rho, after=0.0)
    t = m.tangent
    assert t is not None
    step = 3e-3
    moves = step * T.T.numpy()
    y = np.array([S1**2, rho * S1 * S2, S2**2])

    def moments(z: np.ndarray) -> np.ndarray:
        s1, s2 = np.sqrt(z[0]), np.sqrt(z[2])
        r = z[1] / (s1 * s2)
        found = pair_moments(fn, r, 1 - abs(r), s1, s2)
        return np.array([float(found.kappa), float(found.kappa_dot)])

    at = {k: moments(y + k[0] * moves[k[2]] + k[1] * moves[k[3]]) for k in _points()}
    for i, (gradient, hessian, unit) in enumerate(
        [(m.jacobian[0, 1], m.hessian[0, 1], 1.0), (t.gradient[0], t.hessian[0], 1 / (S1 * S2))]
    ):
        for a in range(3):
            slope = (at[1, 0, a, a][i] - at[-1, 0, a, a][i]) / (2 * step)
            assert unit * float(gradient[a]) == pytest.approx(slope, rel=1e-3, abs=1e-4)
            for b in range(3):
                corners = [s * u * at[s, u, a, b][i] for s in (1, -1) for u in (1, -1)]
                bend = sum(corners) / (4 * step**2)
                assert unit * float(hessian[a, b]) == pytest.approx(bend, rel=2e-3, abs=2e-4)


def _points() -> list[tuple[int, int, int, int]]:
    signs = [(s, u) for s in (1, -1) for u in (1, -1)] + [(1, 0), (-1, 0)]
    return [(*s, a, b) for s in signs for a in range(3) for b in range(3)]


@pytest.mark.parametrize("fn", [nn.Relu(), nn.Tanh(), nn.Elu()], ids=repr)
def test_covariance_of_independent_inputs(fn: nn.Nonlinearity) -> None:
    """At rho = 0 the averages are products of those of one variable."""
    m = averages(fn, 0.0, after=0.2)
    f, g = (
        [nodes.mean(nodes.value**p) for p in range(5)]
        for nodes in (line(fn, S1**2), line(fn, S2**2))
    )
    r = 0.2
    spread1, spread2 = f[4] - f[2] ** 2, g[4] - g[2] ** 2
    mixed1 = f[3] * g[1] - f[2] * f[1] * g[1] - r / 2 * spread1
    mixed2 = g[3] * f[1] - g[2] * g[1] * f[1] - r / 2 * spread2
    both = f[2] * g[2] - (f[1] * g[1]) ** 2
    cross = (f[3] - f[2] * f[1]) * g[1] + (g[3] - g[2] * g[1]) * f[1]
    own = both - r * cross + r * r / 4 * (spread1 + spread2)
    expected = [[spread1, mixed1, 0.0], [mixed1, own, mixed2], [0.0, mixed2, spread2]]
    np.testing.assert_allclose(m.covariance[0], expected, rtol=1e-10, atol=1e-12)
    t = m.tangent
    assert t is not None
    slopes = [nodes.mean(nodes.slope) for nodes in (line(fn, S1**2), line(fn, S2**2))]
    squares = [
        nodes.mean(nodes.value**2 * nodes.slope) for nodes in (line(fn, S1**2), line(fn, S2**2))
    ]
    np.testing.assert_allclose(
        t.products[0, [0, 2]],
        [S1 * S2 * squares[0] * slopes[1], S1 * S2 * slopes[0] * squares[1]],
        rtol=1e-10,
    )


def test_near_and_far() -> None:
    """Half the squared distances; nothing is lost for nearly parallel inputs."""
    gap = torch.tensor([1e-12, 0.5], dtype=torch.float64)
    one = torch.ones_like(gap)
    pairs = Pairs(1 - gap, gap, one, one)
    rule = pair_rule(nn.Relu(), 1.0, 1e-10, tangent=False)
    near, far = NodeSource(nn.Relu(), rule).distances(pairs, 2**0.5 * one, 2**0.5 * one)
    # 1 - kappa of ReLU is gap to first order, and less by 4 sqrt(2) / (3 pi) gap^(3/2).
    assert float(near[0]) == pytest.approx(1e-12, rel=1e-5)
    torch.testing.assert_close(near + far, 2 * one, rtol=1e-9, atol=0)


@pytest.mark.parametrize("fn", [nn.Relu(), nn.Elu(), nn.Abs()], ids=repr)
def test_kinks_are_continuous_at_equal_inputs(fn: nn.Nonlinearity) -> None:
    """Finite averages of a pair at gap 1e-10 are those of equal inputs to sqrt(gap) = 1e-5."""
    near, at = averages(fn, 1 - 1e-10, after=0.5), averages(fn, 1.0, after=0.5)
    for name in ("overlap", "covariance", "jacobian", "slopes", "crossed"):
        torch.testing.assert_close(getattr(near, name), getattr(at, name), rtol=1e-4, atol=1e-4)


def test_derivatives_of_a_callable() -> None:
    z = torch.linspace(-2, 2, 9, dtype=torch.float64)
    f = derivatives(nn.Elementwise(torch.sin), z, 3)
    for got, want in zip(f, (z.sin(), z.cos(), -z.sin(), -z.cos()), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-14, atol=1e-15)
    flat = derivatives(nn.Relu(), z, 3)
    assert not bool(torch.stack(flat[2:]).any())


@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Elu(), nn.Relu(), nn.Gelu()], ids=repr)
def test_rules(fn: nn.Nonlinearity) -> None:
    """A rule is as good as it says, and a better one has more nodes."""
    one = torch.ones(3, dtype=torch.float64)
    rho = torch.tensor([-0.5, 0.2, 0.99], dtype=torch.float64)
    exact = pair_moments(fn, rho, 1 - rho.abs(), S1 * one, S2 * one)
    sizes = []
    for tolerance in (1e-3, 1e-6, 1e-10):
        rule = pair_rule(fn, S2, tolerance, tangent=False)
        sizes.append(count(rule))
        found = torch.zeros(3, dtype=torch.float64)
        for x, y, weight, factor in rule(rho, 1 - rho.abs()):
            f, g = derivatives(fn, S1 * x, 1), derivatives(fn, S2 * y, 1)
            found += factor * ((f[1] * g[1]) @ weight)
        assert float((found - exact.kappa_dot).abs().max()) <= tolerance
    assert sizes == sorted(sizes)


def test_functions_with_one_derivative_only() -> None:
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * ctx.saved_tensors[0].cos()

    for tangent in (False, True):
        with pytest.raises(InvalidInputError, match="derivative 2 is not"):
            pair_rule(nn.Elementwise(Once.apply), 1.0, 1e-4, tangent=tangent)
    with pytest.raises(InvalidInputError, match="derivative 3 is not"):
        pair_rule(nn.Elementwise(_Cut.apply), 1.0, 1e-4, tangent=True)


class _Cut(torch.autograd.Function):
    """exp(-x^2/4) whose second derivative looks constant to autograd."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(-(x**2) / 4)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad * _CutSlope.apply(*ctx.saved_tensors)


class _CutSlope(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return -x / 2 * torch.exp(-(x**2) / 4)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * ((x**2 / 4 - 0.5) * torch.exp(-(x**2) / 4)).detach()


def test_jumps_are_refused() -> None:
    with pytest.raises(InvalidInputError):
        pair_rule(nn.Sign(), 1.0, 1e-4, tangent=False)


def test_no_rule() -> None:
    with pytest.raises(InvalidInputError, match="averaged over pairs"):
        pair_rule(nn.Exp(), 2.0, 1e-11, tangent=False)
