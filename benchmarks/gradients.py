"""The price of gradients, beside autograd of the recursion in torch.

    python -m benchmarks.gradients

Medians of some runs in turns; n = 2,000 rows, d = 100, NTK of three ReLU layers, float32 data.
Writes ``benchmarks/results/gradients.json``.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.problems import network, torch_relu_ntk
from benchmarks.timing import seconds
from kernreg import KernelOperator, gram
from kernreg.backends.fused_derivatives import derivatives_of

RESULTS = Path(__file__).parent / "results" / "gradients.json"
ROUNDS, ROWS, COLUMNS, DEPTH = 7, 2000, 100, 3


def cases() -> dict[str, Callable[[], Any]]:
    """What is timed."""
    net = network("relu", DEPTH)
    X = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0), requires_grad=True)
    G, V = torch.ones(ROWS, ROWS), torch.ones(ROWS, 1)
    wide = X.detach().double()
    compiled = torch.compile(torch_relu_ntk)

    def backward(K: torch.Tensor) -> None:
        torch.autograd.grad((K * G).sum(), X)

    def product() -> torch.Tensor:
        found: torch.Tensor = KernelOperator(net, X) @ V
        return found

    return {
        "gram, float32": lambda: gram(net, X.detach()),
        "gram, float64": lambda: gram(net, wide),
        "both derivative matrices": lambda: derivatives_of(net.program(), wide, wide, "ntk").tile(
            slice(0, ROWS), slice(0, ROWS)
        ),
        "gram and its gradient": lambda: backward(gram(net, X)),
        "K @ V": lambda: KernelOperator(net, X.detach()) @ V,
        "K @ V and its gradient": lambda: torch.autograd.grad(
            (KernelOperator(net, X) @ V).sum(), X
        ),
        "eager torch, forwards and back": lambda: backward(torch_relu_ntk(X, DEPTH)),
        "compiled torch, forwards and back": lambda: backward(compiled(X, DEPTH)),
    }


def main() -> None:
    """Measure and report."""
    made, found = cases(), {}
    for run in made.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, run in made.items():
            times[name].append(seconds(run))
    for name, taken in times.items():
        found[name] = statistics.median(taken)
        print(f"{name:34} {found[name]:8.4f} s")
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
