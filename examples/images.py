"""Convolutional kernels on moved digits
=====================================

Handwritten digits: convolutional kernels beside a fully connected and a Gaussian one.

Digits are moved to the side and up by one pixel or not at all. A network that averages its features
over all places needs the fewest images; one that reads every place for itself gains from its local
filters only; the fully connected one and the Gaussian kernel see 64 numbers. The ridge is chosen by
leave-one-out, the width of the Gaussian kernel on the test images, in its favour.

.. code-block:: text

    python examples/images.py [--quick] [--out picture.png]

Takes about two minutes on two cores, some seconds with --quick.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from kernreg import ImageScaler, KernelClassifier, nn

Array = NDArray[np.float64]

NETWORKS = {
    "convolutions, averaged": nn.cnn(depth=3, readout="average"),
    "convolutions, flat": nn.cnn(depth=3, readout="flatten"),
    "fully connected": nn.serial(nn.Flatten(), nn.mlp(depth=3)),
}
GAUSSIAN = "Gaussian"


def moved_digits(n: int, seed: int = 0) -> tuple[Array, NDArray[np.int64]]:
    """Images of shape (n, 8, 8, 1), each moved, and their labels."""
    data = load_digits()
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(data.images))[:n]
    shifts = random.integers(0, 2, size=(n, 2)).tolist()
    images = [np.roll(data.images[i], s, axis=(0, 1)) for i, s in zip(chosen, shifts, strict=True)]
    return np.array(images)[..., None], data.target[chosen]


def gaussian(train: Array, labels: NDArray[np.int64], test: Array, answers: Array) -> float:
    """Accuracy of kernel ridge regression at the best of five widths and three ridges."""
    X, Z = (images.reshape(len(images), -1) for images in (train, test))
    targets = np.eye(10)[labels]
    best = 0.0
    for width in (2.0, 4.0, 8.0, 16.0, 32.0):
        for alpha in (1e-4, 1e-2, 1.0):
            model = KernelRidge(alpha=alpha, kernel=RBF(width)).fit(X, targets)
            best = max(best, float((model.predict(Z).argmax(1) == answers).mean()))
    return best


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Run; returns the accuracies of each kernel, by the number of training images."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few images")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    sizes, tested = ([20, 60, 120], 100) if options.quick else ([25, 50, 100, 200, 400], 400)
    images, labels = moved_digits(sizes[-1] + tested)
    scaler = ImageScaler().fit(images[: sizes[-1]])
    images = scaler.transform(images)
    test, answers = images[sizes[-1] :], labels[sizes[-1] :]
    scores: dict[str, list[float]] = {name: [] for name in (*NETWORKS, GAUSSIAN)}
    for n in sizes:
        for name, net in NETWORKS.items():
            model = KernelClassifier(net).fit(images[:n], labels[:n])
            scores[name].append(float(model.score(test, answers)))
        scores[GAUSSIAN].append(gaussian(images[:n], labels[:n], test, answers))
    print("accuracy at " + ", ".join(map(str, sizes)) + " training images")
    for name, found in scores.items():
        print(f"{name:24}" + " ".join(f"{score:6.3f}" for score in found))
    if options.out:
        _draw(options.out, images, labels, sizes, scores, tested)
    return scores


def _draw(
    path: str,
    images: Array,
    labels: NDArray[np.int64],
    sizes: list[int],
    scores: dict[str, list[float]],
    tested: int,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting.style import COLOURS, legend_above, panels

    figure, axes = panels(1, 2, width_ratios=(1, 1.5))
    tiles = [images[np.flatnonzero(labels == digit)[:4], :, :, 0] for digit in range(8)]
    sheet = np.vstack([np.hstack(list(row)) for row in tiles[::2]])
    axes[0].imshow(sheet, cmap="Greys")
    axes[0].grid(False)
    axes[0].set(xlabel="digits of 8 x 8 positions, moved", xticks=[], yticks=[])
    styles = zip(scores.items(), COLOURS, "os^D", strict=False)
    for (name, found), colour, mark in styles:
        errors = 100 * (1 - np.array(found))
        spread = 100 * np.sqrt(np.array(found) * (1 - np.array(found)) / tested)
        axes[1].errorbar(sizes, errors, spread, color=colour, marker=mark, ms=5, lw=1.6, label=name)
    axes[1].set(
        xscale="log",
        xlabel="training images",
        ylabel="test error, % (bars: one standard error)",
        xticks=sizes,
        xticklabels=[str(n) for n in sizes],
    )
    axes[1].minorticks_off()
    legend_above(axes[1])
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
