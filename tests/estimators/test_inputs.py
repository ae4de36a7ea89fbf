"""The same numbers in another container give the same predictions."""

import numpy as np
import pandas as pd
import pytest
import torch

from kernreg import KernelRegressor, nn

NET = nn.mlp(depth=1)


def data(dtype="float64"):
    rng = np.random.default_rng(12)
    # Whole numbers, so that every container can hold them exactly.
    return rng.integers(-9, 9, (25, 4)).astype(dtype), rng.integers(-9, 9, 25).astype(dtype)


def expected():
    X, y = data()
    return KernelRegressor(NET, alpha=0.1).fit(X, y).predict(X)


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


CONTAINERS = {
    "list": lambda X: X.tolist(),
    "int": lambda X: X.astype(int),
    "int8": lambda X: X.astype(np.int8),
    "object": lambda X: X.astype(object),
    "big-endian": lambda X: X.astype(">f8"),
    "fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "reversed": lambda X: X[::-1].copy()[::-1],
    "read-only": read_only,
    "torch": torch.from_numpy,
    "pandas": lambda X: pd.DataFrame(X) if X.ndim == 2 else pd.Series(X),
    "pandas Int64": lambda X: (pd.DataFrame(X) if X.ndim == 2 else pd.Series(X)).astype("Int64"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("torch_warns_always")
@pytest.mark.parametrize("name", CONTAINERS)
def test_containers(name):
    X, y = data()
    convert = CONTAINERS[name]
    model = KernelRegressor(NET, alpha=0.1).fit(convert(X), convert(y))
    found = model.predict(convert(X))
    assert isinstance(found, np.ndarray)
    assert found.dtype == np.float64
    assert np.array_equal(found, expected())


def test_a_column_of_targets_stays_a_column():
    X, y = data()
    model = KernelRegressor(NET, alpha=0.1).fit(X, y[:, None])
    assert model.dual_coef_.shape == (25, 1)
    assert np.array_equal(model.predict(X), expected()[:, None])


def test_many_targets_in_a_table():
    X, y = data()
    table = pd.DataFrame({"first": y, "second": -2 * y})
    found = KernelRegressor(NET, alpha=0.1).fit(X, table).predict(X)
    np.testing.assert_allclose(found[:, 0], expected(), rtol=1e-13)
    np.testing.assert_allclose(found[:, 1], -2 * expected(), rtol=1e-13)


def test_one_row_at_a_time():
    X, _ = data()
    X_fit, y = data()
    model = KernelRegressor(NET, alpha=0.1).fit(X_fit, y)
    single = np.concatenate([model.predict(row[None]) for row in X])
    # Sums of 25 terms in another order; the coefficients are at most |y| / ridge.
    error = 50 * np.finfo(float).eps * np.abs(model.dual_coef_).sum() * 81 * 4
    np.testing.assert_allclose(single, expected(), atol=error)


def test_float32_tables_stay_float32():
    X, y = data("float32")
    names = list("abcd")
    model = KernelRegressor(NET, alpha=0.1).fit(pd.DataFrame(X, columns=names), y)
    assert model.X_fit_.dtype == np.float32
    single = model.predict(pd.DataFrame(X, columns=names))
    assert np.array_equal(model.predict(pd.DataFrame(X.astype(float), columns=names)), single)


def test_feature_names():
    X, y = data()
    table = pd.DataFrame(X, columns=list("abcd"))
    model = KernelRegressor(NET, alpha=0.1).fit(table, y)
    assert model.feature_names_in_.tolist() == list("abcd")
    assert np.array_equal(model.predict(table), expected())
    with pytest.raises(ValueError, match="same order as they were in fit"):
        model.predict(table[list("badc")])
    with pytest.raises(ValueError, match=r"(?s)unseen at fit time:\n- z.*missing:\n- a"):
        model.predict(table.rename(columns={"a": "z"}))
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(X)
    model.fit(X, y)
    assert not hasattr(model, "feature_names_in_")


def test_fit_and_predict_leave_the_data_alone():
    X, y = data()
    before = X.copy(), y.copy()
    KernelRegressor(NET, alpha=[0.1, 1.0]).fit(X, y).predict(X)
    assert np.array_equal(X, before[0])
    assert np.array_equal(y, before[1])
