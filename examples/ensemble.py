"""The infinite ensemble beside trained networks
=============================================

An infinite ensemble of infinitely wide networks beside two hundred that were trained.

Networks of width 512 start from weights of their own and learn a function of one input by gradient
descent. At every step their outputs have a mean and a spread: here measured over the networks, and
computed for infinite width, where nothing is trained.

.. code-block:: text

    python examples/ensemble.py [--quick] [--out picture.png]

Takes about 20 seconds, some seconds with --quick.

What to keep in mind: the mean of 200 networks is known to 7 per cent of their spread, and the
spread to 5 per cent. What width 512 adds is of order 1/width: after 300 steps
0.08 of 2.3 far from the training points, 0.02 at width 2,048.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg import EnsembleRegressor, nn

Array = NDArray[np.float64]

WIDTH, DEPTH = 512, 1
W_STD, B_STD = 1.5, 0.3
SHOWN = 4  # networks in the picture


def trained(X: Array, y: Array, rows: Array, times: list[int], rate: float, count: int) -> Array:
    """Outputs of networks at some steps of gradient descent, shape (times, rows, networks)."""
    # A few at once, so that their weights stay in the cache.
    parts = [
        _batch(X, y, rows, times, rate, min(16, count - start), seed=start)
        for start in range(0, count, 16)
    ]
    return np.concatenate(parts, axis=2)


def _batch(
    X: Array,
    y: Array,
    rows: Array,
    times: list[int],
    rate: float,
    count: int,
    seed: int,
) -> Array:
    random = torch.Generator().manual_seed(seed)
    sizes = [X.shape[1], *[WIDTH] * DEPTH, 1]
    layers = [
        [
            torch.randn(count, *shape, generator=random).requires_grad_()
            for shape in ((into, out), (1, out))
        ]
        for into, out in itertools.pairwise(sizes)
    ]
    parameters = [p for layer in layers for p in layer]
    inputs, targets, shown = (torch.tensor(a, dtype=torch.float32) for a in (X, y[:, None], rows))

    def outputs(at: torch.Tensor) -> torch.Tensor:
        # The "ntk" parameterization: weights of variance 1, scaled where they are used.
        h = at.expand(count, *at.shape)
        for number, (weights, biases) in enumerate(layers):
            h = torch.erf(h) if number else h
            h = torch.baddbmm(B_STD * biases, h, weights, alpha=W_STD / h.shape[2] ** 0.5)
        return h[..., 0]

    found = np.empty((len(times), len(rows), count))
    for step in range(times[-1] + 1):
        if step in times:
            with torch.no_grad():
                found[times.index(step)] = outputs(shown).T.double().numpy()
        # Half the mean of the squared errors of each network.
        loss = 0.5 * (outputs(inputs) - targets.T).square().mean(1).sum()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g in zip(parameters, gradients, strict=True):
                p.sub_(g, alpha=rate)
    return found


def draw(
    path: str,
    model: Any,
    X: Array,
    y: Array,
    grid: Array,
    rows: Array,
    times: list[int],
    nets: Array,
) -> None:
    """Over the input at the last step, and over time for some rows; networks as lines and bars."""
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting import EnsembleDisplay
    from kernreg.plotting.style import COLOURS, legend_above, panels

    figure, axes = panels(1, 3, size=(12, 4))
    on_grid, at_rows = nets[:, : len(grid)], nets[:, len(grid) :]
    limits = (float(grid.min()), float(grid.max()))
    for ax, t in zip(axes, (3, -1), strict=False):
        EnsembleDisplay.from_estimator(model, X, y, time=times[t], limits=limits, samples=0, ax=ax)
        for number in range(SHOWN):
            label = f"width {WIDTH}" if number == 0 else None
            ax.plot(grid, on_grid[t, :, number], color=COLOURS[1], linewidth=0.8, label=label)
        ax.set_xlabel(f"input, after {times[t]} steps")
        legend_above(ax)
    labels = [f"at {row:g}" for row in rows[:, 0]]
    every = np.unique(np.geomspace(1, times[-1], 60).astype(int))
    last = axes[-1]
    EnsembleDisplay.over_time(model, rows, every, labels=labels, ax=last)
    for k in range(len(rows)):
        last.errorbar(
            np.array(times[1:]) * 1.04 ** (k - 1),  # beside each other
            at_rows[1:, k].mean(axis=1),
            yerr=2 * at_rows[1:, k].std(axis=1, ddof=1),
            linestyle="none",
            marker="o",
            markersize=4,
            capsize=3,
            color=COLOURS[k],
        )
    last.errorbar([], [], yerr=[], color="#555555", marker="o", linestyle="none", label="trained")
    legend_above(last, ncols=2)
    figure.savefig(path, dpi=120)


def main(arguments: list[str] | None = None) -> Array:
    """Run; returns mean and std of infinite and finite networks, shape (4, times, rows)."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    times = [0, 1, 3, 10, 30, 100] if options.quick else [0, 1, 3, 10, 30, 100, 300, 1000]
    count = 200

    X = np.array([-1.6, -1.2, -0.7, 0.1, 0.5, 0.9, 1.5])[:, None]
    y = np.sin(3 * X[:, 0])
    net = nn.mlp(DEPTH, nn.Erf(), W_std=W_STD, b_std=B_STD)
    # Any rate below the largest that is stable will do.
    largest = EnsembleRegressor(net).fit(X, y).largest_learning_rate_
    rate = 0.5 * largest
    model = EnsembleRegressor(net, steps=times[-1], learning_rate=rate).fit(X, y)

    rows = np.array([[-1.6], [-0.3], [2.5]])  # at a training point, between them, beyond them
    mean, std = model.predict(rows, time=times, return_std=True)
    grid = np.linspace(-3, 3, 80)
    nets = trained(X, y, np.vstack([grid[:, None], rows]), times, rate, count)
    at_rows = nets[:, len(grid) :]
    measured = at_rows.mean(axis=2), at_rows.std(axis=2, ddof=1)

    print(f"{count} networks of width {WIDTH}, {DEPTH} hidden, learning rate {rate:.3g}\n")
    print(f"{'':15} {'infinite ensemble':>20}   {'trained networks':>20}")
    print(f"{'steps':>5} {'input':>9} {'mean':>10} {'std':>9}   {'mean':>10} {'std':>9}")
    for t, step in enumerate(times):
        for k, row in enumerate(rows[:, 0]):
            print(
                f"{step:5} {row:9.1f} {mean[t, k]:10.3f} {std[t, k]:9.3f}   "
                f"{measured[0][t, k]:10.3f} {measured[1][t, k]:9.3f}"
            )
    if options.out:
        draw(options.out, model, X, y, grid, rows, times, nets)
        print(f"\npicture: {options.out}")
    return np.stack([mean, std, *measured])


if __name__ == "__main__":
    main()
