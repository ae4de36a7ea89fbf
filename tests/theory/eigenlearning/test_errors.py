from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.eigenlearning.errors import (
    eigenlearning,
    learnabilities,
    overfitting_coefficient,
    root_in_log,
    sample_size,
    solve_kappa,
)
from kernreg.theory.eigenlearning.spectra import sphere_spectrum
from kernreg.theory.eigenlearning.spectrum import Spectrum

GOLDEN = json.loads((Path(__file__).parents[1] / "golden.json").read_text())
POWER_LAW = np.arange(1, 2001) ** -2.0
RELU = nn.serial(nn.Dense(2**0.5), nn.Relu(), nn.Dense(2**0.5), nn.Relu(), nn.Dense(2**0.5))
EPS = np.finfo(np.float64).eps


@st.composite
def problems(draw):
    """A spectrum over many orders of magnitude, n and a ridge that fit it."""
    levels = draw(st.integers(1, 12))
    exponents = draw(st.lists(st.floats(-12, 3), min_size=levels, max_size=levels))
    counts = draw(st.lists(st.integers(1, 10**6), min_size=levels, max_size=levels))
    ridge = draw(st.sampled_from([0.0, 1e-9, 1e-3, 10.0]))
    tail = draw(st.sampled_from([0.0, 1e-6, 1.0]))
    modes = sum(counts)
    most = 0.999 * modes if ridge + tail == 0 else 2.0 * modes
    n = most * 10.0 ** draw(st.floats(-4, 0))
    power = draw(st.lists(st.floats(0, 5), min_size=levels, max_size=levels))
    spectrum = Spectrum(10.0 ** np.array(exponents), counts, tail, power)
    return spectrum, n, ridge


@pytest.mark.parametrize("entry", GOLDEN["eigenlearning"], ids=lambda e: str(e["id"]))
def test_golden(entry):
    spectrum = Spectrum(entry["lam"], entry["mult"])
    found = eigenlearning(
        spectrum, entry["n"], entry["delta"], power=entry["v2"], noise=entry["sigma"]
    )
    assert_golden(found, entry)
    np.testing.assert_allclose(found.mode_learnability, entry["L"], rtol=1e-9)


@pytest.mark.parametrize("entry", GOLDEN["eigenlearning_powerlaw"], ids=lambda e: str(e["id"]))
def test_golden_power_law(entry):
    power = POWER_LAW / POWER_LAW.sum()
    found = eigenlearning(POWER_LAW, entry["n"], entry["delta"], power=power, noise=entry["sigma"])
    assert_golden(found, entry)


def assert_golden(found, entry):
    names = {"variance": "var"}
    for name in ("kappa", "E0", "test", "train", "bias2", "variance", "learnability"):
        expected = entry[names.get(name, name)]
        assert getattr(found, name) == pytest.approx(expected, rel=1e-9), name


@settings(max_examples=100)
@given(problems())
def test_laws(problem):
    spectrum, n, ridge = problem
    kappa = solve_kappa(spectrum, n, ridge)
    effective = ridge + spectrum.tail
    learned = learnabilities(spectrum, n, ridge)
    # The sum over modes carries a rounding of the larger of n and the terms in it.
    slack = 1e-11 * max(n, effective / kappa)
    assert spectrum.multiplicity @ learned == pytest.approx(n - effective / kappa, abs=slack)
    assert 0 < kappa <= (spectrum.trace + ridge) / n * (1 + 1e-12)
    assert (learned >= 0).all()
    assert (learned <= 1).all()
    found = eigenlearning(spectrum, n, ridge, noise=0.5)
    assert found.E0 >= 1
    assert overfitting_coefficient(spectrum, n, ridge) == found.E0
    assert found.test >= found.bias2 + 0.25
    assert found.train <= found.test * (1 + 1e-9)
    # Bias, variance and noise add up. E0 multiplies the rounding of kappa.
    parts = found.bias2 + found.variance + 0.25
    assert found.test == pytest.approx(parts, rel=1e-10 * found.E0)


@settings(max_examples=30)
@given(problems(), st.integers(-60, 60))
def test_units_of_the_kernel_do_not_matter(problem, exponent):
    spectrum, n, ridge = problem
    scale = 10.0**exponent
    scaled = Spectrum(
        scale * spectrum.values, spectrum.multiplicity, scale * spectrum.tail, spectrum.power
    )
    before = eigenlearning(spectrum, n, ridge)
    after = eigenlearning(scaled, n, scale * ridge)
    assert after.kappa == pytest.approx(scale * before.kappa, rel=1e-8)
    assert after.test == pytest.approx(before.test, rel=1e-8)
    assert after.train == pytest.approx(before.train, rel=1e-7, abs=1e-300)


