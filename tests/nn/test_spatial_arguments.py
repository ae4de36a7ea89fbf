"""Arguments of layers for images that mean nothing are refused where they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from kernreg import nn
from kernreg.exceptions import ArgumentError, NetworkError

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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Conv(()), "one number for each axis of positions, found ()"),
        (lambda: nn.AvgPool(()), "one number for each axis of positions, found ()"),
        (lambda: nn.Conv((3, 3), strides=(1,)), "for each of the 2 axes, found (1,)"),
        (lambda: nn.LayerNorm(axes=None), "axes of positions, from 0, found None"),
        (lambda: nn.LayerNorm(axes=True), "axes of positions, from 0, found True"),
        (lambda: nn.LayerNorm(axes="0"), "axes of positions, from 0, found '0'"),
        (lambda: nn.AvgPool((2, 2), normalize_edges="x"), "must be True or False, found 'x'"),
        (lambda: nn.myrtle([5]), "depth must be one of 5, 7, 10, found [5]"),
    ],
)
def test_meaningless_arguments(make: Callable[[], object], message: str) -> None:
    with pytest.raises(NetworkError) as caught:
        make()
    assert message in str(caught.value)
