"""Plans for budgets that nothing fits."""

import pytest

from kernreg.exceptions import MemoryBudgetError
from kernreg.planning.plan import plan
from kernreg.solvers import Cholesky, Eigh


@pytest.mark.parametrize(
    "solver", ["auto", "cholesky", "banded", "eigh", Cholesky(block=4), Eigh()]
)
@pytest.mark.parametrize("n", [1, 2, 1000])
@pytest.mark.parametrize("budget", [1, 100, "1kB"])
def test_less_than_one_row(solver, n, budget):
    with pytest.raises(MemoryBudgetError, match=r"allow .* by max_memory") as caught:
        plan(n, 10, solver=solver, max_memory=budget)
    assert "at most" not in str(caught.value)


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh"])
@pytest.mark.parametrize("n", [1, 2, 50])
def test_the_predicted_peak_is_the_smallest_budget(solver, n):
    peak = plan(n, 10, solver=solver, max_memory="1GB").peak_bytes
    assert plan(n, 10, solver=solver, max_memory=peak).peak_bytes == peak
    with pytest.raises(MemoryBudgetError):
        plan(n, 10, solver=solver, max_memory=peak - 1)
