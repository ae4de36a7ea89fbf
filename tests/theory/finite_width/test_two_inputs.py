"""Coefficients of 1/width of two inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.one_input import coefficients
from kernreg.theory.finite_width.two_inputs import two_inputs

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


def test_kernels_are_those_of_the_engine() -> None:
    X = np.array([[0.3, -1.2, 0.5], [2.0, 0.1, 0.4]])
    K1 = 0.09 + 1.69 * X @ X.T / 3
    two = two_inputs(nn.Swish(), 0.09, 1.69, 0.09, 1.69, 2, K1=K1)
    net = nn.mlp(depth=2, activation=nn.Swish(), W_std=1.3, b_std=0.3)
    np.testing.assert_allclose(two.K[-1], gram(net, X, kernel="nngp"), rtol=1e-10)
    np.testing.assert_allclose(two.Theta[-1], gram(net, X, kernel="ntk"), rtol=1e-10)
    np.testing.assert_allclose(two.kernel(10)[-1], two.K[-1] + two.G1[-1] / 10)
    np.testing.assert_allclose(two.ntk(10)[-1], two.Theta[-1] + two.H1[-1] / 10)


def test_callable_and_widths() -> None:
    K1 = [[1.6, 0.55], [0.55, 1.0]]
    args = (0.1, 1.5, 0.1, 1.5, 3)
    two = two_inputs(torch.tanh, *args, K1=K1, widths=[10, 20, 15])
    named = two_inputs(nn.Tanh(), *args, K1=K1, widths=[20, 40, 30])
    np.testing.assert_allclose(two.H1, named.H1, rtol=1e-11)
    one = coefficients(nn.Tanh(), *args, K1=[1.6, 1.0], widths=[10, 20, 15])
    np.testing.assert_allclose(two.V[-1][0, 0, 0, 0], one.V[-1][0], rtol=1e-10)
    plain = two_inputs(nn.Tanh(), *args, K1=K1)
    assert abs(plain.V[-1][0, 1, 0, 1] / two.V[-1][0, 1, 0, 1] - 1) > 0.02


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
