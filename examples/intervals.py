"""Intervals before and after tuning
=================================

Intervals on real data, before and after tuning: do they hold as often as they say?

A Gaussian process with the kernel of an infinitely wide network gives each prediction an interval.
With numbers as they come the intervals are too wide or too narrow; with those of the largest
marginal likelihood they hold about as often as they should, if noise is Gaussian. Calibrated ones
have the width that residuals of training rows need, each left out once: they hold whatever the
noise is like. Shares are of rows that no model has seen.

.. code-block:: text

    python examples/intervals.py [--quick] [--out picture.png]

Takes the compressive strength of concrete where ``KERNREG_DATA`` has it, and with --quick or
without it scikit-learn's diabetes: some seconds.

What to keep in mind: shares are over all held-out rows. A calibrated model can still be too sure
in one place and not sure enough in another. Gaussian intervals of concrete are right from level
0.6 on and too large below: errors have heavier tails than a Gaussian, which no variance mends.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from kernreg import GaussianProcessRegressor, nn

Array = NDArray[np.float64]

LEVELS = (0.5, 0.8, 0.9, 0.95)


def data(quick: bool) -> tuple[str, Array, Array]:
    """Name, rows and targets."""
    found = Path(os.environ.get("KERNREG_DATA", "../shared/data")) / "uci_regression/concrete.npz"
    if quick or not found.is_file():
        return "diabetes", *load_diabetes(return_X_y=True)
    with np.load(found) as arrays:
        return "concrete", arrays["X"], arrays["y"]


def shares(model: GaussianProcessRegressor, X: Array, y: Array, method: str) -> tuple[Array, Array]:
    """Share of targets within the interval of each level, and its mean width."""
    bounds = [model.predict_interval(X, level, method=method) for level in LEVELS]
    within = [np.mean((low <= y) & (y <= high)) for low, high in bounds]
    return np.array(within), np.array([np.mean(high - low) for low, high in bounds])


def density(model: GaussianProcessRegressor, X: Array, y: Array) -> float:
    """Mean log density of new observations, each for itself."""
    mean, std = model.predict(X, return_std=True)
    variance = std**2 + model.noise_
    return float(np.mean(-0.5 * (np.log(2 * np.pi * variance) + (y - mean) ** 2 / variance)))


def main(arguments: list[str] | None = None) -> dict[str, Array]:
    """Run; returns for each model the shares, and log densities of training and held-out rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="diabetes, whatever data there are")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    name, X, y = data(options.quick)
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(X)
    X, X_test = scaler.transform(X), scaler.transform(X_test)
    # Widths in standard deviations of the targets.
    y_test, y = ((part - y.mean()) / y.std() for part in (y_test, y))

    net = nn.mlp(depth=2)
    given = GaussianProcessRegressor(net, optimizer=None).fit(X, y)
    tuned = GaussianProcessRegressor(net).fit(X, y)
    models = {
        "before": (given, "gaussian"),
        "tuned": (tuned, "gaussian"),
        "calibrated": (tuned, "calibrated"),
    }
    table = {}
    print(f"{name}: {len(X)} rows to fit, {len(X_test)} held out; log densities per row\n")
    print(f"{'':10} {'training':>9} {'held out':>9}   share within (mean width) for level")
    print(f"{'':30}   " + "  ".join(f"{level:>11.2f}" for level in LEVELS))
    for label, (model, method) in models.items():
        within, width = shares(model, X_test, y_test, method)
        evidence = model.log_marginal_likelihood() / len(X)
        held_out = density(model, X_test, y_test)
        table[label] = np.array([*within, evidence, held_out])
        cells = "  ".join(f"{s:.2f} ({w:.2f})" for s, w in zip(within, width, strict=True))
        print(f"{label:10} {evidence:9.3f} {held_out:9.3f}    {cells}")
    for label, model in (("before", given), ("tuned", tuned)):
        print(f"\n{label}: {model.network_}, noise of std {model.noise_**0.5:.3f}")
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting import CalibrationDisplay

        shown = None
        for label, (model, method) in models.items():
            ax = shown.ax_ if shown else None
            noise = model.noise_ if method == "gaussian" else None
            shown = CalibrationDisplay.from_estimator(
                model, X_test, y_test, noise=noise, name=label, ax=ax
            )
            shown.figure_.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return table


if __name__ == "__main__":
    main()
