from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.eigenlearning.spectra import (
    hypercube_spectrum,
    sample_spectrum,
    sphere_spectrum,
)
from kernreg.theory.eigenlearning.spectrum import Spectrum, as_spectrum

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())
RELU = nn.serial(
    nn.Dense(2**0.5), nn.Relu(), nn.Dense(2**0.5), nn.Relu(), nn.Dense(2**0.5)
)  # its NTK is 6 on the diagonal
ONE_LAYER = nn.serial(nn.Dense(2**0.5), nn.Relu(), nn.Dense(2**0.5))


def corners(d):
    return 1.0 - 2.0 * ((np.arange(2**d)[:, None] >> np.arange(d)) & 1)


def on_sphere(n, d, seed=0):
    X = np.random.default_rng(seed).normal(size=(n, d))
    return X * (d**0.5 / np.linalg.norm(X, axis=1))[:, None]


@pytest.mark.parametrize("entry", GOLDEN["sphere_spectrum"], ids=lambda e: str(e["id"]))
def test_golden_sphere(entry):
    spectrum = sphere_spectrum(RELU, entry["d"], 4)
    values = spectrum.values / 6.0
    values[0] += 0.05
    # The golden values come from a quadrature of their own, good to 1e-12 relative.
    np.testing.assert_allclose(values, entry["lam_k0_4"], rtol=1e-9)
    np.testing.assert_array_equal(spectrum.multiplicity, entry["mult"])


def test_golden_hypercube():
    entry = GOLDEN["eigenlearning"][0]
    spectrum = hypercube_spectrum(RELU, 8)
    values = spectrum.values / 6.0
    values[0] += 0.05
    np.testing.assert_allclose(values, entry["lam"], rtol=1e-12)
    np.testing.assert_array_equal(spectrum.multiplicity, entry["mult"])
    assert spectrum.tail == 0.0
    assert spectrum.size == 256


@pytest.mark.parametrize("kernel", ["ntk", "nngp"])
@pytest.mark.parametrize("net", [ONE_LAYER, nn.mlp(depth=2, activation=nn.Erf(), b_std=0.3)])
def test_hypercube_against_the_whole_matrix(net, kernel):
    d = 7
    spectrum = hypercube_spectrum(net, d, kernel)
    levels = np.repeat(spectrum.values, spectrum.multiplicity.astype(int))
    matrix = gram(net, corners(d), kernel=kernel) / 2**d
    # LAPACK: a few eps of the largest.
    np.testing.assert_allclose(
        np.sort(levels), np.linalg.eigvalsh(matrix), atol=1e-14 * matrix.trace()
    )


def test_circle_is_a_fourier_series():
    """exp(cos t) has the coefficients I_k(1)."""
    spectrum = sphere_spectrum(lambda c: np.exp(c), 2, 12)
    expected = scipy.special.iv(np.arange(13), 1.0)
    # The smallest, 3e-13, has about 1e-16 of absolute error.
    np.testing.assert_allclose(spectrum.values, expected, rtol=1e-11, atol=1e-15)
    np.testing.assert_array_equal(spectrum.multiplicity, [1] + 12 * [2])


@settings(max_examples=25)
@given(
    d=st.integers(3, 60),
    coefficients=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=7),
)
def test_addition_theorem(d, coefficients):
    """The levels give the kernel back, and leave nothing for the tail."""
    kernel = np.polynomial.Polynomial(coefficients)
    degrees = len(coefficients) - 1
    spectrum = sphere_spectrum(kernel, d, degrees)
    t = np.linspace(-1.0, 1.0, 11)
    half = (d - 2) / 2
    polynomials = [
        scipy.special.eval_gegenbauer(k, half, t) / scipy.special.eval_gegenbauer(k, half, 1.0)
        for k in range(degrees + 1)
    ]
    found = (spectrum.multiplicity * spectrum.values) @ polynomials
    np.testing.assert_allclose(found, kernel(t), atol=1e-11 * kernel(1.0))
    # Multiplicities of up to 1e8 magnify the rounding of a level.
    assert spectrum.tail <= 1e-6 * kernel(1.0)
    assert spectrum.trace == pytest.approx(kernel(1.0), rel=1e-11)


