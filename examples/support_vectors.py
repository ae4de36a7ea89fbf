"""A support vector machine on a network's kernel
==============================================

scikit-learn's ``SVC`` takes the tangent kernel as a function of two matrices. On two half moons its
border is beside that of a Gaussian kernel; both take the ``C`` that five folds of the training rows
prefer. Support vectors are ringed.

.. code-block:: text

    python examples/support_vectors.py [--quick] [--out picture.png]

Takes about 10 s on one core, some seconds with --quick.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import make_moons
from sklearn.model_selection import GridSearchCV
from sklearn.svm import SVC

from kernreg import gram, nn

Array = NDArray[np.float64]

NETWORK = nn.mlp(depth=3)


def ntk(A: Array, B: Array) -> Array:
    """The tangent kernel between rows, with a diagonal about 1."""
    scale = float(gram(NETWORK, np.ones((1, A.shape[1])))[0, 0])
    return np.asarray(gram(NETWORK, A, None if A is B else B)) / scale


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run; returns the accuracy of both on new rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few values of C")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    X, y = make_moons(150, noise=0.25, random_state=0)
    X_test, y_test = make_moons(2000, noise=0.25, random_state=1)
    grid = {"C": [1.0, 100.0] if options.quick else np.logspace(-1, 3, 9)}

    machines = {}
    print("kernel                  C   support vectors   accuracy on 2,000 new rows")
    for name, kernel in {"tangent kernel": ntk, "Gaussian kernel": "rbf"}.items():
        search = GridSearchCV(SVC(kernel=kernel), grid, cv=5).fit(X, y)
        machine = search.best_estimator_
        machines[name] = machine, float(machine.score(X_test, y_test))
        print(f"{name:16}{machine.C:9.3g}   {len(machine.support_):15}   {machines[name][1]:26.3f}")
    print("\none standard error of an accuracy: 0.006")
    if options.out:
        draw(options.out, X, y, machines)
        print(f"picture: {options.out}")
    return {name: score for name, (_, score) in machines.items()}


def draw(path: str, X: Array, y: Array, machines: dict[str, tuple[Any, float]]) -> None:
    """The decision function as a field, its border, and the rows."""
    import matplotlib

    matplotlib.use("Agg")
    from kernreg.plotting.style import COLOURS, colour_bar, legend_above, panels

    figure, axes = panels(1, 2, size=(10.4, 4.0), sharey=True)
    across, up = np.meshgrid(np.linspace(-2, 3, 120), np.linspace(-1.5, 2, 120))
    places = np.column_stack([across.ravel(), up.ravel()])
    for ax, (name, (machine, _)) in zip(axes, machines.items(), strict=True):
        field = machine.decision_function(places).reshape(across.shape)
        drawn = ax.pcolormesh(across, up, field, cmap="PuOr_r", vmin=-5, vmax=5, shading="gouraud")
        ax.contour(across, up, field, levels=[0], colors="black", linewidths=1.5)
        for label, colour, mark in ((0, COLOURS[0], "o"), (1, COLOURS[1], "s")):
            rows = X[y == label]
            ax.plot(*rows.T, mark, color=colour, ms=5, mec="white", mew=0.5, label=f"class {label}")
        ax.plot(*X[machine.support_].T, "o", mfc="none", mec="black", ms=8, label="support vectors")
        ax.grid(False)
        ax.set(xlabel=f"first column, {name}")
        legend_above(ax, ncols=3)
    axes[0].set_ylabel("second column")
    colour_bar(drawn, axes[1], "decision function")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
