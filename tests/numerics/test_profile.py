"""Chebyshev series in the angle."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.numerics.profile import fit_profile


def relu_network(depth: int, theta: np.ndarray) -> np.ndarray:
    """Correlation and normalised tangent kernel of a deep ReLU network without biases."""
    c, t = np.cos(theta), np.cos(theta)
    for _ in range(depth):
        a = np.arccos(np.clip(c, -1, 1))
        c, slope = (np.sin(a) + (np.pi - a) * np.cos(a)) / np.pi, (np.pi - a) / np.pi
        t = c + slope * t
    return np.stack([c, t])


@pytest.mark.parametrize("depth", [1, 4, 30, 100])
def test_a_deep_network_is_one_series(depth: int) -> None:
    """At angles between the nodes too; acos in the test's own recursion is good to 1e-8."""
    profile = fit_profile(lambda t: relu_network(depth, t), 1e-6, depth)
    assert profile is not None
    assert profile.error <= 1e-6
    assert profile.coefficients.shape[1] <= 16 * depth**0.5 + 16
    theta = np.random.default_rng(0).uniform(0, np.pi, 500)
    got = np.polynomial.chebyshev.chebval(1 - 2 * theta / np.pi, profile.coefficients.T)
    want = relu_network(depth, theta)
    # The reported error was seen at 700 other angles; a smooth curve does not double between.
    scale = np.abs(relu_network(depth, np.zeros(1)))
    assert np.max(np.abs(got - want) / scale) <= 2e-6


def test_a_polynomial_in_the_cosine_is_exact_and_short() -> None:
    """cos and cos^3 are entire: 20 terms reach rounding."""
    profile = fit_profile(lambda t: np.stack([np.cos(t), np.cos(t) ** 3]), 1e-13, depth=1)
    assert profile is not None
    assert profile.coefficients.shape[1] <= 32
    assert profile.error <= 1e-13


def test_terms_are_dropped_to_the_tolerance() -> None:
    lengths = []
    for tol in (1e-3, 1e-6, 1e-12):
        profile = fit_profile(lambda t: np.stack([np.cos(t), np.sin(t)]), tol, depth=1)
        assert profile is not None
        lengths.append(profile.coefficients.shape[1])
        assert profile.error <= tol
    assert lengths[0] < lengths[1] < lengths[2]


def test_more_terms_than_the_first_guess() -> None:
    """``cos 40 t`` needs more than 16 terms; the fit doubles until it has them."""
    profile = fit_profile(lambda t: np.stack([np.cos(40 * t), np.cos(t)]), 1e-10, depth=1)
    assert profile is not None
    assert 40 < profile.coefficients.shape[1] <= 256


@pytest.mark.parametrize(
    "f",
    [
        lambda t: np.stack([np.abs(np.cos(t)), np.cos(t)]),
        lambda t: np.stack([np.cos(t), np.sign(np.cos(t))]),
        lambda t: np.stack([np.sqrt(t), np.cos(t)]),
    ],
)
def test_a_kink_inside_is_refused(f: object) -> None:
    """No series of 256 terms gives 1e-10 there: |cos t| leaves 1 / terms, a jump leaves 1."""
    assert fit_profile(f, 1e-10, depth=1, max_terms=256) is None  # type: ignore[arg-type]


def test_zero_at_angle_0() -> None:
    """Nothing divides by the value at 0."""
    profile = fit_profile(lambda t: np.stack([np.sin(t), 0 * t]), 1e-12, depth=1)
    assert profile is not None
    assert np.isfinite(profile.coefficients).all()
