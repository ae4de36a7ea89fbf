"""Coefficients of 1/width of one input: golden values, invariances, refusals."""

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

from kernreg import diag, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.one_input import coefficients, from_network

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())["finite_width"]
SIGMAS = {"relu": nn.Relu(), "tanh": nn.Tanh(), "gelu": nn.Gelu(), "erf": nn.Erf()}
NAMES = ("K", "Theta", "V", "G1", "A", "B", "D", "F", "H1")


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda e: f"{e['act']}-{e['layer']}")
def test_golden(entry: dict[str, Any]) -> None:
    """To 1e-11: the golden rule is good to 1e-13 and A of tanh is a difference of larger terms."""
    names = ("C_b", "C_W", "lambda_b", "lambda_W")
    K1 = entry["C_b"] + entry["C_W"] * entry["x2_over_n0"]
    depth = entry["layer"] - 1
    c = coefficients(SIGMAS[entry["act"]], *(entry[n] for n in names), depth, K1=K1)
    for name in NAMES:
        expected = entry["Th" if name == "Theta" else name]
        # G1 and H1 of ReLU are 0, and round-off in the golden file.
        atol = 1e-9 if name in ("G1", "H1") else 0.0
        np.testing.assert_allclose(getattr(c, name)[-1], expected, rtol=1e-11, atol=atol)


def test_networks() -> None:
    """A network is its layers with lambda = C, and its kernels are those of the engine."""
    net = nn.mlp(depth=3, activation=nn.Gelu(), W_std=1.4, b_std=0.3)
    x = np.array([[0.3, -1.2, 0.5], [2.0, 0.1, 0.4]])
    found = from_network(net, x)
    for i, row in enumerate(x):
        K1 = 0.09 + 1.96 * (row**2).mean()
        alone = coefficients(nn.Gelu(), 0.09, 1.96, 0.09, 1.96, 3, K1=K1)
        for name in NAMES:
            np.testing.assert_allclose(getattr(found, name)[:, i], getattr(alone, name), rtol=1e-11)
    np.testing.assert_allclose(found.K[-1], diag(net, x, "nngp"), rtol=1e-12)
    np.testing.assert_allclose(found.Theta[-1], diag(net, x, "ntk"), rtol=1e-12)
    np.testing.assert_allclose(found.kernel(50), found.K + found.G1 / 50)
    np.testing.assert_allclose(found.ntk(50), found.Theta + found.H1 / 50)


def test_several_nonlinearities() -> None:
    """Layers may differ: the last one only sees what the ones before hand on."""
    dense = nn.Dense(1.3, 0.2)
    mixed = from_network(nn.serial(dense, nn.Tanh(), dense, nn.Relu(), dense), [1.0])
    first = from_network(nn.serial(dense, nn.Tanh(), dense), [1.0])
    np.testing.assert_array_equal(mixed.V[:2], first.V)
    K, V = first.K[-1], first.V[-1]
    # ReLU: <s^4> - <s^2>^2 = 5/4 K^2 and chi_par = C_W / 2.
    assert mixed.V[-1] == pytest.approx(1.69**2 * (1.25 * K**2 + 0.25 * V), rel=1e-12)


@settings(deadline=None, max_examples=20)
@given(
    log_K=st.floats(-1, 1),
    scale=st.floats(0.2, 4),
    slope=st.floats(-0.9, 0.9),
    C_W=st.floats(0.3, 3),
)
def test_homogeneous(log_K: float, scale: float, slope: float, C_W: float) -> None:
    """Without biases a scale of the input comes out as its powers."""
    sigma, K1 = nn.LeakyRelu(slope), 10.0**log_K
    one = coefficients(sigma, 0.0, C_W, 0.0, 1.0, 2, K1=K1)
    two = coefficients(sigma, 0.0, C_W, 0.0, 1.0, 2, K1=scale * K1)
    for name in ("V", "A", "B", "D", "F"):
        expected = scale**2 * getattr(one, name)
        np.testing.assert_allclose(getattr(two, name), expected, rtol=1e-11)
    size = scale * one.Theta
    assert (abs(two.G1) <= 1e-11 * scale * one.K).all()
    assert (abs(two.H1) <= 1e-11 * size).all()


def test_units_of_the_tangent_kernel() -> None:
    """Twice the lambdas: twice the NTK."""
    one = coefficients(nn.Tanh(), 0.1, 1.5, 0.3, 0.7, 3, K1=1.0)
    two = coefficients(nn.Tanh(), 0.1, 1.5, 0.6, 1.4, 3, K1=1.0)
    powers = dict.fromkeys(("Theta", "H1", "D", "F"), 2) | dict.fromkeys("AB", 4)
    for name, factor in powers.items():
        np.testing.assert_allclose(getattr(two, name), factor * getattr(one, name), rtol=1e-12)


