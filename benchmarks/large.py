"""Test error, seconds and memory of the solvers for many rows, on full data sets.

``python -m benchmarks.large nycflights13/y_air_time restricted 1000`` measures one point in a
process of its own and adds it to ``results/large.json``; without arguments it lists the points.
Methods: ``restricted M`` (M centres, ridge by generalised cross-validation), ``sketch PASSES``
(goes on from the checkpoint of the last call, in ``--folder``), ``cholesky ROWS`` (a random
subset), ``exact ROWS`` (the first ones, by the solver that fits 4 GB), ``nystroem M``
(scikit-learn: Gaussian kernel and ridge regression, both parameters by a holdout).
Data: see :func:`benchmarks.problems.data_dir`; its random tenth is the test set.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fit_memory import high_water_mark
from benchmarks.problems import data_dir, network
from kernreg import KernelOperator, KernelRegressor
from kernreg.exceptions import ConvergenceWarning
from kernreg.operators import StreamedOperator
from kernreg.solvers import Cholesky, Eigh, Problem, Restricted, SketchAndProject

RESULTS = Path(__file__).parent / "results" / "large.json"
NET = network("relu", 1)
ALPHAS = np.geomspace(1e-4, 1e2, 13)
TUNED_ON, TESTED_ON = 4000, 5000


def problem(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train and test rows and targets; columns and targets standardised on the training rows."""
    data, target = name.split("/")
    with np.load(data_dir() / "large" / f"{data}.npz") as file:
        X, y = file["X"], file[target].astype(np.float64)
        test = file["test_mask"][:, 0] == 1
    mean, spread = X[~test].mean(axis=0, dtype=np.float64), X[~test].std(axis=0, dtype=np.float64)
    X -= mean.astype(np.float32)
    X /= np.where(spread > 0, spread, 1.0).astype(np.float32)
    y = (y - y[~test].mean()) / y[~test].std()
    return X[~test], y[~test], X[test], y[test]


def r2(y: np.ndarray, predicted: np.ndarray) -> float:
    return float(1.0 - np.mean((y - predicted) ** 2) / np.mean((y - y.mean()) ** 2))


def predict(X_new: np.ndarray, X: np.ndarray, dual: np.ndarray) -> np.ndarray:
    """The kernel of new rows with X times coefficients, by chunks of both."""
    result = np.zeros(len(X_new))
    for j in range(0, len(X), 16_384):
        block = KernelOperator(NET, X_new, X[j : j + 16_384]).to_dense()
        result += block.astype(np.float64) @ dual[j : j + 16_384]
    return result


def tuned_ridge(X: np.ndarray, y: np.ndarray) -> float:
    """Ridge of the smallest leave-one-out error on a random subset."""
    chosen = np.random.default_rng(1).permutation(len(y))[:TUNED_ON]
    K = KernelOperator(NET, X[chosen])
    ridges = ALPHAS * float(np.mean(K.diagonal()))
    path = Eigh().path(Eigh().init(K), y[chosen], ridges)
    return float(ridges[np.argmin(np.mean(path.loo_residuals**2, axis=1))])


def restricted(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, m: int) -> Any:
    K = StreamedOperator(NET, X)
    started = time.perf_counter()
    solver = Restricted(centres=m)
    state = solver.init(K, 1.0)
    path = solver.path(state, y, ALPHAS * float(np.mean(K.take(state.centres).diagonal())))
    seconds = time.perf_counter() - started
    found = predict(X_test, X[state.centres], path.dual[path.best])
    return {
        "seconds": seconds,
        "r2": r2(y_test, found),
        "alpha": float(ALPHAS[path.best]),
        "gcv": float(path.gcv[path.best]),
        "predicted_bytes": solver.peak_bytes(Problem(len(X), dtype="float32")),
    }


def sketch(
    X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, passes: int, folder: Path
) -> Any:
    ridge = tuned_ridge(X, y)
    K = StreamedOperator(NET, X)
    solver = SketchAndProject(
        max_passes=passes, tol=1e-4, checkpoint=folder / "sketch.safetensors", checkpoint_every=25
    )
    blocks: list[float] = []
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        solution = solver.solve(
            solver.init(K, ridge), y, callback=lambda progress: blocks.append(progress.residual)
        )
    seconds = time.perf_counter() - started
    found = predict(X_test[:TESTED_ON], X, solution.value)
    return {
        "seconds": seconds,
        "blocks": len(blocks),
        "passes": solution.stats.iterations,
        "residuals": solution.stats.residuals,
        "status": solution.status.name,
        "ridge": ridge,
        "r2": r2(y_test[:TESTED_ON], found),
        "predicted_bytes": solver.peak_bytes(Problem(len(X), dtype="float32")),
    }


