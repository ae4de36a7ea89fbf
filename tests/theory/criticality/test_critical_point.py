"""Critical points: golden values, every class, and what must be rejected."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.theory.criticality.critical_point import critical, derivatives_at_zero
from kernreg.theory.criticality.single_input import recursion, susceptibilities

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())["criticality"]
ACTS = {
    "abs": nn.Abs(),
    "linear": nn.Monomial(1),
    "tanh": nn.Tanh(),
    "sin": nn.Sin(),
    "gelu": nn.Gelu(),
    "swish": nn.Swish(),
}
KINDS = {"half-stable/fixed K*": "half-stable"}


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda e: f"{e['act']}-{e['id']}")
def test_golden(entry: dict[str, Any]) -> None:
    """1e-9, and an entry that is not valid is a candidate that was rejected."""
    found = critical(ACTS[entry["act"]])
    kind = KINDS.get(entry["class"], entry["class"])
    if entry.get("valid", True):
        point: Any = found
        assert found.kind == kind
    else:
        (point,) = found.rejected
        assert point.kind == kind
        assert found.kind != kind
    assert point.C_b == pytest.approx(entry["C_b"], abs=1e-9)
    assert pytest.approx(entry["C_W"], rel=1e-9) == point.C_W
    if entry["K_star"] is None:
        assert point.K is None
    else:
        assert pytest.approx(entry["K_star"], rel=1e-9, abs=1e-12) == point.K


@pytest.mark.parametrize(
    ("sigma", "C_W"),
    [
        (nn.Relu(), 2.0),
        (nn.LeakyRelu(0.1), 2 / 1.01),
        (nn.ABRelu(-0.5, 2.0), 2 / 4.25),
        (nn.Elu(alpha=0.0), 2.0),
        (torch.relu, 2.0),
        (lambda x: 3 * x, 1 / 9),
    ],
    ids=["relu", "leaky", "slopes", "elu0", "torch", "linear"],
)
def test_scale_invariant(sigma: Any, C_W: float) -> None:
    found = critical(sigma)
    assert (found.kind, found.C_b, found.K) == ("scale-invariant", 0.0, None)
    assert pytest.approx(C_W, rel=1e-13) == found.C_W
    assert found.W_std == pytest.approx(math.sqrt(C_W), rel=1e-13)
    assert found.b_std == 0.0
    assert found.p_perp is None


@pytest.mark.parametrize(
    ("sigma", "C_W", "a1"),
    [
        (nn.Erf(), math.pi / 4, -2.0),
        (nn.Sin(a=0.5, b=3.0), 4 / 9, -9.0),
        (nn.Gabor(), 1.0, -7.0),
        (torch.arctan, 1.0, -2.0),
        (lambda x: torch.sin(30 * x) / 30, 1.0, -900.0),
        (lambda x: x / torch.sqrt(1 + x * x), 1.0, -3.0),
    ],
    ids=["erf", "sin3", "gabor", "arctan", "sin30", "root"],
)
def test_vanishing_variance(sigma: Any, C_W: float, a1: float) -> None:
    """Odd functions: a1 = b1 = sigma''' / sigma' at 0, p_perp = 1."""
    found = critical(sigma)
    assert (found.kind, found.C_b, found.K) == ("K*=0", 0.0, 0.0)
    assert pytest.approx(C_W, rel=1e-12) == found.C_W
    assert found.a1 == pytest.approx(a1, rel=1e-12)
    assert found.b1 == pytest.approx(a1, rel=1e-12)
    assert found.p_perp == pytest.approx(1.0, rel=1e-12)


def test_a_bent_function_of_class_zero() -> None:
    """x + s x^2 / 2 - x^3 / 6: a1 = 3 s^2 / 4 - 1, b1 = s^2 - 1; stable for s < 1.15."""
    found = critical(nn.Polynomial((0.0, 1.0, 0.25, -1 / 6)))
    assert found.kind == "K*=0"
    assert found.a1 == pytest.approx(0.75 * 0.25 - 1, rel=1e-12)
    assert found.p_perp == pytest.approx((0.25 - 1) / (0.75 * 0.25 - 1), rel=1e-12)
    unstable = critical(nn.Polynomial((0.0, 1.0, 0.6, -1 / 6)))
    assert unstable.kind != "K*=0"
    assert any(c.kind == "K*=0" and "unstable" in c.reason for c in unstable.rejected)


def test_half_stable_fixed_points() -> None:
    """GELU's K* = (3 + sqrt 17) / 2; both susceptibilities are 1 and g(K*) = K*."""
    gelu = critical(nn.Gelu())
    assert pytest.approx((3 + math.sqrt(17)) / 2, rel=1e-12) == gelu.K
    assert "stable from above" in gelu.reason
    swish = critical(nn.Swish())
    assert "stable from below" in swish.reason
    for found in (gelu, swish, critical(torch.nn.functional.mish)):
        assert found.C_b is not None
        assert found.C_W is not None
        s = susceptibilities(found.sigma, found.C_b, found.C_W, found.K or 0.0)
        assert (s.g / s.K, s.chi_par, s.chi_perp) == pytest.approx((1.0, 1.0, 1.0), rel=1e-12)
        (zero,) = found.rejected
        assert (zero.kind, zero.C_b) == ("K*=0", 0.0)
        assert "a1 = " in zero.reason
        assert "unstable" in zero.reason


def test_gelu_has_the_exact_formal_point() -> None:
    (zero,) = critical(nn.Gelu()).rejected
    assert (zero.C_b, zero.C_W, zero.K) == (0.0, 4.0, 0.0)
    # sigma' = 1/2, sigma'' = sqrt(2/pi), sigma''' = 0 at 0: a1 = 3 (2/pi) = 6/pi.
    assert critical(nn.Gelu()).a1 == pytest.approx(6 / math.pi, rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "words"),
    [
        (nn.Softplus(), "sigma(0) is not 0"),
        (nn.SigmoidLike(), "sigma(0) is not 0"),
        (nn.Gaussian(), "sigma(0) is not 0"),
        (nn.Cos(), "sigma(0) is not 0"),
        (nn.Exp(), "sigma(0) is not 0"),
        (nn.Elu(), "not smooth at 0"),
        (nn.Selu(), "not smooth at 0"),
        (nn.RectifiedMonomial(2), "not smooth at 0"),
        (nn.Monomial(3), "sigma'(0) is 0"),
        (nn.Monomial(0), "constant"),
        (lambda x: x + 1, "rejected"),
    ],
    ids=[
        *("softplus", "sigmoid", "gauss", "cos", "exp", "elu", "selu", "relu2", "cube", "one"),
        "shifted",
    ],
)
def test_none(sigma: Any, words: str) -> None:
    """A value with a reason, not an error."""
    found = critical(sigma)
    assert found.kind == "none"
    assert found.C_b is None
    assert found.C_W is None
    assert found.K is None
    assert found.W_std is None
    assert found.b_std is None
    assert words in found.reason
    assert found.rejected == found.candidates
    assert "class none" in str(found)


