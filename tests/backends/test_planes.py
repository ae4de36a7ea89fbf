"""Images on the reference and on the C++ planes: identities, hard images, random networks.

Bounds. An entry is a mean over positions of numbers that went through about twenty roundings in
each layer, grown by less than ten, as for rows (test_tiles.py): 200 eps of ``sqrt(K_ii K_jj)`` for
each layer. In float32 the contract of the design holds: 5e-6, and 2e-5 where images or positions
are equal, nearly equal or parallel.
"""

from __future__ import annotations

import functools
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import KernelOperator, nn
from kernreg.backends import cpu
from kernreg.backends.blocks import evaluate_blocks
from kernreg.backends.planes import bound
from kernreg.exceptions import BackendError
from tests.backends.compare import KERNELS, chosen_freely, native, needs_cpu, needs_triton, on

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


# Identities


@native
@dtypes
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool(), nn.GlobalSumPool()])
@pytest.mark.parametrize("size", [1, 3])
def test_one_pixel_is_a_row(size: int, readout: nn.Layer, dtype: str, backend: str) -> None:
    """All other positions of a filter find nothing, so that weights are smaller by its size."""
    first, second = (
        nn.Conv((size, size), W_std=size * W, b_std=b) for W, b in ((1.4, 0.2), (1.2, 0.1))
    )
    net = nn.serial(first, relu, second, erf, readout, head)
    dense = nn.serial(nn.Dense(1.4, 0.2), relu, nn.Dense(1.2, 0.1), erf, head)
    X, Y = images(5, 1, 1, 3), images(4, 1, 1, 3, seed=1)
    for Z in (None, Y):
        rows = None if Z is None else Z[:, 0, 0]
        want = both(dense, X[:, 0, 0], rows, backend="reference")
        got = both(net, X, Z, backend=backend, dtype=dtype)
        assert apart(got, want, scales(dense, X[:, 0, 0], rows)) <= IDENTICAL[dtype]


@native
@dtypes
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
def test_a_filter_of_one_position_is_dense(readout: nn.Layer, dtype: str, backend: str) -> None:
    def net(layer: Callable[..., nn.Layer]) -> nn.Layer:
        return nn.serial(layer(1.4, 0.2), relu, conv(), erf, layer(1.2, 0.1), relu, readout, head)

    X = images(4, 5, 4, 2)
    got = both(net(lambda W, b: nn.Conv((1, 1), W_std=W, b_std=b)), X, backend=backend, dtype=dtype)
    want = both(net(nn.Dense), X, backend="reference")
    assert apart(got, want, scales(net(nn.Dense), X)) <= IDENTICAL[dtype]


@native
@dtypes
@pytest.mark.parametrize("shape", [(4, 5, 2), (7, 3)])
def test_global_average_is_the_mean_over_translations(
    shape: tuple[int, ...], dtype: str, backend: str
) -> None:
    """Where positions wrap around; so also with filters of an even number of positions."""
    axes = len(shape) - 1

    def net(readout: nn.Layer) -> nn.Layer:
        options = {"axes": axes, "padding": "CIRCULAR"}
        return nn.serial(conv(3, **options), relu, conv(2, **options), erf, readout, head)

    X, Y = images(3, *shape), images(2, *shape, seed=1)
    moved = [np.roll(Y, shift, axis=tuple(range(1, 1 + axes))) for shift in np.ndindex(*shape[:-1])]
    flat = both(net(nn.Flatten()), X, np.concatenate(moved), backend=backend, dtype=dtype)
    want = [K.astype(np.float64).reshape(3, -1, 2).mean(axis=1) for K in flat]
    pooled = net(nn.GlobalAvgPool())
    # Those of Flatten are larger: the errors are of those.
    scale = scales(net(nn.Flatten()), X, Y)
    got = both(pooled, X, Y, backend=backend, dtype=dtype)
    assert apart(got, want, scale) <= IDENTICAL[dtype]