def test_what_is_not_asked_for_goes_to_the_tail():
    few, many = (sphere_spectrum(RELU, 6, degrees) for degrees in (3, 30))
    np.testing.assert_allclose(few.values, many.values[:4], rtol=1e-11)
    assert 0 < many.tail < 0.2 * few.tail
    # K(x, x) = 6 for this network on |x|^2 = d.
    assert few.trace == pytest.approx(6.0, rel=1e-12)
    assert many.trace == pytest.approx(6.0, rel=1e-12)


def test_one_hidden_layer_misses_odd_degrees():
    """A bias-free ReLU network of one hidden layer has no odd degrees beyond the first."""
    for spectrum in (sphere_spectrum(ONE_LAYER, 5, 9), hypercube_spectrum(ONE_LAYER, 9)):
        assert (spectrum.values[[3, 5, 7, 9]] == 0.0).all()
        assert (spectrum.values[[0, 1, 2, 4, 6, 8]] > 0.0).all()


@pytest.mark.parametrize("make", [hypercube_spectrum, lambda f, d: sphere_spectrum(f, d, 60)])
def test_levels_without_digits_go_to_the_tail(make):
    spectrum = make(nn.mlp(depth=3), 100)
    assert spectrum.tail > 0
    known = spectrum.values[spectrum.values > 0]
    assert len(known) < len(spectrum.values)
    assert (np.diff(known) < 0).all()
    expected = gram(nn.mlp(depth=3), on_sphere(1, 100))[0, 0]
    assert spectrum.trace == pytest.approx(expected, rel=1e-9)


def test_own_variance_under_dropout_is_tail():
    d = 6
    net = nn.serial(nn.Dense(2**0.5), nn.Relu(), nn.Dropout(0.8), nn.Dense())
    matrix = gram(net, corners(d)) / 2**d
    spectrum = hypercube_spectrum(net, d)
    levels = np.repeat(spectrum.values, spectrum.multiplicity.astype(int)) + spectrum.tail / 2**d
    np.testing.assert_allclose(np.sort(levels), np.linalg.eigvalsh(matrix), atol=1e-13)


def test_numerical_nonlinearity():
    """tanh through the reference's quadrature, against the matrix on all corners."""
    net = nn.mlp(depth=1, activation=nn.Tanh(), b_std=0.2)
    spectrum = hypercube_spectrum(net, 4)
    levels = np.repeat(spectrum.values, spectrum.multiplicity.astype(int))
    matrix = gram(net, corners(4), backend="reference") / 16
    np.testing.assert_allclose(
        np.sort(levels), np.linalg.eigvalsh(matrix), atol=1e-12 * matrix.trace()
    )


def test_sample_estimates_the_sphere():
    n, d = 1500, 4
    exact = sphere_spectrum(RELU, d, 3)
    values = sample_spectrum(RELU, on_sphere(n, d)).values
    ends = np.cumsum(exact.multiplicity[:3]).astype(int)
    means = [group.mean() for group in np.split(values[: ends[-1]], ends[:-1])]
    # A level's mean eigenvalue is good to some multiple of the modes so far over n, 14 / 1500.
    np.testing.assert_allclose(means, exact.values[:3], rtol=0.05)


def test_sample_keeps_trace_and_power():
    X = np.random.default_rng(0).normal(size=(80, 3))
    y = np.stack([X[:, 0], X[:, 1] ** 2], axis=1)
    spectrum = sample_spectrum(nn.mlp(depth=2), X, y)
    matrix = gram(nn.mlp(depth=2), X)
    assert spectrum.size == 80
    assert spectrum.trace == pytest.approx(matrix.trace() / 80, rel=1e-12)
    assert spectrum.power.sum() == pytest.approx(np.mean(np.sum(y**2, axis=1)), rel=1e-12)
    assert (np.diff(spectrum.values) <= 0).all()
    again = sample_spectrum(matrix, None, y)
    np.testing.assert_allclose(again.values, spectrum.values, atol=1e-14 * spectrum.trace)