def test_a_negative_bias_variance_is_rejected() -> None:
    (shifted,) = critical(lambda x: x + 1).rejected
    assert shifted.C_b == pytest.approx(-1.0, rel=1e-12)
    assert "C_b < 0" in shifted.reason


@settings(max_examples=4)
@given(scale=st.floats(0.3, 3.0), height=st.floats(-4.0, 4.0).filter(lambda h: abs(h) > 0.2))
def test_scaling_the_nonlinearity(scale: float, height: float) -> None:
    """h sigma(s x) has the critical point of sigma with C_b / s^2, C_W / (h s)^2 and K / s^2."""
    plain = critical(nn.Gelu())
    scaled = critical(lambda x: height * torch.nn.functional.gelu(scale * x))
    assert scaled.kind == "half-stable"
    assert pytest.approx((plain.K or 0) / scale**2, rel=1e-9) == scaled.K
    assert scaled.C_b == pytest.approx((plain.C_b or 0) / scale**2, rel=1e-9)
    assert pytest.approx((plain.C_W or 0) / (height * scale) ** 2, rel=1e-9) == scaled.C_W
    # Of an odd function the same, at K* = 0.
    odd = critical(nn.Erf(a=height, b=scale))
    assert pytest.approx(math.pi / 4 / (height * scale) ** 2, rel=1e-12) == odd.C_W
    assert odd.a1 == pytest.approx(-2 * scale**2, rel=1e-11)


