"""What a choice among 13 ridges by leave-one-out costs, beside a fit with one.

    python -m benchmarks.ridges [--sizes 4000 8000]

KernelRegressor on random rows in float64; writes ``benchmarks/results/ridges.json``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import seconds
from kernreg import KernelRegressor, nn

RESULTS = Path(__file__).parent / "results" / "ridges.json"
ALPHAS = np.logspace(-6, 0, 13)


def fits(n: int) -> dict[str, Any]:
    """Seconds of each, and how far errors of leave-one-out are from those of Cholesky or Eigh."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 20))
    y = np.sin(X[:, 0]) + X[:, 1] ** 2
    found: dict[str, Any] = {"n": n}
    errors = {}
    solvers = [("one ridge", 1e-2, "auto"), *((f"{s}", ALPHAS, s) for s in ("eigh", "banded"))]
    if n <= 4000:
        solvers.insert(1, ("cholesky", ALPHAS, "cholesky"))
    for name, alpha, solver in solvers:
        model = KernelRegressor(nn.mlp(depth=3), alpha=alpha, solver=solver)
        found[name] = seconds(lambda model=model: model.fit(X, y))  # type: ignore[misc]
        if model.loo_ is not None:
            errors[name] = model.loo_.squared_error
    first = next(iter(errors.values()))
    found["apart"] = float(max(np.max(np.abs(e / first - 1)) for e in errors.values()))
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--sizes", type=int, nargs="+", default=[4000, 8000])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    made = []
    for n in options.sizes:
        made.append(fits(n))
        print(made[-1], flush=True)
    header = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    RESULTS.write_text(json.dumps(header | {"sizes": made}, indent=1) + "\n")


if __name__ == "__main__":
    main()
