"""Bayesian optimisation by gradients
==================================

Bayesian optimisation with the posterior of an infinitely wide network, by gradients.

The Gaussian process of a network is fitted to the values seen so far; the next point is where the
expected improvement is largest, found by L-BFGS on the gradient of posterior mean and variance,
which autograd takes through the kernel and the solution of the linear system. The function to be
minimised is that of Branin, whose smallest value, 0.398, is taken at three places.

.. code-block:: text

    python examples/optimisation.py [--quick] [--out picture.png]

Takes about a minute on two cores, some seconds with --quick.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.stats import qmc
from torch import Tensor

from kernreg import diag, gram, nn, solve

Array = NDArray[np.float64]

NETWORK = nn.mlp(depth=2, activation=nn.Gelu(), W_std=2.0, b_std=0.5)
NOISE = 1e-10
SMALLEST = 0.397887
MINIMA = np.array([[-np.pi, 12.275], [np.pi, 2.275], [9.42478, 2.475]])
LOW, HIGH = np.array([-5.0, 0.0]), np.array([10.0, 15.0])


def branin(u: Array) -> Array:
    """Values at points of the unit square, shape (n, 2)."""
    x, y = (LOW + u * (HIGH - LOW)).T
    bend = y - 5.1 * x**2 / (4 * np.pi**2) + 5 * x / np.pi - 6
    return np.asarray(bend**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10)


class Posterior:
    """Mean and standard deviation of the network's Gaussian process, in units of the targets."""

    def __init__(self, points: Array, values: Array) -> None:
        self.shift, self.size = values.mean(), values.std()
        self.X = torch.from_numpy(2 * points - 1)
        y = torch.from_numpy((values - self.shift) / self.size)
        K = gram(NETWORK, self.X, kernel="nngp")
        self.K = K + NOISE * torch.diagonal(K).mean() * torch.eye(len(K), dtype=K.dtype)
        self.c = solve(self.K, y, 0.0)
        # The prior variance that makes the targets likeliest.
        self.variance = float(y @ self.c) / len(y)

    def __call__(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """At points of the unit square, shape (m, 2)."""
        Z = 2 * u - 1
        k = gram(NETWORK, Z, self.X, kernel="nngp")
        left = diag(NETWORK, Z, kernel="nngp") - (k * solve(self.K, k.T, 0.0).T).sum(dim=1)
        spread = (self.variance * left.clamp(min=1e-12)).sqrt()
        return self.shift + self.size * (k @ self.c), self.size * spread


def improvement(posterior: Posterior, best: float, u: Tensor) -> Tensor:
    """Logarithm of the expected improvement on the best value, at each point."""
    mean, spread = posterior(u)
    z = (best - mean) / spread
    normal = torch.distributions.Normal(torch.zeros_like(z), torch.ones_like(z))
    gain = spread * (z * normal.cdf(z) + normal.log_prob(z).exp())
    return gain.clamp(min=1e-30).log()


def next_point(posterior: Posterior, best: float, candidates: Array) -> Array:
    """Where the expected improvement is largest, from the best candidates on."""
    found = improvement(posterior, best, torch.from_numpy(candidates)).numpy()
    starts = candidates[np.argsort(-found)[:8]]

    def loss(flat: Array) -> tuple[float, Array]:
        u = torch.tensor(flat.reshape(-1, 2), requires_grad=True)
        # All starts at once: their gains add up, and so do not meet.
        total = -improvement(posterior, best, u).sum()
        (slope,) = torch.autograd.grad(total, u)
        return float(total.detach()), slope.numpy().ravel()

    bounds = [(0.0, 1.0)] * starts.size
    options = {"maxiter": 30}
    end = minimize(
        loss, starts.ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options=options
    )
    ends = end.x.reshape(-1, 2)
    gains = improvement(posterior, best, torch.from_numpy(ends)).numpy()
    return np.asarray(ends[int(gains.argmax())])


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run; returns how far the smallest value found is above the minimum."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few steps")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    steps = 10 if options.quick else 32
    random = qmc.Sobol(2, seed=0)
    points = random.random(8)
    values = branin(points)
    for _ in range(steps):
        near = points[values.argmin()] + 0.03 * np.random.default_rng(len(points)).normal(
            size=(64, 2)
        )
        candidates = np.vstack([random.random(256), near.clip(0.0, 1.0)])
        chosen = next_point(Posterior(points, values), values.min(), candidates)
        points, values = np.vstack([points, chosen]), np.append(values, branin(chosen[None]))
    blind = branin(qmc.Halton(2, seed=1).random(len(points)))
    gaps = {
        "network's posterior": float(values.min() - SMALLEST),
        "points of Halton": float(blind.min() - SMALLEST),
    }
    print(f"above the minimum after {len(points)} values")
    for name, gap in gaps.items():
        print(f"{name:22}{gap:.5f}")
    print("best point", (LOW + points[values.argmin()] * (HIGH - LOW)).round(3))
    if options.out:
        _draw(options.out, points, values, blind)
    return gaps


def _draw(path: str, points: Array, values: Array, blind: Array) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting.style import COLOURS, colour_bar, legend_above, panels

    figure, axes = panels(1, 2, size=(9.6, 4.0), width_ratios=(1.2, 1))
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 80), np.linspace(0, 1, 80)), axis=-1)
    mean, _ = Posterior(points, values)(torch.from_numpy(grid.reshape(-1, 2)))
    places, spots = LOW + grid * (HIGH - LOW), LOW + points * (HIGH - LOW)
    axes[0].grid(False)
    field = mean.numpy().reshape(80, 80).T
    drawn = axes[0].pcolormesh(*places.T, field, shading="gouraud", cmap="viridis")
    colour_bar(drawn, axes[0], "posterior mean")
    axes[0].plot(
        *spots.T, "o", color="white", ms=4, mec="black", mew=0.6, clip_on=False,
        label="values taken",
    )  # fmt: skip
    axes[0].plot(*MINIMA.T, "x", color=COLOURS[1], ms=9, mew=2, label="minima")
    axes[0].set(xlabel="$x_1$", ylabel="$x_2$", ylim=(LOW[1], HIGH[1]))
    legend_above(axes[0])
    for name, found, colour in (
        ("network's posterior", values, COLOURS[0]),
        ("points of Halton", blind, COLOURS[1]),
    ):
        gap = np.minimum.accumulate(found) - SMALLEST
        axes[1].step(np.arange(1, len(gap) + 1), gap, where="post", color=colour, label=name)
    axes[1].set(xlabel="values taken", ylabel="smallest value, above the minimum", yscale="log")
    legend_above(axes[1])
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
