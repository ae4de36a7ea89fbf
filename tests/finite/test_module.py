"""Networks of finite width have the kernels of their description on average."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.finite import EmpiricalOperator, module

WIDTH, SEEDS, ROWS = 512, 16, 3
OUTPUTS = 64
"""Of the draws for the nngp kernel: each is a draw of the last layer."""
# Corrections of order 1/width, of the kernels' size, for some layers (theory of finite widths).
FINITE = 8.0 / WIDTH

dense, relu, erf = nn.Dense(1.3, 0.2), nn.Relu(), nn.Erf()
conv = nn.Conv((3, 3), W_std=1.4, b_std=0.2)
block = nn.serial(relu, dense)

VECTORS: dict[str, nn.Layer] = {
    "linear": dense,
    "relu": nn.serial(dense, relu, dense),
    "deep": nn.mlp(depth=5),
    "erf": nn.serial(dense, erf, dense, erf, nn.Dense(0.8, None)),
    "gelu": nn.serial(dense, nn.Gelu(), dense),
    "tanh": nn.serial(dense, nn.Tanh(), dense),
    "elementwise": nn.serial(dense, nn.Elementwise(torch.sin), dense),
    "sin": nn.serial(dense, nn.Sin(1.1, 0.7, 0.3), dense),
    "leaky": nn.serial(dense, nn.LeakyRelu(0.2), dense),
    "sign": nn.serial(dense, nn.Sign(), nn.Dense(1.2)),
    "polynomial": nn.serial(dense, nn.Polynomial((0.1, 0.7, 0.2)), dense),
    "hermite": nn.serial(nn.Dense(), nn.LayerNorm(), nn.Hermite((0.0, 1.0, 0.5)), dense),
    "residual": nn.serial(dense, nn.residual(nn.serial(relu, dense)), relu, dense),
    "shortcut": nn.serial(dense, nn.residual(nn.serial(relu, dense), nn.Dense(0.5)), relu, dense),
    "repeat": nn.serial(
        dense, nn.repeat(nn.residual(nn.serial(relu, nn.Dense(0.6))), 4), relu, dense
    ),
    "product": nn.serial(dense, nn.parallel(block, nn.serial(erf, dense), merge="product"), dense),
    "gated": nn.serial(dense, nn.parallel(relu, dense, merge="product"), dense),
    "concat": nn.serial(dense, nn.parallel(relu, erf, merge="concat", weights=(1.0, 3.0)), dense),
    "sum": nn.serial(dense, nn.parallel(block, nn.serial(erf, dense), dense), relu, dense),
    "norm": nn.serial(dense, nn.LayerNorm(0.1), relu, dense, nn.LayerNorm(), erf, dense),
    "frozen": nn.serial(nn.Dense(1.4, 0.1, trainable=False), relu, dense),
}
STANDARD: dict[str, nn.Layer] = {
    "standard": nn.serial(
        nn.Dense(1.4, 0.2, "standard", 4), relu, nn.Dense(1.2, 0.1, "standard", WIDTH)
    ),
    "standard, no bias": nn.serial(
        nn.Dense(1.4, None, "standard", 4), erf, nn.Dense(1.2, 0.0, "standard", WIDTH)
    ),
}
IMAGES: dict[str, nn.Layer] = {
    "flatten": nn.serial(conv, relu, conv, relu, nn.Flatten(), dense),
    "average": nn.serial(conv, relu, nn.GlobalAvgPool(), dense),
    "sums": nn.serial(conv, erf, nn.GlobalSumPool(), nn.Dense(0.3)),
    "strides": nn.serial(nn.Conv((3, 3), strides=2, W_std=1.4), relu, nn.Flatten(), dense),
    "even, valid": nn.serial(
        nn.Conv((2, 2), padding="VALID", W_std=1.4), relu, nn.Flatten(), dense
    ),
    "circular": nn.serial(
        nn.Conv((3, 3), padding="CIRCULAR", dilation=2, W_std=1.4), relu, nn.Flatten(), dense
    ),
    "pools": nn.serial(conv, relu, nn.AvgPool((2, 2)), conv, relu, nn.Flatten(), dense),
    "edges": nn.serial(
        conv, relu, nn.AvgPool((3, 3), 2, "SAME", normalize_edges=True), nn.Flatten(), dense
    ),
    "blur": nn.serial(conv, relu, nn.LocalAvgPool(1), nn.Flatten(), dense),
    "local": nn.serial(nn.ConvLocal((3, 3), W_std=1.3, b_std=0.2), relu, nn.GlobalAvgPool(), dense),
    "transposed": nn.serial(nn.ConvTranspose((3, 3), 2, W_std=1.4), relu, nn.Flatten(), dense),
    "residual": nn.serial(
        conv, nn.residual(nn.serial(relu, conv)), relu, nn.GlobalAvgPool(), dense
    ),
    "norms": nn.serial(conv, nn.LayerNorm(axes=(0, 1)), relu, nn.Flatten(), dense),
    "dense positions": nn.serial(conv, relu, dense, erf, nn.GlobalAvgPool(), dense),
    "joined": nn.serial(
        conv, nn.parallel(dense, conv, merge="concat", axis=0), relu, nn.GlobalAvgPool(), dense
    ),
    "flips": nn.flip_augmented(nn.serial(conv, relu, nn.GlobalAvgPool(), dense)),
    "standard": nn.serial(
        nn.Conv((3, 3), W_std=1.4, b_std=0.1, parameterization="standard", fan_in=2),
        relu,
        nn.GlobalAvgPool(),
        nn.Dense(1.2, 0.1, "standard", WIDTH),
    ),
}
CASES = [
    *((name, net, (4,)) for name, net in {**VECTORS, **STANDARD}.items()),
    *((f"images, {name}", net, (4, 4, 2)) for name, net in IMAGES.items()),
]


def rows(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(5).standard_normal((ROWS, *shape)))


def drawn(net: nn.Layer, X: torch.Tensor, kernel: str, width: int, seed: int) -> np.ndarray:
    """The kernel of one network."""
    outputs = OUTPUTS if kernel == "nngp" else 1
    f = module(
        net, width, tuple(X.shape[1:]), outputs, random_state=seed, dtype=torch.float64
    ).eval()
    return EmpiricalOperator(f, X, kernel=kernel, method="structured").to_dense().numpy()


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize(("name", "net", "shape"), CASES, ids=[name for name, *_ in CASES])
def test_mean_over_draws(name: str, net: nn.Layer, shape: tuple[int, ...], kernel: str) -> None:
    """The error is a vector whose square is that of its standard errors on average."""
    X = rows(shape)
    want = kernreg.gram(net, X.numpy(), kernel=kernel, backend="reference")
    found = np.stack([drawn(net, X, kernel, WIDTH, seed) for seed in range(SEEDS)])
    spread = math.sqrt((found.var(axis=0, ddof=1) / SEEDS).sum())
    error = np.linalg.norm(found.mean(axis=0) - want)
    assert error <= 3.0 * spread + FINITE * np.linalg.norm(want)


def test_error_falls_with_the_root_of_the_width() -> None:
    net, widths, seeds = nn.mlp(depth=2), (64, 256, 1024, 4096), 12
    X = rows((4,))
    for kernel in ("nngp", "ntk"):
        want = kernreg.gram(net, X.numpy(), kernel=kernel)
        errors = []
        for width in widths:
            found = [_last_layer_known(net, X, kernel, width, seed) for seed in range(seeds)]
            errors.append(np.sqrt(np.mean([(K - want) ** 2 for K in found])))
        slope = np.polyfit(np.log(widths), np.log(errors), 1)[0]
        assert abs(slope + 0.5) <= 0.1


def _last_layer_known(
    net: nn.Layer, X: torch.Tensor, kernel: str, width: int, seed: int
) -> np.ndarray:
    """One draw of hidden layers, the mean over the last one: few outputs would be noise."""
    if kernel == "ntk":
        return drawn(net, X, kernel, width, seed)
    f = module(net, width, 4, random_state=seed, dtype=torch.float64)
    last = f.weighted()[-1]
    with torch.no_grad():
        features = []
        handle = last.register_forward_pre_hook(lambda m, given: features.append(given[0]))
        f(X)
        handle.remove()
        (h,) = features
        return (last.layer.W_std**2 / width * h @ h.T + last.layer.b_std**2).numpy()
