"""Numbers of positions behind layers, and windows and branches that do not fit them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kernreg import nn
from kernreg.exceptions import NetworkError
from tests.nn.spatial import conv, program


def sizes_behind(net: nn.Layer, *shape: int) -> tuple[int, ...]:
    return program(net, *shape).sizes()[-1]


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
