"""Cholesky in memory against out of core, 40,000 rows: ``python -m benchmarks.out_of_core``.

Each runs in a process of its own. Writes time, memory and agreement of the solutions to
``benchmarks/results/out_of_core.json``. Needs the data of ``KERNREG_DATA``, 4 GB of memory and, in
``--folder``, 3.3 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.fit_memory import high_water_mark
from benchmarks.problems import KERNEL, data_dir, network
from kernreg import KernelOperator
from kernreg.config import num_threads
from kernreg.solvers import Cholesky, OutOfCoreCholesky

ALPHA = 1e-3
LIMIT = 10**9
RESULT = Path(__file__).with_name("results") / "out_of_core.json"


def measure(solver: Cholesky | OutOfCoreCholesky, n: int) -> tuple[dict[str, object], np.ndarray]:
    """Time and memory of one factorisation and solve, and the solution."""
    with np.load(data_dir() / "uci_regression" / "kin40k.npz") as data:
        X, y = data["X"][:n], data["y"][:n]
    X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    y = (y - y.mean()) / y.std()
    net = network("relu", 3)
    small = KernelOperator(net, X[:500], kernel=KERNEL)
    Cholesky().solve(Cholesky().init(small, 1.0), y[:500])  # libraries and their thread pools
    operator = KernelOperator(net, X, kernel=KERNEL)
    ridge = ALPHA * float(operator.diagonal().mean())
    before = psutil.Process().memory_info().rss
    cpu = time.process_time()
    started = time.perf_counter()
    state = solver.init(operator, ridge)
    factored = time.perf_counter()
    solution = solver.solve(state, y)
    finished = time.perf_counter()
    cpu = time.process_time() - cpu
    peak = high_water_mark()
    return {
        "n": n,
        "factor_seconds": factored - started,
        "solve_seconds": finished - factored,
        "cpu_seconds": cpu,
        "refinement_products": solution.stats.iterations,
        "status": solution.status.name,
        "peak_bytes": peak,
        "peak_growth_bytes": peak - before,
        "predicted_bytes": solution.stats.peak_bytes,
        "log_determinant": solution.stats.log_determinant,
    }, solution.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--folder", type=Path, help="where to make a temporary folder")
    parser.add_argument("--worker", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        kind, folder = arguments.worker[0], Path(arguments.worker[1])
        solvers = {
            "in_memory": Cholesky(),
            "out_of_core": OutOfCoreCholesky(folder / "factor", max_bytes=LIMIT),
        }
        result, value = measure(solvers[kind], arguments.rows)
        np.save(folder / f"{kind}.npy", value)
        print(json.dumps(result))
        return
    report: dict[str, object] = {
        "data": "kin40k",
        "dtype": "float32, refined in float64",
        "alpha": ALPHA,
        "max_bytes": LIMIT,
        "machine": platform.processor() or platform.machine(),
        "threads": num_threads(),
        "torch": torch.__version__,
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        found = {}
        for kind in ("in_memory", "out_of_core"):
            command = [sys.executable, "-m", "benchmarks.out_of_core"]
            command += ["--rows", str(arguments.rows), "--worker", kind, folder]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[kind] = json.loads(done.stdout)
            print(kind, json.dumps(found[kind], indent=1), flush=True)
        values = [np.load(Path(folder) / f"{kind}.npy") for kind in found]
    seconds = [run["factor_seconds"] + run["solve_seconds"] for run in found.values()]
    report |= found
    report["time_ratio"] = seconds[1] / seconds[0]
    report["factor_time_ratio"] = (
        found["out_of_core"]["factor_seconds"] / found["in_memory"]["factor_seconds"]
    )
    report["solutions_differ_by"] = float(
        np.abs(values[1] - values[0]).max() / np.abs(values[0]).max()
    )
    RESULT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
