"""Layers on positions: values and texts, bad arguments, layers and images that do not fit."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.exceptions import ArgumentError, InvalidInputError, KernregError, NetworkError
from kernreg.nn.parse import parse_network

conv, relu = nn.Conv((3, 3)), nn.Relu()
whole = nn.serial(conv, relu, nn.GlobalAvgPool(), nn.Dense())


def program(net: nn.Layer, *shape: int) -> Any:
    return nn.serial(nn.Unflatten(shape), net).program()


def sizes_behind(net: nn.Layer, *shape: int) -> tuple[int, ...]:
    return program(net, *shape).sizes()[-1]


# Values and texts

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


# Ready-made networks


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


# Numbers of positions


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_sizes(size: int, window: int, stride: int) -> None:
    for padding in ("SAME", "CIRCULAR"):
        assert sizes_behind(nn.Conv(window, stride, padding), size, 1) == (-(-size // stride),)
    if window <= size:
        valid = (size - window) // stride + 1
        assert sizes_behind(nn.Conv(window, stride, "VALID"), size, 1) == (valid,)
        assert sizes_behind(nn.SumPool(window, stride), size, 1) == (valid,)
    # As documented for jax.lax.conv_transpose.
    assert sizes_behind(nn.ConvTranspose(window, stride), size, 1) == (size * stride,)
    spread = size * stride + max(window - stride, 0)
    assert sizes_behind(nn.ConvTranspose(window, stride, "VALID"), size, 1) == (spread,)


def test_sizes_with_dilation_and_in_loops() -> None:
    assert sizes_behind(nn.Conv(3, padding="VALID", dilation=3), 9, 2) == (3,)
    assert sizes_behind(nn.repeat(nn.Conv((2, 3), padding="VALID"), 3), 8, 9, 1) == (5, 3)
    assert sizes_behind(nn.repeat(nn.Conv((3, 3), strides=2), 40), 9, 5, 1) == (1, 1)
    assert sizes_behind(nn.LocalAvgPool(4), 3, 2, 1) == (3, 2)


LARGE = 2**31


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Unflatten((2**16, 2**15, 2)),
            f"image of shape (65536, 32768, 2) has {2 * LARGE} numbers, expected at most {LARGE}",
        ),
        (
            lambda: nn.Unflatten((2**20 + 1, 1)),
            "Unflatten: shape must be whole numbers from 1 to 1048576, one for each axis, found",
        ),
        (
            lambda: sizes_behind(nn.ConvTranspose((3, 3), strides=2**20), 4, 5, 1),
            "ConvTranspose(filter_shape=(3, 3), strides=1048576): 4194304 x 5242880 positions are "
            f"more than can be numbered; expected at most {LARGE}",
        ),
        (
            lambda: sizes_behind(nn.repeat(nn.ConvTranspose((1, 1), strides=2), 10**6), 4, 5, 1),
            "65536 x 81920 positions are more than can be numbered",
        ),
        (
            lambda: sizes_behind(nn.Conv((5, 5), padding="VALID"), 4, 6, 1),
            "Conv(filter_shape=(5, 5), padding='VALID'): a window of 5 x 5 positions does not fit "
            "images of 4 x 6: use larger images, a smaller window, or padding='SAME'.",
        ),
        (
            lambda: sizes_behind(nn.Conv((3, 3), padding="VALID", dilation=3), 6, 9, 1),
            "a window of 3 x 3 positions, which spans 7 x 7, does not fit images of 6 x 9",
        ),
        (
            lambda: sizes_behind(nn.repeat(nn.AvgPool((2, 2)), 3), 7, 8, 1),
            "AvgPool(window_shape=(2, 2)): a window of 2 x 2 positions does not fit images "
            "of 1 x 2",
        ),
        (
            lambda: sizes_behind(nn.myrtle(5), 3, 3, 1),
            "AvgPool(window_shape=(2, 2)): a window of 2 x 2 positions does not fit images "
            "of 1 x 1",
        ),
        (
            lambda: sizes_behind(nn.parallel(conv, nn.Conv((3, 3), strides=2)), 4, 5, 1),
            "parallel(Conv(filter_shape=(3, 3)), Conv(filter_shape=(3, 3), strides=2)): expected "
            "branches with as many positions, found (4, 5) and (2, 3): give them the same strides "
            "and padding.",
        ),
    ],
)
def test_shapes_that_do_not_fit(make: Callable[[], object], message: str) -> None:
    """No position is made before their number is checked."""
    with pytest.raises(NetworkError) as caught:
        make()
    assert message in str(caught.value)


# Bad arguments

NOT_WHOLE = [0, -1, 2.5, "3", True, None, (3, 0), (3, 2.5), (3, "a"), 2**20 + 1, math.nan]
WHOLE = "must be whole numbers from 1 to 1048576, one for each axis, found "


@pytest.mark.parametrize("value", NOT_WHOLE, ids=repr)
def test_windows_are_whole_numbers(value: Any) -> None:
    for layer in (nn.Conv, nn.ConvLocal, nn.ConvTranspose):
        with pytest.raises(NetworkError) as caught:
            layer(value)
        assert str(caught.value) == f"{layer.__name__}: filter_shape {WHOLE}{value!r}."
    for layer in (nn.AvgPool, nn.SumPool):
        with pytest.raises(NetworkError) as caught:
            layer(value)
        assert str(caught.value) == f"{layer.__name__}: window_shape {WHOLE}{value!r}."
    with pytest.raises(NetworkError) as caught:
        nn.Unflatten(value)
    assert str(caught.value) == f"Unflatten: shape {WHOLE}{value!r}."


@pytest.mark.parametrize("value", [v for v in NOT_WHOLE if v is not None], ids=repr)
def test_steps_are_whole_numbers(value: Any) -> None:
    for make, name in (
        (lambda v: nn.Conv((3, 3), strides=v), "Conv: strides"),
        (lambda v: nn.Conv((3, 3), dilation=v), "Conv: dilation"),
        (lambda v: nn.ConvTranspose((3, 3), strides=v), "ConvTranspose: strides"),
        (lambda v: nn.AvgPool((2, 2), strides=v), "AvgPool: strides"),
        (lambda v: nn.SumPool((2, 2), strides=v), "SumPool: strides"),
    ):
        with pytest.raises(NetworkError) as caught:
            make(value)
        assert str(caught.value) == f"{name} {WHOLE}{value!r}."


@pytest.mark.parametrize("value", ["same", "REFLECT", "", None, 0, ("SAME", "SAME")], ids=repr)
def test_paddings_by_name(value: Any) -> None:
    message = f"padding must be one of SAME, VALID, CIRCULAR, found {value!r}."
    for make in (
        lambda v: nn.Conv((3, 3), padding=v),
        lambda v: nn.ConvTranspose(3, padding=v),
        lambda v: nn.AvgPool(2, padding=v),
        lambda v: nn.cnn(padding=v),
    ):
        with pytest.raises(NetworkError) as caught:
            make(value)
        assert str(caught.value).endswith(message)


BAD: list[tuple[Callable[[], object], str]] = [
    (
        lambda: nn.Conv((3, 3), strides=(1, 2, 3)),
        "Conv: strides must have one number for each of the 2 axes, found (1, 2, 3).",
    ),
    (
        lambda: nn.Conv(3, dilation=(1, 2)),
        "Conv: dilation must have one number for each of the 1 axes, found (1, 2).",
    ),
    (
        lambda: nn.SumPool((2, 2), strides=(1,)),
        "SumPool: strides must have one number for each of the 2 axes, found (1,).",
    ),
    (lambda: nn.Conv(()), "Conv: filter_shape must have one number for each"),
    (lambda: nn.Conv((3, 3), W_std=0.0), "Conv: W_std must be a finite number > 0, found 0.0."),
    (
        lambda: nn.ConvLocal((3, 3), W_std=math.inf),
        "ConvLocal: W_std must be a finite number > 0, found inf.",
    ),
    (lambda: nn.Conv((3, 3), b_std=-1), "Conv: b_std must be a finite number >= 0, found -1."),
    (
        lambda: nn.Conv((3, 3), parameterization="standard"),
        "Conv: the 'standard' parameterization needs fan_in",
    ),
    (
        lambda: nn.Conv((3, 3), parameterization="mean"),
        "Conv: parameterization must be 'ntk' or 'standard', found 'mean'.",
    ),
    (
        lambda: nn.Conv((3, 3), parameterization="standard", fan_in=2.5),
        "Conv: fan_in must be a whole number, found 2.5.",
    ),
    (lambda: nn.Conv((3, 3), trainable="no"), "Conv: trainable must be True or False, found 'no'."),
    (lambda: nn.ConvTranspose((3, 3), dilation=2), "ConvTranspose: dilation must be 1, found 2."),
    (
        lambda: nn.ConvTranspose((3, 3), dilation=(1, 2)),
        "ConvTranspose: dilation must be 1, found (1, 2).",
    ),
    (lambda: nn.LocalAvgPool(-1), "LocalAvgPool: radius must be a finite number >= 0, found -1."),
    (lambda: nn.LocalAvgPool("1"), "LocalAvgPool: radius must be a finite number >= 0, found '1'."),
    (
        lambda: nn.LocalAvgPool(1.5),
        "LocalAvgPool: radius must be a whole number to 524288, found 1.5.",
    ),
    (
        lambda: nn.LocalAvgPool(2**19 + 1),
        "LocalAvgPool: radius must be a whole number to 524288, found 524289.",
    ),
    (lambda: nn.LocalAvgPool(1, axes=0), "LocalAvgPool: axes must be whole numbers from 1"),
    (
        lambda: nn.Unflatten((28,)),
        "Unflatten: shape must have at least one axis of positions and the channels, as in "
        "(height, width, channels), found (28,).",
    ),
    (
        lambda: nn.LayerNorm(axes=(0, 0)),
        "LayerNorm: axes must be different numbers of axes of positions, from 0, found (0, 0).",
    ),
    (
        lambda: nn.LayerNorm(axes=-1),
        "LayerNorm: axes must be different numbers of axes of positions, from 0, found -1.",
    ),
    (
        lambda: nn.LayerNorm(axes=(0.5,)),
        "LayerNorm: axes must be different numbers of axes of positions, from 0, found (0.5,).",
    ),
    (lambda: nn.cnn(depth=-1), "cnn: depth must be a finite number >= 0, found -1."),
    (lambda: nn.cnn(depth=1.5), "cnn: depth must be a whole number, found 1.5."),
    (lambda: nn.cnn(readout="mean"), "cnn: readout must be one of average, flatten, found 'mean'."),
    (lambda: nn.cnn(filter_shape=0), "Conv: filter_shape must be whole numbers"),
    (
        lambda: nn.cnn(activation=nn.Dense()),
        "cnn: activation must be a nonlinearity such as nn.Relu() or 'relu', found Dense().",
    ),
    (lambda: nn.cnn(activation="relo"), "Did you mean 'Relu'?"),
    (lambda: nn.cnn(W_std=-1.0), "W_std must be a finite number > 0, found -1.0."),
    (lambda: nn.myrtle(6), "myrtle: depth must be one of 5, 7, 10, found 6."),
    (lambda: nn.myrtle(5, 3), "myrtle: activation must be a nonlinearity"),
    (
        lambda: nn.wide_resnet(11),
        "wide_resnet: depth must be 6 n + 4 for n blocks in each of three groups, such as "
        "10, 16, 22 or 28, found 11.",
    ),
    (lambda: nn.wide_resnet(4), "such as 10, 16, 22 or 28, found 4."),
    (lambda: nn.wide_resnet(10.5), "wide_resnet: depth must be a whole number, found 10.5."),
    (lambda: nn.wide_resnet(10, 0), "wide_resnet: k must be a finite number >= 1, found 0."),
    (lambda: nn.flip_augmented(3), "flip_augmented: network must be a layer, found 3."),
    (lambda: nn.flip_augmented(nn.Conv), "flip_augmented: network must be a layer, found <class"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_bad_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: nn.Conv((3, 3), stride=2), "strides"),
        (lambda: nn.Conv((3, 3), dilations=2), "dilation"),
        (lambda: nn.AvgPool((2, 2), stride=2), "strides"),
        (lambda: nn.LocalAvgPool(radios=2), "radius"),
        (lambda: nn.cnn(filter_shap=3), "filter_shape"),
        (lambda: nn.myrtle(dept=5), "depth"),
    ],
)
def test_a_misspelled_name_is_told(call: Callable[[], object], meant: str) -> None:
    with pytest.raises(ArgumentError, match=f"Did you mean '{meant}'"):
        call()


# Layers that do not fit

ORDER: list[tuple[Callable[[], nn.Layer], str]] = [
    (
        lambda: nn.serial(conv, nn.Conv(3)),
        "Conv(filter_shape=3) works on 1 axes of positions, but there are 2 from "
        "Conv(filter_shape=(3, 3))",
    ),
    (
        lambda: nn.serial(conv, relu, nn.AvgPool((2, 2, 2))),
        "AvgPool(window_shape=(2, 2, 2)) works on 3 axes of positions, but there are 2 from Conv",
    ),
    (
        lambda: nn.serial(nn.LocalAvgPool(1), nn.Conv(3)),
        "but there are 2 from LocalAvgPool(radius=1)",
    ),
    (
        lambda: nn.serial(conv, nn.repeat(nn.Conv(3), 2)),
        "Conv(filter_shape=3) works on 1 axes of positions, but there are 2",
    ),
    (
        lambda: nn.serial(conv, nn.parallel(conv, nn.Conv(3))),
        "Conv(filter_shape=3) works on 1 axes of positions, but there are 2",
    ),
    (
        lambda: nn.serial(conv, nn.LayerNorm(axes=2)),
        "LayerNorm(axes=(2,)): axes must be below 2, the number of axes of positions.",
    ),
    (
        lambda: nn.serial(nn.Flatten(), conv),
        "Conv(filter_shape=(3, 3)) stands after Flatten(), which leaves no positions: put "
        "it before.",
    ),
    (
        lambda: nn.serial(conv, nn.Flatten(), nn.Dense(), nn.GlobalAvgPool()),
        "GlobalAvgPool() stands after Dense(), which leaves no positions",
    ),
    (
        lambda: nn.serial(conv, nn.GlobalAvgPool(), nn.AvgPool((2, 2))),
        "AvgPool(window_shape=(2, 2)) stands after GlobalAvgPool(), which leaves no positions",
    ),
    (
        lambda: nn.serial(conv, nn.Flatten(), nn.Dense(), nn.LayerNorm(axes=0)),
        "LayerNorm(axes=(0,)) stands after Dense(), which leaves no positions",
    ),
    (
        lambda: nn.serial(conv, relu, nn.LayerNorm(axes=0)),
        "LayerNorm(axes=(0,)) stands after Relu(), but it needs a Gaussian preactivation",
    ),
    (
        lambda: nn.serial(conv, relu, nn.AvgPool((2, 2)), relu),
        "Relu() stands after AvgPool(window_shape=(2, 2)), but a nonlinearity needs a Gaussian",
    ),
    (
        lambda: nn.serial(conv, nn.Flatten(), relu),
        "Relu() stands after Flatten(), but a nonlinearity needs a Gaussian",
    ),
    (lambda: nn.serial(relu, conv).program(), "Relu() stands directly on the input"),
    (lambda: nn.serial(nn.AvgPool((2, 2)), relu).program(), "Relu() stands directly on the input"),
    (
        lambda: nn.serial(conv, nn.Unflatten((4, 4, 1))),
        "Unflatten(shape=(4, 4, 1)) stands after Conv(filter_shape=(3, 3)): expected it "
        "first of all layers.",
    ),
    (
        lambda: nn.serial(nn.Dense(), nn.Unflatten((4, 4, 1))),
        "Unflatten(shape=(4, 4, 1)) stands after Dense(): expected it first of all layers.",
    ),
    (
        lambda: nn.serial(conv, nn.parallel(conv, nn.serial(relu, nn.Flatten(), nn.Dense()))),
        "expected branches with the same positions, found 2 axes of positions behind "
        "Conv(filter_shape=(3, 3)) and no axes of positions behind Dense().",
    ),
    (
        lambda: nn.parallel(nn.serial(nn.Flatten(), nn.Dense()), nn.Dense()),
        "found no axes of positions behind Dense() and the axes of the data behind Dense().",
    ),
    (
        lambda: nn.parallel(nn.serial(conv, nn.Flatten()), nn.serial(conv, nn.GlobalAvgPool())),
        "ends in Flatten(), which is not Gaussian",
    ),
    (
        lambda: nn.parallel(nn.GlobalAvgPool(), nn.Flatten(), merge="product"),
        "branches GlobalAvgPool() and Flatten() have no weights of their own",
    ),
    (
        lambda: nn.repeat(nn.serial(conv, nn.Flatten()), 2),
        "Conv(filter_shape=(3, 3)) stands after Flatten(), which leaves no positions",
    ),
    (
        lambda: nn.serial(conv, nn.flip_augmented(whole)),
        "stands after Conv(filter_shape=(3, 3)): expected it around the whole network.",
    ),
]


@pytest.mark.parametrize(("make", "message"), ORDER, ids=[message[:40] for _, message in ORDER])
def test_layers_that_do_not_fit(make: Callable[[], nn.Layer], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.serial(nn.Unflatten((4, 4, 1)), nn.Conv(3)),
            "Conv(filter_shape=3) works on 1 axes of positions, but there are 2 from Unflatten",
        ),
        (
            lambda: nn.serial(nn.flip_augmented(whole), nn.Dense()),
            "Dense() stands after flip_augmented(",
        ),
        (
            lambda: nn.serial(nn.Unflatten((4, 4, 1)), nn.Dense(), nn.LayerNorm(axes=2), relu),
            "LayerNorm(axes=(2,)): axes must be below 2",
        ),
    ],
)
def test_messages_behind_the_first_layer(make: Callable[[], nn.Layer], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        make()
    assert message in str(caught.value)


def test_what_fits() -> None:
    """The axes may be known late, and vectors of several readouts may be merged."""
    readouts = (nn.serial(nn.Flatten(), nn.Dense()), nn.serial(nn.GlobalAvgPool(), nn.Dense()))
    for net, axes in (
        (nn.serial(nn.Dense(), nn.LayerNorm(axes=0), relu, nn.Conv(3), nn.Flatten()), 1),
        (nn.serial(nn.Dense(), relu, nn.Flatten()), None),
        (nn.serial(conv, relu, nn.parallel(*readouts)), 2),
        (nn.serial(nn.Dense(), nn.parallel(nn.Dense(), conv), relu, nn.Flatten()), 2),
        (nn.mlp(), 0),
    ):
        assert net.program().axes == axes
        assert net.program().spatial is None
    assert nn.serial(conv, relu).program().spatial == "Relu()"


# Programs


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


# Images that do not fit

X = np.random.default_rng(0).standard_normal((2, 4, 5, 1))
ROWS = X.reshape(2, -1)

IMAGES: list[tuple[Callable[[], object], str]] = [
    (
        lambda: kernreg.gram(whole, ROWS),
        "the network is for images, found rows of 20 numbers: pass arrays of shape (n, "
        "height, width, channels), or input_shape=(height, width, channels).",
    ),
    (lambda: kernreg.diag(whole, ROWS), "the network is for images, found rows of 20 numbers"),
    (
        lambda: kernreg.KernelOperator(whole, ROWS),
        "the network is for images, found rows of 20 numbers",
    ),
    (
        lambda: kernreg.gram(whole, ROWS, input_shape=(4, 5, 2)),
        "X1 has 20 numbers in a row, but images of shape (4, 5, 2) have 40.",
    ),
    (
        lambda: kernreg.gram(nn.mlp(), X),
        "X1 holds images of shape (4, 5, 1), but the network has no layer for positions: "
        "add Conv layers and a readout, or put Flatten() first for one vector.",
    ),
    (
        lambda: kernreg.gram(nn.mlp(), ROWS, input_shape=(4, 5, 1)),
        "but the network has no layer for positions",
    ),
    (
        lambda: kernreg.gram(nn.serial(nn.Unflatten((5, 4, 1)), whole), X),
        "X1 holds images of shape (4, 5, 1), but the network is for (5, 4, 1).",
    ),
    (
        lambda: kernreg.gram(whole, X, X[:, :3]),
        "X2 holds images of shape (3, 5, 1), but the network is for (4, 5, 1).",
    ),
    (
        lambda: kernreg.gram(whole, X[None]),
        "X1 holds images of shape (2, 4, 5, 1), 3 axes of positions and the channels, but "
        "the network works on 2 axes.",
    ),
    (
        lambda: kernreg.gram(nn.serial(conv, relu), X),
        "the network ends in Relu(), which leaves positions: end it in Flatten() or "
        "GlobalAvgPool(), and perhaps Dense().",
    ),
    (
        lambda: kernreg.gram(whole, X, channels="frist"),
        "channels must be 'last' or 'first', found 'frist'.",
    ),
    (
        lambda: kernreg.gram(whole, np.full_like(X, np.nan)),
        "X1 contains NaN or infinity (first in row 0)",
    ),
    (lambda: kernreg.gram(whole, X[:0]), "X1 is empty"),
    (
        lambda: kernreg.gram(nn.flip_augmented(whole), ROWS),
        "the network is for images, found rows of 20 numbers",
    ),
    (
        lambda: kernreg.gram(nn.flip_augmented(nn.mlp()), X),
        "which leaves positions",
    ),
    (
        lambda: kernreg.gram(nn.serial(nn.Dense(), nn.Unflatten((4, 5, 1))), X),
        "Unflatten(shape=(4, 5, 1)) stands after Dense()",
    ),
]


@pytest.mark.parametrize(("make", "message"), IMAGES, ids=[message[:40] for _, message in IMAGES])
def test_images_that_do_not_fit(make: Callable[[], object], message: str) -> None:
    with pytest.raises(KernregError) as caught:
        make()
    assert message in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_an_axis_for_one_channel_may_be_left_out() -> None:
    want = kernreg.gram(whole, X)
    np.testing.assert_array_equal(kernreg.gram(whole, X[..., 0]), want)
    np.testing.assert_array_equal(kernreg.gram(whole, X, X[..., 0]), kernreg.gram(whole, X, X))
    np.testing.assert_array_equal(kernreg.gram(whole, ROWS, input_shape=(4, 5)), want)


def test_code_of_a_network_for_images() -> None:
    code = "serial(Conv((3, 3)), Relu(), GlobalAvgPool(), Dense())"
    np.testing.assert_array_equal(kernreg.gram(code, X), kernreg.gram(whole, X))


@pytest.mark.parametrize(
    "make",
    [
        lambda: kernreg.gram(nn.serial(conv, nn.repeat(nn.serial(nn.Flatten(), nn.Dense()), 2)), X),
        lambda: kernreg.gram(nn.flip_augmented(nn.mlp()), ROWS),
    ],
)
def test_networks_that_cannot_stand_on_the_data(make: Callable[[], object]) -> None:
    with pytest.raises((NetworkError, InvalidInputError)):
        make()
