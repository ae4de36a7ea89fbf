"""Ten thousand convolutional layers
=================================

Ten thousand convolutional layers that train, beside two networks that cannot.

At the critical point of tanh, and with orthogonal matrices in the middle of the filters, signals
and gradients pass 10,000 layers (Xiao et al., "Dynamical isometry and a mean field theory of CNNs",
2018). Weights whose variance is one per cent smaller stop them, and so do independent Gaussian
weights at the critical point, where only the mean over all draws passes: with few channels nearly
every draw loses its signal. Each network sees the same digits of scikit-learn and takes the same
steps of gradient descent.

.. code-block:: text

    python examples/deep_convolutions.py [--quick] [--out picture.png]

Takes three to four minutes on one core, some seconds with --quick.

What to keep in mind: no layer has biases. Behind l layers the signal has a variance of 1 / (2 l),
beside which a step of a bias is large: with biases a tenth of the learning rate that is used here
already diverges at 1,000 layers. For the same reason the last layer has large weights.
"""

from __future__ import annotations

import argparse
import math

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from kernreg import nn
from kernreg.finite import FiniteNetwork, module
from kernreg.theory.criticality import critical

Array = NDArray[np.float64]

CHANNELS = 8
IMAGES, TESTED = 64, 200


def digits() -> tuple[Tensor, Tensor]:
    """Images of 4 by 4 positions, whose channels are 2 by 2 pixels, and labels.

    One channel would not do: filters that read one position would make all vectors parallel.
    """
    X, y = load_digits(return_X_y=True)
    X = X - X[:IMAGES].mean(axis=0)  # what all images share would be most of what is learned
    X = (X / X[:IMAGES].std()).reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4)
    return torch.tensor(X.reshape(-1, 4, 4, 4), dtype=torch.float32), torch.tensor(y)


def network(depth: int, variance: float) -> nn.Layer:
    """So many layers of tanh, with weights of a share of the critical variance."""
    point = critical(nn.Tanh())
    assert point.W_std is not None
    # Zeros around the image would take a share of the signal in every layer.
    stem = nn.Conv((3, 3), padding="CIRCULAR", W_std=point.W_std, b_std=None)
    hidden = nn.Conv(
        (3, 3), padding="CIRCULAR", W_std=point.W_std * math.sqrt(variance), b_std=None
    )
    # The last layer makes outputs of order 1 from what is left at the critical point.
    last = nn.Dense(W_std=point.power_law(depth).K ** -0.5, b_std=None)
    return nn.serial(stem, nn.repeat(nn.serial(nn.Tanh(), hidden), depth), nn.Flatten(), last)


def made(depth: int, variance: float, init: str) -> FiniteNetwork:
    """The network of finite width."""
    net = network(depth, variance)
    # Without checkpoint a step would keep the values of all layers, about a gigabyte.
    return module(
        net, CHANNELS, (4, 4, 4), outputs=10, parameterization="standard", init=init,
        checkpoint=True, random_state=0,
    )  # fmt: skip


def signal(net: FiniteNetwork, X: Tensor) -> Array:
    """Mean square behind each convolution."""
    squares: list[float] = []

    def look(layer: torch.nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
        squares.append(float(out.double().square().mean()))

    hooks = [layer.register_forward_hook(look) for layer in net.weighted()[:-1]]
    with torch.no_grad():
        net(X)
    for hook in hooks:
        hook.remove()
    return np.array(squares)


def trained(net: FiniteNetwork, X: Tensor, y: Tensor, steps: int) -> list[float]:
    """The loss before each step of gradient descent, and behind the last one."""
    depth = len(net.weighted()) - 2
    # Gradients of all layers are alike and their effects add up.
    descent = torch.optim.SGD(net.parameters(), lr=0.3 / depth, momentum=0.9)
    losses = []
    for step in range(steps + 1):
        loss = torch.nn.functional.cross_entropy(net(X), y)
        losses.append(float(loss.detach()))
        if step < steps:
            descent.zero_grad()
            loss.backward()
            descent.step()
    return losses


def main(arguments: list[str] | None = None) -> dict[str, list[float]]:
    """Run; returns the loss of each network at each step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="100 layers, fewer steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    # A hundred layers need smaller weights to lose as much as 10,000 do.
    depth, less, steps = (100, 0.3, 4) if options.quick else (10_000, 0.99, 4)
    X, y = digits()
    train, test = slice(0, IMAGES), slice(IMAGES, IMAGES + TESTED)
    networks = {
        "critical": (1.0, "delta_orthogonal"),
        f"variance {less:g}": (less, "delta_orthogonal"),
        "Gaussian": (1.0, "gaussian"),
    }
    losses: dict[str, list[float]] = {}
    signals: dict[str, Array] = {}
    scores: dict[str, float] = {}
    for name, (variance, init) in networks.items():
        net = made(depth, variance, init)
        signals[name] = signal(net, X[train])
        losses[name] = trained(net, X[train], y[train], steps)
        with torch.no_grad():
            scores[name] = float((net(X[test]).argmax(dim=1) == y[test]).float().mean())
    print(f"{depth:,} layers of {CHANNELS} channels, {IMAGES} digits: loss at each step")
    print(f"{'step':18}" + "".join(f"{name:>15}" for name in networks))
    for step in range(steps + 1):
        print(f"{step:<18}" + "".join(f"{losses[name][step]:15.3f}" for name in networks))
    print(f"{'accuracy, others':18}" + "".join(f"{scores[name]:15.3f}" for name in networks))
    print(f"{'signal at first':18}" + "".join(f"{signals[name][0]:15.2g}" for name in networks))
    print(f"{'signal at last':18}" + "".join(f"{signals[name][-1]:15.2g}" for name in networks))
    if options.out:
        _draw(options.out, losses, signals)
    return losses


def _draw(path: str, losses: dict[str, list[float]], signals: dict[str, Array]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from kernreg.plotting.style import COLOURS, STYLE, legend_above

    with matplotlib.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.6, 3.8), constrained_layout=True)
    # Two of the losses are the same line: one is dashed and above the other.
    lines = {"lw": 2.0, "ls": "-"}, {"lw": 3.4, "ls": "-"}, {"lw": 1.8, "ls": (0, (3, 2))}
    depth = len(next(iter(signals.values()))) - 1
    layers = np.arange(depth + 1)
    for colour, line, name in zip(COLOURS, lines, losses, strict=False):
        axes[0].plot(losses[name], color=colour, label=name, marker="o", markersize=4, **line)
        shown = np.where(signals[name] > 0, signals[name], np.nan)
        axes[1].plot(layers, shown, color=colour, lw=1.8)
    axes[1].plot(
        layers[1:],
        0.5 / layers[1:],
        color="#000000",
        lw=1.0,
        ls="--",
        label="expected at infinite width: 1 / (2 layer)",
    )
    axes[0].set(
        xlabel="steps of gradient descent",
        ylabel=f"cross-entropy of {IMAGES} digits",
        ylim=(0, None),
    )
    axes[0].set_xticks(range(len(losses["critical"])))
    axes[1].set(
        xlabel=f"layer, of {depth:,}", ylabel="mean square of the signal, untrained", yscale="log",
        ylim=(1e-50, 1e3),
    )  # fmt: skip
    for ax in axes:
        ax.grid(True, linewidth=0.8)
        ax.set_axisbelow(True)
    legend_above(axes[0], ncols=3)
    legend_above(axes[1])
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # layers this small only wait for a second one
    main()
