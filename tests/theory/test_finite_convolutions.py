"""Wide finite convolutional networks, drawn many times, have kernreg's kernels on average."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import kernreg
from kernreg import nn

WIDTH, DRAWS, IMAGES = 512, 32, 3
HIDDEN = 2
W_STD, B_STD = 1.4, 0.3

conv, relu, dense = nn.Conv((3, 3), W_std=W_STD, b_std=B_STD), nn.Relu(), nn.Dense(W_STD, B_STD)
NETWORKS: dict[str, nn.Layer] = {
    "average": nn.serial(conv, relu, conv, relu, nn.GlobalAvgPool(), dense),
    "flatten": nn.serial(conv, relu, conv, relu, nn.Flatten(), dense),
    "pool": nn.serial(conv, relu, nn.AvgPool((2, 2)), conv, relu, nn.Flatten(), dense),
}


@dataclass
class Draw:
    """The weights of one network in the NTK parameterization, all of them standard normal."""

    generator: torch.Generator
    weights: list[Tensor] = field(default_factory=list)

    def normal(self, *shape: int) -> Tensor:
        w = torch.randn(*shape, dtype=torch.float64, generator=self.generator)
        self.weights.append(w.requires_grad_())
        return w

    def convolution(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        w, b = self.normal(WIDTH, channels, 3, 3), self.normal(WIDTH)
        scale = W_STD / (9 * channels) ** 0.5
        return F.conv2d(x, scale * w, B_STD * b, padding=1)

    def readout(self, features: Tensor) -> Tensor:
        """One output for each image."""
        w, b = self.normal(features.shape[1]), self.normal(1)
        return W_STD / features.shape[1] ** 0.5 * features @ w + B_STD * b


BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: x,
    "flatten": lambda x: x,
    "pool": lambda x: F.avg_pool2d(x, 2),
}
READ_OUT: dict[str, Callable[[Tensor], Tensor]] = {
    "average": lambda x: x.mean((2, 3)),
    "flatten": lambda x: x.flatten(1),
    "pool": lambda x: x.flatten(1),
}


def images() -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).standard_normal((IMAGES, 3, 6, 6)))


@cache
def empirical(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Both kernels of each draw, shape (draws, images, images).

    The mean over the last layer's weights is known: the NNGP kernel is a product of features.
    """
    found: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for seed in range(DRAWS):
        draw = Draw(torch.Generator().manual_seed(seed))
        x = BETWEEN[name](torch.relu(draw.convolution(images())))
        features = READ_OUT[name](torch.relu(draw.convolution(x)))
        outputs = draw.readout(features)
        flat = []
        for k, output in enumerate(outputs):
            keep = k + 1 < len(outputs)
            gradients = torch.autograd.grad(output, draw.weights, retain_graph=keep)
            flat.append(torch.cat([g.flatten() for g in gradients]))
        J = torch.stack(flat)
        h = features.detach()
        found[0].append((W_STD**2 / h.shape[1] * h @ h.T + B_STD**2).numpy())
        found[1].append((J @ J.T).numpy())
    return np.array(found[0]), np.array(found[1])


def excess(name: str, net: nn.Layer) -> np.ndarray:
    """How far the means are outside of what is allowed, in standard errors, for both kernels.

    Allowed are three standard errors, and what a finite width does to a mean: about 1 / width of
    ``sqrt(K_ii K_jj)`` for each hidden layer.
    """
    X = images().movedim(1, -1).numpy()
    beyond = []
    for draws, K in zip(empirical(name), kernreg.gram(net, X, kernel=("nngp", "ntk")), strict=True):
        error = draws.std(axis=0, ddof=1) / DRAWS**0.5
        scale = np.sqrt(np.outer(np.diag(K), np.diag(K)))
        off = np.abs(draws.mean(axis=0) - K) - HIDDEN / WIDTH * scale
        beyond.append((off - 3 * error) / error)
    return np.array(beyond)


@pytest.mark.parametrize("name", NETWORKS)
def test_means_over_draws(name: str) -> None:
    assert (excess(name, NETWORKS[name]) <= 0).all()


@pytest.mark.parametrize(
    ("name", "net"),
    [
        ("average", NETWORKS["flatten"]),
        (
            "flatten",
            nn.serial(
                *2 * (nn.Conv((3, 3), 1, "CIRCULAR", W_STD, B_STD), relu), nn.Flatten(), dense
            ),
        ),
    ],
)
def test_other_networks_are_noticed(name: str, net: nn.Layer) -> None:
    """A readout, bias, padding or pooling that is another one, by either kernel."""
    assert (excess(name, net).max(axis=(1, 2)) > 0).all()
