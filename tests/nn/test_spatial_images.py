"""Images that do not fit a network, and shapes of images that are taken."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import kernreg
from kernreg import KernelRegressor, nn
from kernreg.exceptions import InvalidInputError, KernregError, NetworkError
from tests.nn.spatial import conv, relu, whole

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


def test_shapes_of_images_that_contradict() -> None:
    X, y = np.random.default_rng(0).standard_normal((6, 3, 3, 1)), np.arange(6.0)
    with pytest.raises(InvalidInputError, match=r"shape \(3, 3, 1\), but input_shape is \(9, 1\)"):
        KernelRegressor(nn.cnn(1), input_shape=(9, 1)).fit(X, y)
    KernelRegressor(nn.cnn(1), input_shape=(3, 3, 1), alpha=1.0).fit(X, y)


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
