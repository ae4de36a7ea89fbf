"""Networks, images and distances of kernels that the tests of planes share.

Bounds. An entry is a mean over positions of numbers that went through about twenty roundings in
each layer, grown by less than ten, as for rows (test_tiles.py): 200 eps of ``sqrt(K_ii K_jj)`` for
each layer. In float32 the contract of the design holds: 5e-6, and 2e-5 where images or positions
are equal, nearly equal or parallel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kernreg
from kernreg import nn
from tests.backends.compare import KERNELS

EPS = float(np.finfo(np.float64).eps)
SINGLE, NEAR_SINGLE = 5e-6, 2e-5
# Five layers at most, and both sides of an identity may be off.
IDENTICAL = {"float64": 2 * 5 * 200 * EPS, "float32": 2 * SINGLE}
DTYPES = ("float64", "float32")
dtypes = pytest.mark.parametrize("dtype", DTYPES)

relu, erf, head = nn.Relu(), nn.Erf(), nn.Dense(1.1, 0.3)


def images(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Ordinary images, exact in float32."""
    X = np.random.default_rng(seed).standard_normal((n, *shape))
    return X.astype(np.float32).astype(np.float64)


def conv(size: int = 3, b_std: float = 0.1, axes: int = 2, **options: Any) -> nn.Layer:
    return nn.Conv((size,) * axes, W_std=2**0.5, b_std=b_std, **options)


plain = conv(b_std=0.0)


def scales(net: nn.Layer, X: np.ndarray, Y: np.ndarray | None = None) -> list[np.ndarray]:
    """``sqrt(K_ii K_jj)`` of both kernels."""
    roots = [
        [np.sqrt(kernreg.diag(net, Z, k)) for k in KERNELS] for Z in (X, X if Y is None else Y)
    ]
    return [np.outer(a, b) for a, b in zip(*roots, strict=True)]


def apart(got: Any, want: Any, scale: list[np.ndarray]) -> float:
    """Worst difference of both kernels over ``scale``, 0 / 0 being 0."""
    worst = 0.0
    for a, b, s in zip(got, want, scale, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(a).all()
        assert np.isfinite(b).all()
        error = np.abs(a.astype(np.float64) - b)
        assert (error[s == 0] == 0).all()
        worst = max(worst, float(np.max(error[s > 0] / s[s > 0], initial=0.0)))
    return worst


def both(net: nn.Layer, X: Any, Y: Any = None, **options: Any) -> Any:
    return kernreg.gram(net, X, Y, kernel=KERNELS, **options)


def off(
    net: nn.Layer, X: np.ndarray, Y: np.ndarray | None = None, *dtypes: str, want: Any = None
) -> list[float]:
    """How far planes are from the reference, in ``sqrt(K_ii K_jj)``, in each arithmetic."""
    want = both(net, X, Y, backend="reference") if want is None else want
    scale = scales(net, X, Y)
    found = (both(net, X, Y, backend="cpu", dtype=dtype) for dtype in dtypes or DTYPES)
    return [apart(got, want, scale) for got in found]


def tower(readout: nn.Layer, *between: nn.Layer, **options: Any) -> nn.Layer:
    return nn.serial(conv(**options), relu, *between, conv(), erf, readout, head)


NETWORKS: dict[str, nn.Layer] = {
    "flatten": tower(nn.Flatten()),
    "average": tower(nn.GlobalAvgPool()),
    "strides": tower(nn.GlobalAvgPool(), strides=2),
    "pool": tower(nn.Flatten(), nn.AvgPool((2, 2))),
    "pool at last": nn.serial(conv(), relu, nn.AvgPool((2, 2)), nn.Flatten(), head),
    "tail": nn.serial(tower(nn.GlobalAvgPool()), relu, nn.Dense()),
    "two readouts": nn.serial(
        conv(),
        relu,
        nn.parallel(nn.serial(nn.Flatten(), nn.Dense()), nn.serial(nn.GlobalAvgPool(), head)),
    ),
    "circular": nn.serial(conv(padding="CIRCULAR"), relu, nn.GlobalAvgPool(), head),
    "dropout": tower(nn.GlobalAvgPool(), nn.Dropout(0.7)),
    "normalised": nn.serial(
        conv(), nn.LayerNorm(axes=(0, 1)), relu, conv(), relu, nn.Flatten(), head
    ),
    "local": nn.serial(nn.ConvLocal((3, 3), W_std=1.4), relu, nn.GlobalAvgPool(), head),
    "series": nn.serial(conv(), nn.Tanh(), conv(), relu, nn.GlobalAvgPool(), head),
    "residual": nn.serial(
        conv(), nn.residual(nn.serial(relu, conv())), relu, nn.GlobalAvgPool(), head
    ),
    "mirror": nn.flip_augmented(tower(nn.GlobalAvgPool())),
    "mirror, strides": nn.flip_augmented(tower(nn.GlobalAvgPool(), strides=2)),
}
networks = pytest.mark.parametrize("name", NETWORKS)