@native
@dtypes
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_weights_of_their_own_matter_only_between_positions(
    depth: int, dtype: str, backend: str
) -> None:
    """Behind ``Flatten`` no two different positions meet."""

    def net(layer: Any) -> nn.Layer:
        block = nn.serial(layer((3, 3), W_std=1.4, b_std=0.1), relu)
        return nn.serial(*[block] * depth, nn.Flatten(), head)

    X, Y = images(4, 5, 4, 2), images(3, 5, 4, 2, seed=1)
    for Z in (None, Y):
        got = both(net(nn.ConvLocal), X, Z, backend=backend, dtype=dtype)
        want = both(net(nn.Conv), X, Z, backend="reference")
        assert apart(got, want, scales(net(nn.Conv), X, Z)) <= IDENTICAL[dtype]


@native
@dtypes
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
def test_the_order_of_channels_does_not_matter(readout: nn.Layer, dtype: str, backend: str) -> None:
    net = nn.serial(conv(), relu, nn.AvgPool((2, 2)), conv(), relu, readout, head)
    X = images(4, 6, 5, 3)
    got = both(net, X[..., [2, 0, 1]], backend=backend, dtype=dtype)
    assert apart(got, both(net, X, backend="reference"), scales(net, X)) <= IDENTICAL[dtype]


def window_matrix(
    size: int, window: int, stride: int, padding: str, how: str = "mean"
) -> np.ndarray:
    """What each window along an axis takes of each position, spelled out."""
    out = (size - window) // stride + 1 if padding == "VALID" else -(-size // stride)
    low = 0 if padding == "VALID" else max((out - 1) * stride + window - size, 0) // 2
    A = np.zeros((out, size))
    for o in range(out):
        for p in range(o * stride - low, o * stride - low + window):
            if padding == "CIRCULAR":
                A[o, p % size] += 1
            elif 0 <= p < size:
                A[o, p] += 1
    if how == "sum":
        return A
    return A / (A.sum(axis=1, keepdims=True) if how == "present" else window)


POOLS: dict[str, tuple[nn.Layer, tuple[int, int, str, str]]] = {
    "local 1": (nn.LocalAvgPool(1), (3, 1, "SAME", "mean")),
    "local 2": (nn.LocalAvgPool(2), (5, 1, "SAME", "mean")),
    "valid": (nn.AvgPool((2, 2)), (2, 2, "VALID", "mean")),
    "valid, overlapping": (nn.AvgPool((3, 3), strides=2), (3, 2, "VALID", "mean")),
    "same": (nn.AvgPool((3, 3), strides=2, padding="SAME"), (3, 2, "SAME", "mean")),
    "edges": (
        nn.AvgPool((3, 3), strides=1, padding="SAME", normalize_edges=True),
        (3, 1, "SAME", "present"),
    ),
    "sum": (nn.SumPool((2, 2), strides=1, padding="SAME"), (2, 1, "SAME", "sum")),
    "circular": (nn.AvgPool((2, 2), padding="CIRCULAR"), (2, 2, "CIRCULAR", "mean")),
}


