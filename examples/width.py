"""How near wide networks are
==========================

For the same digits of scikit-learn, the kernels of networks of several widths are set beside those
of infinite width. Then the networks are trained, and their predictions set beside those of the
infinite network after as many steps, and beside those of their own linearization, which keeps the
tangent kernel of the start. Kernels and predictions are off by 1 / sqrt(width), because the weights
are random; what training changes in the kernel falls as 1 / width.

.. code-block:: text

    python examples/width.py [--quick] [--out picture.png]

Takes about 45 seconds on one core, some seconds with --quick.

What to keep in mind: a network starts from a function of its own, which is as large at any width.
Here it learns the targets plus that function, which is subtracted from what it then predicts.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from kernreg import EnsembleRegressor, gram, nn
from kernreg.finite import EmpiricalOperator, FiniteNetwork, module, predict_training

Array = NDArray[np.float64]

NETWORK = nn.mlp(2, nn.Erf(), W_std=1.5, b_std=0.3)
TRAIN, TEST = 60, 100


def rows() -> tuple[Array, Array, Array]:
    """Rows to learn, their targets, and rows to predict."""
    X, y = load_digits(return_X_y=True)
    X = (X - X.mean()) / X.std()
    return X[:TRAIN], np.where(y[:TRAIN] % 2, 1.0, -1.0), X[TRAIN : TRAIN + TEST]


def distance(found: Array, right: Array) -> float:
    """Relative to what is right."""
    return float(np.linalg.norm(found - right) / np.linalg.norm(right))


def finite_kernels(X: Array, width: int, seed: int) -> tuple[Array, Array]:
    """NNGP and NTK of a network of that width."""
    # As many outputs as channels: the mean over few of them scatters whatever the width.
    many = module(NETWORK, width, X.shape[1], outputs=width, random_state=seed)
    one = module(NETWORK, width, X.shape[1], random_state=seed)
    inputs = X.astype(np.float32)
    return (
        np.asarray(EmpiricalOperator(many, inputs, kernel="nngp").to_dense(), dtype=np.float64),
        np.asarray(EmpiricalOperator(one, inputs).to_dense(), dtype=np.float64),
    )


def trained(
    net: FiniteNetwork, X: Array, y: Array, X_new: Array, steps: int, rate: float
) -> tuple[Array, Array]:
    """Predictions after gradient descent, of the network and of its linearization."""
    inputs, new = (torch.tensor(A, dtype=torch.float32) for A in (X, X_new))
    with torch.no_grad():
        before, start = net(new)[:, 0].double().numpy(), net(inputs)[:, 0].double().numpy()
    goal = y + start
    # Its loss is the sum over rows, not the mean.
    linear = predict_training(
        net, inputs, goal, new, steps, learning_rate=rate / len(X), discrete=True
    )[:, 0]
    targets = torch.tensor(goal, dtype=torch.float32)
    descent = torch.optim.SGD(net.parameters(), lr=rate)
    for _ in range(steps):
        loss = 0.5 * (net(inputs)[:, 0] - targets).square().mean()
        descent.zero_grad()
        loss.backward()
        descent.step()
    with torch.no_grad():
        after = net(new)[:, 0].double().numpy()
    return after - before, linear - before


def main(arguments: list[str] | None = None) -> dict[str, Array]:
    """Run; returns widths and relative errors of kernels and of predictions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer widths and steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    widths = [32, 64, 128, 256] if options.quick else [32, 64, 128, 256, 512, 1024, 2048]
    draws, runs, steps = (5, 2, 30) if options.quick else (16, 5, 100)

    X, y, X_new = rows()
    nngp, ntk = gram(NETWORK, X, kernel="nngp"), gram(NETWORK, X, kernel="ntk")
    first = EnsembleRegressor(NETWORK).fit(X, y)
    rate = 0.5 * first.largest_learning_rate_
    infinite = EnsembleRegressor(NETWORK, steps=steps, learning_rate=rate).fit(X, y).predict(X_new)

    names = "NNGP", "NTK", "from infinite width", "from its linearization"
    errors = np.full((len(widths), draws, len(names)), np.nan)
    for place, width in enumerate(widths):
        for seed in range(draws):
            found = finite_kernels(X, width, seed)
            errors[place, seed, :2] = distance(found[0], nngp), distance(found[1], ntk)
            if seed < runs:
                net = module(NETWORK, width, X.shape[1], random_state=seed)
                after, linear = trained(net, X, y, X_new, steps, rate)
                errors[place, seed, 2:] = distance(after, infinite), distance(after, linear)
    means = np.sqrt(np.nanmean(errors**2, axis=1))

    print(
        f"root mean square of relative errors: of kernels, {draws} networks of each width, "
        f"{TRAIN} digits;\nof predictions, {runs} networks after {steps} steps, {TEST} digits"
    )
    print(f"{'width':>8}" + "".join(f"{name:>24}" for name in names))
    for width, line in zip(widths, means, strict=True):
        print(f"{width:8,}" + "".join(f"{e:24.4f}" for e in line))
    slopes = np.polyfit(np.log(widths), np.log(means), 1)[0]
    print(f"{'slope':>8}" + "".join(f"{slope:24.2f}" for slope in slopes))
    if options.out:
        _draw(options.out, widths, errors, names)
    return {
        "widths": np.array(widths, dtype=np.float64),
        **dict(zip(names, means.T, strict=True)),
        "slopes": slopes,
    }


def _draw(path: str, widths: list[int], errors: Array, names: tuple[str, ...]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from kernreg.plotting.style import COLOURS, STYLE, legend_above

    x = np.array(widths, dtype=np.float64)
    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.9), sharey=True, constrained_layout=True)
    means = np.sqrt(np.nanmean(errors**2, axis=1))
    for number, name in enumerate(names):
        ax, colour = axes[number // 2], COLOURS[number]
        aside = x * (0.96, 1.04)[number % 2]  # points beside each other
        ax.plot(aside, errors[:, :, number], color=colour, ls="none", marker=".", alpha=0.35)
        ax.plot(x, means[:, number], color=colour, lw=1.8, label=name)
    shape = {"color": "#333d4b", "lw": 1.2}
    axes[0].plot(x, 4.5 * x**-0.5, ls="--", label="slope −1/2", **shape)
    axes[1].plot(x, 4.5 * x**-0.5, ls="--", label="slope −1/2", **shape)
    axes[1].plot(x, 3.0 / x, ls=":", label="slope −1", **shape)
    axes[0].set(ylabel="relative error of the kernel")
    axes[1].set(ylabel="distance of trained predictions, relative")
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="width (hidden units of a layer)")
        ax.set_xticks(widths, [f"{width:,}" for width in widths])
        ax.set_yticks([0.001, 0.01, 0.1, 1], ["0.1 %", "1 %", "10 %", "100 %"])
        ax.set_ylim(0.0012, 1.3)
        ax.tick_params(labelleft=True)
        ax.minorticks_off()
        ax.grid(True, linewidth=0.8)
        ax.set_axisbelow(True)
        legend_above(ax)
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # networks this small only wait for a second one
    main()
