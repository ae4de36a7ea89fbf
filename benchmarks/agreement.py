"""Predictions of every solver against float64 Cholesky: ``python -m benchmarks.agreement``.

One process, and jobs of two and four. Writes the largest difference of predictions, over the
largest prediction, to ``benchmarks/results/agreement.json``. Coefficients are multiplied with a
float64 kernel, so that the error is that of the solver. Needs the data of ``KERNREG_DATA``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.preconditioners import standardised
from benchmarks.problems import KERNEL, network
from kernreg import KernelOperator, distributed, gram
from kernreg.operators import led
from kernreg.solvers import (
    PCG,
    Banded,
    Cholesky,
    Eigh,
    LowPrecisionCholesky,
    Nystrom,
    OutOfCoreCholesky,
    Restricted,
    RPCholesky,
    SketchAndProject,
)

ROWS, NEW, ALPHA = 3000, 500, 1e-3
NET = network("relu", 3)
RESULT = Path(__file__).with_name("results") / "agreement.json"
BUILT = {
    "no preconditioner": None,
    "RPCholesky": RPCholesky(500),
    "Nystrom": Nystrom(500),
}
SHARED: dict[str, Any] = {
    f"PCG, {name}, tiles {storage}": PCG(built, tol=1e-10, storage=storage, max_iter=3000)
    for name, built in BUILT.items()
    for storage in ("recomputed", "packed")
} | {
    "SketchAndProject": SketchAndProject(tol=1e-9, max_passes=1000),
    "Restricted, all rows": Restricted(centres=ROWS),
}
# Of these one process does all.
ALONE: dict[str, Any] = {
    "Cholesky": Cholesky(),
    "Banded": Banded(),
    "Eigh": Eigh(),
    "PCG, float32 factor, tiles recomputed": PCG(LowPrecisionCholesky(), storage="recomputed"),
}


def solutions() -> dict[str, np.ndarray]:
    """Predictions by each solver in this job."""
    X, y = standardised("kin40k", ROWS + NEW)
    X_new, X, Y = X[ROWS:], X[:ROWS], np.stack([y[:ROWS], y[:ROWS] ** 2], axis=1)
    across = gram(NET, X_new, X, kernel=KERNEL)
    found = {}
    for dtype in ("float64", "float32"):
        K = KernelOperator(NET, X, kernel=KERNEL, dtype=dtype)
        ridge = ALPHA * float(np.mean(K.diagonal()))
        solvers = dict(SHARED)
        if distributed.processes() == 1:
            solvers |= ALONE
            folder = tempfile.mkdtemp()
            solvers["OutOfCoreCholesky"] = OutOfCoreCholesky(folder, max_bytes=4 * 10**7)
        for name, solver in solvers.items():
            solution = led(K, lambda K, s=solver, r=ridge: s.solve(s.init(K, r), Y))  # type: ignore[misc]
            found[f"{dtype}, {name}"] = across @ solution.value
            if distributed.rank() == 0:
                print(distributed.processes(), dtype, name, solution.status, flush=True)
    return found


def job(processes: int, folder: Path) -> dict[str, np.ndarray]:
    """What a job of so many processes found, on rank 0."""
    out = folder / f"{processes}.npz"
    threads = max(1, (os.cpu_count() or 1) // processes)
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    subprocess.run(
        [sys.executable, *launch, "-m", "benchmarks.agreement", "--out", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        check=True,
    )
    with np.load(out) as found:
        return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="where a process of a job writes")
    given = parser.parse_args()
    if given.out:
        distributed.initialize()
        found = solutions()
        if distributed.rank() == 0:
            np.savez(given.out, **found)
        return
    report: dict[str, Any] = {
        "data": "kin40k",
        "n": ROWS,
        "alpha": ALPHA,
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory() as folder:
        found = {p: job(p, Path(folder)) for p in (1, 2, 4)}
    for processes, values in found.items():
        errors = {}
        for name, predicted in values.items():
            exact = found[1]["float64, Cholesky"]
            errors[name] = float(np.abs(predicted - exact).max() / np.abs(exact).max())
        report[f"{processes} processes"] = errors
        worst = max(errors, key=lambda name: errors[name])
        print(f"{processes} processes: at most {errors[worst]:.1e} ({worst})")
    RESULT.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
