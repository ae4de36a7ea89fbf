from __future__ import annotations

import re

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.operators import PackedOperator, memory_budget
from kernreg.planning.plan import plan
from kernreg.sizes import enough
from kernreg.solvers import (
    PCG,
    Cholesky,
    Eigh,
    LowPrecisionCholesky,
    OutOfCoreCholesky,
    Problem,
    RPCholesky,
)
from kernreg.solvers.registry import SOLVERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GB", 4 * 10**9),
        ("4 gib", 4 * 2**30),
        ("0.5T", 5 * 10**11),
        ("2000000", 2_000_000),
        ("7 B", 7),
        (" 12kB ", 12_000),
        (12.9, 12),
    ],
)
def test_budget(text, expected):
    assert memory_budget(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4XB", "4iB", "1e9", "0", 0, -3, float("nan")])
def test_budget_that_cannot_be_read(text):
    with pytest.raises(InvalidInputError, match="max_memory"):
        memory_budget(text)


def test_default_budget_is_most_of_what_is_available():
    assert 0 < memory_budget() < psutil.virtual_memory().total


def test_one_ridge_takes_cholesky_and_a_path_one_decomposition():
    assert plan(2000, 10, max_memory="10GB").solver == "cholesky"
    assert plan(2000, 10, max_memory="10GB", n_alphas=20).solver == "banded"
    assert plan(1999, 10, max_memory="10GB", n_alphas=20).solver == "eigh"


def test_path_that_does_not_fit_takes_cholesky():
    chosen = plan(10_000, 10, max_memory="600MB", n_alphas=20)
    assert chosen.solver == "cholesky"
    assert chosen.alternatives[0].reason == "does not fit"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cholesky_of_ten_thousand_rows_stays_below_two_thirds(dtype):
    size = 4 if dtype == "float32" else 8
    assert plan(10_000, 20, dtype=dtype, max_memory="10GB").peak_bytes < 0.65 * size * 10_000**2


def test_too_little_memory_is_told_before_any_work():
    with pytest.raises(MemoryBudgetError) as caught:
        plan(10_000, 10, dtype="float64", max_memory="400MB", solver=Cholesky())
    for text in ("n=10000", "400 MB", "solver='pcg'", "rows", "max_memory"):
        assert text in str(caught.value)
    with pytest.raises(MemoryBudgetError, match="cholesky"):
        plan(10_000, 10, max_memory="1GB", solver=Eigh())


@given(n=st.integers(1000, 10**6), budget=st.integers(10**7, 10**9))
def test_rows_named_in_the_error_are_the_most_that_fit(n, budget):
    try:
        assert plan(n, 10, max_memory=budget).peak_bytes <= budget
    except MemoryBudgetError as error:
        rows = int(re.search(r"at most (\d+) rows", str(error))[1])
        assert plan(rows, 10, max_memory=budget).peak_bytes <= budget
        with pytest.raises(MemoryBudgetError):
            plan(rows + 1, 10, max_memory=budget)


def test_auto_takes_the_solver_that_fits():
    """Panels make Cholesky the larger one for few rows."""
    for n_alphas, why in ((1, "; cholesky does not fit"), (17, "")):
        chosen = plan(500, 8, dtype="float64", n_alphas=n_alphas, max_memory="6MB")
        assert (chosen.solver, chosen.alternatives[0].reason) == ("eigh", "does not fit")
        assert chosen.reason == f"one decomposition serves all ridges ({n_alphas}){why}"


@pytest.mark.parametrize("n", [40, 500, 3000])
@pytest.mark.parametrize("n_alphas", [1, 17])
@pytest.mark.parametrize("solver", ["auto", "cholesky", "banded", "eigh"])
def test_the_memory_named_in_the_error_is_enough_and_the_least(solver, n_alphas, n):
    def attempt(budget):
        return plan(n, 8, dtype="float64", solver=solver, n_alphas=n_alphas, max_memory=budget)

    with pytest.raises(MemoryBudgetError) as caught:
        attempt("20kB")
    for name in ("cholesky", "banded", "eigh"):
        tried = ("cholesky", "banded", "eigh") if solver == "auto" else (solver,)
        assert (f"{name} needs" in str(caught.value)) == (name in tried)
    enough = re.search(r"allow (\S+ \wB) by max_memory", str(caught.value))[1]
    assert attempt(enough).peak_bytes <= memory_budget(enough)
    with pytest.raises(MemoryBudgetError):
        attempt(0.99 * memory_budget(enough))


@pytest.mark.parametrize("count", [999_600, 1_000_000, 6_141_234, 12, 999, 1001])
def test_rounded_up_to_a_size_that_can_be_typed(count):
    assert count <= memory_budget(enough(count)) <= 1.01 * count + 1


def test_table():
    text = str(plan(3000, 10, max_memory="2GB"))
    for part in ("cholesky", "packed", "512 rows", "2 GB allowed", "not used: pays from 2,000"):
        assert part in text


def test_every_solver_is_in_the_table_with_what_speaks_against_it():
    reasons = {o.solver: o.reason for o in plan(3000, 10, n_alphas=2).alternatives}
    assert reasons.keys() == set(SOLVERS) - {"cholesky"}
    assert reasons["restricted"].startswith("approximate")
    for name in ("pcg", "sketch", "out_of_core"):
        assert reasons[name] == "gives no leave-one-out errors"
    asked = plan(3000, 10, solver="pcg")
    assert {other.reason for other in asked.alternatives} == {"pcg is asked for"}


@given(n=st.integers(100, 10**6), budget=st.integers(10**6, 10**11))
def test_a_factor_on_disk_takes_no_more_than_it_may(n, budget):
    problem = Problem(n, 10, dtype="float32")
    solver = OutOfCoreCholesky.within(problem, budget, folder="unused")
    least = solver.least_bytes(n, "float32")
    assert least <= solver.max_bytes <= max(least, budget)
    assert solver.group(n, "float32") >= min(n, solver.block)


@pytest.mark.parametrize(
    "arguments",
    [{"solver": "magic"}, {"dtype": "float16"}, {"n": 0}, {"n_alphas": 0}, {"n_outputs": 0}],
)
def test_bad_arguments(arguments):
    with pytest.raises(InvalidInputError, match=next(iter(arguments))):
        plan(**{"n": 10, "d": 2, "max_memory": "1GB", **arguments})


def test_auto_iterates_where_no_matrix_fits_and_one_ridge_is_given():
    chosen = plan(100_000, 20, max_memory="4GB")
    assert (chosen.solver, chosen.storage) == ("pcg", "recomputed")
    assert [(other.solver, other.reason) for other in chosen.alternatives] == [
        ("cholesky", "does not fit"),
        ("banded", "does not fit"),
        ("eigh", "does not fit"),
        ("restricted", "approximate: ask for it"),
        ("sketch", "needs more entries than pcg, and less memory: ask for it"),
        ("out_of_core", "needs a folder: ask for it"),
    ]
    with pytest.raises(MemoryBudgetError, match=r"cholesky needs .* and banded needs.*one alpha"):
        plan(100_000, 20, max_memory="4GB", n_alphas=3)


@given(
    n=st.integers(1000, 10**6),
    d=st.integers(1, 800),
    outputs=st.integers(1, 20),
    budget=st.integers(3 * 10**7, 10**11),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_conjugate_gradients_use_what_they_may(n, d, outputs, budget, dtype):
    try:
        chosen = plan(n, d, outputs, dtype, solver="pcg", max_memory=budget)
    except MemoryBudgetError:
        return
    assert chosen.peak_bytes <= budget
    problem = Problem(n, d, outputs, dtype)
    assert PCG.within(problem, budget).keeps(problem) == (chosen.storage == "packed")


def test_a_small_budget_gives_a_preconditioner_of_small_rank():
    problem = Problem(10**5, 9, dtype="float32")
    ranks = [
        PCG.within(problem, budget).preconditioner.limit(10**5)
        for budget in (10**9, 2 * 10**9, 4 * 10**9, 10**11)
    ]
    assert ranks == sorted(ranks)
    # 1 GB holds at most 330 columns three times, with blocks of 128 rows.
    assert ranks[0] < 330 < ranks[-1] == round(10 * 10**2.5)


def test_float64_that_does_not_fit_is_preconditioned_in_float32():
    """The factor takes half the memory of a float64 one, and leaves three iterations."""
    budget = 0.4 * 8 * 20_000**2
    assert plan(20_000, 10, dtype="float64", max_memory=budget).solver == "pcg"
    solver = PCG.within(Problem(20_000, 10), int(budget))
    assert isinstance(solver.preconditioner, LowPrecisionCholesky)


def test_a_factor_of_one_process_preconditions_no_job(monkeypatch):
    monkeypatch.setattr("kernreg.solvers.pcg.cost.processes", lambda: 2)
    solver = PCG.within(Problem(20_000, 10), 10**10)
    assert not isinstance(solver.preconditioner, LowPrecisionCholesky)


def test_solvers_on_disk_are_planned_as_they_are(tmp_path):
    solver = OutOfCoreCholesky(tmp_path, block=128, max_bytes=10**9)
    chosen = plan(40_000, 8, solver=solver, max_memory="2GB")
    assert (chosen.solver, chosen.storage, chosen.block) == ("out_of_core", "disk", 128)
    assert chosen.peak_bytes >= solver.peak_bytes(Problem(40_000, dtype="float32"))
    with pytest.raises(MemoryBudgetError, match="out_of_core needs"):
        plan(40_000, 8, solver=solver, max_memory="200MB")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_solver_that_leaves_storage_open_keeps_what_the_budget_holds(dtype):
    n, rank = 20_000, RPCholesky(rank=100)
    least = plan(n, 10, dtype=dtype, solver=PCG(rank, storage="recomputed")).peak_bytes
    tiles = PackedOperator.bytes_for(n, dtype)
    for budget, storage in ((least + tiles, "packed"), (least + tiles - 1, "recomputed")):
        chosen = plan(n, 10, dtype=dtype, solver=PCG(rank), max_memory=budget)
        assert chosen.storage == storage
        assert chosen.peak_bytes <= budget
    # A limit of its own is kept to.
    own = PCG(rank, max_bytes=tiles - 1)
    assert plan(n, 10, dtype=dtype, solver=own, max_memory=10 * tiles).storage == "recomputed"


def test_tiles_that_were_asked_for_and_do_not_fit_can_be_evaluated_again():
    with pytest.raises(MemoryBudgetError, match=r"or use storage='recomputed' \((\d+) MB\)"):
        plan(20_000, 10, solver=PCG(storage="packed"), max_memory="1GB")


def test_settings_of_a_solver_count():
    small = plan(4000, 10, solver=Cholesky(block=64), max_memory="1GB")
    large = plan(4000, 10, solver=Cholesky(block=2048), max_memory="1GB")
    assert small.block == 64
    assert small.peak_bytes < large.peak_bytes


@pytest.fixture
def gpu_of_one_gigabyte(monkeypatch):
    """A GPU with 1 GB free, in a machine with 20 GB."""
    free = 10**9
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda where: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda where: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda where: (free, free))
    memory = psutil.virtual_memory()._replace(available=20 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)


@pytest.mark.usefixtures("gpu_of_one_gigabyte")
class TestGpu:
    def test_the_factor_is_on_the_gpu(self):
        chosen = plan(10_000, 10, device="cuda")
        assert (chosen.solver, chosen.budget_bytes) == ("cholesky", 9 * 10**8)

    def test_a_decomposition_needs_memory_of_the_cpu(self):
        chosen = plan(20_000, 10, device="cuda", solver="eigh")
        assert chosen.budget_bytes == 18 * 10**9
        # Matrix and eigenvectors in float64, and what the same plan takes without a GPU.
        assert chosen.peak_bytes > 2 * 8 * 20_000**2
        copied = 4 * 20_000 * 10
        assert abs(chosen.peak_bytes - plan(20_000, 10, solver="eigh").peak_bytes) <= copied
        taken = plan(30_000, 10, device="cuda")
        assert taken.solver == "banded"
        assert taken.reason.endswith("cholesky does not fit")
        assert 10**9 < taken.peak_bytes <= taken.budget_bytes == 18 * 10**9
        others = {other.solver: other for other in taken.alternatives}
        assert others["cholesky"].reason == "does not fit"
        assert others["cholesky"].peak_bytes > 9 * 10**8

    @pytest.mark.parametrize("d", [10, 5000])
    def test_the_copy_of_the_data_counts(self, d):
        n = 1000
        on_cpu, on_gpu = (plan(n, d, device=where).peak_bytes for where in ("cpu", "cuda"))
        assert on_gpu == on_cpu + 4 * n * d

    def test_what_does_not_fit_says_where(self):
        with pytest.raises(MemoryBudgetError, match=r"allowed are 900 MB on cuda\. Rem.*banded"):
            plan(30_000, 10, device="cuda", solver="cholesky")
        both = r"allowed are 900 MB on cuda and 18 GB on cpu\. Remedies.*at most (\d+) rows"
        with pytest.raises(MemoryBudgetError, match=both) as caught:
            plan(300_000, 10, device="cuda", n_alphas=2)
        rows = int(re.search(both, str(caught.value))[1])
        assert plan(rows, 10, device="cuda", n_alphas=2).solver == "banded"
        with pytest.raises(MemoryBudgetError):
            plan(rows + 1, 10, device="cuda", n_alphas=2)

    def test_a_budget_that_is_named_holds_everywhere(self):
        for solver in ("cholesky", "banded", "eigh"):
            chosen = plan(1000, 10, device="cuda", solver=solver, max_memory="70MB")
            assert chosen.budget_bytes == 7 * 10**7


def test_a_job_keeps_shares_of_a_matrix_that_one_process_cannot_keep(monkeypatch):
    problem, budget = Problem(20_000, 9, dtype="float32"), 10**9
    assert not PCG.within(problem, budget).keeps(problem)
    for module in ("operators.packed", "solvers.pcg.cost"):
        monkeypatch.setattr(f"kernreg.{module}.processes", lambda: 4)
    solver = PCG.within(problem, budget)
    assert solver.keeps(problem)
    # More than a quarter of the triangle, less than half of it.
    kept = solver.peak_bytes(problem) - solver.preconditioner.peak_bytes(20_000)
    assert 4 * 20_000**2 / 8 <= kept <= 4 * 20_000**2 / 4
    assert solver.peak_bytes(problem) <= budget
