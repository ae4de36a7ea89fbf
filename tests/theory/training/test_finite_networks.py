"""Networks of finite width, trained by gradient descent, beside their infinite ensemble."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch

from kernreg import EnsembleRegressor, nn

W_STD, B_STD = 1.5, 0.1
NETWORKS = 400
STEPS = (0, 5, 30, 120)


@dataclass(frozen=True)
class Setting:
    """How networks are trained: on half the sum of squares, all rows in every step."""

    depth: int
    width: int
    rate: float
    momentum: float = 0.0
    ridge: float = 0.0


def outputs(setting: Setting, X: torch.Tensor, y: torch.Tensor, n: int) -> np.ndarray:
    """Of all networks after :data:`STEPS`, shape (times, networks, rows); the first n rows train.

    Weights are standard normal, and standard deviations multiply them: all have the same rate.
    """
    rng = np.random.default_rng(7)
    sizes = [X.shape[1], *[setting.width] * setting.depth, 1]

    def drawn(*shape: int) -> torch.Tensor:
        return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)).requires_grad_()

    weights = [drawn(NETWORKS, fan_in, fan_out) for fan_in, fan_out in pairwise(sizes)]
    biases = [drawn(NETWORKS, 1, fan_out) for fan_out in sizes[1:]]
    parameters = [*weights, *biases]
    start = [p.detach().clone() for p in parameters] if setting.ridge else []
    moves = [torch.zeros_like(p) for p in parameters] if setting.momentum else []

    def forward(rows: torch.Tensor) -> torch.Tensor:
        state = rows.expand(NETWORKS, *rows.shape)
        for layer, (W, b) in enumerate(zip(weights, biases, strict=True)):
            if layer:
                state = torch.erf(state)
            state = W_STD / W.shape[1] ** 0.5 * (state @ W) + B_STD * b
        return state[..., 0]

    kept = []
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            with torch.no_grad():
                kept.append(forward(X).numpy().astype(np.float64))
        loss = torch.sum((forward(X[:n]) - y) ** 2) / 2
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for index, (p, slope) in enumerate(zip(parameters, slopes, strict=True)):
                if setting.ridge:
                    slope = slope + setting.ridge * (p - start[index])
                if setting.momentum:
                    slope = moves[index].mul_(setting.momentum).add_(slope)
                p.sub_(slope, alpha=setting.rate)
    return np.stack(kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    "setting",
    [
        Setting(1, 1024, 0.1),
        Setting(1, 1024, 0.01, momentum=0.7, ridge=0.5),
        Setting(2, 256, 0.03),
    ],
    ids=lambda s: f"{s.depth} of {s.width}" + " with momentum" * bool(s.momentum),
)
def test_mean_and_spread(setting: Setting) -> None:
    """Within 3 standard errors, and what a finite width moves.

    The kernel H of a network differs from the limit by a variance of some 2 depth/width of its
    square. A mode with rate x has the residual exp(-x H), whose mean and deviation that moves by
    half of ``x^2 exp(-x)`` times it, 0.5 depth/width at most; that kernels move in training is of
    the same order. So 2 depth/width is allowed, of the size of targets and outputs.
    """
    rng = np.random.default_rng(0)
    X, n = rng.standard_normal((9, 4)), 6
    y = np.sign(X[:n, 0] * X[:n, 1])
    single = [torch.from_numpy(a.astype(np.float32)) for a in (X, y)]
    found = outputs(setting, *single, n)

    dense = nn.Dense(W_STD, B_STD)
    net = nn.serial(dense, nn.repeat(nn.serial(nn.Erf(), dense), setting.depth))
    model = EnsembleRegressor(
        net,
        steps=STEPS[-1],
        learning_rate=setting.rate,
        momentum=setting.momentum,
        alpha=setting.ridge,
        alpha_scale="absolute",
        reduction="sum",
    ).fit(X[:n], y)
    assert setting.rate < model.largest_learning_rate_
    mean, std = model.predict(X, time=STEPS, return_std=True)
    # Far from the start, and not yet at the end: every time says something else.
    assert np.abs(np.diff(mean, axis=0)).max(axis=1).min() > 0.04
    scale = np.sqrt(np.mean(y**2)) + std[0].max()
    moved = 2 * setting.depth / setting.width * scale
    error = std / np.sqrt(NETWORKS)
    assert (np.abs(found.mean(axis=1) - mean) <= 3 * error + moved).all()
    spread = found.std(axis=1, ddof=1)
    assert (np.abs(spread - std) <= 3 * error / np.sqrt(2) + moved).all()
