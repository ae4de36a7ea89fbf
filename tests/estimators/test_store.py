"""Estimators that read the kernel of their training rows from a tile store."""

import numpy as np
import pytest

from kernreg import KernelClassifier, KernelOperator, KernelRegressor, load, nn
from kernreg.exceptions import InvalidInputError, StoreError
from kernreg.operators import TileStore, write_store
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


@pytest.mark.parametrize("alpha", ["auto", 0.01])
def test_entries_of_images_are_not_worked_out_again(alpha, tmp_path, monkeypatch):
    """They are the dear part: of 10,000 images with pooling two days."""
    images = RNG.standard_normal((40, 5, 5, 2)).astype(np.float32)
    net, labels = nn.cnn(2), images[:, 2, 2, 0] > 0
    plain = KernelClassifier(net, alpha=alpha).fit(images, labels)
    write_store(tmp_path / "store", KernelOperator(plain.network_, images.reshape(40, -1)), tile=16)
    model = KernelClassifier(net, alpha=alpha, solver="cholesky", store=tmp_path / "store")

    def no_entries(*_, **__):
        raise AssertionError("entries are worked out again")

    with monkeypatch.context() as patch:
        patch.setattr(KernelOperator, "tile", no_entries)
        patch.setattr(KernelOperator, "to_dense", no_entries)
        patch.setattr(KernelOperator, "rows", no_entries)
        model.fit(images, labels)
    assert model.alpha_ == plain.alpha_
    # Entries in float32, and coefficients at most 1 / alpha times as large as targets.
    size = np.abs(plain.decision_function(images)).max()
    np.testing.assert_allclose(
        model.decision_function(images),
        plain.decision_function(images),
        rtol=0,
        atol=40 * 6e-8 / model.alpha_ * size,
    )


def test_intervals_of_a_model_that_has_left_its_store(tmp_path):
    images = RNG.standard_normal((30, 4, 4, 1))
    y = images[:, 1, 1, 0]
    net = KernelRegressor(nn.cnn(1)).fit(images, y).network_
    write_store(tmp_path / "store", KernelOperator(net, images.reshape(30, -1)), tile=16)
    model = KernelRegressor(nn.cnn(1), alpha=1e-3, store=tmp_path / "store").fit(images, y)
    model.save(tmp_path / "model")
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    found = load(tmp_path / "model").predict_interval(images)
    np.testing.assert_allclose(found, model.predict_interval(images), rtol=1e-10)


def test_rows_of_a_store(store):
    whole = TileStore.open(store).operator()
    chosen = [3, 40, 17, 59]
    part = whole.in_memory(chosen)
    np.testing.assert_array_equal(part.to_dense(), whole.to_dense()[np.ix_(chosen, chosen)])
