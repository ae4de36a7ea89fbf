"""Small problems, where calls are the time: kernreg beside scikit-learn with a Gaussian kernel.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python -m benchmarks.small

The median of 200 calls, in milliseconds, float64, 20 columns. With several threads those of BLAS
wait for each other for longer than all of the work takes. Writes ``benchmarks/results/small.json``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge

from benchmarks.limit import processor
from benchmarks.timing import seconds
from kernreg import KernelRegressor, gram, nn

RESULTS = Path(__file__).parent / "results" / "small.json"
_CALLS = 200


def milliseconds(action: Callable[[], Any]) -> float:
    """Median of many calls, behind the first two."""
    return 1e3 * float(np.median([seconds(action) for _ in range(_CALLS + 2)][2:]))


def steps() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """Each with that of scikit-learn."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((150, 20)), rng.standard_normal(150)
    net, rbf = nn.mlp(depth=3), RBF(4.0)
    tanh = nn.mlp(depth=3, activation=nn.Tanh())
    given = KernelRegressor(net, alpha=1e-3)
    chosen = KernelRegressor(net)
    ridge = KernelRidge(kernel="rbf", gamma=0.05, alpha=1e-3)
    fitted, peer = KernelRegressor(net, alpha=1e-3).fit(X, y), KernelRidge(kernel="rbf").fit(X, y)
    return {
        "gram of one pair": (lambda: gram(net, X[:2]), lambda: rbf(X[:2])),
        "gram of one row with another": (
            lambda: gram(net, X[:1], X[1:2]),
            lambda: rbf(X[:1], X[1:2]),
        ),
        "gram of 100 rows": (lambda: gram(net, X[:100]), lambda: rbf(X[:100])),
        "gram of 100 rows, Tanh": (lambda: gram(tanh, X[:100]), lambda: rbf(X[:100])),
        "predict of one row, 150 rows": (
            lambda: fitted.predict(X[:1]),
            lambda: peer.predict(X[:1]),
        ),
        "fit of 150 rows, ridge given": (lambda: given.fit(X, y), lambda: ridge.fit(X, y)),
        "fit of 150 rows, one of 17 ridges": (lambda: chosen.fit(X, y), lambda: ridge.fit(X, y)),
    }


def main() -> None:
    """Measure and write."""
    found = {}
    print("| step | kernreg, ms | scikit-learn, ms |\n| --- | --: | --: |")
    for name, (ours, theirs) in steps().items():
        found[name] = {"kernreg": milliseconds(ours), "scikit-learn": milliseconds(theirs)}
        print(f"| {name} | {found[name]['kernreg']:.3g} | {found[name]['scikit-learn']:.3g} |")
    text = {
        "date": str(datetime.date.today()),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "milliseconds": found,
    }
    RESULTS.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
