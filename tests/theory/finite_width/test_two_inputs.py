"""Coefficients of 1/width of two inputs."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.one_input import coefficients
from kernreg.theory.finite_width.pair_averages import NodeSource, Pairs
from kernreg.theory.finite_width.pair_rules import pair_rule
from kernreg.theory.finite_width.plain import uniform
from kernreg.theory.finite_width.two_inputs import (
    PairState,
    TwoInputs,
    first_state,
    next_state,
    two_inputs,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())["two_input_V"]
# Error of the golden file: it used 60 nodes of Gauss and Hermite in each coordinate, and the
# variance of the first layer is 1.6.
GOLDEN_ERROR = {2: 2e-5, 3: 3e-6, 5: 1e-7}


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda e: str(e["layer"]))
def test_golden(entry: dict[str, Any]) -> None:
    K1 = entry["C_b"] + entry["C_W"] * np.array(entry["gram_over_n0"])
    args = (nn.Tanh(), entry["C_b"], entry["C_W"], 0.0, 1.0)
    two = two_inputs(*args, entry["layer"] - 1, K1=K1)
    atol = GOLDEN_ERROR[entry["layer"]]
    np.testing.assert_allclose(two.K[-1], entry["K"], rtol=0, atol=atol)
    np.testing.assert_allclose(two.V[-1], entry["V_abcd"], rtol=0, atol=atol)


def test_golden_with_its_own_rule() -> None:
    """The first layer of the golden file to its last digits, from the rule that made it."""
    entry = GOLDEN[0]
    K1 = entry["C_b"] + entry["C_W"] * np.array(entry["gram_over_n0"])
    x, w = np.polynomial.hermite_e.hermegauss(60)
    w = np.outer(w, w) / w.sum() ** 2
    L = np.linalg.cholesky(K1)
    a, b = np.tanh(L[0, 0] * x[:, None]), np.tanh(L[1, 0] * x[:, None] + L[1, 1] * x)
    spread = (w * a**4).sum() - (w * a**2).sum() ** 2
    mixed = (w * a**2 * b**2).sum() - (w * a * b).sum() ** 2
    V = np.array(entry["V_abcd"])
    assert entry["C_W"] ** 2 * spread == pytest.approx(V[0, 0, 0, 0], rel=1e-12)
    assert entry["C_W"] ** 2 * mixed == pytest.approx(V[0, 1, 0, 1], rel=1e-12)


@pytest.mark.parametrize(
    "sigma", [nn.Tanh(), nn.Relu(), nn.Elu(), nn.Gelu(), nn.LeakyRelu(0.3)], ids=repr
)
def test_one_input_twice(sigma: nn.Nonlinearity) -> None:
    """Every entry is that of one input; the recursions share no formula."""
    args = (sigma, 0.1, 1.4, 0.2, 1.1, 3)
    two = two_inputs(*args, K1=np.full((2, 2), 1.3))
    one = coefficients(*args, K1=1.3)
    for name in ("K", "Theta", "G1", "H1", "V", "D", "F"):
        value = getattr(one, name)
        whole = np.broadcast_to(
            value.reshape(-1, *(1,) * (getattr(two, name).ndim - 1)), getattr(two, name).shape
        )
        np.testing.assert_allclose(getattr(two, name), whole, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("sigma", [nn.Relu(), nn.Abs(), nn.Selu(), nn.Tanh()], ids=repr)
def test_nearly_equal_inputs(sigma: nn.Nonlinearity) -> None:
    """Corrections go to those of equal inputs like sqrt(gap), or faster, without noise."""
    args = (sigma, 0.1, 1.4, 0.2, 1.1, 3)
    H, G = [], []
    for gap in (1e-12, 1e-10, 1e-8):
        two = two_inputs(*args, K1=1.3 * np.array([[1.0, 1 - gap], [1 - gap, 1.0]]))
        H.append(abs(two.H1[-1][0, 1] - two.H1[-1][0, 0]) / np.sqrt(gap))
        G.append(abs(two.G1[-1][0, 1] - two.G1[-1][0, 0]) / np.sqrt(gap))
    assert max(G) < 1e-3
    # For kinks a common constant, of size 10 for abs; the inputs give gap to 1e-4 at 1e-12.
    assert max(H) - min(H) < 2e-3 * max(H) + 1e-3
    assert max(H) < 20


@settings(deadline=None, max_examples=8)
@given(rho=st.floats(-1, 1), ratio=st.floats(0.3, 3))
def test_symmetries(rho: float, ratio: float) -> None:
    """V is symmetric, positive semidefinite as a covariance, and knows no order of inputs."""
    off = rho * np.sqrt(ratio)
    args = (nn.Erf(), 0.0, 1.5, 0.0, 1.5, 2)
    two = two_inputs(*args, K1=[[1.0, off], [off, ratio]])
    V = two.V[-1]
    np.testing.assert_array_equal(V, V.transpose(1, 0, 2, 3))
    np.testing.assert_allclose(V, V.transpose(2, 3, 0, 1), rtol=1e-12, atol=1e-14)
    matrix = V.reshape(4, 4)
    assert np.linalg.eigvalsh(matrix)[0] > -1e-12 * np.trace(matrix)
    swapped = two_inputs(*args, K1=[[ratio, off], [off, 1.0]])
    for name in ("K", "Theta", "G1", "H1", "D", "F"):
        # F also changes its two neurons.
        flipped = getattr(swapped, name)[:, ::-1, ::-1].transpose(0, 2, 1)
        np.testing.assert_allclose(getattr(two, name), flipped, rtol=1e-9, atol=1e-11)
    # An odd function: turning one input round turns the signs.
    turned = two_inputs(*args, K1=[[1.0, -off], [-off, ratio]])
    np.testing.assert_allclose(turned.G1[-1][0, 1], -two.G1[-1][0, 1], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(turned.H1[-1][0, 1], -two.H1[-1][0, 1], rtol=1e-9, atol=1e-11)


# Positive and negative correlations, equal and unequal variances; C_b = 0.3 fits all of them.
COVARIANCES = {
    "near": [[1.6, 1.1], [1.1, 0.9]],
    "opposite": [[0.7, -0.2], [-0.2, 1.9]],
    "turned away": [[1.2, -0.55], [-0.55, 1.2]],
    "orthogonal": [[0.8, 0.0], [0.0, 1.4]],
}


@pytest.mark.parametrize("K1", COVARIANCES.values(), ids=COVARIANCES)
@pytest.mark.parametrize("widths", [None, [10, 25, 15]], ids=["equal", "unequal"])
def test_by_derivatives_of_averages(K1: list[list[float]], widths: list[int] | None) -> None:
    """Every coefficient from derivatives of plain averages in the covariance itself.

    A shifted sine is entire, so that the averages below are exact to rounding; it is neither odd
    nor even.
    """
    numbers = (0.3, 1.4, 0.2, 1.1, 3)
    two = two_inputs(nn.Sin(1.0, 1.2, 0.4), *numbers, K1=K1, widths=widths)
    layers = by_derivatives(*numbers, K1, widths)
    for field in fields(two):
        want = np.array([getattr(layer, field.name) for layer in layers])
        np.testing.assert_allclose(
            getattr(two, field.name), want, rtol=1e-9, atol=1e-10, err_msg=field.name
        )


def by_derivatives(
    C_b: float, C_W: float, l_b: float, l_W: float, depth: int, K1: Any, widths: Any
) -> list[TwoInputs]:
    """The recursion in the coordinates ``y = (K_11, K_12, K_22)``, by automatic derivatives.

    The NTKs of the inputs 11, 12 and 22 come one after another in the first axis of D and F.
    """
    x, w = (torch.from_numpy(v) for v in np.polynomial.hermite_e.hermegauss(48))
    w = torch.outer(w, w) / w.sum() ** 2
    both, pairs = (0, 1), [(0, 0), (0, 1), (1, 1)]

    def mean(value: Tensor) -> Tensor:
        return (w * value).sum((-2, -1))

    def shifted(y: Tensor) -> list[Tensor]:
        """``1.2 z + 0.4`` at the nodes, for both inputs."""
        a = y[0].sqrt() * x[:, None] + 0.0 * x
        b = y[1] / y[0].sqrt() * x[:, None] + (y[2] - y[1] ** 2 / y[0]).sqrt() * x
        return [1.2 * a + 0.4, 1.2 * b + 0.4]

    def products(v: list[Tensor]) -> Tensor:
        return torch.stack([v[m] * v[n] for m, n in pairs])

    def sizes(y: Tensor) -> Tensor:
        return mean(products([z.sin() for z in shifted(y)]))

    def slopes(y: Tensor) -> Tensor:
        return mean(products([1.2 * z.cos() for z in shifted(y)]))

    def layer() -> TwoInputs:
        index = np.array([[0, 1], [1, 2]])
        K, Theta, G1, H = (v.numpy()[index] for v in (y, T, G, H1))
        four = V.numpy()[index[:, :, None, None], index[None, None]]
        return TwoInputs(K, Theta, G1, H, four, D[1].numpy()[index], F[1].numpy())

    jacobian, hessian = torch.autograd.functional.jacobian, torch.autograd.functional.hessian
    y = torch.tensor([K1[0][0], K1[0][1], K1[1][1]], dtype=torch.float64)
    T = l_b + l_W / C_W * (y - C_b)
    G, H1, V, D, F = (y.new_zeros(shape) for shape in (3, 3, (3, 3), (3, 3), (3, 2, 2)))
    layers = [layer()]
    for r in [1.0] * depth if widths is None else [1.0, *np.divide(widths[1:], widths[:-1])]:
        z = shifted(y)
        s, d, dd = [v.sin() for v in z], [1.2 * v.cos() for v in z], [-1.44 * v.sin() for v in z]
        S, P = products(s), products(d)
        J, p, dp = C_W * jacobian(sizes, y), slopes(y), jacobian(slopes, y)
        bent = [hessian(lambda u, m=m: sizes(u)[m], y) for m in range(3)]
        new_V = C_W**2 * (mean(S[:, None] * S) - mean(S)[:, None] * mean(S)) + r * J @ V @ J.T
        new_G = r * (J @ G + 0.5 * C_W * torch.stack([(b * V).sum() for b in bent]))
        new_D, new_F, new_H = torch.zeros_like(D), torch.zeros_like(F), torch.zeros_like(H1)
        for t, (m, n) in enumerate(pairs):
            mixed = mean(S * P[t]) - mean(S) * p[t]
            new_D[t] = l_W / C_W * new_V[t] + C_W**2 * T[t] * mixed
            new_D[t] += r * C_W * (T[t] * J @ V @ dp[t] + p[t] * J @ D[t])
            # Means of d_c (sigma(z_a) sigma'(z_k)): how a neuron goes on with the NTK of two.
            left, right = (
                y.new_tensor(
                    [
                        [mean((a == c) * d[a] * d[k] + (k == c) * s[a] * dd[k]) for c in both]
                        for a in both
                    ]
                )
                for k in (m, n)
            )
            fresh = y.new_tensor([[mean(s[a] * s[b] * P[t]) for b in both] for a in both])
            new_F[t] = C_W**2 * (T[t] * fresh + r * left @ F[t] @ right.T)
            # Of z_a z_b with the NTK of the same neuron: F has two ways to pair them.
            same = D[t] + torch.stack([2 * F[t, 0, 0], F[t, 0, 1] + F[t, 1, 0], 2 * F[t, 1, 1]])
            curved = hessian(lambda u, t=t: slopes(u)[t], y)
            drift = T[t] * (dp[t] @ G + 0.5 * (curved * V).sum()) + dp[t] @ same + p[t] * H1[t]
            new_H[t] = l_W / C_W * new_G[t] + r * C_W * drift
        T = l_b + l_W * mean(S) + C_W * p * T
        y, V, G, D, F, H1 = C_b + C_W * mean(S), new_V, new_G, new_D, new_F, new_H
        layers.append(layer())
    return layers


def test_one_rule_is_fine_enough_for_both_inputs() -> None:
    """Variances that differ a hundredfold: what belongs to one input is as if it were alone."""
    args = (nn.Tanh(), 0.1, 1.5, 0.1, 1.5, 2)
    for K1 in ([[20.0, 0.5], [0.5, 0.2]], [[0.2, 0.5], [0.5, 20.0]]):
        two = two_inputs(*args, K1=K1)
        for i in range(2):
            one = coefficients(*args, K1=K1[i][i])
            np.testing.assert_allclose(two.V[:, i, i, i, i], one.V, rtol=1e-8)
            np.testing.assert_allclose(two.K[:, i, i], one.K, rtol=1e-12)


@pytest.mark.parametrize(
    "X",
    [
        [[0.3, -1.2, 0.5], [2.0, 0.1, 0.4]],
        [[0.3, -1.2, 0.5], [-0.9, 1.4, -0.1]],
        [[3.0, -1.2, 0.5], [-0.3, 0.14, -0.1]],
        [[1.0, -2.0, 0.5], [-1.0, 2.0, -0.5]],
    ],
    ids=["at an angle", "turned away", "long and short", "opposite"],
)
@pytest.mark.parametrize("sigma", [nn.Swish(), nn.Erf(), nn.LeakyRelu(0.2)], ids=repr)
def test_kernels_are_those_of_the_engine(X: list[list[float]], sigma: nn.Nonlinearity) -> None:
    rows = np.array(X)
    K1 = 0.09 + 1.69 * rows @ rows.T / 3
    two = two_inputs(sigma, 0.09, 1.69, 0.09, 1.69, 2, K1=K1)
    for depth in range(3):
        net = nn.mlp(depth=depth, activation=sigma, W_std=1.3, b_std=0.3)
        np.testing.assert_allclose(two.K[depth], gram(net, rows, kernel="nngp"), rtol=1e-10)
        np.testing.assert_allclose(two.Theta[depth], gram(net, rows, kernel="ntk"), rtol=1e-10)
    np.testing.assert_allclose(two.kernel(10)[-1], two.K[-1] + two.G1[-1] / 10)
    np.testing.assert_allclose(two.ntk(10)[-1], two.Theta[-1] + two.H1[-1] / 10)


def test_callable_and_widths() -> None:
    """Only ratios of widths count, and they do for every coefficient."""
    K1 = [[1.6, 0.55], [0.55, 1.0]]
    args = (0.1, 1.5, 0.1, 1.5, 3)
    two = two_inputs(torch.tanh, *args, K1=K1, widths=[10, 20, 15])
    named = two_inputs(nn.Tanh(), *args, K1=K1, widths=[20, 40, 30])
    for field in fields(two):
        got, want = getattr(two, field.name), getattr(named, field.name)
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-13, err_msg=field.name)
    one = coefficients(nn.Tanh(), *args, K1=[1.6, 1.0], widths=[10, 20, 15])
    np.testing.assert_allclose(two.V[-1][0, 0, 0, 0], one.V[-1][0], rtol=1e-10)
    for name in ("G1", "H1"):
        for i in range(2):
            got, want = getattr(two, name)[:, i, i], getattr(one, name)[:, i]
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(
    ("K1", "message"),
    [
        (1.0, r"shape \(2, 2\)"),
        ([[1.0, 0.5], [0.4, 1.0]], "symmetric"),
        ([[1.0, 1.2], [1.2, 1.0]], "semidefinite"),
        ([[1.0, 0.0], [0.0, 1.0]], "semidefinite"),
        ([[1.0, np.nan], [np.nan, 1.0]], "finite"),
        ([[1.0, 0.0], [0.0, 0.0]], "K1"),
    ],
)
def test_refusals(K1: Any, message: str) -> None:
    """The fourth one has C_b = 1 on the diagonal only, which no inputs give."""
    with pytest.raises(InvalidInputError, match=message):
        two_inputs(nn.Tanh(), 1.0, 1.5, 0.1, 1.5, 2, K1=K1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 8.0])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_rounding_of_a_covariance_is_accepted(scale: float, sign: float) -> None:
    """One part in 1e12 of the product of the standard deviations, as products of inputs have it."""
    args = (nn.Erf(), 0.0, 1.5, 0.0, 1.5, 1)
    a, c = 0.5 * scale, 3.0 * scale
    product = np.sqrt(a * c)

    def result(upper: float, lower: float) -> TwoInputs:
        return two_inputs(*args, K1=[[a, upper], [lower, c]])

    # Parallel inputs; beyond 1, their correlation is 1.
    b = sign * product
    found, exact = result(b * (1 + 2e-13), b * (1 + 2e-13)), result(b, b)
    for field in fields(found):
        got, want = getattr(found, field.name), getattr(exact, field.name)
        # The gap is 0 or one rounding, whose root is 1e-8.
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-12, err_msg=field.name)
    with pytest.raises(InvalidInputError, match="semidefinite"):
        result(b * (1 + 2e-12), b * (1 + 2e-12))
    skew = 0.1 * b
    assert np.isfinite(result(skew, skew + 5e-13 * product).H1).all()
    assert np.isfinite(result(skew + 5e-13 * product, skew).H1).all()
    with pytest.raises(InvalidInputError, match="symmetric"):
        result(skew, skew + 3e-12 * product)


def test_pairs_know_nothing_of_each_other() -> None:
    """Through two layers, all at once and one by one."""
    net = uniform(nn.Sin(1.0, 1.2, 0.4), 0.1, 1.5, 0.2, 1.4, 2)
    rho = torch.tensor([0.3, -0.6, 0.9], dtype=torch.float64)
    size = torch.tensor([1.0, 1.3, 0.8], dtype=torch.float64)
    fn, affine = net.hidden[0]
    source = NodeSource(fn, pair_rule(fn, 1.6, 1e-11, tangent=True))

    def through(rho: Tensor, size: Tensor) -> PairState:
        state = first_state(net, Pairs(rho, 1.0 - rho.abs(), size, 1.2 * size), tangent=True)
        for ratio in (1.0, 1.5):
            state = next_state(state, source, affine, 1.1 * size, 0.9 * size, ratio)
        return state

    found = through(rho, size)
    for i in range(3):
        one = through(rho[i : i + 1], size[i : i + 1])
        for name in ("V", "G", "Theta", "H1", "D", "F"):
            got, want = getattr(found, name)[i], getattr(one, name)[0]
            torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-12)
        torch.testing.assert_close(found.to_covariance()[i], one.to_covariance()[0])
        torch.testing.assert_close(found.off_diagonal()[i], one.off_diagonal()[0])


def test_without_the_tangent_kernel() -> None:
    """The rest is the same, and what belongs to the NTK stays 0."""
    net = uniform(nn.Tanh(), 0.1, 1.5, 0.2, 1.4, 1)
    rho = torch.tensor([0.3, -0.6, 0.9], dtype=torch.float64)
    s1, s2 = torch.ones_like(rho), 1.2 * torch.ones_like(rho)
    fn, affine = net.hidden[0]
    source = NodeSource(fn, pair_rule(fn, 1.2, 1e-11, tangent=True))
    plain, whole = (
        next_state(
            first_state(net, Pairs(rho, 1.0 - rho.abs(), s1, s2), tangent=tangent),
            source, affine, 1.1 * s1, 1.2 * s1, 1.0,
        )
        for tangent in (False, True)
    )  # fmt: skip
    for name in ("V", "G"):
        torch.testing.assert_close(getattr(plain, name), getattr(whole, name), rtol=0, atol=0)
    for name in ("Theta", "H1", "D", "F"):
        value = getattr(plain, name)
        assert value.shape == getattr(whole, name).shape
        assert not value.any()
    assert not plain.tangent
    assert whole.Theta.all()
