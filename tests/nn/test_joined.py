"""Branches whose positions stand side by side."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.exceptions import KernregError, NetworkError

KERNELS = ("nngp", "ntk")
left = nn.serial(nn.Conv((3, 3), b_std=0.2), nn.Relu(), nn.Conv((2, 1), W_std=1.3))
right = nn.serial(nn.Conv((2, 2), strides=(1, 2), W_std=0.8, b_std=0.1))
joined = nn.parallel(left, right, merge="concat", axis=1)


def images(n: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, *shape))


def grams(net: nn.Layer, *X: np.ndarray) -> list[np.ndarray]:
    made = kernreg.gram(net, *X, kernel=KERNELS)
    return [getattr(made, kernel) for kernel in KERNELS]


@pytest.mark.parametrize(
    ("readout", "power"), [(nn.GlobalAvgPool(), 2), (nn.serial(nn.Relu(), nn.Flatten()), 1)]
)
def test_blocks_add_up(readout: nn.Layer, power: int) -> None:
    """Branches of 4 x 6 and 4 x 3 positions: nothing is between them, so readouts are means."""
    X, Y = images(3, 4, 6, 2), images(2, 4, 6, 2)
    parts = [grams(nn.serial(branch, readout), X, Y) for branch in (left, right)]
    shares = [(2 / 3) ** power, (1 / 3) ** power]
    for k, got in enumerate(grams(nn.serial(joined, readout), X, Y)):
        want = shares[0] * parts[0][k] + shares[1] * parts[1][k]
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_flips_do_not_take_the_join_for_symmetric() -> None:
    net = nn.serial(joined, nn.Relu(), nn.Conv((1, 3)), nn.Relu(), nn.GlobalAvgPool(), nn.Dense())
    X, Y = images(3, 4, 6, 2), images(2, 4, 6, 2)
    X2, Y2 = X[:, :, ::-1].copy(), Y[:, :, ::-1].copy()
    quarters = [grams(net, a, b) for a in (X, X2) for b in (Y, Y2)]
    for k, got in enumerate(grams(nn.flip_augmented(net), X, Y)):
        np.testing.assert_allclose(got, np.mean([q[k] for q in quarters], axis=0), rtol=1e-12)


def test_text_and_file() -> None:
    assert nn.from_json(nn.to_json(joined)) == joined
    assert repr(joined).endswith("merge='concat', axis=1)")
    assert nn.serial(nn.Unflatten((4, 6, 2)), joined).program().sizes()[-1] == (4, 9)


def test_what_does_not_fit() -> None:
    across = nn.serial(nn.parallel(left, right, merge="concat", axis=0), nn.Flatten())
    with pytest.raises(NetworkError, match=r"as many positions, found \(4, 6\) and \(4, 3\)"):
        kernreg.gram(across, images(2, 4, 6, 2))
    free = nn.serial(nn.parallel(nn.Dense(), nn.Dense(), merge="concat", axis=1), nn.Flatten())
    with pytest.raises(NetworkError, match="axis must be below 1, the number of axes"):
        kernreg.gram(free, images(2, 5, 3))
    with pytest.raises(KernregError, match="images"):
        kernreg.gram(free, images(2, 5))
