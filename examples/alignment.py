"""Alignment does not rank architectures
=====================================

What alignment says of convolutional and fully connected kernels, and what it does not.

Digits, moved to the side and up by one pixel or not at all (what leaves on one side comes in on the
other). A network whose features are averaged over all places does not see the move, a fully
connected one must learn it. The alignment of a kernel with the labels, which is often taken as
its quality, ranks them the other way round than the errors that they make: it sees how much of the
kernel points to the labels, not whether what points elsewhere does any harm. Between kernels of
one kind it does tell: the fully connected one and the convolutional one without an average are
about as well aligned, and err about as much.

.. code-block:: text

    python examples/alignment.py [--quick] [--out picture.png]

Takes about a minute on two cores, some seconds with --quick.
"""

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


def convolutional(images: Array, depth: int, readout: str) -> Array:
    """NTK of a ReLU network of circular 3 x 3 convolutions."""
    net = nn.cnn(depth, b_std=0.0, padding="CIRCULAR", readout=readout)
    return np.asarray(gram(net, images[..., None]))


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Run; returns centred alignment and predicted test error of each kernel."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    images, labels = moved_digits(80 if options.quick else 300)
    kernels = {
        "fully connected": gram(nn.mlp(depth=3), images.reshape(len(images), -1)),
        "convolutional, flat": convolutional(images, 3, "flatten"),
        "convolutional, averaged": convolutional(images, 3, "average"),
    }
    table = compare(kernels, None, labels, alpha=1e-3)
    print(table)
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting.style import COLOURS, panels

        figure, axes = panels(1, 2, size=(9.6, 2.8), sharey=True)
        for ax, values, colour in zip(axes, (table.cka, table.loo), COLOURS, strict=False):
            ax.barh(table.names, values, color=colour, height=0.6)
            ax.grid(False)
            for place, value in enumerate(values):
                ax.text(value, place, f" {value:.2f}", va="center")
            ax.set_xlim(0, 1.15 * max(values))
        axes[0].invert_yaxis()
        axes[0].set_xlabel("centred alignment with the labels")
        axes[1].set_xlabel("leave-one-out error, share of the variance")
        figure.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return {
        name: (float(a), float(e))
        for name, a, e in zip(table.names, table.cka, table.loo, strict=True)
    }


if __name__ == "__main__":
    main()