def covariances(net: nn.Layer, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both kernels of every two positions of every two images, by the reference."""
    n = len(X)
    program = nn.serial(nn.Unflatten(X.shape[1:]), net).program()
    first, second = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    own = torch.arange(n)
    pair, row = evaluate_blocks(
        program.ops,
        program.params,
        torch.from_numpy(X),
        torch.cat([first, own]),
        torch.cat([second, own]),
    )
    s = row.s.reshape(n, -1)
    scale = s[first][:, :, None] * s[second][:, None, :]
    found = (
        (scale * v[: n * n]).numpy().reshape(n, n, *scale.shape[1:]) for v in (pair.rho, pair.tau)
    )
    k, t = found
    return k, t


@native
@dtypes
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool(), nn.GlobalSumPool()])
@pytest.mark.parametrize("name", POOLS)
def test_pooling_is_a_sum_over_positions(
    name: str, readout: nn.Layer, dtype: str, backend: str
) -> None:
    pool, (window, stride, padding, how) = POOLS[name]
    X = images(3, 6, 4, 2)
    before = nn.serial(conv(), relu, conv(), relu)
    A = np.kron(*(window_matrix(n, window, stride, padding, how) for n in (6, 4)))
    if isinstance(readout, nn.Flatten):
        weights = A.T @ A / len(A)
    else:
        total = A.sum(axis=0) / (len(A) if isinstance(readout, nn.GlobalAvgPool) else 1)
        weights = np.outer(total, total)
    k, t = (np.einsum("ijpq,pq->ij", K, weights) for K in covariances(before, X))
    k = 1.1**2 * k + 0.3**2
    want = (k, k + 1.1**2 * t)
    got = both(nn.serial(before, pool, readout, head), X, backend=backend, dtype=dtype)
    scale = [np.sqrt(np.outer(np.diag(K), np.diag(K))) for K in want]
    assert apart(got, want, scale) <= IDENTICAL[dtype]


# Mirror images


def mirrored(X: np.ndarray) -> np.ndarray:
    return np.flip(X, axis=X.ndim - 2)


def mean_over_flips(
    net: nn.Layer, X: np.ndarray, Y: np.ndarray | None, **options: Any
) -> list[np.ndarray]:
    """All four kernels; an image and itself are one sample, an image and its mirror image two."""
    other = X if Y is None else Y
    kernels = [
        both(net, X, Y, **options),
        both(net, X, mirrored(other), **options),
        both(net, mirrored(X), other, **options),
        both(net, mirrored(X), None if Y is None else mirrored(Y), **options),
    ]
    return [np.mean([np.asarray(K[i], np.float64) for K in kernels], axis=0) for i in (0, 1)]


FLIPS: dict[str, tuple[nn.Layer, tuple[int, ...], bool]] = {
    "odd filters": (nn.serial(conv(), relu, conv(), relu), (5, 6, 2), True),
    "circular": (nn.serial(conv(padding="CIRCULAR"), relu), (4, 6, 2), True),
    "valid": (nn.serial(conv(2, padding="VALID"), relu, conv()), (5, 6, 2), True),
    "strides on an even size": (nn.serial(conv(strides=2), relu, conv()), (6, 6, 2), False),
    "strides on an odd size": (nn.serial(conv(strides=2), relu, conv()), (6, 5, 2), True),
    "even filters": (nn.serial(conv(2), relu, conv()), (4, 5, 2), False),
    "pools": (nn.serial(conv(), relu, nn.AvgPool((2, 2)), conv(), relu), (6, 6, 2), True),
    "left-over positions": (nn.serial(conv(), relu, nn.AvgPool((2, 2)), conv()), (4, 5, 2), False),
    "a loop": (nn.serial(conv(), nn.repeat(nn.serial(relu, conv(2)), 2)), (4, 4, 2), False),
    "dropout": (nn.serial(conv(), relu, nn.Dropout(0.8), conv(strides=2)), (4, 6, 2), False),
    "a signal": (nn.serial(conv(axes=1), relu, conv(axes=1)), (7, 2), True),
}


@native
@dtypes
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
@pytest.mark.parametrize("name", FLIPS)
def test_flips(name: str, readout: nn.Layer, dtype: str, backend: str) -> None:
    body, shape, symmetric = FLIPS[name]
    net = nn.serial(body, readout, head)
    X, Y = images(3, *shape), images(2, *shape, seed=1)
    scale = scales(net, X, Y)
    for Z, s in ((None, scales(net, X)), (Y, scale)):
        got = both(nn.flip_augmented(net), X, Z, backend=backend, dtype=dtype)
        want = mean_over_flips(net, X, Z, backend="reference")
        assert apart(got, want, s) <= IDENTICAL[dtype]
    half = [
        (a + b) / 2
        for a, b in zip(
            both(net, X, Y, backend=backend),
            both(net, X, mirrored(Y), backend=backend),
            strict=True,
        )
    ]
    difference = apart(half, mean_over_flips(net, X, Y, backend="reference"), scale)
    assert difference <= IDENTICAL["float64"] if symmetric else difference > 1e-5


# How the data come


DATA_NET = nn.serial(conv(), relu, nn.AvgPool((2, 2)), conv(), relu, nn.GlobalAvgPool(), head)


@native
def test_arrays_and_flat_rows_are_the_same(backend: str) -> None:
    X, Y = images(4, 6, 5, 3), images(3, 6, 5, 3, seed=1)
    rows, others = X.reshape(4, -1), Y.reshape(3, -1)
    told = nn.serial(nn.Unflatten((6, 5, 3)), DATA_NET)
    want, cross = both(DATA_NET, X, backend=backend), both(DATA_NET, X, Y, backend=backend)
    for got, other in (
        (both(told, rows, backend=backend), both(told, rows, others, backend=backend)),
        (both(told, X, backend=backend), both(told, X, Y, backend=backend)),
        (
            both(DATA_NET, rows, backend=backend, input_shape=(6, 5, 3)),
            both(DATA_NET, rows, others, backend=backend, input_shape=[6, 5, 3]),
        ),
        (
            both(DATA_NET, np.moveaxis(X, -1, 1), backend=backend, channels="first"),
            both(
                DATA_NET,
                np.moveaxis(X, -1, 1).copy(),
                np.moveaxis(Y, -1, 1),
                backend=backend,
                channels="first",
            ),
        ),
        (
            both(DATA_NET, np.asfortranarray(X), backend=backend),
            both(DATA_NET, X[::-1][::-1], np.repeat(Y, 2, axis=0)[::2], backend=backend),
        ),
    ):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(other, cross)
    np.testing.assert_array_equal(
        kernreg.diag(told, rows), kernreg.diag(DATA_NET, np.moveaxis(X, -1, 1), channels="first")
    )
    operator = KernelOperator(DATA_NET, rows, backend=backend, input_shape=(6, 5, 3))
    np.testing.assert_array_equal(operator.to_dense(), want.ntk)


@native
def test_tensors_come_back_as_tensors(backend: str) -> None:
    X = images(3, 4, 5, 2)
    want = both(DATA_NET, X, backend=backend)
    got = both(DATA_NET, torch.from_numpy(X), backend=backend)
    first = both(DATA_NET, torch.from_numpy(X).movedim(-1, 1), backend=backend, channels="first")
    for K, L, expected in zip(got, first, want, strict=True):
        assert isinstance(K, torch.Tensor)
        np.testing.assert_array_equal(K.numpy(), expected)
        np.testing.assert_array_equal(L.numpy(), expected)


@native
def test_signals_with_channels_first(backend: str) -> None:
    net = nn.serial(conv(axes=1), relu, nn.GlobalAvgPool(), head)
    X = images(3, 7, 2)
    got = both(net, X.swapaxes(1, 2), backend=backend, channels="first")
    np.testing.assert_array_equal(got, both(net, X, backend=backend))


@native
@pytest.mark.parametrize("kind", ["uint8", "int64", "float32"])
def test_numbers_of_pictures(kind: str, backend: str) -> None:
    """Whole numbers become float64; 0 to 255 is no trouble."""
    X = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3)).astype(kind)
    got = both(DATA_NET, X, backend=backend)
    assert got.ntk.dtype == (np.float32 if kind == "float32" else np.float64)
    want = both(DATA_NET, X.astype(np.float64), backend=backend)
    bound = SINGLE if kind == "float32" else 0.0
    assert apart(got, want, scales(DATA_NET, X.astype(np.float64))) <= bound


# Bit for bit


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


@needs_cpu
@chosen_freely
@dtypes
@networks
@pytest.mark.parametrize("block", [256, 3])
def test_symmetric_bit_for_bit(
    name: str, block: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where images are worked out in several blocks, and tiles cut across them."""
    monkeypatch.setattr(bound, "_MOST_IMAGES", block)
    net, X = NETWORKS[name], images(7, 6, 6, 2)
    made = both(net, X, backend="cpu", dtype=dtype)
    for kernel in KERNELS:
        K = getattr(made, kernel)
        np.testing.assert_array_equal(K, K.T)
        np.testing.assert_array_equal(np.diagonal(K), kernreg.diag(net, X, kernel, dtype=dtype))
        np.testing.assert_array_equal(kernreg.gram(net, X, kernel=kernel, dtype=dtype), K)


@needs_cpu
@dtypes
@pytest.mark.parametrize("block", [256, 3])
@networks
def test_tiles_bit_for_bit(
    name: str, block: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a symmetric matrix, on either side of the diagonal and across it."""
    monkeypatch.setattr(bound, "_MOST_IMAGES", block)
    net, X = NETWORKS[name], images(7, 6, 6, 2)
    made = both(net, X, backend="cpu", dtype=dtype)
    for kernel in KERNELS:
        K = getattr(made, kernel)
        operator = KernelOperator(net, X, kernel=kernel, backend="cpu", dtype=dtype)
        np.testing.assert_array_equal(operator.to_dense(), K)
        np.testing.assert_array_equal(operator.diagonal(), np.diagonal(K))
        for i0, i1 in pairwise([0, 1, 4, 7]):
            for j0, j1 in pairwise([0, 2, 7]):
                tile = operator.tile(slice(i0, i1), slice(j0, j1))
                np.testing.assert_array_equal(tile, K[i0:i1, j0:j1])


@needs_cpu
@dtypes
@networks
def test_tiles_of_a_rectangle_bit_for_bit(
    name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bound, "_MOST_IMAGES", 3)
    net, X, Y = NETWORKS[name], images(5, 6, 6, 2), images(4, 6, 6, 2, seed=1)
    whole = both(net, X, Y, backend="cpu", dtype=dtype)
    for kernel in KERNELS:
        K = getattr(whole, kernel)
        operator = KernelOperator(net, X, Y, kernel=kernel, backend="cpu", dtype=dtype)
        np.testing.assert_array_equal(operator.to_dense(), K)
        for i0, i1 in pairwise([0, 2, 5]):
            tile = operator.tile(slice(i0, i1), slice(1, 4))
            np.testing.assert_array_equal(tile, K[i0:i1, 1:4])


@needs_cpu
def test_a_longer_series_changes_no_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a later block of images needs: its terms are below rounding for those before."""
    monkeypatch.setattr(bound, "_MOST_IMAGES", 2)
    X = 0.25 * images(6, 9, 9, 2)
    X[4] *= 0.5
    X[5] = 0.0
    X[5, 1:4, 1:4] = 0.75  # the largest positions, in an image that is of no extreme size
    operator = KernelOperator(NETWORKS["series"], X, backend="cpu")
    first = operator.tile(slice(0, 2), slice(2, 4))
    K = operator.to_dense()
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_array_equal(operator.tile(slice(0, 2), slice(2, 4)), K[:2, 2:4])
    # A series ends at a tail of 1e-13.
    np.testing.assert_allclose(first, K[:2, 2:4], rtol=1e-12)


@needs_cpu
@networks
def test_threads_do_not_change_a_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("KERNREG_NUM_THREADS", threads)
        results.append(both(NETWORKS[name], images(7, 6, 6, 2), backend="cpu"))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


# Hard images


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


# Random networks


SMOOTH = [nn.Erf(), nn.Gelu(), nn.Sin(), nn.Cos(), nn.Exp(b=0.3)]
KINKED = [nn.Relu(), nn.LeakyRelu(0.1), nn.Abs(), nn.Sign()]


class Draw:
    """A random network on images of random sizes, from a seed."""

    def __init__(self, seed: int) -> None:
        self.r = random.Random(seed)
        r = self.r
        shape = [r.randint(5, 12)] if r.random() < 0.3 else [r.randint(5, 9), r.randint(5, 9)]
        channels = r.randint(1, 3)
        # Positions of one number are parallel, unless there are biases: see test_constant_regions.
        self.biased = channels == 1
        self.sizes = tuple(shape)
        self.circular = r.random() < 0.3
        self.net = self.network()
        X = images(5, *shape, channels, seed=seed)
        self.X, self.Y = X[:3], X[3:]

    def bend(self) -> nn.Layer:
        return self.r.choice(SMOOTH + KINKED)

    def weights(self) -> dict[str, Any]:
        r = self.r
        b_std = round(r.uniform(0.1, 0.5), 2) if self.biased or r.random() < 0.6 else 0.0
        options: dict[str, Any] = {"W_std": round(r.uniform(0.8, 1.6), 2), "b_std": b_std}
        if r.random() < 0.1:
            options |= {"parameterization": "standard", "fan_in": r.randint(1, 64)}
        elif r.random() < 0.1:
            options |= {"trainable": False}
        return options

    def conv(self, strides: float = 0.0, padding: str | None = None) -> nn.Layer:
        r = self.r
        shape = tuple(r.randint(1, min(5, n)) for n in self.sizes)
        fits = (2 * k - 1 <= n for k, n in zip(shape, self.sizes, strict=True))
        layer = nn.Conv(
            shape,
            strides=tuple(2 if r.random() < strides and n >= 4 else 1 for n in self.sizes),
            padding=padding or ("CIRCULAR" if self.circular else "SAME"),
            dilation=tuple(r.choice([1, 1, 2]) if fit else 1 for fit in fits),
            **self.weights(),
        )
        self.behind(layer)
        return layer

    def pool(self) -> nn.Layer:
        r = self.r
        layer: nn.Layer
        window = tuple(r.randint(1, 3) if n >= 3 else 1 for n in self.sizes)
        options = {"strides": r.choice([1, 2]), "padding": r.choice(["SAME", "VALID"])}
        layer = nn.SumPool(window, **options)
        if r.random() < 0.7:
            layer = nn.AvgPool(window, normalize_edges=r.random() < 0.5, **options)
        self.behind(layer)
        return layer

    def behind(self, layer: Any) -> None:
        program = nn.serial(nn.Unflatten((*self.sizes, 1)), layer).program()
        self.sizes = program.sizes()[-1]

    def block(self) -> nn.Layer:
        return nn.serial(self.bend(), self.conv())

    def hidden(self) -> list[nn.Layer]:
        """From one convolution to the next."""
        r, axes = self.r, range(len(self.sizes))
        match r.choice(
            ["plain"] * 4 + ["pool", "early", "sum", "product", "concat", "norm", "drop"]
        ):
            case "plain":
                return [self.bend(), self.conv(strides=0.25)]
            case "pool":
                return [self.bend(), self.pool(), self.conv()]
            case "early":
                return [self.pool(), self.bend(), self.conv()]
            case "sum":
                shortcut = r.choice([None, nn.Dense(0.7), self.conv()])
                return [nn.residual(self.block(), shortcut)]
            case "product":
                return [nn.parallel(self.block(), self.block(), merge="product"), self.conv()]
            case "concat":
                branches = (self.block(), self.bend())
                return [nn.parallel(*branches, merge="concat", weights=(1.0, 2.0)), self.conv()]
            case "norm":
                over = tuple(r.sample(axes, r.randint(0, len(axes))))
                return [nn.LayerNorm(eps=r.choice([1e-12, 0.1]), axes=over), *self.block().layers]
            case _:
                return [self.bend(), nn.Dropout(0.8), self.conv()]

    def network(self) -> nn.Layer:
        r = self.r
        first = [self.pool()] if r.random() < 0.15 else []
        padding = None if self.circular else r.choice(["SAME", "VALID"])
        layers: list[nn.Layer] = [*first, self.conv(strides=0.25, padding=padding)]
        for _ in range(r.randint(0, 3)):
            layers += self.hidden()
        layers += [self.bend()] if r.random() < 0.7 else []
        readout = r.choice([nn.Flatten(), nn.GlobalAvgPool(), nn.GlobalSumPool()])
        layers.append(readout)
        for _ in range(r.randint(0, 2)):
            # The exponential of a sum over all positions has no digits to be right about.
            bent = r.choice([*SMOOTH[:-1], *KINKED])
            layers += [nn.Dense(**self.weights()), bent]
        return nn.serial(*layers, nn.Dense(**self.weights()))


@needs_cpu
@pytest.mark.parametrize("seed", range(48))
def test_random_networks(seed: int) -> None:
    """Of at most 16 layers. A kink that meets a gap g grows a rounding by 1 / (pi sqrt(2 g)), which
    is large for a few of the thousands of pairs of positions only, so that ten is enough here,
    too."""
    draw = Draw(seed)
    for Y in (None, draw.Y):
        double, single = off(draw.net, draw.X, Y)
        assert double <= 16 * 200 * EPS, draw.net
        assert single <= SINGLE, draw.net


@needs_cpu
@pytest.mark.parametrize("readout", [nn.Flatten(), nn.GlobalAvgPool()])
@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Swish(), nn.Elementwise(torch.atan)])
def test_nonlinearities_by_series(fn: nn.Nonlinearity, readout: nn.Layer) -> None:
    """A series is cut at a tail of 1e-13, in float32 of 1e-8."""
    net = nn.serial(conv(axes=1), fn, conv(axes=1), relu, readout, head)
    X = images(2, 4, 2)
    double, single = off(net, X)
    assert double <= 1e-11
    assert single <= SINGLE