def test_flat_spectrum_in_closed_form():
    """m equal modes: kappa = (m - n) / n, E0 = m / (m - n)."""
    m, n = 40.0, 30.0
    found = eigenlearning(Spectrum([1.0], [m]), n, power=[1.0])
    assert found.kappa == pytest.approx((m - n) / n, rel=1e-14)
    assert pytest.approx(m / (m - n), rel=1e-13) == found.E0
    assert found.test == pytest.approx(1 - n / m, rel=1e-13)


@pytest.mark.parametrize("n", [1.0, 21.0, 28.5, 38.5])
@pytest.mark.parametrize("ridge", [0.1, 3.0])
def test_flat_spectrum_with_a_ridge(n, ridge):
    """``m / (1 + kappa) + ridge / kappa = n`` is a quadratic equation; to some roundings."""
    m = 40.0
    p = n - m - ridge
    kappa = (-p + (p * p + 4 * n * ridge) ** 0.5) / (2 * n)
    assert solve_kappa(Spectrum([1.0], [m]), n, ridge) == pytest.approx(kappa, rel=20 * EPS)


def test_nearly_all_modes_learned():
    """5 modes, 5 points, a tiny ridge: kappa = sqrt(ridge / 5) where 1 - L is below rounding."""
    found = eigenlearning(np.ones(5), 5, 1e-40, power=np.ones(5))
    assert found.kappa == pytest.approx((1e-40 / 5) ** 0.5, rel=1e-10)
    assert pytest.approx(5 / (10 * found.kappa), rel=1e-10) == found.E0
    assert found.test == pytest.approx(2.5 * found.kappa, rel=1e-10)


def test_more_points_than_modes():
    """Ridge regression with few features: for small ridges E0 = n / (n - m)."""
    assert overfitting_coefficient(np.ones(5), 50, 1e-9) == pytest.approx(50 / 45, rel=1e-8)


def test_more_points_never_hurt_the_bias():
    power = POWER_LAW
    errors = [eigenlearning(POWER_LAW, n, 1e-3, power=power).bias2 for n in (5, 20, 80, 320)]
    assert (np.diff(errors) < 0).all()


def test_tail_is_a_ridge_but_not_in_the_training_error():
    with_tail = eigenlearning(Spectrum([1.0, 0.1], tail=0.3, power=[1, 1]), 7, 0.2)
    with_ridge = eigenlearning(Spectrum([1.0, 0.1], power=[1, 1]), 7, 0.5)
    assert with_tail.test == pytest.approx(with_ridge.test, rel=1e-14)
    assert with_tail.train == pytest.approx((0.2 / 0.5) ** 2 * with_ridge.train, rel=1e-13)


def test_target_outside_the_levels_is_noise():
    spectrum = Spectrum([1.0, 0.1], tail=0.3, power=[1, 1], tail_power=0.5)
    found = eigenlearning(spectrum, 7)
    noisy = eigenlearning(Spectrum([1.0, 0.1], tail=0.3), 7, power=[1, 1], noise=0.5**0.5)
    assert found.test == pytest.approx(noisy.test, rel=1e-13)
    assert found.clean_test == pytest.approx(noisy.clean_test + 0.5, rel=1e-13)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_sample_size_inverts_learnability(share, ridge):
    spectrum = Spectrum([0.5, 0.02, 0.0, 0.001], [1, 20, 7, 4000], tail=0.2)
    sizes = sample_size(spectrum, share, ridge)
    assert np.isinf(sizes[2])
    for level in (0, 1, 3):
        learned = learnabilities(spectrum, sizes[level], ridge)
        assert learned[level] == pytest.approx(share, rel=1e-10)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
def test_power_laws_overfit_by_their_exponent(exponent):
    """Mallinar et al.: tempered, E0 tends to the exponent as n grows."""
    values = np.arange(1, 10**6 + 1) ** -exponent
    # The approach is 1/n; n / 1e6 of the modes are cut off.
    assert overfitting_coefficient(values, 300) == pytest.approx(exponent, rel=0.02)


def test_spectrum_above_a_gap_overfits_benignly():
    values = np.concatenate([np.ones(5), np.full(10**5, 1e-5)])
    assert overfitting_coefficient(values, 100) < 1.1


