"""A hundred layers at criticality and off it
==========================================

A hundred layers of tanh: at the critical initialisation, which ``tune`` finds, gradients pass and
the norm falls no faster than 1 / depth; with smaller weights gradients vanish and inputs become
alike, with larger ones gradients explode and inputs become unlike. Then the same networks, less
deep, are trained on digits.

.. code-block:: text

    python examples/criticality.py [--quick] [--out picture.png]

Takes about a minute on two cores, some seconds with --quick.
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
from kernreg.theory.criticality.reports import report
from kernreg.theory.criticality.tuning import tune
from kernreg.theory.finite_width.plain import Plain, plain_layers

Array = NDArray[np.float64]


def weights(net: Plain, sizes: list[int], seed: int) -> list[tuple[Tensor, Tensor]]:
    """Random weights and biases of a network of these widths."""
    generator = torch.Generator().manual_seed(seed)
    layers = [net.first, *(affine for _, affine in net.hidden)]
    return [
        (
            torch.randn(m, n, generator=generator) * math.sqrt(layer.C_W / n),
            torch.randn(m, generator=generator) * math.sqrt(layer.C_b),
        )
        for layer, n, m in zip(layers, sizes[:-1], sizes[1:], strict=True)
    ]


def run(parameters: list[tuple[Tensor, Tensor]], x: Tensor) -> list[Tensor]:
    """Preactivations of every layer."""
    passed = [x @ parameters[0][0].T + parameters[0][1]]
    for W, b in parameters[1:]:
        passed.append(torch.tanh(passed[-1]) @ W.T + b)
    return passed


def signals(net: nn.Layer, width: int, seed: int = 0) -> tuple[Array, Array]:
    """Mean square of each layer's preactivations, and of the gradients by them, over the last."""
    plain = plain_layers(net)
    # A small input stays where tanh is nearly linear.
    x = 0.1 * torch.randn(1, 50, generator=torch.Generator().manual_seed(99))
    parameters = weights(plain, [50, *[width] * plain.depth, width], seed)
    passed = run(parameters, x.requires_grad_())
    for layer in passed:
        layer.retain_grad()
    passed[-1].sum().backward()
    squares = [float(z.detach().square().mean()) for z in passed]
    gradients = [float(z.grad.square().mean()) for z in passed if z.grad is not None]
    return np.array(squares), np.array(gradients) / gradients[-1]


def trained(net: nn.Layer, width: int, steps: int) -> float:
    """Training accuracy on digits after some steps of gradient descent."""
    data = load_digits()
    X = torch.tensor(data.data / 16 * 2 - 1, dtype=torch.float32)[:1000]
    y = torch.tensor(data.target)[:1000]
    plain = plain_layers(net)
    parameters = weights(plain, [64, *[width] * plain.depth, 10], seed=1)
    flat = [p.requires_grad_() for pair in parameters for p in pair]
    optimizer = torch.optim.SGD(flat, lr=0.02, momentum=0.9)
    for step in range(steps):
        rows = torch.arange(step * 100, step * 100 + 100) % len(X)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(run(parameters, X[rows])[-1], y[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flat, 1.0)
        optimizer.step()
    with torch.no_grad():
        return float((run(parameters, X)[-1].argmax(dim=1) == y).float().mean())


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float, float]]:
    """Run; returns ratio of norms, ratio of gradients and training accuracy of each network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller networks, fewer steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    depth, width, steps = (100, 200, 60) if options.quick else (100, 300, 300)

    deep = nn.mlp(depth, nn.Tanh())
    networks = {
        "critical": tune(deep),
        "small weights": deep.with_params(W_std=0.9, b_std=0.05),
        "large weights": deep.with_params(W_std=2.0, b_std=0.05),
    }
    found, curves = {}, {}
    for name, net in networks.items():
        print(f"{name}: {report(net).blocks[0].verdict}")
        squares, gradients = signals(net, width)
        curves[name] = squares, gradients
        accuracy = trained(net.with_params(depth=40), width // 2, steps)
        found[name] = float(squares[-1] / squares[0]), float(gradients[0]), accuracy
    print(f"\n{'':15} norm, layer {depth + 1} / 1   gradient, first / last   accuracy at depth 40")
    for name, (norm, gradient, accuracy) in found.items():
        print(f"{name:15} {norm:<22.3g} {gradient:<23.3g} {accuracy:.2f}")
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting.style import COLOURS, legend_above, panels

        figure, axes = panels(1, 2)
        for (name, (squares, gradients)), colour in zip(curves.items(), COLOURS, strict=False):
            axes[0].semilogy(squares, color=colour, label=name)
            axes[1].semilogy(gradients, color=colour, label=name)
        axes[0].set(xlabel="layer", ylabel="mean square of preactivations")
        axes[1].set(xlabel="layer", ylabel="mean square of gradients / the last layer's")
        for ax in axes:
            legend_above(ax, ncols=3)
        figure.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return found


if __name__ == "__main__":
    torch.set_num_threads(max(1, min(2, torch.get_num_threads())))
    main()
