"""Iterations and seconds of PCG by preconditioner and rank, on real data.

``python -m benchmarks.preconditioners kin40k`` solves for four alphas at once (columns of one
:meth:`kernreg.solvers.PCG.path`) to a true relative residual of 1e-8, and adds its table to
``results/preconditioners.json``. Tiles of the kernel are kept in float64, so an iteration is one
read of half a matrix. Data: see :func:`benchmarks.problems.data_dir`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.problems import data_dir, network
from kernreg import KernelOperator
from kernreg.exceptions import ConvergenceWarning
from kernreg.operators import PackedOperator
from kernreg.solvers import PCG, LowPrecisionCholesky, Nystrom, RPCholesky

ROWS = {"kin40k": 10_000, "protein": 15_000, "pol": 15_000}
ALPHAS = (1e-4, 1e-5, 1e-6, 1e-7)
RESULTS = Path(__file__).parent / "results" / "preconditioners.json"
PRECONDITIONERS: dict[str, Any] = {
    "LowPrecisionCholesky()": LowPrecisionCholesky(),
    "RPCholesky(500)": RPCholesky(500, max_bytes=2**33),
    "RPCholesky(1000)": RPCholesky(1000, max_bytes=2**33),
    "RPCholesky(2000)": RPCholesky(2000, max_bytes=2**33),
    "RPCholesky(3000)": RPCholesky(3000, max_bytes=2**33),
    "Nystrom(500)": Nystrom(500, max_bytes=2**33),
    "Nystrom(1000)": Nystrom(1000, max_bytes=2**33),
    "None": None,
}


def standardised(name: str, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets in a fixed random order, columns of mean 0 and variance 1."""
    with np.load(data_dir() / "uci_regression" / f"{name}.npz") as data:
        X, y = data["X"], data["y"]
    chosen = np.random.default_rng(0).permutation(len(y))[:n]
    X, y = X[chosen], y[chosen]
    spread = X.std(axis=0)
    return (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0), (y - y.mean()) / y.std()


def measure(
    operator: Any, y: np.ndarray, preconditioner: Any, max_iter: int, reference: Any
) -> tuple[dict[str, Any], np.ndarray]:
    """One row of the table, and the fitted values for each alpha."""
    ridges = np.array(ALPHAS) * float(np.mean(operator.diagonal()))
    # The operator serves stored tiles already.
    solver = PCG(preconditioner, max_iter=max_iter, storage="recomputed")
    state = solver.init(operator, ridges.min())
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        path = solver.path(state, y, ridges)
    seconds = time.perf_counter() - started
    dual = np.stack([solution.value for solution in path])
    fitted = y - ridges[:, None] * dual
    row = {
        "rank": getattr(state.preconditioner, "rank", 0),
        "iterations": [solution.stats.iterations for solution in path],
        "status": [solution.status.name for solution in path],
        "residual": path[0].stats.residuals[-1],
        "build_seconds": state.seconds,
        "solve_seconds": seconds,
    }
    if reference is not None:
        gap = np.linalg.norm(fitted - reference, axis=1) / np.linalg.norm(reference, axis=1)
        row["largest_difference_of_fitted_values"] = float(gap.max())
    return row, fitted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=sorted(ROWS))
    parser.add_argument("--rows", type=int)
    parser.add_argument("--activation", default="relu", choices=["relu", "erf"])
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--max-iter", type=int, default=3000)
    parser.add_argument(
        "--only", nargs="*", choices=list(PRECONDITIONERS), default=list(PRECONDITIONERS)
    )
    arguments = parser.parse_args()
    n = arguments.rows or ROWS[arguments.data]
    X, y = standardised(arguments.data, n)
    net = network(arguments.activation, arguments.depth)
    started = time.perf_counter()
    operator = PackedOperator(KernelOperator(net, X, dtype="float64"))
    print(f"{arguments.data}: n={n}, tiles in {time.perf_counter() - started:.1f} s", flush=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    key = f"{arguments.data} n={n} {arguments.activation} depth {arguments.depth}"
    table = results.setdefault(key, {"alphas": ALPHAS, "rows": {}})
    table |= {"threads": torch.get_num_threads(), "cpus": os.cpu_count()}
    reference = None
    for name in arguments.only:
        row, fitted = measure(operator, y, PRECONDITIONERS[name], arguments.max_iter, reference)
        reference = fitted if reference is None else reference
        table["rows"][name] = row
        print(name, row, flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
