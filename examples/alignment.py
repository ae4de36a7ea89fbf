"""What alignment says of convolutional and fully connected kernels, and what it does not.

Digits, moved to the side and up by one pixel or not at all (what leaves on one side comes in on the
other). A network whose features are averaged over all places does not see the move, a fully
connected one must learn it. The alignment of a kernel with the labels, which is often taken as
its quality, ranks them the other way round than the errors that they make: it sees how much of the
kernel points to the labels, not whether what points elsewhere does any harm. Between kernels of
one kind it does tell: the fully connected one and the convolutional one without an average are
about as well aligned, and err about as much.

    python examples/alignment.py [--quick] [--out picture.png]

Takes about a minute on two cores, some seconds with --quick.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from kernreg import gram, nn
from kernreg.theory.alignment import compare

Array = NDArray[np.float64]


def moved_digits(n: int, seed: int = 0) -> tuple[Array, NDArray[np.str_]]:
    """Images of shape (n, 8, 8), each moved, and their labels."""
    data = load_digits()
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(data.images))[:n]
    shifts = random.integers(0, 2, size=(n, 2))
    images = [
        np.roll(image, shift, axis=(0, 1))
        for image, shift in zip(data.images[chosen] / 16, shifts.tolist(), strict=True)
    ]
    return np.array(images), data.target[chosen].astype(str)


def convolutional(images: Array, depth: int) -> tuple[Array, Array]:
    """NTK of a ReLU network of 3 x 3 convolutions: with a flat readout, and with an average.

    Between pixels p of one image and p + shift of another the covariance is a plane of its own
    for every shift; convolution averages a plane over 3 x 3 neighbours.
    """
    n, side = images.shape[0], images.shape[1]
    variances = images**2
    flat, average = np.zeros((n, n)), np.zeros((n, n))
    layers = []
    for _ in range(depth):
        variances = _blur(variances) * 2
        layers.append(variances)
        variances = variances / 2
    for dy in range(side):
        for dx in range(side):
            other = np.roll(images, (-dy, -dx), axis=(1, 2))
            K = images[:, None] * other[None]
            T = np.zeros_like(K)
            for scale in layers:
                K, T = 2 * _blur(K), 2 * _blur(K + T)
                size = np.sqrt(scale[:, None] * np.roll(scale, (-dy, -dx), axis=(1, 2))[None])
                size = np.maximum(size, 1e-12)
                angle = np.arccos(np.clip(K / size, -1, 1))
                K = size / (2 * np.pi) * (np.sin(angle) + (np.pi - angle) * np.cos(angle))
                T = T * (np.pi - angle) / (2 * np.pi)
            total = (K + T).mean(axis=(2, 3))
            average += total / side**2
            if dy == dx == 0:
                flat = total
    return flat, average


def _blur(planes: Array) -> Array:
    """Means over 3 x 3 neighbours of the last two axes, circular."""
    for axis in (-1, -2):
        planes = (planes + np.roll(planes, 1, axis) + np.roll(planes, -1, axis)) / 3
    return planes


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Run; returns centred alignment and predicted test error of each kernel."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    images, labels = moved_digits(80 if options.quick else 300)
    flat, average = convolutional(images, depth=3)
    kernels = {
        "fully connected": gram(nn.mlp(depth=3), images.reshape(len(images), -1)),
        "convolutional, flat": flat,
        "convolutional, averaged": average,
    }
    table = compare(kernels, None, labels, alpha=1e-3)
    print(table)
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), constrained_layout=True)
        axes[0].barh(table.names, table.cka)
        axes[0].set(title="alignment with the labels")
        axes[1].barh(table.names, table.loo)
        axes[1].set(title="leave-one-out error")
        axes[1].set_yticklabels([])
        figure.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return {
        name: (float(a), float(e))
        for name, a, e in zip(table.names, table.cka, table.loo, strict=True)
    }


if __name__ == "__main__":
    main()
