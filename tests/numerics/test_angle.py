"""Series in the angle against the quadrature, pair by pair, and against ReLU in closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.ir.pair import Pair
from kernreg.numerics.angle import AngleSeries, fit_angle_series
from kernreg.numerics.quadrature import pair_moments, row_moments
from kernreg.numerics.torchmath import TorchMath

THETA = np.array([0.0, 1e-6, 1e-3, 0.3, 1.2, 2.5, np.pi - 1e-4, np.pi])


def gap_of(theta: np.ndarray) -> np.ndarray:
    return 2.0 * np.sin(0.5 * np.minimum(theta, np.pi - theta)) ** 2


def evaluate(series: AngleSeries, theta: np.ndarray, s1: np.ndarray, s2: np.ndarray) -> np.ndarray:
    """The three sums, shape (3, len(theta))."""
    order = np.arange(series.coefficients.shape[1])
    basis = np.cos(order * np.arccos(1.0 - 2.0 * theta / np.pi)[:, None])
    weights = series.weights(s1), series.weights(s2)
    return np.einsum("pm,cmjk,pj,pk->cp", basis, series.coefficients, *weights)


@pytest.mark.parametrize(
    ("fn", "low", "high", "tol"),
    [
        (nn.Selu(), 0.4, 2.0, 1e-13),
        (nn.Elu(), 0.0, 3.0, 1e-8),
        (nn.Tanh(), 2.0, 6.0, 1e-8),
    ],
    ids=repr,
)
def test_moments(fn: nn.Nonlinearity, low: float, high: float, tol: float) -> None:
    series = fit_angle_series(fn, low, high, tol)
    assert series is not None
    s1 = np.linspace(max(low, 0.01), high, len(THETA))
    s2 = np.roll(s1, 3)
    gap = gap_of(THETA)
    rho = np.where(np.pi / 2 > THETA, 1.0 - gap, gap - 1.0)
    m = pair_moments(fn, rho, gap, s1, s2)
    r1, r2 = (np.sqrt(row_moments(fn, s)[0].numpy()) for s in (s1, s2))
    value, slope, _ = evaluate(series, THETA, s1, s2)
    # The tolerance, relative to the slope at angle 0 where that is larger than 1, and rounding.
    size = max(1.0, float(np.max(np.abs(slope))))
    np.testing.assert_allclose(value, m.kappa.numpy() / (r1 * r2), rtol=0, atol=tol + 1e-13)
    want = m.kappa_dot.numpy() * s1 * s2 / (r1 * r2)
    np.testing.assert_allclose(slope, want, rtol=0, atol=size * (tol + 1e-13))


def test_gap_has_no_cancellation() -> None:
    """Elu(0) is ReLU: its normalised gap depends on the angle only, and is known in closed form."""
    series = fit_angle_series(nn.Elu(alpha=0.0), 0.5, 2.0, 1e-13)
    assert series is not None
    theta = np.array([1e-8, 1e-5, 1e-2, 0.5])
    s1, s2 = np.full(4, 0.7), np.full(4, 1.6)
    apart = (series.weights(s1) - series.weights(s2)) @ series.embedding.T
    lost = evaluate(series, theta, s1, s2)[2] * gap_of(theta)
    got = 0.5 * np.sum(apart**2, axis=1) + lost
    gap = torch.from_numpy(gap_of(theta))
    one = torch.ones_like(gap)
    want = nn.Relu().dual(TorchMath, Pair(1.0 - gap, gap, one, one)).gap
    # The third series is good to 1e-13 where it is about 1; rows of ReLU are apart by rounding.
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-11, atol=1e-27)


def test_weights_interpolate() -> None:
    series = fit_angle_series(nn.Elu(), 0.5, 2.0, 1e-8)
    assert series is not None
    weights = series.weights(np.linspace(0.5, 2.0, 7))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=0, atol=1e-14)


def test_like_ranges_share_a_series() -> None:
    assert fit_angle_series(nn.Elu(), 0.51, 1.9, 1e-8) is fit_angle_series(
        nn.Elu(), 0.52, 1.91, 1e-8
    )


def test_rows_of_zeros_only() -> None:
    series = fit_angle_series(nn.Elu(), 0.0, 0.0, 1e-8)
    assert series is not None
    assert np.isfinite(series.coefficients).all()


def test_too_steep() -> None:
    assert fit_angle_series(nn.Tanh(), 1.0, 100.0, 1e-8) is None
