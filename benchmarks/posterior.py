"""Error bars at size: what they cost, in processes of their own.

``python -m benchmarks.posterior large`` fits 20,000 rows and predicts 20,000 with standard
deviations in 4 GB; ``many`` predicts 1,000,000 rows from 5,000; ``scikit-learn`` does as many as
fit it with the same kernel matrix; ``times`` compares an ensemble at 50 times with one. ``pcg``
predicts a few rows without a factor. Each adds its row to ``results/posterior.json``. Run one at a
time on a quiet machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.gaussian_process import GaussianProcessRegressor as Sklearn
from sklearn.gaussian_process.kernels import Kernel

from benchmarks.fit_memory import high_water_mark
from kernreg import EnsembleRegressor, GaussianProcessRegressor, diag, gram, nn

RESULTS = Path(__file__).parent / "results" / "posterior.json"
NET = nn.mlp(depth=3)
FEATURES = 20


def problem(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows and targets, and new rows."""
    rng = np.random.default_rng(0)
    X, new = rng.standard_normal((n, FEATURES)), rng.standard_normal((m, FEATURES))
    return X, np.sin(X[:, 0]) + 0.1 * rng.standard_normal(n), new


def posterior(n: int, m: int, max_memory: str, **options: Any) -> dict[str, Any]:
    """Fit n rows, and predict m with standard deviations."""
    X, y, new = problem(n, m)
    model = GaussianProcessRegressor(NET, optimizer=None, max_memory=max_memory, **options)
    started = time.perf_counter()
    model.fit(X, y)
    fitted = time.perf_counter()
    mean, std = model.predict(new, return_std=True)
    done = time.perf_counter()
    assert np.isfinite(mean).all()
    assert (std > 0).all()
    return {
        "rows": n,
        "new_rows": m,
        "solver": model.plan_.solver,
        "max_memory": max_memory,
        "fit_seconds": fitted - started,
        "predict_seconds": done - fitted,
        "peak_bytes": high_water_mark(),
    }


class NetworkKernel(Kernel):
    """The kernel of the network as scikit-learn takes it."""

    def __init__(self) -> None:
        """Without hyperparameters."""

    def __call__(self, X: Any, Y: Any = None, eval_gradient: bool = False) -> Any:
        return gram(NET, X, Y, kernel="nngp")

    def diag(self, X: Any) -> Any:
        return diag(NET, X, kernel="nngp")

    def is_stationary(self) -> bool:
        return False


def scikit_learn(n: int, m: int) -> dict[str, Any]:
    """The same by scikit-learn, whose matrices of new rows are whole."""
    X, y, new = problem(n, m)
    noise = 1e-2 * float(np.mean(diag(NET, X, kernel="nngp")))
    model = Sklearn(NetworkKernel(), alpha=noise, optimizer=None)
    started = time.perf_counter()
    model.fit(X, y)
    fitted = time.perf_counter()
    model.predict(new, return_std=True)
    return {
        "rows": n,
        "new_rows": m,
        "fit_seconds": fitted - started,
        "predict_seconds": time.perf_counter() - fitted,
        "peak_bytes": high_water_mark(),
    }


def trajectory(n: int, m: int, count: int) -> dict[str, Any]:
    """Fit and predict at one time and at many, mean alone and with standard deviations."""
    X, y, new = problem(n, m)
    row: dict[str, Any] = {"rows": n, "new_rows": m, "times": count}
    many = np.geomspace(1, 1e6, count)
    for spread in (False, True):
        for label, times in (("one", many[-1:]), ("many", many)):
            model = EnsembleRegressor(NET)
            started = time.perf_counter()
            model.fit(X, y).predict(new, time=times, return_std=spread)
            row[f"{label}{'_with_std' if spread else ''}"] = time.perf_counter() - started
    return row | {"peak_bytes": high_water_mark()}


PARTS: dict[str, Any] = {
    "large": lambda: posterior(20_000, 20_000, "4GB"),
    "many": lambda: posterior(5_000, 1_000_000, "2GB"),
    "scikit-learn": lambda: scikit_learn(5_000, 100_000),
    "pcg": lambda: posterior(20_000, 100, "1GB", solver="pcg"),
    "times": lambda: trajectory(3_000, 200, 50),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=list(PARTS))
    part = parser.parse_args().part
    row = PARTS[part]() | {
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.processor() or platform.machine(),
    }
    print(part, json.dumps(row), flush=True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results[part] = row
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
