"""The kernel after training
=========================

Regression with the kernel of a trained network is as good as the network.

A small convolutional network learns digits. The tangent kernel between all its outputs is a matrix
of order (images x classes), which is never formed: products with it are derivatives along
gradients, and conjugate gradients solve with a preconditioner of some of its rows. MNIST where
KERNREG_DATA names a folder that holds it, else scikit-learn's digits.

.. code-block:: text

    python examples/after_kernel.py [--quick] [--images N] [--out picture.png]

Takes 40 s on two cores for 2,000 images of MNIST, some seconds with --quick.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from kernreg.finite import EmpiricalOperator, KernelEvolution
from kernreg.solvers import PCG, RPCholesky

CLASSES = 10


def data(quick: bool) -> tuple[str, torch.Tensor, torch.Tensor]:
    """Name, images with their channel first, and labels."""
    file = Path(os.environ.get("KERNREG_DATA", "")) / "mnist" / "mnist.npz"
    if file.is_file() and not quick:
        with np.load(file) as found:
            X, y = found["X_train"], found["y_train"]
        return (
            "MNIST",
            torch.from_numpy(X).reshape(-1, 1, 28, 28).float() / 255,
            torch.from_numpy(y),
        )
    digits = load_digits()
    X = torch.from_numpy(digits.images[:, None]).float() / 16
    return "scikit-learn's digits", X, torch.from_numpy(digits.target)


def network(side: int) -> torch.nn.Module:
    """Two convolutions and a readout."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 5, stride=2, padding=2),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 16, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(16 * (side // 4) ** 2, CLASSES),
    )


def train(
    f: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, epochs: int, seen: KernelEvolution
) -> None:
    """By Adam on cross-entropy, with a look at the kernel now and then."""
    steps = epochs * -(-len(X) // 64)
    stops = set(np.geomspace(1, steps, 10).round().astype(int).tolist())
    optimizer = torch.optim.Adam(f.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    r = torch.Generator().manual_seed(0)
    seen(f, 0)
    for step in range(1, steps + 1):
        rows = torch.randint(len(X), (64,), generator=r)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(f(X[rows]), y[rows]).backward()
        optimizer.step()
        schedule.step()
        if step in stops:
            seen(f, step)


def regression(
    f: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, Z: torch.Tensor, rank: int
) -> tuple[torch.Tensor, dict[str, float]]:
    """Predictions for Z by ridge regression with the kernel as it is, and what that took."""
    start = time.perf_counter()
    K = EmpiricalOperator(f, X, outputs="full")
    targets = torch.nn.functional.one_hot(y, CLASSES).double() - 1 / CLASSES
    # Smaller ones fit noise, and take many more iterations after training.
    ridge = 1e-2 * float(torch.as_tensor(K.diagonal()).mean())
    solver = PCG(preconditioner=RPCholesky(rank=rank), tol=1e-3, storage="recomputed")
    solution = solver.solve(solver.init(K, ridge), targets.numpy().reshape(-1))
    between = EmpiricalOperator(f, Z, X, outputs="full")
    found = between @ torch.from_numpy(solution.value)
    taken = {
        "seconds": time.perf_counter() - start,
        "iterations": solution.stats.iterations,
        "residual": float(solution.stats.residuals[-1]),
        "order": K.shape[0],
    }
    return found.reshape(len(Z), CLASSES), taken


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run; returns the accuracy of each on images that none has seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few digits")
    parser.add_argument("--images", type=int, default=2000, help="training images (2000)")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    name, X, y = data(options.quick)
    order = torch.randperm(len(X), generator=torch.Generator().manual_seed(1))
    count = 100 if options.quick else min(options.images, len(X) - 500)
    train_rows, test_rows = order[:count], order[count : count + (200 if options.quick else 2000)]
    A, a, Z, z = X[train_rows], y[train_rows].long(), X[test_rows], y[test_rows].long()
    f = network(X.shape[-1])
    rank, epochs = (100, 60) if options.quick else (500, 20)
    print(f"{name}: {len(A):,} images, {len(Z):,} to test; {count * CLASSES:,} equations")
    seen = KernelEvolution(Z[:150], z[:150].numpy())
    scores = {}
    for label in ("kernel before training", "kernel after training"):
        if label.endswith("after training"):
            train(f, A, a, epochs, seen)
            with torch.no_grad():
                scores["network"] = float((f(Z).argmax(1) == z).float().mean())
        found, taken = regression(f, A, a, Z, rank)
        scores[label] = float((found.argmax(1) == z).float().mean())
        print(
            f"{label}: {taken['iterations']} iterations to a residual of {taken['residual']:.1e}, "
            f"{taken['seconds']:.0f} s"
        )
    for label, score in scores.items():
        print(f"{label:24}{score:.1%}")
    last = seen.snapshots[-1]
    print(
        f"alignment of the kernel with the labels: {seen.snapshots[0].alignment:.2f} before, "
        f"{last.alignment:.2f} after training"
    )
    if options.out:
        _draw(options.out, seen, scores)
    return scores


def _draw(path: str, seen: KernelEvolution, scores: dict[str, float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from kernreg.plotting import KernelEvolutionDisplay
    from kernreg.plotting.style import COLOURS, STYLE

    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.8), layout="constrained")
        KernelEvolutionDisplay(seen).plot(left)
        names = list(scores)
        right.barh(names, [100 * (1 - scores[n]) for n in names], color=COLOURS[0], height=0.55)
        right.set_xlabel("errors on new images (%)")
        right.invert_yaxis()
        for k, n in enumerate(names):
            right.annotate(
                f"{100 * (1 - scores[n]):.1f}", (100 * (1 - scores[n]), k), (4, 0),
                textcoords="offset points", va="center",
            )  # fmt: skip
        right.margins(x=0.15)
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
