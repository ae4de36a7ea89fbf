"""Images that are alike, dark, bright or constant, and long loops, on the C++ planes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from kernreg import nn
from tests.backends.compare import native, needs_cpu
from tests.backends.planes.measures import (
    EPS,
    IDENTICAL,
    NEAR_SINGLE,
    SINGLE,
    apart,
    both,
    conv,
    dtypes,
    erf,
    head,
    images,
    off,
    plain,
    relu,
    scales,
)


def nearly_equal(*shape: int) -> np.ndarray:
    """An image, the same, others that are 1e-3 to 1e-7 apart from it, and an ordinary one."""
    X = images(8, *shape)
    X[1] = X[0]
    for k, distance in enumerate((1e-3, 1e-4, 1e-4, 1e-5, 1e-7), start=2):
        X[k] = X[0] + distance * images(1, *shape, seed=k)[0]
    return X.astype(np.float32).astype(np.float64)


NEAR: dict[str, nn.Layer] = {
    "flatten": nn.serial(conv(), relu, conv(), relu, nn.Flatten(), head),
    "no biases": nn.serial(plain, relu, plain, relu, nn.Flatten(), nn.Dense()),
    "average": nn.serial(conv(), relu, conv(), relu, nn.GlobalAvgPool(), head),
    "strides": nn.serial(conv(strides=2), relu, conv(), relu, nn.Flatten(), head),
    "circular": nn.serial(conv(padding="CIRCULAR"), relu, nn.GlobalAvgPool(), head),
    "jumps": nn.serial(conv(), nn.Sign(), conv(), relu, nn.Flatten(), head),
    "smooth": nn.serial(conv(), nn.Gelu(), conv(), erf, nn.GlobalAvgPool(), head),
    "tail": nn.serial(conv(), relu, nn.Flatten(), head, relu, nn.Dense()),
    "pool at last": nn.serial(conv(), relu, conv(), relu, nn.LocalAvgPool(1), nn.Flatten(), head),
    "pool": nn.serial(plain, relu, nn.AvgPool((2, 2)), plain, relu, nn.Flatten(), nn.Dense()),
    "pool before a kink": nn.serial(conv(), nn.AvgPool((3, 3)), relu, nn.Flatten(), head),
    "pool before a jump": nn.serial(conv(), nn.AvgPool((2, 2)), nn.Sign(), nn.Flatten(), head),
    "tail behind an average": nn.serial(
        plain, relu, nn.GlobalAvgPool(), nn.Dense(), nn.Abs(), nn.Dense()
    ),
}


@needs_cpu
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NEAR)
def test_nearly_equal_images_in_float32(name: str, channels: int) -> None:
    """Distances are sums of squares, so that small ones are as exact as large ones; those behind a
    pool are differences, and such pairs are computed again in float64."""
    X = nearly_equal(6, 6, channels)
    for Y in (None, X[::-1].copy()):
        assert max(off(NEAR[name], X, Y, "float32")) <= NEAR_SINGLE


@native
@dtypes
@pytest.mark.parametrize("name", NEAR)
def test_equal_images(name: str, dtype: str, backend: str) -> None:
    """What both share cancels exactly, in every arithmetic: no kink sees a distance."""
    net, X = NEAR[name], images(4, 6, 6, 2)
    X[2] = X[0]
    made = both(net, X, backend=backend, dtype=dtype)
    for K, scale in zip(made, scales(net, X), strict=True):
        error = np.abs(K - K[[2, 1, 0, 3]]) / scale
        error[0, 0] = error[2, 2] = np.abs(K[0, 2] - K[0, 0]) / scale[0, 0]
        assert (error[[0, 2]] <= 5 * 200 * np.finfo(dtype).eps).all()


PARALLEL = 2 * (8 * EPS) ** 0.5 / np.pi


def pictures(channels: int) -> np.ndarray:
    """Constant regions, constant images, and an image of zeros."""
    X = images(6, 6, 6, channels)
    X[0, :, 3:] = 0.75
    X[1] = 0.25
    X[2, :3] = -0.5
    X[3] = X[2]
    X[3, 4:] = 0.125
    X[4] = 0.0
    return X


PICTURES: dict[str, Callable[[float], nn.Layer]] = {
    "flatten": lambda b: nn.serial(
        conv(b_std=b), relu, conv(b_std=b), relu, nn.Flatten(), nn.Dense(1.1, b)
    ),
    "average": lambda b: nn.serial(
        conv(b_std=b), relu, conv(b_std=b), relu, nn.GlobalAvgPool(), nn.Dense(1.1, b)
    ),
    "pool": lambda b: nn.serial(
        conv(b_std=b), relu, nn.AvgPool((2, 2)), conv(b_std=b), relu, nn.Flatten(), nn.Dense(1.1, b)
    ),
    "strides": lambda b: nn.serial(
        conv(b_std=b, strides=2), relu, conv(b_std=b), erf, nn.GlobalAvgPool(), nn.Dense(1.1, b)
    ),
    "tail": lambda b: nn.serial(
        conv(b_std=b), relu, nn.GlobalAvgPool(), nn.Dense(1.1, b), relu, nn.Dense()
    ),
}


@needs_cpu
@pytest.mark.parametrize("b_std", [0.0, 0.1])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_constant_regions(name: str, channels: int, b_std: float) -> None:
    """Without biases equal regions are parallel: their gap is a rounding of 4 eps or so, its root
    the angle, and each of two kinks takes angle / pi of the tangent kernel."""
    net, X = PICTURES[name](b_std), pictures(channels)
    X = X[X.reshape(len(X), -1).any(axis=1)]
    double, single = off(net, X)
    assert double <= (PARALLEL if b_std == 0 else IDENTICAL["float64"])
    assert single <= (NEAR_SINGLE if b_std == 0 else SINGLE)


@native
@dtypes
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PICTURES)
def test_an_image_of_zeros(name: str, channels: int, dtype: str, backend: str) -> None:
    X = pictures(channels)
    without, biased = (both(PICTURES[name](b), X, backend=backend, dtype=dtype) for b in (0.0, 0.1))
    for K in without:
        assert np.isfinite(K).all()
        assert K[4, 4] == 0
        # Nothing but the rounding of the other image's variance is left.
        eps = float(np.finfo(dtype).eps)
        assert (np.abs(K[4]) <= 200 * eps * np.diagonal(K)).all()
    for K in biased:
        assert (K[4] > 0).all()


@native
@dtypes
@pytest.mark.parametrize("name", PICTURES)
def test_nothing_but_zeros(name: str, dtype: str, backend: str) -> None:
    """All images are one, of which biases are left."""
    X = np.zeros((2, 6, 6, 2))
    for K in both(PICTURES[name](0.1), X, backend=backend, dtype=dtype):
        assert (K > 0).all()
        np.testing.assert_allclose(K, K[0, 0], rtol=5 * 200 * float(np.finfo(dtype).eps))
    for K in both(PICTURES[name](0.0), X, backend=backend, dtype=dtype):
        assert (K == 0).all()


@needs_cpu
@pytest.mark.parametrize("name", PICTURES)
def test_images_that_differ_by_a_factor(name: str) -> None:
    """Without biases all their positions are parallel: see test_constant_regions."""
    X = images(3, 6, 6, 2)
    X[1] = 3 * X[0]
    double, single = off(PICTURES[name](0.0), X)
    assert double <= PARALLEL
    assert single <= NEAR_SINGLE


@native
def test_an_image_of_zeros_meets_nothing(backend: str) -> None:
    """``|K_ij| <= sqrt(K_ii K_jj)``, which is 0 without biases."""
    for make in PICTURES.values():
        for K in both(make(0.0), pictures(3), backend=backend):
            assert (K[4] == 0).all()


def scaling(readout: nn.Layer) -> nn.Layer:
    """Without biases: kernels scale with both images."""
    return nn.serial(plain, relu, nn.AvgPool((2, 2)), plain, relu, readout, nn.Dense())


@needs_cpu
@pytest.mark.parametrize("factor", [2.0**-50, 2.0**50])
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
def test_dark_and_bright_images(factor: float, readout: nn.Layer) -> None:
    """A power of 2 changes no digit of the data."""
    net, X = scaling(readout), images(4, 6, 6, 2)
    want, scale = both(net, X, backend="reference"), scales(net, X)
    for dtype, tolerance in IDENTICAL.items():
        got = both(net, (factor * X).astype(dtype), backend="cpu")
        assert got.ntk.dtype == dtype
        assert apart([K.astype(np.float64) / factor**2 for K in got], want, scale) <= tolerance


@needs_cpu
@pytest.mark.parametrize("factor", [2.0**3, 2.0**10, 2.0**20])
@dtypes
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
def test_dark_beside_bright_images(factor: float, dtype: str, readout: nn.Layer) -> None:
    """A covariance is a difference of variances: in float64 eps times the factor is left of the
    larger one, so that float32 asks float64."""
    net, X = scaling(readout), images(4, 6, 6, 2)
    sizes = np.array([1.0, factor, 1.0, factor])
    got = both(net, X * sizes[:, None, None, None], backend="cpu", dtype=dtype)
    unscaled = [K / np.outer(sizes, sizes) for K in got]
    tolerance = SINGLE if dtype == "float32" else factor * IDENTICAL[dtype]
    assert apart(unscaled, both(net, X, backend="reference"), scales(net, X)) <= tolerance


@needs_cpu
@pytest.mark.parametrize("readout", ["average", "flatten"])
@pytest.mark.parametrize("b_std", [None, 0.1])
def test_W_std_16_over_15_layers(b_std: float | None, readout: str) -> None:
    """The kernel grows by 128 per layer, to 1e31 or so: squares of variances overflow float32."""
    net = nn.cnn(depth=15, W_std=16.0, b_std=b_std, readout=readout)
    assert max(off(net, images(3, 4, 4, 3), None, "float32")) <= 1e-4


@needs_cpu
@pytest.mark.parametrize(
    ("block", "readout"),
    [
        (nn.serial(relu, conv(2)), nn.GlobalAvgPool()),
        (nn.residual(nn.serial(relu, nn.Conv((2, 2), W_std=0.3, b_std=0.1))), nn.Flatten()),
    ],
)
def test_loops_stay_loops(block: nn.Layer, readout: nn.Layer) -> None:
    """From 64 turns on; 70 of them, each of 200 eps."""
    net = nn.serial(conv(), nn.repeat(block, 70), relu, readout, nn.Dense())
    double, single = off(net, images(2, 3, 3, 2))
    assert double <= 70 * 200 * EPS
    assert single <= 1e-4
