"""Learned training points
=======================

Distillation: a hundred made-up digits that teach as much as a thousand real ones.

Kernel ridge regression from a hundred points predicts the training digits; the gradient of its
loss goes through the kernel and the solution of the linear system to the points and their labels,
and Adam moves them (kernel inducing points: Nguyen, Chen and Lee, 2021). Digits are those of MNIST
where KERNREG_DATA names a folder that holds them, otherwise the smaller ones of scikit-learn.

.. code-block:: text

    python examples/distillation.py [--quick] [--out picture.png]

Takes about two minutes on two cores, some seconds with --quick.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from kernreg import KernelClassifier, gram, nn, solve

NETWORK = nn.mlp(depth=2, b_std=0.3)
PER_CLASS = 10
RANDOM = 1000
RIDGE = 1e-4


def digits() -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
    """Images as rows, their labels, and how many are for training; the others test."""
    file = Path(os.environ.get("KERNREG_DATA", "")) / "mnist" / "mnist.npz"
    if file.is_file():
        with np.load(file) as data:
            images, labels = data["X_train"], data["y_train"]
    else:
        images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))[:12_000]
    images = images.reshape(len(images), -1)[order].astype(np.float64)
    trained = round(0.8 * len(order))
    images = (images - images[:trained].mean()) / images[:trained].std()
    return images, labels[order].astype(np.int64), trained


def predict(points: Tensor, values: Tensor, rows: Tensor) -> Tensor:
    """Kernel ridge regression from the points."""
    K = gram(NETWORK, points)
    coefficients = solve(K, values, RIDGE * torch.diagonal(K).mean())
    return gram(NETWORK, rows, points) @ coefficients


def distil(
    images: NDArray[np.float64], labels: NDArray[np.int64], steps: int, batch: int = 500
) -> tuple[NDArray[np.float64], NDArray[np.float64], list[float]]:
    """Points, their values for each class, and the loss of every step."""
    random = np.random.default_rng(0)
    first = np.concatenate(
        [random.choice(np.flatnonzero(labels == c), PER_CLASS, replace=False) for c in range(10)]
    )
    rows = torch.from_numpy(images)
    targets = torch.from_numpy(np.eye(10)[labels] - 0.1)
    points = rows[first].clone().requires_grad_()
    values = targets[first].clone().requires_grad_()
    descent = torch.optim.Adam([{"params": [points], "lr": 0.04}, {"params": [values], "lr": 0.01}])
    losses = []
    for _ in range(steps):
        chosen = torch.from_numpy(random.integers(0, len(rows), batch))
        loss = (predict(points, values, rows[chosen]) - targets[chosen]).square().mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(float(loss.detach()))
    return points.detach().numpy(), values.detach().numpy(), losses


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run; returns the accuracies on test digits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    images, labels, trained = digits()
    test, answers = torch.from_numpy(images[trained:]), labels[trained:]
    images, labels = images[:trained], labels[:trained]
    count = 10 * PER_CLASS

    def accuracy(n: int) -> float:
        model = KernelClassifier(NETWORK, alpha="auto").fit(images[:n], labels[:n])
        return float(model.score(test.numpy(), answers))

    points, values, losses = distil(images, labels, 30 if options.quick else 1500)
    found = predict(torch.from_numpy(points), torch.from_numpy(values), test)
    scores = {
        f"{count} learned points": float(np.mean(found.numpy().argmax(axis=1) == answers)),
        f"{count} random digits": accuracy(count),
        f"{RANDOM:,} random digits": accuracy(RANDOM),
    }
    for name, score in scores.items():
        print(f"{name:22}{score:.4f}")
    print(f"loss {losses[0]:.4f} at first, {np.mean(losses[-10:]):.4f} at last")
    if options.out:
        _draw(options.out, points, losses, scores)
    return scores


def _draw(
    path: str, points: NDArray[np.float64], losses: list[float], scores: dict[str, float]
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting.style import COLOURS, panels

    side = round(points.shape[1] ** 0.5)
    figure, axes = panels(1, 2, size=(9.6, 4.2), width_ratios=(1.2, 1))
    sheet = points.reshape(10, PER_CLASS, side, side).transpose(1, 2, 0, 3)
    axes[0].imshow(sheet.reshape(PER_CLASS * side, 10 * side), cmap="Greys")
    axes[0].grid(False)
    axes[0].set(xlabel="digit", xticks=side * (np.arange(10) + 0.5), xticklabels=range(10))
    axes[0].set(ylabel="learned points, ten of each", yticks=[])
    smooth = np.convolve(losses, np.ones(10) / 10, "valid")
    axes[1].plot(np.arange(len(smooth)) + 5, smooth, color=COLOURS[0], lw=1.6)
    axes[1].set(xlabel="steps of Adam", ylabel="mean squared error, over ten steps", yscale="log")
    lines = [f"{name}: {100 * score:.1f} %" for name, score in scores.items()]
    axes[1].text(
        0.97, 0.95, "\n".join(["test accuracy", *lines]), transform=axes[1].transAxes,
        ha="right", va="top",
    )  # fmt: skip
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
