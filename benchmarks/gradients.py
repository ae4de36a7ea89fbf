"""The price of gradients, beside autograd of the recursion in torch and neural-tangents.

    python -m benchmarks.gradients [--peers-python .venv-peers/bin/python]

Medians of some runs in turns; n = 2,000 rows, d = 100, NTK of three ReLU layers, float32 data.
Memory is how far the peak of a fresh process grows. Writes ``benchmarks/results/gradients.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers import NeuralTangents
from benchmarks.problems import B_STD, W_STD, network, torch_relu_ntk
from benchmarks.timing import seconds
from kernreg import KernelOperator, gram
from kernreg.backends.differentiate import derivatives_of

RESULTS = Path(__file__).parent / "results" / "gradients.json"
ROUNDS, ROWS, COLUMNS, DEPTH, TILE = 9, 2000, 100, 3, 512
PEER = "neural-tangents, jax.grad"


def derivatives(X: torch.Tensor, dtype: torch.dtype) -> list[torch.Tensor]:
    """All derivatives of a symmetric matrix, by half of its tiles."""
    made = derivatives_of(network("relu", DEPTH).program(), X, X, "ntk", 2, dtype)
    product, square = (torch.empty(len(X), len(X), dtype=dtype) for _ in range(2))
    cuts = [slice(i, i + TILE) for i in range(0, len(X), TILE)]
    for k, i in enumerate(cuts):
        for j in cuts[: k + 1]:
            tile = made.tile(i, j)
            product[i, j], product[j, i] = tile.by_product, tile.by_product.T
            square[i, j], square[j, i] = tile.by_square[0], tile.by_square[1].T
    return [product, square]


def cases() -> dict[str, Callable[[], Any]]:
    """What is timed."""
    net = network("relu", DEPTH)
    X = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0), requires_grad=True)
    G, V = torch.ones(ROWS, ROWS), torch.ones(ROWS, 1)
    wide = X.detach().double()
    compiled = torch.compile(torch_relu_ntk)

    def backward(K: torch.Tensor) -> None:
        torch.autograd.grad((K * G).sum(), X)

    return {
        "gram, float32": lambda: gram(net, X.detach()),
        "gram, float64": lambda: gram(net, wide),
        "both derivative matrices, float32": lambda: derivatives(wide, torch.float32),
        "both derivative matrices, float64": lambda: derivatives(wide, torch.float64),
        "gram and its gradient": lambda: backward(gram(net, X)),
        "K @ V": lambda: KernelOperator(net, X.detach()) @ V,
        "K @ V and its gradient": lambda: torch.autograd.grad(
            (KernelOperator(net, X) @ V).sum(), X
        ),
        "eager torch, forwards and back": lambda: backward(torch_relu_ntk(X, DEPTH)),
        "compiled torch, forwards and back": lambda: backward(compiled(X, DEPTH)),
    }


def peak(name: str) -> int:
    """Bytes by which the peak of a fresh process grows in one case."""
    command = [sys.executable, "-m", "benchmarks.gradients", "--case", name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(name: str) -> None:
    """Print how far the peak of this process grows in one case."""
    run = cases()[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--peers-python", help="that has neural-tangents")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        return one(options.case)
    made = cases()
    memory = {name: peak(name) for name in made}
    if not options.peers_python:
        return report(made, memory)
    with (
        tempfile.TemporaryDirectory() as folder,
        NeuralTangents(options.peers_python, Path(folder), torch.get_num_threads()) as peer,
    ):
        X = np.random.default_rng(0).standard_normal((ROWS, COLUMNS)).astype(np.float32)
        sizes = {"activation": "relu", "depth": DEPTH, "W_std": W_STD, "b_std": B_STD}
        peer.load(X, "ntk", gradient=True, **sizes)
        memory[PEER] = peer.grown
        report(made | {PEER: peer.time}, memory)


def report(made: dict[str, Callable[[], Any]], memory: dict[str, int]) -> None:
    """Time all in turns; print and write."""
    for run in made.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, run in made.items():
            times[name].append(seconds(run))
    found = {}
    for name, taken in times.items():
        found[name] = {"seconds": statistics.median(taken), "bytes": memory[name]}
        print(f"{name:36} {found[name]['seconds']:8.4f} s {memory[name] / 2**20:8.1f} MB")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
