"""Ready-made networks."""

from __future__ import annotations

from typing import Any

import pytest

from kernreg import nn
from tests.nn.kernels import assert_kernels, dense, relu, start
from tests.nn.spatial import program


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


def test_cnn_is_its_layers() -> None:
    net = nn.cnn(3, "erf", 1.5, 0.2, filter_shape=(3, 1), padding="VALID", readout="flatten")
    block = nn.serial(nn.Conv((3, 1), 1, "VALID", 1.5, 0.2), nn.Erf())
    assert net.layers() == nn.serial(nn.repeat(block, 3), nn.Flatten(), nn.Dense(1.5, 0.2))
    assert net.program() == net.layers().program()
    assert nn.cnn(3).layers().layers[1] == nn.GlobalAvgPool()


@pytest.mark.parametrize(("depth", "blocks"), [(5, (2, 1, 1)), (7, (2, 2, 2)), (10, (3, 3, 3))])
def test_myrtle(depth: int, blocks: tuple[int, ...]) -> None:
    """Shankar et al. (2020): two poolings, and a layer of ``depth`` is the readout."""
    net = nn.myrtle(depth)
    kinds = [type(layer).__name__ for layer in net.layers().layers]
    convolutions, pool = [["Conv", "Relu"] * n for n in blocks], ["AvgPool"]
    assert kinds == [
        *(convolutions[0] + pool),
        *(convolutions[1] + pool),
        *convolutions[2],
        "GlobalAvgPool",
        "Dense",
    ]
    sizes = program(net, 32, 32, 3).sizes()
    assert {(32, 32), (16, 16), (8, 8), ()} == set(sizes)


@pytest.mark.parametrize(("depth", "count"), [(10, 1), (16, 2), (28, 4)])
def test_wide_resnet(depth: int, count: int) -> None:
    """Three groups of ``count`` blocks of two convolutions; the widening factor is not seen."""
    net = nn.wide_resnet(depth)
    assert net.program() == nn.wide_resnet(depth, 1).program() == net.layers().program()
    sizes = program(net, 32, 32, 3).sizes()
    assert {(32, 32), (16, 16), (8, 8), ()} == set(sizes)

    def convolutions(layer: Any) -> int:
        if isinstance(layer, nn.Conv):
            return 1
        times = getattr(layer, "n", 1)
        inner = [getattr(layer, name, None) for name in ("block", "shortcut")]
        inner += list(getattr(layer, "layers", ()))
        return times * sum(convolutions(one) for one in inner if one is not None)

    # Besides those of the blocks the first one, and one in each group's first shortcut.
    assert convolutions(net.layers()) == 3 * 2 * count + 1 + 3
