"""Frames and arrays that hold something other than numbers of NumPy."""

from __future__ import annotations

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import kernreg
from kernreg import KernelOperator, KernelRegressor, nn
from kernreg.exceptions import InvalidInputError

NET = nn.mlp(depth=1)
X = np.array([[1.0, 2.0], [2.5, -5.0], [-3.0, 7.0], [0.0, 1.0]])
Y = np.arange(4.0)
FRAME = pd.DataFrame(X, columns=["a", "b"])
DAYS = pd.date_range("2021-03-04", periods=4)

ENTRIES = {
    "gram": lambda data: kernreg.gram(NET, data),
    "gram, second": lambda data: kernreg.gram(NET, X, data),
    "diag": lambda data: kernreg.diag(NET, data),
    "operator": lambda data: KernelOperator(NET, data).to_dense(),
    "fit": lambda data: KernelRegressor(NET, alpha=0.1).fit(data, Y).predict(X),
    "predict": lambda data: KernelRegressor(NET, alpha=0.1).fit(X, Y).predict(data),
    "explain": lambda data: KernelRegressor(NET).explain(data, seconds=False).n_samples,
}
entries = pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES.keys())


@pytest.mark.filterwarnings("ignore:X (has|does not have valid) feature names")
@entries
@pytest.mark.parametrize(
    "data",
    [
        FRAME.convert_dtypes(),
        FRAME.astype("Float64"),
        FRAME.convert_dtypes(dtype_backend="pyarrow"),
        FRAME.astype(pd.ArrowDtype(pa.decimal128(6, 2))),
        FRAME.astype(object),
        FRAME.map(Decimal),
        FRAME.astype({"a": "float32", "b": "Int8"}),
        X.astype(object),
        X.tolist(),
        np.ma.array(X),
        np.ma.array(X, mask=np.zeros(X.shape, bool)),
        np.asarray(X, dtype=">f8"),
    ],
)
def test_the_same_numbers(entry, data) -> None:
    assert np.array_equal(entry(data), entry(X))


def test_single_precision_stays() -> None:
    for frame in (FRAME.astype("float32"), FRAME.astype("Float32"), FRAME.astype("float[pyarrow]")):
        assert kernreg.gram(NET, frame).dtype == np.float32
    assert kernreg.gram(NET, FRAME.astype({"a": "float32"})).dtype == np.float64


@entries
@pytest.mark.parametrize(
    "data",
    [
        np.array([[1, 2], [3, 4], [5, 6], [7, 8]], dtype="datetime64[D]"),
        np.array([[1, 2], [3, 4], [5, 6], [7, 8]], dtype="timedelta64[s]"),
        FRAME.assign(b=DAYS),
        FRAME.assign(b=DAYS.tz_localize("Europe/Paris")),
        FRAME.assign(b=DAYS - DAYS[0]),
        FRAME.assign(b=DAYS.to_period("M")),
        FRAME.assign(b=pd.array(DAYS, dtype=pd.ArrowDtype(pa.timestamp("ms")))),
        FRAME.assign(b=pd.array(DAYS.date, dtype=pd.ArrowDtype(pa.date32()))),
        FRAME.assign(b=pd.array([1, 2, 3, 4], dtype=pd.ArrowDtype(pa.duration("s")))),
        FRAME.assign(b=DAYS.date),
        FRAME.assign(b=[1.0, None, datetime.time(3), 2.0]),
        [[1.0, datetime.date(2021, 3, 4 + i)] for i in range(4)],
        [[1.0, np.datetime64("2021-03-04")]] * 4,
    ],
)
def test_dates_are_refused(entry, data) -> None:
    with pytest.raises(InvalidInputError, match=r"X\d? holds dates.*; expected numbers"):
        entry(data)


def test_the_column_is_named() -> None:
    with pytest.raises(InvalidInputError, match="X holds dates in column 'when'"):
        KernelRegressor(NET).fit(FRAME.assign(when=DAYS), Y)


@pytest.mark.parametrize("y", [DAYS, pd.Series(DAYS), DAYS.to_numpy(), DAYS.date.tolist()])
def test_dates_are_no_targets(y) -> None:
    with pytest.raises(InvalidInputError, match="y holds dates; expected numbers"):
        KernelRegressor(NET).fit(X, y)


@entries
def test_masked_values_are_refused(entry) -> None:
    data = np.ma.array(X, mask=False)
    data[2, 1] = np.ma.masked
    with pytest.raises(InvalidInputError, match=r"X\d? is masked \(first in row 2\)"):
        entry(data)


def test_masked_targets_and_weights() -> None:
    masked = np.ma.array(Y + 1, mask=[False, True, False, False])
    with pytest.raises(InvalidInputError, match=r"^y is masked \(first in row 1\); drop or impute"):
        KernelRegressor(NET).fit(X, masked)
    with pytest.raises(InvalidInputError, match=r"^sample_weight is masked"):
        KernelRegressor(NET).fit(X, Y, sample_weight=masked)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FRAME.assign(b="red"), "found str such as 'red'; encode text"),
        (FRAME.astype("string"), "found str such as '1.0'; encode text"),
        (FRAME.astype(object).assign(b=1j), "found complex such as '1j'"),
        (FRAME.convert_dtypes().assign(b=pd.array([1, None, 2, 3])), "contains NaN"),
        (FRAME.astype(object).assign(b=[1, None, 2, 3]), "contains NaN or infinity"),
        (FRAME["a"], "must be a matrix"),
        ("ntk", "X1 is text, 'ntk'; expected rows of numbers.*kernel=... by its name"),
    ],
)
def test_what_is_no_matrix_of_numbers(data, message) -> None:
    with pytest.raises(InvalidInputError, match=message):
        kernreg.gram(NET, data)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, np.float16])
def test_half_precision_says_what_it_becomes(kind) -> None:
    data = torch.ones(2, 2, dtype=kind) if isinstance(kind, torch.dtype) else np.ones((2, 2), kind)
    with pytest.warns(UserWarning, match=r"X1 is b?float16.*computed in float64"):
        found = kernreg.gram(NET, data)
    assert str(found.dtype).endswith("float64")


@pytest.mark.parametrize("call", [kernreg.gram, kernreg.diag, KernelOperator])
def test_network_and_data_in_the_wrong_order(call) -> None:
    with pytest.raises(InvalidInputError, match="Both are swapped: the network comes first"):
        call(X, NET)


@pytest.mark.parametrize("call", [kernreg.gram, kernreg.diag])
def test_networks_by_their_code(call) -> None:
    assert np.array_equal(call("mlp(depth=1)", X), call(NET, X))
    with pytest.raises(kernreg.exceptions.NetworkError, match="Did you mean 'mlp'"):
        call("mpl(depth=1)", X)