def test_unequal_widths() -> None:
    """Only ratios count; a wide last layer sees mostly what narrow ones handed on."""
    args = (nn.Relu(), 0.0, 2.0, 0.0, 2.0, 3)
    c = coefficients(*args, K1=1.0, widths=[10, 20, 40])
    again = coefficients(*args, K1=1.0, widths=[20, 40, 80])
    np.testing.assert_array_equal(c.A, again.A)
    # 5 K^2 / n_l from every layer: V / n_3 is their sum.
    assert c.V[-1] / 40 == pytest.approx(5 / 10 + 5 / 20 + 5 / 40, rel=1e-12)
    equal = coefficients(*args, K1=1.0, widths=[7, 7, 7])
    np.testing.assert_array_equal(equal.B, coefficients(*args, K1=1.0).B)


@pytest.mark.parametrize(
    ("function", "named"), [(torch.tanh, nn.Tanh()), (torch.relu, nn.Relu())], ids=["tanh", "relu"]
)
def test_callable(function: Any, named: nn.Nonlinearity) -> None:
    """A function of torch gives every coefficient that its name gives."""
    args = (0.1, 1.5, 0.2, 1.4, 3)
    found = coefficients(function, *args, K1=1.0, widths=[10, 20, 15])
    want = coefficients(named, *args, K1=1.0, widths=[10, 20, 15])
    for field in fields(found):
        got, expected = getattr(found, field.name), getattr(want, field.name)
        assert got.shape == (4,)
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14, err_msg=field.name)


def test_small_variances() -> None:
    """Tanh is linear there: V of a linear network over K^2 is 2 per layer, whatever K is."""
    c = coefficients(nn.Tanh(), 0.0, 1.0, 0.0, 1.0, 3, K1=1e-60)
    np.testing.assert_allclose(c.V / c.K**2, [0.0, 2.0, 4.0, 6.0], rtol=1e-12)


def test_many_variances_are_those_of_one() -> None:
    K1 = np.linspace(0.5, 2.0, 600)
    many = coefficients(nn.Tanh(), 0.1, 1.5, 0.1, 1.5, 2, K1=K1)
    assert many.A.shape == (3, 600)
    one = coefficients(nn.Tanh(), 0.1, 1.5, 0.1, 1.5, 2, K1=K1[377])
    # Nodes differ with the largest variance of a part; averages are good to 1e-13.
    np.testing.assert_allclose(many.A[:, 377], one.A, rtol=1e-11)


def test_depth_zero_is_exact() -> None:
    c = coefficients(nn.Tanh(), 0.1, 1.5, 0.2, 0.5, 0, K1=1.0)
    assert c.Theta.tolist() == [0.2 + 0.5 * 0.9 / 1.5]
    assert c.V.tolist() == [0.0]


@pytest.mark.parametrize(
    "sigma", [nn.Sign(), nn.RectifiedMonomial(0), torch.floor], ids=["sign", "step", "floor"]
)
def test_jumps_are_refused(sigma: Any) -> None:
    with pytest.raises(InvalidInputError):
        coefficients(sigma, 0.1, 1.5, 0.1, 1.5, 2, K1=1.0)


def test_refusals() -> None:
    args = (nn.Tanh(), 0.1, 1.5, 0.1, 1.5, 2)
    for K1 in (0.0, -1.0, 0.05, np.nan, np.inf, [[1.0]], []):
        with pytest.raises(InvalidInputError, match="K1"):
            coefficients(*args, K1=K1)
    with pytest.raises(InvalidInputError, match="width"):
        coefficients(*args, K1=1.0, widths=[10])
    with pytest.raises(InvalidInputError, match="grows"):
        coefficients(nn.Exp(), 0.0, 1.0, 0.0, 1.0, 3, K1=20.0)
    for x in (1.0, [], [np.nan], np.ones((1, 1, 1))):
        with pytest.raises(InvalidInputError, match="x must be"):
            from_network(nn.mlp(), x)


def test_text() -> None:
    text = str(coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, 2, K1=2.0)).splitlines()
    assert text[0].split() == ["layer", *NAMES]
    assert [float(v) for v in text[2].split()][:4] == [2.0, 2.0, 4.0, 20.0]
    assert "3 layers for 2 inputs" in str(
        coefficients(nn.Relu(), 0.0, 2.0, 0.0, 2.0, 2, K1=[2.0, 1.0])
    )
