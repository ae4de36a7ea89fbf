"""Which columns matter
====================

One scale for each column of a table, learned by gradients.

A dense kernel sees rows up to rotations, so columns without information drown those that have
some. The set is pumadyn32nm (UCI and Delve: 32 columns of a robot's arm) where KERNREG_DATA names a
folder that holds it; otherwise Friedman's first function, of five columns, beside 25 of noise.

.. code-block:: text

    python examples/columns.py [--quick] [--out picture.png]

Takes about half a minute on two cores, some seconds with --quick.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_friedman1
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kernreg import ColumnScales, FeatureRegressor, KernelRegressor

Array = NDArray[np.float64]


def table() -> tuple[str, Array, Array]:
    """Name, rows and targets."""
    file = Path(os.environ.get("KERNREG_DATA", "")) / "uci_regression" / "pumadyn32nm.npz"
    if file.is_file():
        with np.load(file) as data:
            return "pumadyn32nm", data["X"].astype(np.float64), data["y"].astype(np.float64).ravel()
    X, y = make_friedman1(4000, n_features=30, noise=1.0, random_state=0)
    return "Friedman's first function", X, y


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run; returns the R2 of each model on rows that none has seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    name, X, y = table()
    rows = 400 if options.quick else 2000
    train, test = slice(0, rows), slice(rows, rows + 1000)
    models = {
        "plain kernel": make_pipeline(StandardScaler(), KernelRegressor()),
        "one scale per column": make_pipeline(
            StandardScaler(), ColumnScales(max_iter=25 if options.quick else 60), KernelRegressor()
        ),
        "learned metric": make_pipeline(StandardScaler(), FeatureRegressor()),
        "gradient boosting": HistGradientBoostingRegressor(random_state=0),
    }
    scores = {}
    print(f"{name}, {rows:,} rows, {X.shape[1]} columns: test R2")
    for label, model in models.items():
        scores[label] = float(model.fit(X[train], y[train]).score(X[test], y[test]))
        print(f"{label:22}{scores[label]:.3f}")
    shares = models["one scale per column"][1].feature_importances_
    first = np.argsort(-shares)[:5]
    print("most important columns:", ", ".join(f"{j} ({shares[j]:.0%})" for j in first))
    if options.out:
        _draw(options.out, name, shares, scores)
    return scores


def _draw(path: str, name: str, shares: Array, scores: dict[str, float]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting.style import COLOURS, QUIET, panels

    figure, axes = panels(1, 2, size=(9.6, 3.6), width_ratios=(1.4, 1))
    axes[0].bar(np.arange(len(shares)), 100 * shares, color=COLOURS[0])
    axes[0].set(xlabel=f"column of {name}", ylabel="share of squared slopes, %")
    places = np.arange(len(scores))
    axes[1].barh(places, list(scores.values()), color=[COLOURS[0]] * 3 + [QUIET], height=0.6)
    axes[1].grid(False)
    axes[1].set_yticks(places, list(scores))
    axes[1].invert_yaxis()
    axes[1].set(xlabel="$R^2$ on 1,000 new rows", xlim=(0, 1.15), xticks=(0, 0.5, 1))
    for place, score in zip(places, scores.values(), strict=True):
        axes[1].text(max(score, 0) + 0.02, place, f"{score:.3f}", va="center")
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
