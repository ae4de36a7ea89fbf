"""Estimators that read the kernel of their training rows from a tile store."""

import numpy as np
import pytest

from kernreg import KernelOperator, KernelRegressor, load, nn
from kernreg.exceptions import InvalidInputError, StoreError
from kernreg.operators import write_store
from kernreg.solvers import PCG

pytest.importorskip("zarr")

NET = nn.mlp(depth=2)
RNG = np.random.default_rng(3)
X, Y = RNG.standard_normal((60, 3)), RNG.standard_normal((60, 2))


@pytest.fixture
def store(tmp_path):
    """A float32 store of X, which is float64."""
    write_store(tmp_path / "store", KernelOperator(NET, X), dtype="float32", tile=16)
    return tmp_path / "store"


@pytest.mark.parametrize("solver", ["cholesky", PCG(tol=1e-10)], ids=["cholesky", "pcg"])
def test_predicts_as_without_a_store(solver, store, tmp_path):
    expected = KernelRegressor(NET, alpha=0.01).fit(X, Y).predict(X)
    model = KernelRegressor(NET, alpha=0.01, solver=solver, store=store).fit(X, Y)
    # Refined with float64 entries; those of the store alone would be off by some 1e-6.
    np.testing.assert_allclose(model.predict(X), expected, rtol=0, atol=1e-9)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.store == str(store)
    assert np.array_equal(again.predict(X), model.predict(X))


def test_the_plan_is_for_the_entries_of_the_store(store):
    model = KernelRegressor(NET, alpha=0.01, solver="cholesky", store=store).fit(X, Y)
    single = KernelRegressor(NET, alpha=0.01, solver="cholesky", dtype="float32")
    assert model.plan_.peak_bytes == single.explain(X, Y, seconds=False).plan.peak_bytes


def test_a_store_is_no_model(store):
    with pytest.raises(FileNotFoundError, match=r"kernreg fit DATA --store .*from that tile store"):
        load(store / "model.safetensors")


def test_refused(store):
    with pytest.raises(StoreError, match="another network or other data"):
        KernelRegressor(NET, store=store).fit(X[::-1], Y)
    with pytest.raises(StoreError, match="another network or other data"):
        KernelRegressor(NET, kernel="nngp", store=store).fit(X, Y)
    with pytest.raises(InvalidInputError, match="no parts by row numbers"):
        KernelRegressor(NET, solver="sketch", store=store).fit(X, Y)
    with pytest.raises(FileNotFoundError, match=r"There is no tile store .* writes one"):
        KernelRegressor(NET, store=store / "none").fit(X, Y)
