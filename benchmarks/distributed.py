"""Two processes of one thread against one of two: ``python -m benchmarks.distributed``.

Each job is started by ``torchrun``. Writes seconds of a product and of a prediction, the medians of
some repetitions, and of one solve, to ``benchmarks/results/distributed.json``, and the
efficiency: time of one process with 2 threads over that of two processes, and half the time of one
process with 1 thread over it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.problems import KERNEL, network
from kernreg import KernelOperator, distributed
from kernreg.operators import led
from kernreg.solvers import PCG

ALPHA, TOL = 1e-3, 1e-6
ROWS, FEATURES, NEW = 6000, 20, 2000
RESULT = Path(__file__).with_name("results") / "distributed.json"


def seconds(work: Callable[[], Any], repeat: int) -> float:
    """Median time, between moments that all processes have in common."""
    times = []
    for _ in range(repeat):
        distributed.agree()
        started = time.perf_counter()
        work()
        distributed.agree()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def member(threads: int, repeat: int) -> dict[str, Any]:
    """What one process does; the result of rank 0 counts."""
    distributed.initialize()
    torch.set_num_threads(threads)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS + NEW, FEATURES)).astype(np.float32)
    Y = np.tanh(X[:ROWS, :3])
    net = network("relu", 3)
    operator = KernelOperator(net, X[:ROWS], kernel=KERNEL)
    ridge = ALPHA * float(np.mean(operator.diagonal()))
    found: dict[str, Any] = {}

    def solve(storage: Any) -> Any:
        solver = PCG(storage=storage, tol=TOL)
        return led(operator, lambda K: solver.solve(solver.init(K, ridge), Y))

    def predict() -> Any:
        def part(start: int, stop: int) -> Any:
            return KernelOperator(net, X[ROWS:][start:stop], X[:ROWS], kernel=KERNEL) @ Y

        return distributed.by_rows(NEW, part)

    led(operator, lambda K: K @ Y)  # libraries and their thread pools
    found["product"] = seconds(lambda: led(operator, lambda K: K @ Y), repeat)
    found["prediction"] = seconds(predict, repeat)
    for storage in ("recomputed", "packed"):
        steps: list[int] = []
        found[f"solve, tiles {storage}"] = seconds(
            lambda s=storage, steps=steps: steps.append(solve(s).stats.iterations),  # type: ignore[misc]
            1,
        )
        found[f"iterations, tiles {storage}"] = steps[0]
    return found


def measured(processes: int, threads: int, repeat: int) -> dict[str, Any]:
    """The result of a job."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        options = ["--threads", str(threads), "--repeat", str(repeat), "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(
            [sys.executable, *launch, "-m", "benchmarks.distributed", *options],
            env=environment,
            check=True,
        )
        return dict(json.loads(out.read_text()))


def main() -> None:
    """Run as a member of a job if ``--out`` is given, otherwise start the jobs and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    if arguments.out:
        found = member(arguments.threads, arguments.repeat)
        if distributed.rank() == 0:
            arguments.out.write_text(json.dumps(found))
        return
    cases = ((1, 1), (1, 2), (2, 1))
    half, one, two = (measured(p, threads, arguments.repeat) for p, threads in cases)
    names = [name for name in one if not name.startswith("iterations")]
    result = {
        "n": ROWS,
        "d": FEATURES,
        "outputs": 3,
        "predicted_rows": NEW,
        "dtype": "float32",
        "alpha": ALPHA,
        "tol": TOL,
        "one process, 1 thread": half,
        "one process, 2 threads": one,
        "two processes, 1 thread each": two,
        "efficiency against 2 threads": {name: one[name] / two[name] for name in names},
        "efficiency against 1 thread": {name: half[name] / two[name] / 2 for name in names},
        "load of the machine at the end": os.getloadavg()[0],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
