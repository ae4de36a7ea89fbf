"""Very deep and very wide-tailed networks stay finite and within the numerics contract."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg import nn
from tests.backends.compare import native

KERNELS = ("nngp", "ntk")


def rows() -> np.ndarray:
    """Ordinary rows, a duplicate, near-duplicates, parallel, anti-parallel and zero rows."""
    rng = np.random.default_rng(20)
    X = rng.standard_normal((12, 10))
    X[6] = X[0]
    X[7] = X[1] + 1e-4 * X[2]
    X[8] = 3 * X[3]
    X[9] = -X[4]
    X[10] = 0
    X[11] = 1e-3 * X[5]
    return X.astype(np.float32)


def relative_error(net: nn.Layer, kernel: str, backend: str) -> float:
    """Worst ``|K32 - K64| / sqrt(K_ii K_jj)``; 0 / 0 counts as 0."""
    X = rows()
    single = kernreg.gram(net, X, kernel=kernel, dtype="float32", backend=backend)
    double = kernreg.gram(
        net, X.astype(np.float64), kernel=kernel, dtype="float64", backend="reference"
    )
    assert np.isfinite(single).all()
    scale = np.sqrt(np.outer(np.diagonal(double), np.diagonal(double)))
    error = np.abs(single - double)
    assert (error[scale == 0] == 0).all()
    return float(np.max(error[scale > 0] / scale[scale > 0]))


@native
@pytest.mark.parametrize(("b_std", "kernel"), [(0.0, "ntk"), (0.1, "nngp")])
def test_depth_10_000(b_std: float, kernel: str, backend: str) -> None:
    net = nn.mlp(depth=10_000, W_std=2**0.5, b_std=b_std)
    assert relative_error(net, kernel, backend) <= 1e-4


@native
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("b_std", [None, 0.1])
def test_W_std_16_over_15_layers(b_std: float | None, kernel: str, backend: str) -> None:
    """The kernel grows by 128 per layer, to 1e31 or so: products of variances overflow float32."""
    net = nn.mlp(depth=15, W_std=16.0, b_std=b_std)
    assert relative_error(net, kernel, backend) <= 2e-5
