"""The Gram matrix beside neural-tangents and beside torch.compile of the recursion."""

from __future__ import annotations

import pytest
import torch

import kernreg
from benchmarks.conftest import Compare
from benchmarks.peers import NeuralTangents
from benchmarks.problems import (
    B_STD,
    KERNEL,
    W_STD,
    float32_error,
    network,
    rows,
    torch_relu_ntk,
)
from benchmarks.timing import seconds

HEAD = 200  # rows on which both errors are measured

TARGETS = {
    ("relu", 3, 100, False): 15,
    ("relu", 3, 784, False): 8,
    ("relu", 10, 100, False): 35,
    ("relu", 10, 784, False): 20,
    ("relu", 100, 100, True): 300,
    ("relu", 100, 784, True): 300,
    ("relu", 100, 100, False): 60,
    ("relu", 100, 784, False): 60,
    ("erf", 3, 784, False): 6,
}
CASE = ("activation", "depth", "d", "unit_norm")


@pytest.mark.parametrize(CASE, TARGETS)
def test_beside_neural_tangents(
    activation: str,
    depth: int,
    d: int,
    unit_norm: bool,
    neural_tangents: NeuralTangents,
    compare: Compare,
    short: bool,
) -> None:
    net = network(activation, depth)
    X = rows(1000 if short else 4000, d, unit_norm=unit_norm)
    compile_seconds = neural_tangents.load(
        X, KERNEL, activation=activation, depth=depth, W_std=W_STD, b_std=B_STD
    )
    # Into the same array each time: fresh pages cost more or less as the machine is idle or not.
    K = kernreg.gram(net, X, kernel=KERNEL)
    error = float32_error(net, X[:HEAD], K[:HEAD, :HEAD])
    assert error <= 2e-5
    norms = ", equal norms" if unit_norm else ""
    compare(
        f"Gram {activation} depth {depth}{norms}, d={d}: times faster than neural-tangents",
        lambda: kernreg.gram(net, X, kernel=KERNEL, out=K),
        neural_tangents.time,
        target=TARGETS[activation, depth, d, unit_norm],
        rounds=3 if depth == 100 else 7,
        n=len(X),
        error=error,
        peer_error=float32_error(net, X[:HEAD], neural_tangents.head(HEAD)),
        peer_compile_seconds=compile_seconds,
    )


@pytest.mark.parametrize(("depth", "d"), [(3, 100), (3, 784), (10, 100), (10, 784)])
def test_beside_torch_compile(depth: int, d: int, compare: Compare, short: bool) -> None:
    net = network("relu", depth)
    X = rows(1000 if short else 4000, d)
    tensor = torch.from_numpy(X)
    peer = torch.compile(torch_relu_ntk)
    compile_seconds = seconds(lambda: peer(tensor, depth))
    # Into the same array each time: fresh pages cost more or less as the machine is idle or not.
    K = kernreg.gram(net, X, kernel=KERNEL)
    error = float32_error(net, X[:HEAD], K[:HEAD, :HEAD])
    assert error <= 2e-5
    compare(
        f"Gram relu depth {depth}, d={d}: times faster than torch.compile",
        lambda: kernreg.gram(net, X, kernel=KERNEL, out=K),
        lambda: seconds(lambda: peer(tensor, depth)),
        n=len(X),
        error=error,
        peer_error=float32_error(net, X[:HEAD], peer(tensor, depth).numpy()[:HEAD, :HEAD]),
        peer_compile_seconds=compile_seconds,
    )
