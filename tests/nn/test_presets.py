"""Ready-made networks."""

from __future__ import annotations

import pytest

from kernreg import nn
from tests.nn.kernels import assert_kernels, dense, relu, start


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_mlp(depth: int) -> None:
    x = dense(start(), 1.3, 0.2)
    for _ in range(depth):
        x = dense(relu(x), 1.3, 0.2)
    assert_kernels(nn.mlp(depth=depth, W_std=1.3, b_std=0.2), x)


def test_mlp_is_its_layers() -> None:
    net = nn.mlp(depth=3, activation=nn.Erf(), W_std=1.5, b_std=None)
    block = nn.serial(nn.Erf(), nn.Dense(1.5, None))
    assert net.layers() == nn.serial(nn.Dense(1.5, None), nn.repeat(block, 3))
    assert net.program() == net.layers().program()


def test_mlp_defaults() -> None:
    """He initialisation, which keeps the variance of a ReLU network."""
    net = nn.mlp()
    assert (net.depth, net.activation, net.b_std) == (3, nn.Relu(), 0.1)
    assert net.W_std**2 == pytest.approx(2.0, rel=1e-15)


def test_depth_costs_no_instructions() -> None:
    assert len(nn.mlp(depth=3).program().ops) == len(nn.mlp(depth=10_000).program().ops)
