"""A torch module of your own
==========================

Its infinite network, its kernel at first, and its kernel after training.

A small residual network of convolutions is written by hand, as one would for torch alone. Four
classifiers come out of it: the network of infinite width that it is a finite one of, the tangent
kernel of its random weights, the module itself once Adam has trained it, and the tangent kernel of
the trained weights (the after kernel: Long, "Properties of the after kernel", 2021). During
training the kernel is recorded, and how well it is aligned with the labels.

.. code-block:: text

    python examples/own_module.py [--quick] [--out picture.png]

Takes about half a minute on one core, some seconds with --quick.

What to keep in mind: from so few digits the kernels learn more than the module does, and training
improves the alignment on digits that it has seen, not the accuracy on others.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from kernreg import KernelClassifier
from kernreg.finite import KernelEvolution, read
from kernreg.nn.combinators import Serial

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

RECORDED = 80  # images whose kernel is looked at during training


class Residual(torch.nn.Module):
    """Two residual blocks, each on half the rows and columns, and a mean over positions."""

    def __init__(self, channels: int, classes: int = 10) -> None:
        super().__init__()
        self.stem = torch.nn.Conv2d(1, channels, 3, padding=1)
        self.first = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.second = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.third = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.fourth = torch.nn.Conv2d(channels, channels, 3, padding=1)
        self.pool = torch.nn.AvgPool2d(2)
        self.head = torch.nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores of images of shape (n, 1, height, width)."""
        # What a shortcut passes on must be Gaussian at infinite width: no output of a ReLU.
        h = self.pool(self.stem(x))
        h = h + self.second(F.relu(self.first(h)))
        h = self.pool(h)
        h = h + self.fourth(F.relu(self.third(h)))
        scores: Tensor = self.head(F.relu(h).mean((2, 3)))
        return scores


def digits(trained: int, tested: int) -> tuple[Array, Labels, Array, Labels]:
    """Images of shape (n, 1, 8, 8) and labels, to learn from and to test."""
    X, y = load_digits(return_X_y=True)
    # In their own order, digits of the same hands are next to each other.
    order = np.random.default_rng(0).permutation(len(X))
    X, y = ((X - X.mean()) / X.std())[order], y[order]
    X = X.astype(np.float32).reshape(-1, 1, 8, 8)
    train, test = slice(0, trained), slice(trained, trained + tested)
    return X[train], y[train], X[test], y[test]


def train(
    net: torch.nn.Module, X: Array, y: Labels, steps: int, record: KernelEvolution
) -> list[float]:
    """Adam on random halves of the images; the loss of each step."""
    inputs, labels = torch.tensor(X), torch.tensor(y)
    generator = torch.Generator().manual_seed(0)
    descent = torch.optim.Adam(net.parameters(), lr=3e-3)
    losses = []
    for step in range(steps):
        if step % 15 == 0:
            record(net, step)
        rows = torch.randperm(len(inputs), generator=generator)[: len(inputs) // 2]
        loss = F.cross_entropy(net(inputs[rows]), labels[rows])
        descent.zero_grad()
        loss.backward()
        descent.step()
        losses.append(float(loss.detach()))
    record(net, steps)
    return losses


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run; returns the accuracies on digits that none has seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer channels, digits and steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    trained, tested, steps = (80, 150, 60) if options.quick else (300, 500, 150)
    X, y, X_test, y_test = digits(trained, tested)

    torch.manual_seed(0)
    net = Residual(12 if options.quick else 24)

    def accuracy(network: object, rows: Array, others: Array) -> float:
        model = KernelClassifier(network, alpha="auto").fit(rows, y)
        return float(model.score(others, y_test))

    scores = {}
    description = read(net)
    assert isinstance(description, Serial)
    print("read:", ", ".join(type(layer).__name__ for layer in description.layers))
    # Descriptions have the channels last, torch has them first.
    last = [np.moveaxis(images, 1, -1) for images in (X, X_test)]
    scores["infinite network"] = accuracy(description, *last)
    scores["kernel at first"] = accuracy(net, X, X_test)
    evolution = KernelEvolution(X[:RECORDED], y[:RECORDED])
    losses = train(net, X, y, steps, evolution)
    scores["after kernel"] = accuracy(net, X, X_test)
    with torch.no_grad():
        right = net(torch.tensor(X_test)).argmax(dim=1).numpy() == y_test
    scores["trained module"] = float(right.mean())

    print(f"{trained} digits learned, {tested} others: accuracy")
    for name, score in scores.items():
        print(f"{name:20}{score:.3f}")
    alignment = evolution.column("alignment")
    print(f"loss {losses[0]:.2f} at first, {losses[-1]:.2g} after {steps} steps of Adam")
    print(f"alignment of the kernel with the labels {alignment[0]:.2f}, then {alignment[-1]:.2f}")
    if options.out:
        _draw(options.out, scores, evolution)
    return scores


def _draw(path: str, scores: dict[str, float], evolution: KernelEvolution) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from kernreg.plotting.style import COLOURS, STYLE, legend_above

    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, 2, figsize=(9.6, 3.4), width_ratios=(1.2, 1), constrained_layout=True
        )
    places = np.arange(len(scores))
    values = 100 * np.array(list(scores.values()))
    axes[0].barh(places, values, color=[*COLOURS[:3], "#b8c2cc"])
    axes[0].set_yticks(places, list(scores))
    axes[0].invert_yaxis()
    axes[0].set(xlabel="accuracy on digits not seen, %", xlim=(0, 118), xticks=range(0, 101, 25))
    for place, value in zip(places, values, strict=True):
        axes[0].text(value + 1.5, place, f"{value:.1f} %", va="center")
    steps = evolution.column("step")
    for colour, name, label in (
        (COLOURS[2], "alignment", "alignment with the labels"),
        (COLOURS[1], "similarity", "similarity to the first kernel"),
    ):
        axes[1].plot(
            steps, evolution.column(name), color=colour, lw=1.8, marker="o", markersize=4,
            label=label,
        )  # fmt: skip
    axes[1].set(xlabel="steps of Adam", ylabel="cosine of centred kernels", ylim=(0, 1.05))
    axes[1].grid(True, linewidth=0.8)
    axes[1].set_axisbelow(True)
    legend_above(axes[1], ncols=1)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # networks this small only wait for a second one
    main()
