"""Peak memory of the solvers: what NumPy allocates, which no other process disturbs.

What the operating system sees is measured in ``benchmarks/test_solve.py``.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from kernreg.linalg import Cholesky, Eigh
from tests.linalg.dense import PointOperator


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
