"""Peak memory of one fit, in a process of its own: ``python -m benchmarks.fit_memory N DTYPE``.

Prints the bytes beyond the data and the libraries as JSON.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import psutil

from benchmarks.problems import KERNEL, network, rows
from kernreg import KernelRegressor
from kernreg.solvers import Cholesky

OUTPUTS = 10


def peak_bytes(n: int, dtype: str, d: int = 100) -> int:
    """Most memory in use at any time of a fit, less what was in use before it."""

    def model() -> KernelRegressor:
        return KernelRegressor(
            network("relu", 3), kernel=KERNEL, alpha=1e-3, solver=Cholesky(), dtype=dtype
        )

    X = rows(n, d).astype(dtype)
    Y = np.random.default_rng(1).standard_normal((n, OUTPUTS)).astype(dtype)
    model().fit(X[:300], Y[:300])  # libraries and their thread pools
    before = psutil.Process().memory_info().rss
    model().fit(X, Y)
    return high_water_mark() - before


def high_water_mark() -> int:
    """Most bytes this process ever held (getrusage would count its parent's too)."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(peak_bytes(int(sys.argv[1]), sys.argv[2])))
