from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError
from kernreg.theory.eigenlearning.curves import measure_learning_curve
from kernreg.theory.eigenlearning.errors import eigenlearning
from kernreg.theory.eigenlearning.finite_pool import errors_from_points, errors_from_spectrum
from kernreg.theory.eigenlearning.from_training import training_estimates
from kernreg.theory.eigenlearning.problem import decompose
from kernreg.theory.eigenlearning.spectra import spectrum_of
from kernreg.theory.eigenlearning.spectrum import Spectrum


def pool(size=120):
    X = np.random.default_rng(0).normal(size=(size, 3))
    return gram(nn.mlp(depth=2), X), np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]], axis=1)


def both(K, Y, n, ridge, noise=0.0):
    spread = errors_from_spectrum(spectrum_of(decompose(K), Y), n, ridge, noise)
    return spread, errors_from_points(K, Y, n, ridge, noise, kappa=spread.kappa)


def haar(size, exponent, seed=0):
    """Power law eigenvalues, eigenvectors spread evenly, a target of the same power law."""
    values = size * np.arange(1, size + 1) ** -exponent
    U = scipy.stats.ortho_group.rvs(size, random_state=seed)
    target = U @ (np.sqrt(values) * np.random.default_rng(seed).normal(size=size))
    return (U * values) @ U.T, target[:, None]


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_all_points_give_cross_validation(ridge):
    """One point left to test on, in the limit: GCV from the spectrum, LOO from the points."""
    K, Y = pool()
    expected = training_estimates(K, None, Y, ridge, alpha_scale="absolute")
    spread, points = both(K, Y, len(K), ridge)
    assert spread.test == pytest.approx(expected.gcv, rel=1e-9)
    assert points.test == pytest.approx(expected.loo, rel=1e-9)
    for found in (spread, points):
        assert found.train == pytest.approx(expected.train, rel=1e-9)


@pytest.mark.parametrize("n", [5, 60, 110])
def test_without_ridge_it_is_eigenlearning_on_the_rest(n):
    K, Y = pool()
    spectrum = spectrum_of(decompose(K), Y)
    found = errors_from_spectrum(spectrum, n, 0.0)
    expected = eigenlearning(spectrum, n)
    assert found.kappa == pytest.approx(expected.kappa, rel=1e-11)
    assert found.test == pytest.approx(expected.test * 120 / (120 - n), rel=1e-9)
    assert found.train == 0.0


def test_large_pool_tends_to_eigenlearning():
    """The same leading modes in pools that grow, with a bulk that acts as a ridge."""
    gaps = []
    for size in (400, 4000, 40000):
        values = np.concatenate([np.arange(1, 101) ** -2.0, np.full(size - 100, 0.1 / size)])
        power = np.concatenate([np.arange(1, 101) ** -2.0, np.zeros(size - 100)])
        spectrum = Spectrum(values, power=power, size=size)
        found = errors_from_spectrum(spectrum, 50, 0.2, 0.3)
        expected = eigenlearning(spectrum, 50, 0.2, noise=0.3)
        gaps.append(abs(found.test / expected.test - 1))
        gaps.append(abs(found.train / expected.train - 1))
    # Proportional to n over the size of the pool.
    assert gaps[0] > 5 * gaps[2] > 25 * gaps[4]
    assert gaps[1] > 5 * gaps[3] > 25 * gaps[5]
    assert max(gaps[4:]) < 2e-3


@pytest.mark.parametrize("n", [40, 150, 260])
@pytest.mark.parametrize("ridge", [0.0, 0.5])
def test_even_eigenvectors_against_regression(n, ridge):
    """Free probability: exact in the limit, and 1/n away from it here."""
    K, Y = haar(300, 1.5)
    measured = measure_learning_curve(K, None, Y, [n], ridge, alpha_scale="absolute", trials=30)
    for found in both(K, Y, n, ridge):
        slack = 0.02 + 4 * measured.test_error / measured.test
        assert abs(found.test / measured.test - 1) < slack
        if ridge:
            slack = 0.02 + 4 * measured.train_error / measured.train
            assert abs(found.train / measured.train - 1) < slack


def test_drawing_without_replacement_matters():
    """Half of the pool, a strong ridge: eigenlearning alone is far off."""
    K, Y = haar(300, 1.5)
    spectrum = spectrum_of(decompose(K), Y)
    wrong = eigenlearning(spectrum, 150, 5.0)
    right = errors_from_spectrum(spectrum, 150, 5.0)
    measured = measure_learning_curve(K, None, Y, [150], 5.0, alpha_scale="absolute", trials=30)
    naive = (300 * wrong.test - 150 * wrong.train) / 150
    assert abs(right.test / measured.test[0] - 1) < 0.05
    assert abs(naive / measured.test[0] - 1) > 0.1