@pytest.mark.parametrize(
    ("sigma", "limit"), [(nn.Tanh(), 0.5), (nn.Sin(), 1.0), (nn.Erf(), 0.5)], ids=repr
)
def test_power_laws(sigma: nn.Nonlinearity, limit: float) -> None:
    """K l -> -1 / a1, with corrections of order log(l) / l: 2 % after 400 layers.

    The susceptibilities are 1 + 2 a1 K and 1 + b1 K up to K^2.
    """
    point = critical(sigma)
    assert point.C_W is not None
    found = recursion(sigma, 0.0, point.C_W, 1.0, depth=400)
    layer = 400
    expected = point.power_law(layer)
    assert pytest.approx(limit / layer, rel=1e-12) == expected.K
    assert found.K[layer - 1] == pytest.approx(expected.K, rel=0.02)
    assert 1 - found.chi_par[-1] == pytest.approx(1 - expected.chi_par, rel=0.02)
    assert 1 - found.chi_perp[-1] == pytest.approx(1 - expected.chi_perp, rel=0.02)
    assert expected.chi_par == pytest.approx(1 - 2 / layer, rel=1e-12)
    assert expected.chi_perp == pytest.approx(1 - 1 / layer, rel=1e-12)


def test_half_stable_is_practically_marginal() -> None:
    """Forward iteration does not find K*: after 150 layers it has moved by less than 1 %."""
    for sigma in (nn.Gelu(), nn.Swish()):
        point = critical(sigma)
        assert point.K is not None
        assert point.C_b is not None
        assert point.C_W is not None
        for factor in (0.9, 1.1):
            start = factor * point.K
            end = recursion(sigma, point.C_b, point.C_W, start, depth=150).K[-1]
            assert abs(end / start - 1) < 0.01
            assert abs(end / point.K - 1) > 0.05


@pytest.mark.parametrize(
    ("sigma", "expected"),
    [
        (nn.Tanh(), (0, 1, 0, -2)),
        (nn.Swish(), (0, 0.5, 0.5, 0)),
        (nn.Exp(), (1, 1, 1, 1)),
        (nn.Softplus(), (math.log(2), 0.5, 0.25, 0)),
        (nn.Polynomial((0.5, -1.0, 2.0, 3.0)), (0.5, -1, 4, 18)),
        (nn.Monomial(1), (0, 1, 0, 0)),
    ],
    ids=repr,
)
def test_derivatives(sigma: nn.Nonlinearity, expected: tuple[float, ...]) -> None:
    """Softplus is written with max and abs: nested autograd at 0 itself gives sigma'' = 0."""
    assert derivatives_at_zero(sigma) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize(
    "sigma",
    [nn.Relu(), nn.Elu(), nn.RectifiedMonomial(3), lambda x: x + torch.relu(x) ** 2],
    ids=["relu", "elu", "cubic", "bend"],
)
def test_no_derivatives_at_a_kink(sigma: Any) -> None:
    """A jump of any of the first three derivatives; the last one claims to be smooth."""
    assert derivatives_at_zero(sigma) is None


def test_power_law_needs_its_class() -> None:
    with pytest.raises(InvalidInputError, match="class 'scale-invariant'"):
        critical(nn.Relu()).power_law(10)
    with pytest.raises(InvalidInputError, match="at least 1"):
        critical(nn.Tanh()).power_law(0)


def test_refused() -> None:
    with pytest.raises(InvalidInputError, match="jumps at 0"):
        critical(nn.Sign())
    with pytest.raises(InvalidInputError, match="must be a nonlinearity"):
        critical(3.0)
    with pytest.raises(NetworkError, match="elementwise"):
        critical(nn.ExpNormalized())
    with pytest.raises(InvalidInputError, match="cannot be averaged"):
        critical(lambda x: torch.sqrt(torch.abs(x)))


def test_text() -> None:
    text = str(critical(nn.Gelu()))
    assert "class half-stable" in text
    assert "C_b = 0.1729223908, C_W = 1.983058257, K* = 3.561552813" in text
    assert "rejected: K*=0 at C_b = 0, C_W = 4" in text
    assert "K* = any" in str(critical(nn.Relu()))


def test_kinks_do_not_disturb_the_difference() -> None:
    """<sigma sigma''> = (chi_par - chi_perp) / C_W of ELU is the integral over its smooth parts.

    sigma sigma'' = (e^z - 1) e^z below 0, without a delta as the slope is continuous.
    """
    s = susceptibilities(nn.Elu(), 0.0, 1.0, 1.0)
    z = np.linspace(-12, 0, 240_001)
    f = np.expm1(z) * np.exp(z) * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    # Simpson's rule with step 5e-5: error far below 1e-12.
    step = 12 / 240_000
    integral = step / 3 * (f[0] + f[-1] + 4 * f[1:-1:2].sum() + 2 * f[2:-1:2].sum())
    assert s.chi_par - s.chi_perp == pytest.approx(integral, rel=1e-11)
