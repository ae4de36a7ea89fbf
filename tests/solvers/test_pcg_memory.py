"""What conjugate gradients keep, and how many bytes they say it takes."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.exceptions import (
    MemoryBudgetError,
)
from kernreg.operators import PackedOperator
from kernreg.solvers import PCG, Problem, RPCholesky
from tests.contracts.solver import gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator
from tests.solvers.iterative import CountingOperator, run


def test_bytes_are_those_of_the_run():
    """Of tiles that were kept, whatever type they have and whatever is free now."""
    K, y = kernel_matrix(150), gaussian_points(150, 1)
    for dtype, ridge, kept in (("float32", 10.0, "float32"), ("float32", 1e-6, "float64")):
        found, _ = run(DenseOperator(K, dtype), ridge, y)
        assert found.stats.peak_bytes == PCG(storage="packed").peak_bytes(Problem(150, dtype=kept))
    found, _ = run(DenseOperator(K), 10.0, y, max_bytes=1000)
    assert found.stats.peak_bytes == PCG(storage="recomputed").peak_bytes(Problem(150))


def test_predicted_bytes():
    problem = Problem(1000, n_outputs=3, dtype="float32")
    bare = PCG(None, storage="recomputed").peak_bytes(problem)
    # Ten vectors for each output and four more.
    assert bare == 8 * 1000 * (10 * 3 + 4)
    kept = PCG(None, storage="packed").peak_bytes(problem)
    assert kept - bare == PackedOperator.bytes_for(1000, "float32")
    ranked = PCG(RPCholesky(rank=50), storage="recomputed").peak_bytes(problem)
    assert ranked - bare == RPCholesky(rank=50).peak_bytes(1000)


def test_tiles_are_kept_only_where_they_fit():
    K = DenseOperator(kernel_matrix(64))
    needed = PackedOperator.bytes_for(64, "float64")
    assert isinstance(PCG(max_bytes=needed).init(K, 1.0).exact, PackedOperator)
    assert PCG(max_bytes=needed - 1).init(K, 1.0).exact.matrix is K.matrix
    with pytest.raises(MemoryBudgetError, match="storage='recomputed'"):
        PCG(storage="packed", max_bytes=needed - 1).init(K, 1.0)


def test_float64_tiles_that_do_not_fit_are_evaluated_again():
    """Room for float32 tiles; then float32 fails, and what was asked for does not fit."""
    K, Y = kernel_matrix(64), gaussian_points(64, 1)
    needed = PackedOperator.bytes_for(64, "float32")

    class Wrong(CountingOperator):
        def lower_panel(self, i0, i1, out=None):
            found = super().lower_panel(i0, i1, out)
            found *= 1.5 if self.dtype == np.float32 else 1.0
            return found

        def astype(self, dtype):
            return Wrong(self.matrix, dtype)

    solution, state = run(
        Wrong(K, "float32"), 10.0, Y, storage="packed", max_bytes=needed, preconditioner=None
    )
    assert solution.ok
    assert state.fast is None
    assert isinstance(state.exact, Wrong)
