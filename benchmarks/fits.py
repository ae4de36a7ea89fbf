"""One fit in a process of its own: seconds and memory, and what the plan predicted.

``measured(Case(...))`` runs it. Memory is the most that was resident, less what data, libraries and
their thread pools took before.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from benchmarks.fit_memory import high_water_mark
from benchmarks.problems import KERNEL, data_dir, network, rows
from kernreg import KernelRegressor
from kernreg.exceptions import ConvergenceWarning
from kernreg.solvers import (
    PCG,
    Banded,
    Cholesky,
    Eigh,
    LowPrecisionCholesky,
    OutOfCoreCholesky,
    Restricted,
    RPCholesky,
    SketchAndProject,
)

__all__ = ["SOLVERS", "Case", "measured"]

SOLVERS: dict[str, Any] = {
    "cholesky": Cholesky(),
    "banded": Banded(),
    "eigh": Eigh(),
    "pcg recomputed": PCG(RPCholesky(500), storage="recomputed"),
    "pcg packed": PCG(RPCholesky(500), storage="packed"),
    "pcg factor": PCG(LowPrecisionCholesky(), storage="recomputed"),
    "out of core": OutOfCoreCholesky("factor", max_bytes=4 * 10**8),
    "restricted": Restricted(centres=1000),
    "restricted 3000": Restricted(centres=3000),
    # An accuracy that is not reached, so that the number of passes is known.
    "sketch 3 passes": SketchAndProject(max_passes=3, tol=1e-15),
}


@dataclass(frozen=True)
class Case:
    """A fit of the ReLU NTK of depth 3 to the first rows of a data set, or to Gaussian ones."""

    solver: str
    data: str
    n: int
    dtype: str
    alphas: int = 1
    outputs: int = 1


def problem(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets in a random order, standardised."""
    if case.data == "gaussian":
        X = rows(case.n, 100)
        y = np.tanh(X[:, 0]).astype(np.float64)
    else:
        folder = "large" if case.data == "nycflights13" else "uci_regression"
        with np.load(data_dir() / folder / f"{case.data}.npz") as data:
            X, y = data["X"], data["y_air_time" if folder == "large" else "y"]
        chosen = np.random.default_rng(0).permutation(len(y))[: case.n]
        X, y = X[chosen], y[chosen].astype(np.float64)
        spread = X.std(axis=0)
        X = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        y = (y - y.mean()) / y.std()
    Y = np.stack([np.roll(y, i) for i in range(case.outputs)], axis=1)
    return np.ascontiguousarray(X, dtype=case.dtype), Y


def model(case: Case, folder: str) -> KernelRegressor:
    solver = SOLVERS[case.solver]
    if isinstance(solver, OutOfCoreCholesky):
        solver = dataclasses.replace(solver, folder=folder)
    alphas = 1e-3 if case.alphas == 1 else np.geomspace(1e-4, 1e-1, case.alphas)
    return KernelRegressor(
        network("relu", 3), kernel=KERNEL, alpha=alphas, solver=solver, dtype=case.dtype
    )


def predicted(case: Case) -> dict[str, Any]:
    """What the plan says, and how long it took to say it."""
    X, Y = problem(case)
    started = time.perf_counter()
    plan = model(case, "unused").explain(X, Y).plan
    return {
        "storage": plan.storage,
        "predicted_seconds": plan.seconds,
        "predicted_bytes": plan.peak_bytes,
        "explain_seconds": time.perf_counter() - started,
    }


def fitted(case: Case) -> dict[str, Any]:
    """What the fit takes."""
    X, Y = problem(case)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        small = dataclasses.replace(case, solver="cholesky")
        model(small, folder).fit(X[:300], Y[:300])  # libraries and their thread pools
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        solution = model(case, folder).fit(X, Y).solution_
        seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "bytes": high_water_mark() - before,
        "status": solution.status.name,
        "iterations": solution.stats.iterations,
    }


def measured(case: Case) -> dict[str, Any]:
    """Both, each in a process of its own."""
    found: dict[str, Any] = dataclasses.asdict(case)
    for part in ("predicted", "fitted"):
        command = [
            sys.executable,
            "-m",
            "benchmarks.fits",
            part,
            json.dumps(dataclasses.asdict(case)),
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            sys.exit(run.stderr)
        found |= json.loads(run.stdout)
    return found


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]](Case(**json.loads(sys.argv[2])))))