@pytest.mark.parametrize(("ridge", "noise"), [(0.0, 0.0), (1.8, 0.5)])
def test_against_regression_on_the_sphere(ridge, noise):
    """A degree 2 target in 10 dimensions, fresh test points."""
    d, n, trials = 10, 200, 12
    random = np.random.default_rng(0)

    def draw(count):
        X = random.normal(size=(count, d))
        X *= (d**0.5 / np.linalg.norm(X, axis=1))[:, None]
        # E[x1^2 x2^2] = d / (d + 2) on |x|^2 = d.
        return X, X[:, 0] * X[:, 1] * ((d + 2) / d) ** 0.5

    test, train = [], []
    for _ in range(trials):
        X, y = draw(n)
        Z, clean = draw(1000)
        y = y + noise * random.normal(size=n)
        dual = scipy.linalg.solve(gram(RELU, X) + ridge * np.eye(n), y, assume_a="pos")
        test.append(np.mean((gram(RELU, Z, X) @ dual - clean) ** 2) + noise**2)
        train.append(np.mean((ridge * dual) ** 2))
    found = eigenlearning(sphere_spectrum(RELU, d, 12), n, ridge, power=np.eye(13)[2], noise=noise)
    # The theory is off by a few per cent at this n; the mean by 4 standard errors at most.
    for predicted, measured in ((found.test, test), (found.train, train)):
        mean, error = np.mean(measured), np.std(measured, ddof=1) / trials**0.5
        assert abs(predicted - mean) <= 0.05 * mean + 4 * error


def test_power_that_is_given_replaces_that_of_the_spectrum():
    spectrum = Spectrum([1.0, 0.1], [2, 9], 0.3, power=[5, 6], tail_power=0.5, size=20)
    given = eigenlearning(spectrum, 7, 0.2, power=[1, 1])
    plain = eigenlearning(Spectrum([1.0, 0.1], [2, 9], 0.3, power=[1, 1]), 7, 0.2)
    for name in ("kappa", "E0", "test", "train", "bias2", "variance", "learnability"):
        assert getattr(given, name) == getattr(plain, name), name


def test_learnability_counts_power_outside_the_levels():
    spectrum = Spectrum([1.0, 0.1], tail=0.3, power=[1, 1], tail_power=0.5)
    found = eigenlearning(spectrum, 7, 0.2)
    assert found.learnability == pytest.approx(found.mode_learnability.sum() / 2.5, rel=1e-14)
    assert found.bias2 == pytest.approx(((1 - found.mode_learnability) ** 2).sum() + 0.5, rel=1e-13)
    nothing = eigenlearning(spectrum, 7, 0.2, power=[0, 0], noise=0.5)
    assert np.isnan(nothing.learnability)
    assert nothing.test == pytest.approx(0.25 * nothing.E0, rel=1e-14)


def test_variances_of_the_modes_are_the_variance():
    """Each mode's, as often as its level has modes, and what it is in closed form."""
    spectrum = Spectrum([1.0, 0.1, 0.01], [1, 10, 100], power=[1, 2, 3])
    found = eigenlearning(spectrum, 20, 0.1, noise=0.3)
    assert spectrum.multiplicity @ found.mode_variance == pytest.approx(found.variance, rel=1e-13)
    expected = found.test * found.mode_learnability**2 / 20
    np.testing.assert_allclose(found.mode_variance, expected, rtol=1e-14)
    assert (found.n, found.ridge, found.noise) == (20.0, 0.1, 0.3)


def test_modes_without_an_eigenvalue_change_nothing():
    with_zeros = Spectrum([1.0, 0.0, 0.1], [2, 50, 9], power=[1, 2, 3])
    without = Spectrum([1.0, 0.1], [2, 9], power=[1, 3], tail_power=2)
    for n in (1, 5, 10.5):
        found, expected = eigenlearning(with_zeros, n), eigenlearning(without, n)
        assert found.kappa == expected.kappa
        assert found.mode_learnability[1] == 0
        assert found.test == pytest.approx(expected.test, rel=1e-13)


def test_defaults_are_no_ridge_no_noise_and_one_half():
    spectrum = Spectrum([1.0, 0.1, 0.01], [1, 10, 100], power=[1, 2, 3])
    assert (
        solve_kappa(spectrum, 20) == solve_kappa(spectrum, 20, 0.0) < solve_kappa(spectrum, 20, 1)
    )
    np.testing.assert_array_equal(learnabilities(spectrum, 20), learnabilities(spectrum, 20, 0.0))
    expected = overfitting_coefficient(spectrum, 20, 0.0)
    assert (
        overfitting_coefficient(spectrum, 20) == expected > overfitting_coefficient(spectrum, 20, 1)
    )
    found, explicit = eigenlearning(spectrum, 20), eigenlearning(spectrum, 20, 0.0, noise=0.0)
    assert (found.test, found.train, found.noise) == (explicit.test, 0.0, 0.0)
    np.testing.assert_array_equal(sample_size(spectrum), sample_size(spectrum, 0.5, 0.0))


