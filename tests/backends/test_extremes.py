"""Rows of extreme size: no NaN, no overflow, no digits lost before entries themselves underflow."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg import nn
from tests.backends.compare import KERNELS, needs_cpu, relative_error, rows

NONLINEARITIES = [
    nn.Relu(), nn.Sign(), nn.Erf(), nn.Sin(), nn.Gelu(), nn.Gabor(), nn.Rbf(), nn.Monomial(2),
    nn.Polynomial((0.0, 1.0, 1.0)), nn.Hermite((0.0, 1.0)), nn.Tanh(),
]  # fmt: skip


@needs_cpu
@pytest.mark.parametrize("fn", NONLINEARITIES, ids=repr)
@pytest.mark.parametrize("size", [1e-5, 1e-10, 1e-18, 1e-30])
def test_tiny_rows_in_float32(fn: nn.Nonlinearity, size: float) -> None:
    """The contract, save for what float32 cannot hold: entries below 1e-38 are 0."""
    X = rows(6)
    X[3:] *= size
    X = X.astype(np.float32)
    net = nn.serial(nn.Dense(), fn, nn.Dense())
    got = kernreg.gram(net, X, kernel=KERNELS, backend="cpu")
    want = kernreg.gram(net, X, kernel=KERNELS, backend="reference", dtype="float64")
    for kernel in KERNELS:
        d = np.diag(getattr(want, kernel))
        bound = 5e-6 * np.sqrt(np.outer(d, d)) + 1.2e-38
        error = np.abs(getattr(got, kernel) - getattr(want, kernel))
        assert np.isfinite(error).all()
        assert (error <= bound).all(), np.max(error / bound)


@needs_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-15, 1e15])
def test_scale_passes_through_homogeneous_networks(size: float, dtype: str) -> None:
    X = (size * rows(12)).astype(dtype).astype(float)
    net = nn.mlp(depth=3, b_std=None)
    bound = 5e-6 if dtype == "float32" else 1e-13
    assert relative_error(net, X, None, backend="cpu", dtype=dtype) <= bound


@needs_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fn", [nn.Erf(), nn.Sin(), nn.Gelu(), nn.Gaussian(), nn.Gabor()])
def test_large_rows(fn: nn.Nonlinearity, dtype: str) -> None:
    """Variances of 1e12 saturate; nothing overflows on the way.

    Gabor and Gaussian average to the inverse of such variances, which cancels in the gap.
    """
    X = (1e6 * rows(8)).astype(dtype).astype(float)
    net = nn.serial(nn.Dense(), fn, nn.Dense())
    bound = 5e-6 if dtype == "float32" else 1e-10
    assert relative_error(net, X, None, backend="cpu", dtype=dtype) <= bound
