"""Peak memory of the solvers: what NumPy allocates, which no other process disturbs.

What the operating system sees is measured in ``benchmarks/test_solve.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from kernreg.solvers import Banded, Cholesky, Eigh
from tests.operators.dense import PointOperator


def measure(solver: Cholesky | Eigh, n: int, dtype: str) -> tuple[int, int]:
    """Bytes held at most, and bytes predicted."""
    operator = PointOperator(np.random.default_rng(0).standard_normal((n, 5)), dtype)
    tracemalloc.start()
    try:
        solution = solver.solve(solver.init(operator, 1.0), np.ones(n))
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert solution.ok
    return used, solution.stats.peak_bytes


class TestPeakMemory:
    @pytest.mark.parametrize(("dtype", "size"), [("float32", 4), ("float64", 8)])
    def test_cholesky_holds_little_more_than_half_the_matrix(self, dtype: str, size: int) -> None:
        n = 4000
        used, predicted = measure(Cholesky(), n, dtype)
        # Staircase of 512 rows: n^2/2 + 256 n = 0.564 n^2 here, and 0.526 n^2 at n = 10,000.
        assert 0.5 * size * n**2 < used <= predicted
        assert predicted < 0.70 * size * n**2

    def test_eigh_holds_two_matrices(self) -> None:
        n = 1500
        used, predicted = measure(Eigh(), n, "float64")
        # Besides: a few vectors, and the rows of the test's own operator.
        assert 2 * 8 * n**2 <= used <= predicted + 64 * n

    def test_banded_holds_one_matrix(self) -> None:
        n = 1500
        used, predicted = measure(Banded(), n, "float64")
        assert 8 * n**2 <= used <= predicted < 2 * 8 * n**2

    @pytest.mark.parametrize("max_bytes", [2**30, 45 * 10**6])
    def test_out_of_core_holds_what_it_says(self, max_bytes: int, tmp_path) -> None:
        """Resident memory, in a process of its own: maps of memory are not NumPy's."""
        code = (
            "import json, sys\n"
            "import numpy as np\n"
            "from kernreg.solvers import OutOfCoreCholesky\n"
            "from tests.operators.dense import PointOperator\n"
            "def status(name):\n"
            "    lines = open('/proc/self/status').read().splitlines()\n"
            "    return 1024 * int(next(l for l in lines if l.startswith(name)).split()[1])\n"
            "def run(name, n):\n"
            "    X = np.random.default_rng(0).standard_normal((n, 5))\n"
            "    solver = OutOfCoreCholesky(f'{sys.argv[1]}/{name}', 300, int(sys.argv[2]))\n"
            "    operator = PointOperator(X)\n"
            "    before = status('VmRSS')\n"
            "    state = solver.init(operator, 1.0)\n"
            "    solution = solver.solve(state, np.ones(n))\n"
            "    return status('VmHWM') - before, solution.stats.peak_bytes\n"
            "run('warm', 500)\n"
            "print(json.dumps(run('measured', 6000)))\n"
        )
        arguments = [sys.executable, "-c", code, str(tmp_path), str(max_bytes)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        used, predicted = json.loads(done.stdout)
        assert predicted <= max_bytes
        assert abs(used - predicted) < 0.15 * predicted

    def test_conjugate_gradients_hold_what_was_allowed(self) -> None:
        """Resident memory of a fit: the preconditioner is torch's, and the heap keeps its parts."""
        code = (
            "import json, sys\n"
            "import numpy as np\n"
            "from kernreg import KernelRegressor, nn\n"
            "def status(name):\n"
            "    lines = open('/proc/self/status').read().splitlines()\n"
            "    return 1024 * int(next(l for l in lines if l.startswith(name)).split()[1])\n"
            "def run(n):\n"
            "    X = np.random.default_rng(0).standard_normal((n, 8))\n"
            "    settings = {'max_memory': int(sys.argv[1]), 'alpha': 1e-2}\n"
            "    model = KernelRegressor(nn.mlp(depth=1), solver='pcg', **settings)\n"
            "    before = status('VmRSS')\n"
            "    model.fit(X, np.sin(X[:, 0]))\n"
            "    return status('VmHWM') - before, model.plan_.peak_bytes\n"
            "run(300)\n"
            "print(json.dumps(run(3000)))\n"
        )
        budget = 78 * 10**6
        arguments = [sys.executable, "-c", code, str(budget)]
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        used, predicted = json.loads(done.stdout)
        assert predicted <= budget
        assert 64 * 2**20 < used <= 1.02 * budget
