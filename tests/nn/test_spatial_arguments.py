"""Arguments of layers for images that mean nothing are refused where they are given."""

import numpy as np
import pytest

from kernreg import KernelRegressor, nn
from kernreg.exceptions import InvalidInputError, NetworkError


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
def test_meaningless_arguments(make, message):
    with pytest.raises(NetworkError) as caught:
        make()
    assert message in str(caught.value)


def test_shapes_of_images_that_contradict():
    X, y = np.random.default_rng(0).standard_normal((6, 3, 3, 1)), np.arange(6.0)
    with pytest.raises(InvalidInputError, match=r"shape \(3, 3, 1\), but input_shape is \(9, 1\)"):
        KernelRegressor(nn.cnn(1), input_shape=(9, 1)).fit(X, y)
    KernelRegressor(nn.cnn(1), input_shape=(3, 3, 1), alpha=1.0).fit(X, y)
