"""Layers on positions are values with texts, and so are their programs."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from kernreg import nn
from kernreg.nn.parse import parse_network
from tests.nn.spatial import conv, relu, whole

LAYERS: list[nn.Layer] = [
    nn.Conv(3),
    nn.Conv((3, 5), strides=(2, 1), padding="CIRCULAR", W_std=2**0.5, b_std=None, dilation=2),
    nn.Conv((2, 2), parameterization="standard", fan_in=16, trainable=False),
    nn.ConvLocal((3, 3), padding="VALID", b_std=0.25),
    nn.ConvTranspose((3, 3), strides=2),
    nn.ConvTranspose(4, 3, "VALID", 1.5, 0.5),
    nn.AvgPool((2, 2)),
    nn.AvgPool(3, strides=2, padding="SAME", normalize_edges=True),
    nn.SumPool((2, 1), strides=(1, 2), padding="CIRCULAR"),
    nn.LocalAvgPool(2),
    nn.LocalAvgPool(radius=1, axes=3),
    nn.GlobalAvgPool(),
    nn.GlobalSumPool(),
    nn.Flatten(),
    nn.Unflatten((28, 28, 1)),
    nn.serial(conv, nn.LayerNorm(eps=1e-6, axes=(0, 1)), relu),
    nn.cnn(depth=4, activation="erf", filter_shape=5, padding="CIRCULAR", readout="flatten"),
    nn.cnn(filter_shape=(1, 3)),
    nn.myrtle(7, W_std=1.25, b_std=0.1),
    nn.wide_resnet(16, 4, activation=nn.LeakyRelu(0.1)),
    nn.flip_augmented(nn.myrtle(5)),
    nn.flip_augmented(nn.serial(nn.Unflatten((8, 8, 3)), whole)),
    nn.serial(
        nn.Unflatten((8, 8, 3)),
        conv,
        nn.repeat(nn.residual(nn.serial(relu, conv), nn.Conv((1, 1))), 3),
        nn.parallel(nn.Dense(), conv, merge="product"),
        nn.Flatten(),
    ),
]
layers = pytest.mark.parametrize("layer", LAYERS, ids=repr)


@layers
def test_texts_give_the_layer_back(layer: nn.Layer) -> None:
    assert eval(repr(layer), {name: getattr(nn, name) for name in nn.__all__}) == layer
    assert parse_network(repr(layer)) == layer
    assert nn.from_json(nn.to_json(layer)) == layer


@layers
def test_layers_are_values(layer: nn.Layer) -> None:
    for other in (copy.copy(layer), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert other == layer
        assert hash(other) == hash(layer)
    assert type(layer)(**layer.get_params(deep=False)) == layer


def test_defaults_are_not_printed() -> None:
    assert repr(nn.Conv((3, 3), strides=1, padding="SAME")) == "Conv(filter_shape=(3, 3))"
    assert repr(nn.AvgPool((2, 2), None)) == "AvgPool(window_shape=(2, 2))"
    assert repr(nn.LocalAvgPool(1, 2)) == "LocalAvgPool(radius=1)"


def test_lists_and_numbers_of_numpy() -> None:
    assert nn.Conv([3, 3], strides=[2, 1], dilation=[1, 1]) == nn.Conv(
        (3, 3), (2, 1), dilation=(1, 1)
    )
    assert nn.AvgPool([2, 2], strides=[1, 1]) == nn.AvgPool((2, 2), (1, 1))
    assert nn.cnn(filter_shape=[3, 1]) == nn.cnn(filter_shape=(3, 1))
    assert nn.Unflatten([4, 4, 1]) == nn.Unflatten((4, 4, 1))
    assert nn.LayerNorm(axes=[1, 0]) == nn.LayerNorm(axes=(0, 1))
    assert nn.LayerNorm(axes=1) == nn.LayerNorm(axes=(1,))
    assert nn.Conv((np.int64(3), 3)) == nn.Conv((3, 3))
    assert nn.from_json(nn.to_json(nn.Conv(np.int32(3)))) == nn.Conv(3)


def test_one_number_stands_for_every_axis() -> None:
    for one, spelled in (
        (nn.Conv((3, 3), 2, dilation=2), nn.Conv((3, 3), (2, 2), dilation=(2, 2))),
        (nn.AvgPool((2, 2), 1), nn.AvgPool((2, 2), (1, 1))),
        (nn.Conv((3, 3)), nn.Conv((3, 3), strides=None, dilation=None)),
        (nn.AvgPool((3, 2)), nn.AvgPool((3, 2), (3, 2))),
    ):
        assert one.program().ops == spelled.program().ops
    assert nn.Conv(3).program().axes == nn.Conv((3,)).program().axes == 1


def test_text_of_a_program() -> None:
    net = nn.serial(
        nn.Unflatten((6, 6, 1)),
        nn.Conv((3, 3), W_std=1.5),
        nn.LayerNorm(axes=(0,)),
        relu,
        nn.AvgPool((2, 2)),
        nn.ConvLocal((3, 3), 2, dilation=(1, 2), b_std=0.1),
        nn.repeat(nn.ConvTranspose(2 * (3,), 2), 2),
        nn.Conv((1, 1), parameterization="standard", fan_in=7, trainable=False),
        nn.SumPool((2, 2), 1, "SAME"),
        nn.AvgPool((3, 3), padding="CIRCULAR"),
        nn.LocalAvgPool(1),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Dense(),
    )
    assert (
        str(net.program())
        == """
%0 = input
%1 = mix %0  3 x 3 SAME W_std=1.5
%2 = normalize %1  eps=1e-12 axes=(0,)
%3 = Relu() %2
%4 = mix %3  2 x 2 strides=2 x 2 VALID mean
%5 = local mix %4  3 x 3 strides=2 x 2 dilation=1 x 2 SAME W_std=1 b_std=0.1
%6 = repeat 2 times on %5
  %0 = carry
  %1 = mix %0  3 x 3 strides=2 x 2 SAME transposed W_std=1
%7 = mix %6  1 x 1 SAME W_std=1 b_std=0 standard fan_in=7 not trained
%8 = mix %7  2 x 2 SAME sum
%9 = mix %8  3 x 3 strides=3 x 3 CIRCULAR mean
%10 = mix %9  3 x 3 SAME mean
%11 = dropout %10  keep=0.5
%12 = mix %11  all positions
%13 = dense %12  W_std=1
""".strip()
    )
    assert str(nn.GlobalAvgPool().program()) == "%0 = input\n%1 = mix %0  all positions mean"
    assert str(nn.GlobalSumPool().program()) == "%0 = input\n%1 = mix %0  all positions sum"


def test_edges_are_seen() -> None:
    text = str(nn.AvgPool((2, 2), padding="SAME", normalize_edges=True).program())
    assert text.endswith("2 x 2 strides=2 x 2 SAME present")
