"""Kernels as power series: known ones, and those of networks against their kernel matrices."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError, KernregError, UnknownOperationError
from kernreg.theory.inverse.network_series import kernel_coefficients, sine_coefficients
from kernreg.theory.inverse.power_series import INSIDE, PowerSeries, function_coefficients

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())

BLOCK = nn.serial(nn.Erf(), nn.Dense(1.2, 0.3))
NETWORKS = [
    nn.mlp(3, nn.Relu(), 2**0.5, 0.1),
    nn.mlp(4, nn.LeakyRelu(0.2), 1.2, 0.3),
    nn.mlp(2, nn.Abs(), 1.0, 0.0),
    nn.mlp(3, nn.Tanh(), 1.6, 0.2),
    nn.mlp(2, nn.Elu(), 1.3, 0.1),
    nn.mlp(3, nn.Gelu(), 1.5, 0.4),
    nn.mlp(2, nn.Sin(b=2.0, c=0.4), 1.0, 0.3),
    nn.mlp(2, nn.RectifiedMonomial(2), 0.8, 0.1),
    nn.mlp(2, nn.Hermite((0.1, 0.7, 0.3, 0.2)), 0.9, 0.2),
    nn.serial(nn.Dense(1.1, 0.2), nn.repeat(nn.residual(BLOCK), 3), nn.Softplus(), nn.Dense()),
    nn.serial(nn.Dense(1.5), nn.LayerNorm(0.1), nn.Swish(), nn.Dense(1.2, 0.1)),
    nn.serial(
        nn.Dense(1.2),
        nn.parallel(
            nn.serial(nn.Relu(), nn.Dense()),
            nn.serial(nn.Erf(), nn.Dense(0.7, 0.2)),
            nn.Dense(0.5),
            merge="product",
        ),
        nn.Dense(),
    ),
    nn.serial(
        nn.Dense(1.2, 0.2),
        nn.parallel(nn.Relu(), nn.Tanh(), merge="concat", weights=(1.0, 2.0)),
        nn.Dense(1.1, 0.1),
    ),
    nn.serial(nn.Dense(1.2, 0.0, "standard", 3), nn.Relu(), nn.Dense(1.3, 0.1, "standard", 7)),
]


def at_cosines(net: nn.Layer, kernel: str, c: np.ndarray) -> np.ndarray:
    """The kernel between ``(sqrt(2), 0)`` and rows of the same norm at these cosines."""
    rows = math.sqrt(2.0) * np.column_stack([c, np.sqrt(1.0 - c * c)])
    first = np.array([[math.sqrt(2.0), 0.0]])
    return np.asarray(kernreg.gram(net, first, rows, kernel, backend="reference"))[0]


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("net", NETWORKS, ids=range(len(NETWORKS)))
def test_series_is_the_kernel_of_the_network(net: nn.Layer, kernel: str) -> None:
    series = kernel_coefficients(net, kernel, 60)
    c = np.array([-0.9, -0.5, 0.0, 0.4, 0.8, INSIDE])
    left = at_cosines(net, kernel, c) - series(c)
    # All coefficients beyond the degree are positive, so that what they add grows like |c|^61.
    allowed = series.inside * (np.abs(c) / INSIDE) ** 61
    assert (np.abs(left) <= allowed * (1 + 1e-9) + 10 * series.accuracy).all()
    assert (series.coefficients >= -10 * series.accuracy).all()
    one = at_cosines(net, kernel, np.ones(1))[0]
    assert series(1.0) + series.tail == pytest.approx(one, rel=1e-13)
    assert series.accuracy < 1e-9 * one


@pytest.mark.parametrize("entry", GOLDEN["relu_ntk_series"], ids=lambda e: str(e["L_hidden"]))
def test_relu_ntk_series(entry: dict) -> None:
    depth = entry["L_hidden"]
    series = kernel_coefficients(nn.mlp(depth, nn.Relu(), 2**0.5, 0.0), "ntk", 100)
    a = series.coefficients / (2.0 * (depth + 1))
    # Both come from transforms that err by a few units of rounding.
    np.testing.assert_allclose(a[: len(entry["a_k"])], entry["a_k"], rtol=0, atol=2e-15)
    assert (a >= 0).all()
    if depth == 4:
        # Theory: .116 and .051 of the mass are beyond degree 20 and 100.
        shares = [series.truncated(20).tail / 10, series.tail / 10]
        np.testing.assert_allclose(shares, [0.116, 0.051], atol=5e-4)
        assert series.truncated(20).inside / 10 == pytest.approx(0.0099, abs=1e-4)
        assert series.inside / 10 == pytest.approx(2.3e-5, abs=1e-6)


def test_depth_of_a_hundred_relu_layers() -> None:
    net = nn.mlp(100, nn.Relu(), 2**0.5, 0.0)
    series = kernel_coefficients(net, "ntk", 50)
    c = np.array([-0.8, 0.0, 0.5, INSIDE])
    left = at_cosines(net, "ntk", c) - series(c)
    # The recursion in rho loses digits of 1 - rho, which shrinks to 1e-3 in a hundred layers.
    allowed = series.inside * (np.abs(c) / INSIDE) ** 51 + 1e-12 * series(1.0)
    assert (np.abs(left) <= allowed * (1 + 1e-9)).all()


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("sine", [nn.Sin(b=3.0), nn.Sin(0.7, 2.0, 0.4), nn.Sin(2.0, 1.5, 1.6)])
def test_sine_in_closed_form(sine: nn.Sin, kernel: str) -> None:
    closed = sine_coefficients(sine, kernel, 30)
    found = kernel_coefficients(nn.serial(nn.Dense(), sine, nn.Dense()), kernel, 30)
    error = np.abs(closed.coefficients - found.coefficients).max()
    assert error <= found.accuracy
    # The parameters of this comparison are differences of sums of size K(1).
    assert closed.tail == pytest.approx(found.tail, abs=1e-13 * (found(1.0) + found.tail))
    assert closed.inside == pytest.approx(found.inside, abs=1e-13 * found(1.0))


def test_sine_peaks_where_the_frequency_says() -> None:
    """Theory, section 7: frequency 6 peaks at degree 37."""
    assert int(np.argmax(sine_coefficients(nn.Sin(b=6.0), "ntk", 80).coefficients)) == 37


def test_function() -> None:
    series = function_coefficients(lambda c: np.exp(2 * (c - 1)) + np.arcsin(c / 1.5), 12)
    k = np.arange(13)
    exponential = np.exp(-2.0) * 2.0**k / np.array([math.factorial(i) for i in k])
    # asin(x) = sum of C(2m, m) x^(2m + 1) / (4^m (2m + 1))
    m = np.arange(6)
    arcsine = np.zeros(13)
    arcsine[1::2] = [math.comb(2 * i, i) / (4**i * (2 * i + 1)) / 1.5 ** (2 * i + 1) for i in m]
    np.testing.assert_allclose(series.coefficients, exponential + arcsine, atol=1e-14)
    assert series.tail == pytest.approx(1.0 + math.asin(1 / 1.5) - series(1.0), abs=1e-15)
    assert series.inside == pytest.approx(
        math.exp(-0.1) + math.asin(0.95 / 1.5) - series(0.95), abs=1e-15
    )


def test_slow_series_at_a_high_degree() -> None:
    """``1 - (1 - c)^(1/2)``: coefficients fall like k^(-3/2), and the sum is finite."""
    series = function_coefficients(lambda c: 1.0 - np.sqrt(1.0 - c), 400)
    exact = [0.0, 0.5]
    for k in range(2, 401):
        exact.append(exact[-1] * (2 * k - 3) / (2 * k))
    # Values err by 1e-16, coefficients by exp(3) times that.
    np.testing.assert_allclose(series.coefficients, exact, atol=1e-14)
    assert series.tail == pytest.approx(1.0 - sum(exact), abs=1e-12)


def test_truncation_counts_what_is_dropped() -> None:
    full = function_coefficients(lambda c: np.exp(c), 30)
    direct = function_coefficients(lambda c: np.exp(c), 5)
    cut = full.truncated(5)
    np.testing.assert_allclose(cut.coefficients, direct.coefficients, rtol=1e-13)
    assert cut.tail == pytest.approx(direct.tail, rel=1e-10)
    assert cut.inside == pytest.approx(direct.inside, rel=1e-10)
    assert full.truncated(99).degree == 30


def test_printed() -> None:
    series = PowerSeries(np.arange(8.0), 0.25, 0.125)
    assert str(series) == (
        "a_k: 0 1 2 3 4 5 ... up to degree 7; left out 0.25 at c = 1, 0.12 for |c| <= 0.95"
    )


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda c: 1.0 / (1.0 - c), "sum of its coefficients is infinite"),
        (lambda c: -np.log(1.0 - c), "sum of its coefficients is infinite"),
        (lambda c: 1.0 / (0.25 - c * c), "not a real analytic function"),
        (np.abs, "not a real analytic function"),
        (lambda c: np.conj(c) ** 2, "not a real analytic function"),
        (lambda c: 1j * c, "not a real analytic function"),
        (lambda c: math.exp(c), "must map complex arrays to complex arrays"),
        (lambda c: 1.0, "of shape ()"),
        (lambda c: np.log(c - 0.97), "not finite on the circle"),
    ],
)
def test_functions_that_are_refused(f: object, message: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        function_coefficients(f, 10)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_networks_that_are_refused() -> None:
    sign = nn.serial(nn.Dense(), nn.Sign(), nn.Dense())
    assert kernel_coefficients(sign, "nngp", 5).coefficients[1] == pytest.approx(2 / math.pi)
    with pytest.raises(InvalidInputError, match="jump"):
        kernel_coefficients(sign, "ntk")
    with pytest.raises(UnknownOperationError, match=r"^Dropout.*the power series of a kernel"):
        kernel_coefficients(nn.serial(nn.Dense(), nn.Relu(), nn.Dropout(0.9), nn.Dense()))
    with pytest.raises(InvalidInputError, match="kernel must be"):
        kernel_coefficients(sign, "ntp")
    with pytest.raises(InvalidInputError, match="network"):
        kernel_coefficients(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="degree"):
        kernel_coefficients(sign, "nngp", -1)
    with pytest.raises(InvalidInputError, match="degree"):
        function_coefficients(np.exp, 2.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"nn\.Sin"):
        sine_coefficients(nn.Cos())  # type: ignore[arg-type]
    # A map of kernels without an elementwise function.
    with pytest.raises(KernregError, match="elementwise function"):
        kernel_coefficients(nn.serial(nn.Dense(), nn.ExpNormalized(), nn.Dense()))