def test_duplicates_leave_zeros():
    X = np.random.default_rng(0).normal(size=(20, 3))
    spectrum = sample_spectrum(nn.mlp(depth=2), np.concatenate([X, X]))
    assert spectrum.modes == 20
    assert (spectrum.values[20:] == 0.0).all()


def test_truncated_keeps_totals():
    spectrum = Spectrum([1.0, 4.0, 2.0], [3, 1, 2], 0.5, [1.0, 2.0, 3.0], 0.25)
    cut = spectrum.truncated(2)
    np.testing.assert_array_equal(cut.values, [4.0, 2.0])
    np.testing.assert_array_equal(cut.power, [2.0, 3.0])
    assert (cut.tail, cut.tail_power) == (3.5, 1.25)
    assert cut.trace == spectrum.trace
    with pytest.raises(InvalidInputError, match="has 3 levels, asked for 4"):
        spectrum.truncated(4)


def test_a_spectrum_stays_itself():
    spectrum = Spectrum([1.0])
    assert as_spectrum(spectrum) is spectrum


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"values": []}, "shape"),
        ({"values": [[1.0]]}, "shape"),
        ({"values": [1.0, -1e-9]}, ">= 0"),
        ({"values": [1.0, np.nan]}, "finite"),
        ({"values": [0.0, 0.0]}, "positive eigenvalue"),
        ({"values": [1.0], "multiplicity": [1.0, 2.0]}, "multiplicity"),
        ({"values": [1.0], "multiplicity": [0.0]}, "multiplicities"),
        ({"values": [1.0], "tail": -1.0}, "tail"),
        ({"values": [1.0], "power": [1.0, 1.0]}, "power"),
        ({"values": [1.0], "power": [-1.0]}, "power"),
        ({"values": [1.0], "tail_power": np.inf}, "tail_power"),
        ({"values": [1.0], "size": 0}, "size"),
    ],
)
def test_bad_spectrum(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        Spectrum(**arguments)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sphere_spectrum(RELU, 1, 3), "d must be"),
        (lambda: sphere_spectrum(RELU, 3.5, 3), "d must be an integer"),
        (lambda: sphere_spectrum(RELU, 3, -1), "degrees"),
        (lambda: sphere_spectrum(3, 3, 2), "network"),
        (lambda: sphere_spectrum(RELU, 3, 2, kernel="cntk"), "kernel"),
        (lambda: sphere_spectrum(lambda c: c - 0.5, 3, 2), "not positive definite"),
        (lambda: sphere_spectrum(lambda c: c**2 - c**4, 3, 4), "not positive definite"),
        (lambda: sphere_spectrum(lambda c: c * np.nan, 3, 2), "NaN"),
        (lambda: sphere_spectrum(lambda c: c[:1], 3, 2), "same shape"),
        (lambda: sphere_spectrum(lambda c: 1.0 * (c > 0.3), 3, 2), "did not converge"),
        (lambda: sphere_spectrum(RELU, 10**6, 200), "1e308"),
        (lambda: hypercube_spectrum(lambda c: -c, 3), "not positive definite"),
        (lambda: hypercube_spectrum(RELU, 0), "d must be"),
        (lambda: sample_spectrum(RELU, None), "X is missing"),
        (lambda: sample_spectrum(RELU, np.ones((3, 2)), np.ones(4)), "targets of shape"),
        (lambda: sample_spectrum(-np.eye(3), None), "semidefinite"),
        (lambda: sample_spectrum(np.diag([1.0, -0.1]), None), "semidefinite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()