@pytest.mark.parametrize("n", [0.02, 3.0, 54.0, 56.0, 110.99])
def test_kappa_solves_its_equation_on_both_sides(n):
    """Few modes learned, half of them, all but a hundredth of one; with and without a ridge."""
    spectrum = Spectrum([1.0, 0.1, 0.01], [1, 10, 100])
    for ridge in (0.0, 1e-6, 3.0):
        kappa = solve_kappa(spectrum, n, ridge)
        total = spectrum.multiplicity @ (spectrum.values / (spectrum.values + kappa))
        # Of n, the modes not learned carry kappa's own rounding.
        assert total + ridge / kappa == pytest.approx(n, rel=1e-12)


def test_the_domain_may_be_used_up():
    spectrum = Spectrum([1.0], [8.0], size=8)
    # 8 / (1 + kappa) + 0.1 / kappa = 8.
    root = (0.1 + (0.1**2 + 4 * 8 * 0.1) ** 0.5) / 16
    assert sample_size(Spectrum([1.0], size=1)) == pytest.approx(0.5)
    assert solve_kappa(spectrum, 8, 0.1) == pytest.approx(root, rel=1e-13)


def test_root_in_log():
    assert root_in_log(lambda x: 2.0 - x, 2.0, 2.0) == pytest.approx(2.0, rel=1e-15)
    assert root_in_log(lambda x: x**3 - 1e-30, 1e-20, 1.0) == pytest.approx(1e-10, rel=1e-14)


def test_text():
    text = str(eigenlearning([1.0, 0.5], 1, 0.1, power=[1.0, 0.0]))
    found = eigenlearning([1.0, 0.5], 1, 0.1, power=[1.0, 0.0])
    lines = text.splitlines()
    assert lines[0].rstrip() == "n = 1, ridge = 0.1"
    names = ("kappa", "E0", "test", "train", "bias2", "variance", "learnability")
    assert [line.split() for line in lines[1:]] == [
        [name, f"{getattr(found, name):.4g}"] for name in names
    ]
    # Numbers end in one column.
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solve_kappa([1.0, 0.5], 2), "below the number of modes.*2, found n=2"),
        (lambda: solve_kappa([1.0, 0.0], 1), "below the number of modes"),
        (lambda: solve_kappa([1.0, -0.5], 1), ">= 0"),
        (lambda: solve_kappa([0.0], 1, 0.1), "positive eigenvalue"),
        (lambda: solve_kappa([1.0, np.nan], 1), "finite"),
        (lambda: solve_kappa([[1.0]], 1), "shape"),
        (lambda: solve_kappa(Spectrum([1.0], [8.0], size=8), 9, 0.1), "points of the domain, 8"),
        (lambda: solve_kappa([1.0, 1.0], 0), "^n must be"),
        (lambda: solve_kappa([1.0, 1.0], np.nan), "^n must be"),
        (lambda: solve_kappa([1.0, 1.0], 1, -0.1), "^ridge must be"),
        (lambda: eigenlearning([1.0, 1.0], 1), "target is missing"),
        (lambda: eigenlearning([1.0, 1.0], 1, power=[1.0]), "power"),
        (lambda: eigenlearning([1.0, 1.0], 1, power=[1.0, 1.0], noise=-1), "^noise must be"),
        (lambda: solve_kappa([1.0, 0.5], 3), "below the number of modes.*2, found n=3"),
        (lambda: sample_size([1.0], 1.0), "^learnability must be below 1, found 1.0"),
        (lambda: sample_size([1.0], 1.5), "^learnability must be below 1, found 1.5"),
        (lambda: sample_size([1.0], 0.5, -1.0), "^ridge must be"),
        (lambda: overfitting_coefficient([1.0, 1.0], 1, -0.1), "^ridge must be"),
        (lambda: eigenlearning([1.0, 1.0], 1, -0.1, power=[1, 1]), "^ridge must be"),
        (lambda: sample_size([1.0], 0.0), "^learnability must be .* > 0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InvalidInputError, match=message):
        call()
