"""A learning curve, predicted
===========================

The learning curve of NTK regression on digits, predicted and measured.

The prediction needs one kernel matrix and no training: from its eigenvalues, and from the share of
the labels in its eigenvectors, follows the mean error for every number of training points.

.. code-block:: text

    python examples/learning_curve.py [--quick] [--out picture.png]

Takes about two minutes on two cores, some seconds with --quick.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from kernreg import nn
from kernreg.theory.eigenlearning.curves import measure_learning_curve, predict_learning_curve

Array = NDArray[np.float64]


def main(arguments: list[str] | None = None) -> Array:
    """Run; returns predicted over measured test error for each number of points."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="600 digits, few sizes and trials")
    parser.add_argument("--out", metavar="PNG", help="draw a picture")
    options = parser.parse_args(arguments)
    rows, sizes, trials = (
        (600, [50, 100, 200, 400], 5) if options.quick else (1797, [50, 100, 200, 400, 800], 10)
    )
    X, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(X))[:rows]
    X, labels = X[chosen] / 16, y[chosen].astype(str)
    net = nn.mlp(depth=3)
    predicted = predict_learning_curve(net, X, labels, sizes, alpha=0.01)
    measured = measure_learning_curve(net, X, labels, sizes, alpha=0.01, trials=trials)
    print(f"{predicted}\n\n{measured}\n")
    ratios = predicted.test / measured.test
    print("predicted over measured: " + ", ".join(f"{ratio:.3f}" for ratio in ratios))
    if options.out:
        import matplotlib

        matplotlib.use("Agg")
        from kernreg.plotting import LearningCurveDisplay

        LearningCurveDisplay(predicted, measured).plot().figure_.savefig(options.out, dpi=120)
        print(f"\npicture: {options.out}")
    return np.asarray(ratios)


if __name__ == "__main__":
    main()
