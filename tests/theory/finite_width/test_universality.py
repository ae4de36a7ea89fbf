"""Closed forms and growth rates against the recursion and the golden file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.finite_width.one_input import coefficients
from kernreg.theory.finite_width.universality import growth, optimal_aspect_ratio, scale_invariant

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())
NAMES = ("K", "Theta", "V", "G1", "A", "B", "D", "F", "H1")


@pytest.mark.parametrize("entry", GOLDEN["relu_closed_forms"], ids=lambda e: str(e["layer"]))
def test_golden(entry: dict[str, Any]) -> None:
    c = scale_invariant(entry["layer"] - 1, K1=3.0)
    assert c.Theta[-1] == pytest.approx(3.0 * entry["Theta/K"], rel=1e-14)
    for name in "VDFBA":
        assert getattr(c, name)[-1] == pytest.approx(9.0 * entry[f"{name}/K^2"], rel=1e-14)


@settings(deadline=None, max_examples=15)
@given(
    angle=st.floats(-0.5 * math.pi, 0.5 * math.pi),
    depth=st.integers(0, 12),
    lambda_W=st.floats(0.1, 3),
)
def test_recursion(angle: float, depth: int, lambda_W: float) -> None:
    """For any two slopes; the error of the recursion is some 1e-14 per layer."""
    a, b = math.sin(angle), math.cos(angle)
    exact = scale_invariant(depth, K1=[0.5, 2.0], a=a, b=b, lambda_W=lambda_W)
    found = coefficients(nn.ABRelu(a, b), 0.0, 2.0, 0.0, lambda_W, depth, K1=[0.5, 2.0])
    for name in NAMES:
        scale = abs(exact.Theta) if name == "H1" else abs(exact.K)
        np.testing.assert_allclose(
            getattr(found, name), getattr(exact, name), rtol=1e-11, atol=1e-11 * scale.max()
        )


def test_scale_invariant_refusals() -> None:
    with pytest.raises(InvalidInputError, match="K1"):
        scale_invariant(2, K1=0.0)
    with pytest.raises(InvalidInputError, match="depth"):
        scale_invariant(-1, K1=1.0)
    with pytest.raises(InvalidInputError, match="lambda_W"):
        scale_invariant(2, K1=1.0, lambda_W=-1.0)
    with pytest.raises(ValueError, match="both 0"):
        scale_invariant(2, K1=1.0, a=0.0, b=0.0)


def _relative(c: Any) -> dict[str, np.ndarray]:
    layer = np.arange(1, len(c.K) + 1)
    K, T = c.K, c.Theta
    scale = {"V": K * K, "G1": K, "A": T * T, "B": T * T, "D": K * T, "F": K * T, "H1": T}
    return {name: getattr(c, name) / (layer * unit) for name, unit in scale.items()}


@pytest.mark.parametrize("a", [0.0, 0.3, -1.0])
def test_growth_scale_invariant(a: float) -> None:
    """Exact up to 1/l."""
    rates = growth("scale-invariant", a=a)
    found = _relative(scale_invariant(10**6, K1=2.0, a=a))
    for name, value in found.items():
        assert value[-1] == pytest.approx(getattr(rates, name), rel=1e-5, abs=1e-12)
    c = scale_invariant(10**6, K1=2.0, a=a)
    assert c.ntk_variance[-1] / 1e6 == pytest.approx(rates.ntk_variance, rel=1e-5)


@pytest.mark.parametrize(
    ("sigma", "C_W"), [(nn.Tanh(), 1.0), (nn.Sin(), 1.0), (nn.Erf(), math.pi / 4)], ids=repr
)
@pytest.mark.parametrize("parameterization", ["ntk", "unit"])
def test_growth_small_kernels(sigma: nn.Nonlinearity, C_W: float, parameterization: str) -> None:
    """What is left at layer 2000 is of order log(l)/l = 0.004 times constants of size 1 to 5."""
    lambda_b, lambda_W = (0.0, C_W) if parameterization == "ntk" else (1.0, 1.0)
    c = coefficients(sigma, 0.0, C_W, lambda_b, lambda_W, 1999, K1=0.5)
    rates = growth("K*=0", parameterization)
    for name, value in _relative(c).items():
        assert value[-1] == pytest.approx(getattr(rates, name), rel=0.02, abs=0.004)


def test_growth_names() -> None:
    with pytest.raises(InvalidInputError, match="kind"):
        growth("half-stable")
    with pytest.raises(InvalidInputError, match="parameterization"):
        growth("K*=0", "standard")


@pytest.mark.parametrize("entry", GOLDEN["r_star"], ids=lambda e: f"{e['n_L']}-{e['nu']:.2g}")
def test_aspect_ratio(entry: dict[str, Any]) -> None:
    assert optimal_aspect_ratio(entry["nu"], entry["n_L"]) == pytest.approx(
        entry["r_star"], rel=1e-14
    )


def test_aspect_ratio_is_the_maximum() -> None:
    """Of the third-order polynomial that it is derived from."""
    n, nu = 3, 5.0
    r = optimal_aspect_ratio(nu, n)

    def information(r: float) -> float:
        return n**2 / 32 * (nu * r) ** 2 - n**2 * (20 + 3 * n) / 192 * (nu * r) ** 3

    assert information(r) > max(information(0.99 * r), information(1.01 * r))


@pytest.mark.parametrize(("nu", "n"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (5.0, 0), (5.0, 1.5)])
def test_aspect_ratio_refusals(nu: float, n: Any) -> None:
    with pytest.raises(InvalidInputError):
        optimal_aspect_ratio(nu, n)
