"""Peak memory as the operating system sees it, each run in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
import numpy as np
from kernreg.linalg import Cholesky, Eigh
from tests.linalg.dense import PointOperator

def status(name):
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(name))

name, n, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3]
solver = {"cholesky": Cholesky(), "eigh": Eigh()}[name]
rng = np.random.default_rng(0)
# A first small fit loads the libraries and their buffers.
small = PointOperator(rng.standard_normal((600, 5)), dtype)
solver.solve(solver.init(small, 1.0), np.ones(600))
operator = PointOperator(rng.standard_normal((n, 5)), dtype)
before = status("VmRSS")
solution = solver.solve(solver.init(operator, 1.0), np.ones(n))
print(json.dumps({
    "used": status("VmHWM") - before,
    "predicted": solution.stats.peak_bytes,
    "ok": solution.ok,
}))
"""


def measure(name, n, dtype):
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, name, str(n), dtype],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
class TestPeakMemory:
    @pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
    def test_cholesky_holds_little_more_than_half_the_matrix(self, dtype, size):
        n = 4000
        found = measure("cholesky", n, dtype)
        assert found["ok"]
        # Staircase of 512 rows: n^2/2 + 256 n = 0.564 n^2 here, and 0.526 n^2 at n = 10,000.
        assert found["used"] < 0.70 * size * n**2
        assert found["used"] > 0.5 * size * n**2
        # The allocator, BLAS buffers and the vectors of the test's own operator.
        assert found["used"] < found["predicted"] + 8e6

    def test_eigh_holds_two_matrices(self):
        n = 1500
        found = measure("eigh", n, "float64")
        assert found["ok"]
        assert found["used"] < found["predicted"] + 8e6
