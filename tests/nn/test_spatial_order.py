"""Layers on positions that do not fit one another, and those that do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernreg import nn
from kernreg.exceptions import NetworkError
from tests.nn.spatial import conv, relu, whole

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
