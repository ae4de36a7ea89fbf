"""max_memory: refused before work starts, and kept once it has started."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.estimators import planned
from kernreg.exceptions import KernregError, MemoryBudgetError
from kernreg.operators import PackedOperator
from kernreg.solvers import PCG, Cholesky, RPCholesky
from tests.backends.compare import chosen_freely

NET = nn.mlp(depth=1)


def data(n, d=3):
    rng = np.random.default_rng(14)
    return rng.standard_normal((n, d)), rng.standard_normal(n)


@pytest.mark.parametrize(
    "parameters", [{"solver": "cholesky"}, {"solver": "eigh"}, {"alpha": [0.1, 1.0]}]
)
@pytest.mark.parametrize("model", [KernelRegressor, KernelClassifier])
def test_refused_before_work_starts(model, parameters, monkeypatch):
    def forbidden(*args, **kwargs):
        raise AssertionError("a kernel was prepared")

    monkeypatch.setattr(planned, "KernelOperator", forbidden)
    X, y = data(20_000)
    tracemalloc.start()
    fitted = model(NET, max_memory="200MB", **parameters)
    with pytest.raises(MemoryBudgetError) as caught:
        fitted.fit(X, y > 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    for text in ("n=20000", "float64", "200 MB", "max_memory", "Remedies"):
        assert text in str(caught.value)
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value, KernregError)
    # Copies of X and y, masks and codes: all O(n).
    assert peak < 40 * X.nbytes
    assert not hasattr(fitted, "dual_coef_")


@pytest.mark.parametrize("max_memory", [100, "1kB", "5kB"])
@pytest.mark.parametrize("solver", ["auto", "cholesky", "banded", "eigh"])
def test_refused_where_not_even_one_row_fits(max_memory, solver):
    X, y = data(30)
    model = KernelRegressor(NET, max_memory=max_memory, solver=solver)
    with pytest.raises(MemoryBudgetError, match=r"allow .* by max_memory"):
        model.fit(X, y)
    assert not model.explain(X).fits


def test_the_remedies_work():
    X, y = data(300)
    with pytest.raises(MemoryBudgetError) as caught:
        KernelRegressor(NET, max_memory="500kB").fit(X, y)
    rows = int(str(caught.value).split("at most ")[1].split(" rows")[0])
    assert 1 < rows < 300
    KernelRegressor(NET, max_memory="500kB").fit(X[:rows], y[:rows])
    with pytest.raises(MemoryBudgetError):
        KernelRegressor(NET, max_memory="500kB").fit(X[: rows + 1], y[: rows + 1])


@chosen_freely
def test_prediction_is_refused_before_work_starts():
    X, y = data(200)
    model = KernelRegressor(NET).fit(X, y).set_params(max_memory=1000)
    with pytest.raises(MemoryBudgetError, match="1600 bytes, max_memory allows 1000"):
        model.predict(X)


HEAVY = np.r_[1e3, np.ones(399)]


@chosen_freely
@pytest.mark.parametrize(
    ("options", "weights", "kept"),
    [
        ({"alpha": 1e-2, "alpha_scale": "absolute"}, None, "float32"),
        ({"alpha": 1e-5, "alpha_scale": "absolute"}, None, "float64"),
        ({"alpha": 1e-2, "alpha_scale": "absolute"}, HEAVY, "float64"),
        ({"alpha": 1e-2}, HEAVY, "float64"),
    ],
)
def test_a_small_ridge_is_planned_with_the_float64_tiles_that_it_keeps(options, weights, kept):
    """Below 32 eps sqrt(n) = 8e-5 of the mean diagonal, about one, in the row of least ridge."""
    X, y = data(400)
    peaks = []
    for storage in ("packed", "recomputed"):
        solver = PCG(RPCholesky(rank=5), storage=storage)
        model = KernelRegressor(NET, solver=solver, dtype="float32", **options)
        model.fit(X, y, sample_weight=weights)
        assert model.solution_.stats.peak_bytes <= model.plan_.peak_bytes
        peaks.append((model.plan_.peak_bytes, model.solution_.stats.peak_bytes))
    tiles = PackedOperator.bytes_for(400, kept)
    assert np.subtract(*peaks).tolist() == [tiles, tiles]


@chosen_freely
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_solver_without_a_limit_has_that_of_the_estimator(dtype):
    X, y = data(400)
    model = KernelRegressor(NET, alpha=1.0, solver=PCG(RPCholesky(rank=5)), dtype=dtype)
    tiles = PackedOperator.bytes_for(400, dtype)
    ample = model.fit(X, y)
    assert ample.plan_.storage == "packed"
    assert ample.solution_.stats.peak_bytes > tiles
    least = ample.plan_.peak_bytes - tiles
    tight = KernelRegressor(**model.get_params(deep=False)).set_params(max_memory=least)
    tight.fit(X, y)
    assert tight.plan_.storage == "recomputed"
    assert tight.solution_.stats.peak_bytes < tiles
    assert tight.solver.max_bytes is None


@chosen_freely
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_cholesky_keeps_to_its_plan(dtype):
    X, y = data(800)
    model = KernelRegressor(NET, alpha=0.1, solver=Cholesky(block=64), dtype=dtype)
    tracemalloc.start()
    model.fit(X, y)
    # NumPy reports its arrays to tracemalloc, torch does not: a lower bound of what is held.
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < model.plan_.peak_bytes + 10 * X.nbytes
    assert peak > 0.5 * 800**2 * np.dtype(dtype).itemsize


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_factor_at_a_time(dtype, monkeypatch):
    """The plan counts one factor, however many ridges are tried."""
    init, states, alive = Cholesky.init, [], []

    def watched(self, *args, **kwargs):
        alive.append(sum(state() is not None for state in states))
        state = init(self, *args, **kwargs)
        states.append(weakref.ref(state))
        return state

    monkeypatch.setattr(Cholesky, "init", watched)
    X, y = data(40)
    model = KernelRegressor(NET, alpha=[0.1, 0.2, 0.3, 0.4], solver="cholesky", dtype=dtype)
    # When the collector runs is chance: a factor that waits for it counts as held.
    gc.collect()
    gc.disable()
    try:
        model.fit(X, y)
    finally:
        gc.enable()
    assert alive == [0, 0, 0, 0]


@chosen_freely
def test_prediction_holds_one_block():
    X, y = data(1000)
    model = KernelRegressor(NET).fit(X, y).set_params(max_memory="800kB")
    Z = data(5000)[0]
    tracemalloc.start()
    model.predict(Z)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Half the budget for the block; beside it the rows and tables of both sides, O(n d).
    assert peak < 400_000 + 40 * (Z.nbytes + X.nbytes)
    assert peak < 5000 * 1000 * 8 / 4