EVERY_LOOP = {
    f"{fn!r} {b} {readout!r}": nn.serial(
        *[layer for _ in range(3) for layer in (conv(b_std=b), fn)], readout, head
    )
    for fn in (relu, nn.LeakyRelu(0.1), erf)
    for b, readout in ((0.0, nn.Flatten()), (0.2, nn.GlobalAvgPool()))
} | {name: net for name, net in NETWORKS.items() if name != "series"}


@functools.cache
def reference(name: str) -> Any:
    X, Y = isa_images()
    return both(EVERY_LOOP[name], X, Y, backend="reference")


def isa_images() -> tuple[np.ndarray, np.ndarray]:
    """More cells than a vector of the machine has, and not a multiple of them."""
    return images(2, 5, 7, 2), images(2, 5, 7, 2, seed=1)


@needs_cpu
@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
@pytest.mark.parametrize("name", EVERY_LOOP)
def test_instruction_sets(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each keeps the contract on its own."""
    if isa not in cpu._core.instruction_sets():
        pytest.skip(f"this machine has no {isa}")
    monkeypatch.setenv("KERNREG_ISA", isa)
    assert cpu.instruction_set() == isa
    double, single = off(EVERY_LOOP[name], *isa_images(), want=reference(name))
    assert double <= IDENTICAL["float64"]
    assert single <= SINGLE


# What planes do not do


THREE = nn.Conv((2, 2, 2), W_std=1.4, b_std=0.1)
REFUSED: dict[str, tuple[nn.Layer, tuple[int, ...], str]] = {
    "transposed": (nn.ConvTranspose((3, 3), strides=2), (3, 3, 2), "is a transposed convolution"),
    "overlapping": (
        nn.serial(conv(), nn.AvgPool((3, 3), strides=2, padding="CIRCULAR")),
        (6, 6, 2),
        "pools over windows that wrap around",
    ),
    "volumes": (nn.serial(THREE, relu, THREE), (3, 4, 3, 2), "have 3 axes of positions"),
    "local strides": (
        nn.ConvLocal((3, 3), strides=2),
        (6, 6, 2),
        "has strides and weights at each position",
    ),
    "two paddings": (
        nn.serial(conv(padding="CIRCULAR"), relu, conv()),
        (5, 5, 2),
        "paddings CIRCULAR and others meet",
    ),
    "too far": (conv(5, dilation=9), (3, 3, 2), "a filter reaches too far"),
    "no series": (
        nn.serial(conv(), nn.Elementwise(torch.relu, smooth=False), nn.Dense()),
        (2, 2, 2),
        "has a kink and no closed form",
    ),
    "branches of two depths": (
        nn.parallel(
            conv(strides=4),
            nn.serial(conv(strides=2), relu, conv(strides=2)),
        ),
        (8, 8, 2),
        "different numbers of positions|leaves .* positions where",
    ),
}


@needs_cpu
@chosen_freely
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(name: str) -> None:
    """The reference goes on."""
    layer, shape, reason = REFUSED[name]
    net, X = nn.serial(layer, nn.GlobalAvgPool(), head), images(2, *shape)
    with pytest.raises(BackendError, match=f"backend='cpu' cannot run this: .*({reason})"):
        kernreg.gram(net, X, backend="cpu")
    np.testing.assert_array_equal(both(net, X), both(net, X, backend="reference"))
    np.testing.assert_array_equal(np.diagonal(kernreg.gram(net, X)), kernreg.diag(net, X))


@needs_cpu
def test_more_branches_than_there_is_room_for() -> None:
    branches = [nn.serial(conv(), relu, conv()) for _ in range(9)]
    net = nn.serial(nn.parallel(*branches), relu, nn.Flatten())
    with pytest.raises(BackendError, match="more than 8 branches alive at once"):
        kernreg.gram(net, images(2, 3, 3, 1), backend="cpu")


@pytest.mark.parametrize("backend", ["cuda", pytest.param("triton", marks=needs_triton)])
def test_backends_without_planes(backend: str) -> None:
    with pytest.raises(BackendError, match=f"backend='{backend}' cannot run this"):
        kernreg.gram(tower(nn.Flatten()), images(2, 4, 4, 2), **on(backend))


# Cases that once went wrong


@needs_cpu
def test_pools_without_a_layer_before_them() -> None:
    """No instruction has constants then; in a process of its own, which that ended."""
    script = """
import numpy as np
from kernreg import gram, nn

X = np.random.default_rng(0).standard_normal((2, 8, 2))
net = nn.serial(nn.AvgPool(2), nn.AvgPool(2), nn.Conv(1), nn.Flatten())
np.testing.assert_allclose(gram(net, X, backend="cpu"), gram(net, X, backend="reference"))
"""
    subprocess.run([sys.executable, "-c", script], env=os.environ, check=True, timeout=120)


@needs_cpu
@pytest.mark.parametrize(
    "readout",
    [
        nn.serial(nn.AvgPool((2, 2)), nn.Flatten()),
        nn.serial(nn.AvgPool((2, 2)), nn.Conv((1, 1)), relu, nn.Flatten()),
        nn.serial(nn.Conv((1, 1), strides=2), relu, nn.GlobalAvgPool()),
    ],
)
def test_displacements_that_wrap_around(readout: nn.Layer) -> None:
    """A circular stage needs them all, also where what is behind it does not."""
    first, second = conv(strides=2), conv(padding="CIRCULAR")
    net = nn.serial(first, relu, second, relu, readout, head)
    assert max(off(net, images(2, 10, 10, 2), None, "float64")) <= IDENTICAL["float64"]


@needs_cpu
@pytest.mark.parametrize("layer", [nn.Dense(1.2, 0.3), nn.Conv((1, 1), W_std=1.2, b_std=0.3)])
def test_a_bias_before_a_filter(layer: nn.Layer) -> None:
    """Cells between lines get the bias, too, and must not be read."""
    net = nn.serial(conv(), relu, layer, conv(), relu, nn.GlobalAvgPool(), head)
    assert max(off(net, images(2, 4, 4, 2), None, "float64")) <= IDENTICAL["float64"]


@needs_cpu
@chosen_freely
@pytest.mark.filterwarnings("ignore:The slow reference backend")
def test_a_series_that_is_too_long_for_an_image() -> None:
    """The reference goes on, also where the image is neither the first, largest nor smallest."""
    net = nn.serial(conv(axes=1), nn.Tanh(), conv(axes=1), relu, nn.GlobalAvgPool(), head)
    X = 0.5 * images(4, 8, 2)
    X[1], X[2] = 1.5, 0.0
    X[2, 3] = 3.9
    X[3] *= 0.5
    assert kernreg.gram(net, X, X[:1]).shape == (4, 1)


@needs_cpu
@dtypes
@pytest.mark.parametrize("factor", [1e8])
def test_one_image_that_is_very_large(factor: float, dtype: str) -> None:
    """Nothing may overflow on the way, also where it is not in a sample of the images."""
    X = images(600, 2, 2, 1)
    X[301] *= factor
    net = nn.serial(conv(2), relu, conv(2), erf, nn.Flatten(), head)
    made = both(net, X, X[:1], backend="cpu", dtype=dtype)
    want = both(net, X[301:302], X[:1], backend="reference")
    # In float64 eps times the ratio of sizes is left; float32 asks float64.
    tolerance = max(SINGLE if dtype == "float32" else 0.0, min(factor, 1e8) * IDENTICAL["float64"])
    scale = scales(net, X[301:302], X[:1])
    assert apart([K[301:302] for K in made], want, scale) <= tolerance
    assert np.isfinite(made).all()
