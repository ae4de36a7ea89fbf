"""Kernels of images beside neural-tangents and beside the recursion in torch, eager and compiled.

Both sides fill the whole symmetric matrix of their images, both kernels in float32; seconds of a
peer are those of as many entries as ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kernreg
from benchmarks.conftest import Compare
from benchmarks.images import images
from benchmarks.peers import NeuralTangents
from benchmarks.timing import seconds
from kernreg import nn

BOTH = ("nngp", "ntk")
W_STD, B_STD = 2**0.5, 0.1

NETWORKS: dict[str, tuple[nn.Layer, tuple[int, ...], str]] = {
    "3 layers, average": (nn.cnn(3, "relu", W_STD, B_STD, readout="average"), (3,), "average"),
    "10 layers, average": (nn.cnn(10, "relu", W_STD, B_STD, readout="average"), (10,), "average"),
    "21 layers, average": (nn.cnn(21, "relu", W_STD, B_STD, readout="average"), (21,), "average"),
    "myrtle(5)": (nn.myrtle(5, "relu", W_STD, B_STD), (2, 1, 1), "average"),
    "3 layers, flatten": (nn.cnn(3, "relu", W_STD, B_STD, readout="flatten"), (3,), "flatten"),
}
TARGETS = {
    "3 layers, average": 250,
    "10 layers, average": 300,
    "21 layers, average": 300,
    "myrtle(5)": 150,
    "3 layers, flatten": 20,
}


def gate(net: nn.Layer, X: np.ndarray, found: np.ndarray) -> float:
    """Worst error of a tangent kernel of a few images, relative to its largest entry."""
    exact = kernreg.gram(net, X.astype(np.float64), backend="reference")
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def own(net: nn.Layer, X: np.ndarray) -> tuple[Callable[[], Any], float]:
    """What is timed, and its error on two images, which must be small."""
    error = gate(net, X[:2], np.asarray(kernreg.gram(net, X[:2], kernel=BOTH).ntk))
    assert error <= 1e-5
    return (lambda: kernreg.gram(net, X, kernel=BOTH)), error


@pytest.mark.parametrize("name", NETWORKS)
def test_beside_neural_tangents(
    name: str, neural_tangents: NeuralTangents, compare: Compare, short: bool
) -> None:
    net, blocks, readout = NETWORKS[name]
    network = {"blocks": blocks, "readout": readout, "W_std": W_STD, "b_std": B_STD}
    # Larger batches of deep networks take minutes each.
    batches = [2] if short else [2, 4, 8][: {3: 3, 4: 3, 10: 2, 21: 1}[sum(blocks)]]
    batches = [32] if readout == "flatten" else batches
    cost = {}
    for batch in batches:
        neural_tangents.load(images(batch, 32), BOTH, **network)
        cost[batch] = neural_tangents.time() / batch**2
    best = min(cost, key=lambda b: cost[b])
    compile_seconds = neural_tangents.load(images(best, 32), BOTH, **network)
    X = images(32 if readout == "flatten" else 8 if short else 16, 32)
    candidate, error = own(net, X)
    compare(
        f"images, {name}: times faster than neural-tangents",
        candidate,
        lambda: neural_tangents.time() * (len(X) / best) ** 2,
        target=TARGETS[name],
        rounds=7 if readout == "flatten" else 3,
        n=len(X),
        error=error,
        peer_error=gate(net, images(best, 32)[:2], neural_tangents.head(2)),
        peer_batch=best,
        peer_batches=cost,
        peer_compile_seconds=compile_seconds,
    )


def shifted(K: Tensor, a: int, b: int | None) -> Tensor:
    """Sums over three places along an axis, or along two together; zeros beyond the edges."""
    out = K.clone()
    if b is None:
        out.narrow(a, 0, K.shape[a] - 1).add_(K.narrow(a, 1, K.shape[a] - 1))
        out.narrow(a, 1, K.shape[a] - 1).add_(K.narrow(a, 0, K.shape[a] - 1))
        return out
    n = K.shape[a] - 1
    out.narrow(a, 0, n).narrow(b, 0, n).add_(K.narrow(a, 1, n).narrow(b, 1, n))
    out.narrow(a, 1, n).narrow(b, 1, n).add_(K.narrow(a, 0, n).narrow(b, 0, n))
    return out


def recursion(X: Tensor, depth: int, pooled: bool) -> tuple[Tensor, Tensor]:
    """Both kernels of all pairs of images, as one writes it by hand: the full square.

    Covariances of shape (n, n, h, w, h, w) with pooling, else (n, n, h, w).
    """
    n, h, w, c = X.shape
    q = (X * X).mean(3)
    if pooled:
        flat = X.reshape(n, h * w, c)
        K = (flat[:, None] @ flat[None].transpose(2, 3) / c).reshape(n, n, h, w, h, w)
    else:
        K = (X[:, None] * X[None]).mean(4)
    T = torch.zeros_like(K)
    axes = ((2, 4), (3, 5)) if pooled else ((2, None), (3, None))
    for _ in range(depth):
        for a, b in axes:
            K, T = shifted(K, a, b), shifted(T, a, b)
        q = 2 / 9 * shifted(shifted(q, 1, None), 2, None) + B_STD**2
        K, T = 2 / 9 * K + B_STD**2, 2 / 9 * T
        T = T + K
        s = torch.sqrt(q)
        of = s[:, None, :, :, None, None] * s[None, :, None, None] if pooled else s[:, None] * s
        rho = torch.clip(K / of, -1.0, 1.0)
        angle = torch.pi - torch.arccos(rho)
        K = of * (torch.sqrt(1 - rho * rho) + angle * rho) / (2 * torch.pi)
        T = T * angle / (2 * torch.pi)
        q = q / 2
    rest = tuple(range(2, K.ndim))
    K, T = 2 * K.mean(rest) + B_STD**2, 2 * T.mean(rest)
    return K, K + T


@pytest.mark.parametrize("how", ["eager", "compiled"])
@pytest.mark.parametrize("name", ["3 layers, average", "3 layers, flatten"])
def test_beside_torch(name: str, how: str, compare: Compare, short: bool) -> None:
    net, (depth,), readout = NETWORKS[name]
    pooled = readout == "average"
    peer = torch.compile(recursion) if how == "compiled" else recursion
    batch, n = (4, 16) if pooled else (32, 128)
    few, X = torch.from_numpy(images(batch, 32)), images(n, 32)
    compile_seconds = seconds(lambda: peer(few, depth, pooled))
    candidate, error = own(net, X)
    compare(
        f"images, {name}: times faster than {how} torch",
        candidate,
        lambda: seconds(lambda: peer(few, depth, pooled)) * (len(X) / batch) ** 2,
        target=30 if pooled else 10,
        n=len(X),
        error=error,
        peer_error=gate(net, X[:2], peer(few, depth, pooled)[1][:2, :2].numpy()),
        peer_batch=batch,
        peer_compile_seconds=compile_seconds,
    )