def cholesky(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, n: int) -> Any:
    ridge = tuned_ridge(X, y)
    chosen = np.random.default_rng(0).permutation(len(y))[:n]
    K = KernelOperator(NET, X[chosen])
    started = time.perf_counter()
    solver = Cholesky(refine=False)
    dual = solver.solve(solver.init(K, ridge), y[chosen]).value
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "ridge": ridge,
        "r2": r2(y_test, predict(X_test, X[chosen], dual)),
        "predicted_bytes": solver.peak_bytes(Problem(n, dtype="float32")),
    }


def exact(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, n: int) -> Any:
    ridge = tuned_ridge(X, y)
    model = KernelRegressor(
        NET, alpha=ridge, alpha_scale="absolute", dtype="float32", max_memory="4GB"
    )
    started = time.perf_counter()
    model.fit(X[:n], y[:n])
    seconds = time.perf_counter() - started
    solution = model.solution_
    return {
        "seconds": seconds,
        "ridge": ridge,
        "solver": model.plan_.solver,
        "storage": model.plan_.storage,
        "status": solution.status.name,
        "iterations": solution.stats.iterations,
        "residual": solution.stats.residuals[-1] if solution.stats.residuals else None,
        "r2": r2(y_test, model.predict(X_test)),
        "predicted_bytes": model.plan_.peak_bytes,
    }


def nystroem(X: np.ndarray, y: np.ndarray, X_test: np.ndarray, y_test: np.ndarray, m: int) -> Any:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline

    def model(gamma: float, alpha: float) -> Any:
        features = Nystroem(gamma=gamma / X.shape[1], n_components=m, random_state=0)
        return make_pipeline(features, Ridge(alpha, copy_X=False))

    chosen = np.random.default_rng(1).permutation(len(y))[: 4 * TUNED_ON]
    fit, hold = chosen[:-TUNED_ON], chosen[-TUNED_ON:]
    grid = [(g, a) for g in (0.03, 0.1, 0.3, 1.0) for a in (1e-3, 1e-2, 1e-1, 1.0)]
    scores = [r2(y[hold], model(*at).fit(X[fit], y[fit]).predict(X[hold])) for at in grid]
    gamma, alpha = grid[int(np.argmax(scores))]
    started = time.perf_counter()
    fitted = model(gamma, alpha).fit(X, y)
    seconds = time.perf_counter() - started
    found = np.concatenate([fitted.predict(part) for part in np.array_split(X_test, 8)])
    return {"seconds": seconds, "r2": r2(y_test, found), "gamma": gamma, "alpha": alpha}


def measure(name: str, method: str, size: int, folder: Path) -> dict[str, Any]:
    """One point, in this process."""
    X, y, X_test, y_test = problem(name)
    before = high_water_mark()
    options = {"folder": folder} if method == "sketch" else {}
    point = globals()[method](X, y, X_test, y_test, size, **options)
    return {
        "data": name,
        "method": method,
        "size": size,
        "n": len(y),
        "d": X.shape[1],
        **point,
        "load": os.getloadavg()[0],
        "peak_rss": high_water_mark(),
        "rss_of_data_and_libraries": before,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?")
    parser.add_argument(
        "method", nargs="?", choices=["restricted", "sketch", "cholesky", "exact", "nystroem"]
    )
    parser.add_argument("size", nargs="?", type=int)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--here", action="store_true", help="measure in this process and print")
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.data, given.method, given.size, given.folder)))
        return
    points = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    if given.size is not None:
        # Peak memory is that of a fresh process; this one imports no data.
        command = [sys.executable, "-m", "benchmarks.large", given.data, given.method]
        command += [str(given.size), "--folder", str(given.folder), "--here"]
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        if run.returncode:
            sys.exit(run.stderr)
        found = json.loads(run.stdout)
        before = {(p["data"], p["method"], p["size"]): p for p in points}
        points = [*(before | {(found["data"], found["method"], found["size"]): found}).values()]
        RESULTS.write_text(json.dumps(points, indent=1) + "\n")
    for p in points:
        print(
            f"{p['data']:28} {p['method']:10} {p['size']:6} n={p['n']} {p['seconds']:8.1f} s  "
            f"R2 {p['r2']:.4f}  peak {p['peak_rss'] / 1e9:.2f} GB"
        )


if __name__ == "__main__":
    main()