@pytest.mark.parametrize("n", [60, 220])
def test_label_noise(n):
    K, Y = haar(300, 1.5)
    measured = measure_learning_curve(
        K, None, Y, [n], 5.0, alpha_scale="absolute", noise=1.5, trials=30
    )
    for found in both(K, Y, n, 5.0, 1.5):
        for name in ("test", "train"):
            value, error = getattr(measured, name)[0], getattr(measured, f"{name}_error")[0]
            assert abs(getattr(found, name) - value) < 0.02 * value + 4 * error


@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_half_of_a_hypercube(ridge):
    """Noisy labels on half of 256 corners, where eigenlearning alone says 0.62 at ridge 0."""
    corners = 1.0 - 2.0 * ((np.arange(256)[:, None] >> np.arange(8)) & 1)
    K = gram(nn.mlp(depth=2, b_std=0.0), corners) / 6.0 + 0.05
    y = corners[:, 0] * corners[:, 1]
    measured = measure_learning_curve(
        K, None, y, [128], ridge, alpha_scale="absolute", noise=0.5, trials=60
    )
    spread, points = both(K, y[:, None], 128, ridge, 0.5)
    # All corners are alike.
    assert points.test == pytest.approx(spread.test, rel=1e-6)
    assert abs(points.test - measured.test[0]) < 0.01 * points.test + 4 * measured.test_error[0]
    assert points.train == pytest.approx(spread.train, rel=1e-6)


def unequal_pool():
    """Half of the points in tight clusters with labels of their own, half spread out."""
    random = np.random.default_rng(0)
    centres = random.normal(size=(12, 4))
    tight = np.repeat(centres, 20, axis=0) + 0.02 * random.normal(size=(240, 4))
    X = np.concatenate([tight, random.normal(size=(240, 4)) * 2.0])
    y = np.concatenate([np.repeat(random.normal(size=12), 20), np.sin(2 * X[240:, 0])])
    return gram(nn.mlp(depth=3), X), y


@pytest.mark.parametrize("n", [120, 240])
def test_unequal_points_need_their_own_thresholds(n):
    K, y = unequal_pool()
    measured = measure_learning_curve(K, None, y, [n], 0.01, trials=40)
    ridge = 0.01 * np.mean(np.diag(K))
    spread, points = both(K, y[:, None], n, ridge)
    # Standard errors are 2 per cent.
    assert abs(points.test / measured.test[0] - 1) < 0.08
    assert abs(spread.test / measured.test[0] - 1) > 0.1
    assert abs(points.train / measured.train[0] - 1) < 0.08
    assert abs(spread.train / measured.train[0] - 1) > 0.2


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_any_start_leads_to_the_same_thresholds(factor):
    K, y = unequal_pool()
    start = errors_from_spectrum(spectrum_of(decompose(K), y[:, None]), 100, 0.1).kappa
    expected = errors_from_points(K, y[:, None], 100, 0.1, kappa=start)
    found = errors_from_points(K, y[:, None], 100, 0.1, kappa=factor * start)
    # Newton stops within 1e-8 and is quadratic, so far less is left.
    assert found.test == pytest.approx(expected.test, rel=1e-7)
    assert found.kappa == pytest.approx(expected.kappa, rel=1e-7)


def test_singular_pool_needs_a_ridge():
    K, Y = pool(40)
    K, Y = np.kron(np.ones((2, 2)), K), np.concatenate([Y, Y])
    spectrum = spectrum_of(decompose(K), Y)
    with pytest.raises(InvalidInputError, match="below the rank of the kernel matrix, 40 of 80"):
        errors_from_spectrum(spectrum, 50, 0.0)
    with pytest.raises(InvalidInputError, match=r"[Rr]aise alpha"):
        errors_from_points(K, Y, 60, 1e-13, kappa=1e-3)
    assert np.isfinite(errors_from_spectrum(spectrum, 50, 1e-3).test)


@pytest.mark.parametrize(
    "spectrum",
    [
        Spectrum([1.0, 0.5], size=2),
        Spectrum([1.0, 0.5], power=[1.0, 1.0]),
        Spectrum([1.0, 0.5], tail=0.1, power=[1.0, 1.0], size=2),
        Spectrum([1.0], power=[1.0], size=2),
    ],
)
def test_needs_the_whole_spectrum_of_a_sample(spectrum):
    with pytest.raises(InvalidInputError, match="sample_spectrum"):
        errors_from_spectrum(spectrum, 1, 0.0)
