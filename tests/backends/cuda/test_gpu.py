"""The same on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg.backends.cuda import compile as compiler
from tests.backends.compare import KERNELS, hard_rows, rows
from tests.backends.cuda.filling import error, fill, reference
from tests.backends.cuda.networks import NETWORKS

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    pytest.mark.skipif(compiler.missing() is not None, reason=str(compiler.missing())),
]


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    net, X, Y = NETWORKS[name], rows(), rows(4, seed=1)
    assert error(fill(net, X, device="cuda"), reference(net, X)) <= 1e-10
    assert error(fill(net, X, Y, device="cuda"), reference(net, X, Y)) <= 1e-10


@pytest.mark.parametrize(("n", "m", "d"), [(1, 129, 1), (200, 700, 15), (513, 300, 784)])
def test_sizes(n: int, m: int, d: int) -> None:
    X, Y = rows(n, d), rows(m, d, seed=1)
    net = NETWORKS["relu"]
    assert error(fill(net, X, Y, device="cuda"), reference(net, X, Y)) <= 1e-12
    got = fill(net, X, device="cuda")
    assert error(got, reference(net, X)) <= 1e-12
    for kernel in KERNELS:
        assert np.array_equal(got[kernel], got[kernel].T)


def test_close_rows() -> None:
    X = hard_rows()
    assert error(fill(NETWORKS["relu"], X, device="cuda"), reference(NETWORKS["relu"], X)) <= 1e-12


def test_a_stream_of_the_caller() -> None:
    """Work is ordered with torch's current stream, whichever it is."""
    X = rows(300)
    with torch.cuda.stream(torch.cuda.Stream()):
        got = fill(NETWORKS["relu"], X, device="cuda")
    assert error(got, reference(NETWORKS["relu"], X)) <= 1e-12
