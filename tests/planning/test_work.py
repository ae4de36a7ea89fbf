"""What a fit is predicted to compute, against what it computes."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from kernreg import KernelOperator, KernelRegressor, nn
from kernreg.planning.plan import plan
from kernreg.planning.probe import Probe, seconds
from kernreg.solvers import (
    PCG,
    Cholesky,
    Eigh,
    LowPrecisionCholesky,
    OutOfCoreCholesky,
    Problem,
    Restricted,
    RPCholesky,
    SketchAndProject,
)
from kernreg.solvers.registry import SOLVERS
from kernreg.solvers.work import DISK, entry, flop, part, product

NET = nn.mlp(depth=2)
RIDGE = 0.01


@pytest.fixture
def counted(monkeypatch):
    """Entries that are evaluated, by the name of their type."""
    found = Counter()
    fill, times = KernelOperator._fill, KernelOperator.times

    def noted(self, part, target):
        rows, columns = part.i1 - part.i0, part.j1 - part.j0
        # A square on the diagonal is evaluated once for each pair.
        mirrored = self.symmetric and (part.i0, part.i1) == (part.j0, part.j1)
        found[entry(self.dtype)] += rows * columns / (2 if mirrored else 1)
        return fill(self, part, target)

    def multiplied(self, V):
        rows, columns = self.shape
        found[entry(self.dtype)] += rows * columns / (2 if self.symmetric else 1)
        return times(self, V)

    monkeypatch.setattr(KernelOperator, "_fill", noted)
    monkeypatch.setattr(KernelOperator, "times", multiplied)
    return found


def points(n, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3))


COUNTED = [
    (Cholesky(block=64), "float32"),
    (Cholesky(block=64), "float64"),
    (Eigh(), "float32"),
    (Restricted(centres=60, method="uniform"), "float64"),
    (Restricted(centres=20), "float32"),
    (SketchAndProject(max_passes=3, tol=1e-14), "float64"),
]


@pytest.mark.parametrize(("solver", "dtype"), COUNTED, ids=repr)
@pytest.mark.filterwarnings("ignore::kernreg.exceptions.ConvergenceWarning")
def test_entries_that_are_evaluated(solver, dtype, counted):
    """Corners of panels are evaluated whole: a share of block / n beyond the half that counts."""
    n = 1200
    K = KernelOperator(NET, points(n), dtype=dtype)
    solution = solver.solve(solver.init(K, RIDGE), np.ones(n))
    predicted = solver.work(Problem(n, dtype=dtype))
    if isinstance(solver, Cholesky) and dtype == "float32":
        # The last bits of a factor, which threads share out by load, decide on one product more.
        assert 2 <= solution.stats.iterations <= 4
        predicted[product("float64")] = solution.stats.iterations * n * n / 2
        # Where the last step is short, its product is one of float32 entries.
        rough = round(counted[entry("float32")] / (n * n / 2)) - 1
        assert rough in (0, 1)
        predicted[product("float32")] = rough * n * n / 2
    for name in ("float32", "float64"):
        units = (entry(name), part(name), product(name))
        expected = sum(predicted.get(unit, 0) for unit in units)
        # Centres among few rows, and their corner, are evaluated as well.
        extra = 200 * n if isinstance(solver, Restricted) else 0
        assert 0.9 * expected <= counted[entry(name)] <= 1.25 * expected + extra


def test_entries_of_a_choice_among_ridges_on_centres(counted, monkeypatch):
    """One pass for the normal equations, one for the targets, two for leave-one-out."""
    n, solver = 1200, Restricted(centres=60, method="uniform")
    states = []
    init = Restricted.init

    def noted(self, *arguments, **options):
        states.append(init(self, *arguments, **options))
        return states[-1]

    monkeypatch.setattr(Restricted, "init", noted)
    model = KernelRegressor(NET, alpha=[1e-3, 1e-2, 0.1], solver=solver)
    solved = model.fit(points(n), points(n)[:, 0]).solution_
    predicted = solver.work(Problem(n, n_outputs=2, n_ridges=3, leave_one_out=True))
    assert predicted[part("float64")] == 4 * 60 * n
    # Beside them the corner of the centres, once: a square is evaluated by pairs, or whole.
    extra = counted[entry("float64")] - predicted[part("float64")]
    assert 60 * 59 / 2 <= extra <= 60**2
    assert counted[entry("float32")] == 0
    assert len(states) == 1
    # Time of the passes after the first is counted too.
    assert solved.stats.seconds > states[0].seconds


def test_work_of_leave_one_out_on_centres():
    """Each pass over the features costs what the accumulation does, and ridges come to it."""
    n, m = 10**6, 1000
    solver = Restricted(centres=m, method="uniform")
    plain, scored = (
        solver.work(Problem(n, n_outputs=2, n_ridges=r, leave_one_out=r > 1)) for r in (1, 10)
    )
    assert plain[flop("float64")] == 2 * n * m**2 + 2 * n * m * 2
    extra = scored[flop("float64")] - plain[flop("float64")]
    # Features twice; predictions by 10 ridges and 1, and what rows weigh in them, for two outputs.
    assert extra == 2 * (2 * n * m**2) + 11 * (2 * n * m * 2 + 2 * n * m)


def test_more_work_for_more():
    """In rows, right-hand sides, ridges, leave-one-out and iterations."""
    small = Problem(1000, dtype="float32", iterations=10)
    rates = Counter()
    for solver in (Cholesky(), Eigh(), PCG(), Restricted(100), SketchAndProject()):
        rates |= Counter(dict.fromkeys(solver.work(small), 1.0))
        base = seconds(solver.work(small), rates)
        assert seconds(solver.work(replace(small, n=3000)), rates) > 2 * base
        assert seconds(solver.work(replace(small, n_outputs=5)), rates) > base
    direct = Cholesky().work(small)
    scored = Cholesky().work(replace(small, leave_one_out=True))
    assert sum(scored.values()) > sum(direct.values())
    assert Cholesky().work(replace(small, n_ridges=3)) == {
        unit: 3 * count for unit, count in direct.items()
    }


@pytest.mark.parametrize("built", [None, RPCholesky(30), LowPrecisionCholesky()], ids=repr)
def test_work_of_iterations(built):
    few, many = (PCG(built, storage="recomputed").work(Problem(500, iterations=i)) for i in (1, 11))
    assert many[product("float64")] - few[product("float64")] == 10 * 500**2 / 2


def test_a_factor_on_disk_is_read_and_written_meanwhile(tmp_path):
    counts = OutOfCoreCholesky(tmp_path, block=64).work(Problem(4096))
    # Written once, read 16 n^2 / 6 times while it is made, and twice for the solution.
    assert counts[DISK] == pytest.approx(8 * 4096**2 * (0.5 + 16 / 6 + 1), rel=0.01)
    free = dict.fromkeys(counts, 0.0)
    assert seconds(counts, free | {DISK: 1.0}) == counts[DISK]


def test_the_disk_is_that_of_the_folder(tmp_path, monkeypatch):
    """Which may be missing still; the folder of temporary files is often in memory."""
    places = []
    temporary = tempfile.TemporaryFile

    def noted(dir=None):
        places.append(dir)
        return temporary(dir=dir)

    monkeypatch.setattr("kernreg.planning.probe._DISK_BYTES", 2**16)
    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    probe = Probe(KernelOperator(NET, points(50)), RIDGE)
    assert DISK not in probe.rates_for(Cholesky())
    assert places == []
    assert probe.rates_for(OutOfCoreCholesky(tmp_path / "not" / "there"))[DISK] > 0
    assert places == [tmp_path]
    assert list(tmp_path.iterdir()) == []


def test_rates_are_positive_and_measured_once():
    probe = Probe(KernelOperator(NET, points(50)), RIDGE)
    assert all(rate > 0 for rate in probe.rates.values())
    assert probe.rates is probe.rates


@pytest.mark.parametrize("built", [None, RPCholesky(40)], ids=repr)
def test_iterations_of_the_whole_problem(built):
    """Below 2,000 rows the sample is all of them."""
    K = KernelOperator(NET, points(300))
    found = Probe(K, RIDGE).iterations(PCG(built))
    solver = PCG(built)
    targets = np.random.default_rng(0).standard_normal(300)
    assert found == solver.solve(solver.init(K, RIDGE), targets).stats.iterations


def test_iterations_from_a_sample():
    """Of a third of the rows, with a third of the ridge, and how they grew up to there."""
    n = 6000
    K = KernelOperator(NET, points(n), dtype="float64")
    solver = PCG(RPCholesky(100))
    targets = np.random.default_rng(0).standard_normal(n)
    actual = solver.solve(solver.init(K, 1.0), targets).stats.iterations
    assert 0.5 * actual <= Probe(K, 1.0).iterations(solver) <= 2 * actual


def test_iterations_that_cannot_be_known():
    """Of a kernel with a negative diagonal, say; here one that is NaN."""
    K = KernelOperator(NET, points(10))
    probe = Probe(K, float("nan"))
    assert probe.iterations(PCG()) is None
    K = KernelOperator(NET, points(10))
    chosen = plan(10, 3, dtype="float64", max_memory="1GB", probe=Probe(K, float("nan")))
    times = {other.solver: other.seconds for other in chosen.alternatives}
    assert times["pcg"] is None
    assert times["eigh"] > 0 < chosen.seconds


def test_times_are_in_the_table():
    K = KernelOperator(NET, points(200))
    text = str(plan(200, 3, dtype="float64", max_memory="1GB", probe=Probe(K, RIDGE)))
    head, *rows = text.splitlines()
    assert head.split() == ["solver", "storage", "memory", "time"]
    *rows, limits = rows
    assert {row.split()[0] for row in rows} == set(SOLVERS)
    assert limits.startswith("1 GB allowed")
    for row in rows:  # that of a disk is known when its folder is
        assert (" s  " in row) == ("out_of_core" not in row)
        assert ("up to about" in row) == ("sketch" in row)
    assert "time" not in str(plan(200, 3, dtype="float64", max_memory="1GB"))
