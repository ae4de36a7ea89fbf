"""The Gram matrix beside the matrix product that it contains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernreg
from benchmarks.conftest import Compare
from benchmarks.problems import KERNEL, float32_error, network, rows
from benchmarks.timing import seconds

CASES = [
    ("relu", 3, 100, False),
    ("relu", 3, 784, False),
    ("relu", 10, 100, False),
    ("relu", 10, 784, False),
    ("relu", 100, 100, True),
    ("relu", 100, 784, True),
    ("relu", 100, 784, False),
    ("erf", 3, 784, False),
]


@pytest.mark.parametrize(("activation", "depth", "d", "unit_norm"), CASES)
def test_gram_beside_matmul(
    activation: str, depth: int, d: int, unit_norm: bool, compare: Compare, short: bool
) -> None:
    """Symmetric work: the Gram may cost less than the full ``X @ X.T``."""
    net = network(activation, depth)
    X = rows(1500 if short else 4000, d, unit_norm=unit_norm)
    head = X[:200]
    error = float32_error(net, head, kernreg.gram(net, head, kernel=KERNEL))
    assert error <= 2e-5

    tensor = torch.from_numpy(X)
    product = torch.empty(len(X), len(X))
    K = np.empty((len(X), len(X)), np.float32)
    norms = ", equal norms" if unit_norm else ""
    compare(
        f"Gram {activation} depth {depth}{norms}, d={d}: times faster than X @ X.T",
        lambda: kernreg.gram(net, X, kernel=KERNEL, out=K),
        lambda: seconds(lambda: torch.mm(tensor, tensor.T, out=product)),
        target=1 / 0.75 if (activation, depth, d) == ("relu", 3, 784) else None,
        rounds=15,
        n=len(X),
        error=error,
    )
