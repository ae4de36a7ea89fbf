"""How many centres are enough
===========================

A restricted model has coefficients for some rows, its centres, and learns from all. Its error falls
with their number towards that of the full model; time grows with it. Two numbers of centres tell
whether more of them help.

.. code-block:: text

    python examples/centres.py [--quick] [--out picture.png]

Takes about 20 s on one core, some seconds with --quick. The function is Friedman's first, of five
columns, with noise of variance 1 below which no error can be.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_friedman1
from sklearn.preprocessing import StandardScaler

from kernreg import KernelRegressor, nn
from kernreg.solvers import Restricted

Array = NDArray[np.float64]


def main(arguments: list[str] | None = None) -> dict[str, Array]:
    """Run; returns numbers of centres, errors with standard errors, and the full model's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few rows")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    rows, centres = (1000, [10, 30, 100]) if options.quick else (3000, [10, 30, 100, 300, 800])
    X, y = make_friedman1(rows + 2000, n_features=5, noise=1.0, random_state=0)
    X = StandardScaler().fit_transform(X)
    net = nn.mlp(depth=2)

    def tried(solver: Any) -> tuple[float, float, float]:
        """Mean squared error on new rows, its standard error, and seconds of the fit."""
        start = time.perf_counter()
        model = KernelRegressor(net, solver=solver).fit(X[:rows], y[:rows])
        seconds = time.perf_counter() - start
        squares = (model.predict(X[rows:]) - y[rows:]) ** 2
        return float(squares.mean()), float(squares.std() / len(squares) ** 0.5), seconds

    print(f"{rows:,} rows, mean squared error on 2,000 new ones\n")
    print("centres   error   standard error   seconds")
    found = []
    for number in centres:
        found.append(tried(Restricted(centres=number)))
        print(f"{number:7}   {found[-1][0]:5.3f}   {found[-1][1]:14.3f}   {found[-1][2]:7.2f}")
    full = tried("cholesky")
    print(f"{'all':>7}   {full[0]:5.3f}   {full[1]:14.3f}   {full[2]:7.2f}")
    if options.out:
        draw(options.out, centres, np.array(found), full[:2])
        print(f"\npicture: {options.out}")
    return {
        "centres": np.array(centres),
        "restricted": np.array(found)[:, :2],
        "full": np.array(full[:2]),
    }


def draw(path: str, centres: list[int], found: Array, full: tuple[float, float]) -> None:
    """Errors against the number of centres; times depend on what else a machine does."""
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting.style import COLOURS, legend_above, panels

    figure, axes = panels(size=(6.4, 4.0))
    axes.errorbar(
        centres, found[:, 0], found[:, 1], color=COLOURS[0], marker="o", ms=5, capsize=3,
        label="restricted to centres",
    )  # fmt: skip
    axes.axhspan(full[0] - full[1], full[0] + full[1], color=COLOURS[1], alpha=0.25, lw=0)
    axes.axhline(full[0], color=COLOURS[1], lw=1.5, label="all rows")
    axes.axhline(1.0, color=COLOURS[6], lw=0.9, ls="--", label="noise")
    axes.set(xscale="log", yscale="log", xlabel="centres")
    axes.set(yticks=(1, 2, 5), yticklabels=("1", "2", "5"))
    axes.set_ylabel("mean squared error (bars and band: standard error)")
    axes.minorticks_off()
    legend_above(axes, ncols=3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
