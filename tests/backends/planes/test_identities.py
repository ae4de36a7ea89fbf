"""Images on the reference and on the C++ planes: identities, how data come, the same bits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import kernreg
from kernreg import KernelOperator, nn
from kernreg.backends.blocks import evaluate_blocks
from kernreg.backends.planes import bound
from tests.backends.compare import KERNELS, chosen_freely, native, needs_cpu
from tests.backends.planes.measures import (
    IDENTICAL,
    NETWORKS,
    SINGLE,
    apart,
    both,
    conv,
    dtypes,
    erf,
    head,
    images,
    networks,
    relu,
    scales,
)


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
