"""Values that cannot be learned from, in every kind of file."""

import warnings

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import load
from kernreg.exceptions import InvalidInputError, KernregError

ROWS = 12
rng = np.random.default_rng(4)


def values():
    return rng.standard_normal((ROWS, 3))


def csv(folder, table):
    pd.DataFrame(table, columns=["p", "q", "y"]).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def parquet(folder, table):
    pd.DataFrame(table, columns=["p", "q", "y"]).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def npz(folder, table):
    np.savez(folder / "t.npz", X=table[:, :2], y=table[:, 2], feature_names=np.array(["p", "q"]))
    return folder / "t.npz"


def npy(folder, table):
    np.save(folder / "t.npy", table)
    return folder / "t.npy"


FORMATS = pytest.mark.parametrize("write", [csv, parquet, npz, npy])


@FORMATS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_feature(write, bad, tmp_path):
    table = values()
    table[[3, 5], 1] = bad
    with pytest.raises(InvalidInputError, match=r"in 1 column: '(q|x1)' \(2\)") as caught:
        load(write(tmp_path, table))
    assert isinstance(caught.value, KernregError)
    assert isinstance(caught.value, ValueError)
    assert "drop these rows or columns" in str(caught.value)


@FORMATS
def test_infinities_that_cancel(write, tmp_path):
    table = values()
    table[2, 0], table[4, 0] = np.inf, -np.inf
    with pytest.raises(InvalidInputError, match=r"'(p|x0)' \(2\)"):
        load(write(tmp_path, table))


@FORMATS
@pytest.mark.parametrize(("bad", "words"), [(np.nan, "NaN in 2 rows"), (np.inf, "infinite")])
def test_target(write, bad, words, tmp_path):
    table = values()
    table[[3, 5], 2] = bad
    with pytest.raises(InvalidInputError, match=f"target .*{words}.*drop such rows"):
        load(write(tmp_path, table))


@FORMATS
def test_constant_target(write, tmp_path):
    table = values()
    table[:, 2] = 3.5
    with pytest.raises(InvalidInputError, match=r"same value, 3\.5, in all 12 rows"):
        load(write(tmp_path, table))


@FORMATS
@pytest.mark.parametrize("rows", [0, 1])
def test_too_few_rows(write, rows, tmp_path):
    with pytest.raises(InvalidInputError, match="has 1 row;" if rows else "has 0 rows"):
        load(write(tmp_path, values()[:rows]))


@FORMATS
def test_constant_and_repeated_rows_are_noted(write, tmp_path):
    table = values()
    table[:, 0] = -2.0
    table[7:9] = table[0]
    data = load(write(tmp_path, table))
    assert np.array_equal(data.X, table[:, :2])
    assert any("Constant columns, harmless: 1 (" in note for note in data.notes)
    assert "Rows whose features repeat an earlier row: 2." in data.notes


@FORMATS
def test_large_values_are_values(write, tmp_path):
    """Their sum overflows, which must neither be taken for an infinity nor shown to the user."""
    table = values()
    table[:, 0] = 1e308
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert np.array_equal(load(write(tmp_path, table)).X, table[:, :2])


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.ones((5, 2)) * 1j, np.arange(5.0), "hold complex numbers; expected real"),
        (np.ones((5, 2), "M8[D]"), np.arange(5.0), "hold dates; expected real"),
        (np.ones((5, 2)), np.arange(5) * 1j, "target 'y' holds complex numbers"),
        (np.ones((5, 2)), np.arange(5).astype("M8[D]"), "target 'y' holds dates"),
        (np.ones((5, 2)), np.arange(5).astype("m8[D]"), "target 'y' holds"),
        (np.ones((5, 2)), np.zeros(5, [("a", float)]), "target 'y' holds"),
        (np.ones((5, 2)), np.array([b"\xff", b"a"] * 2 + [b"b"]), "target 'y'"),
        (np.ones((5, 2)), np.ones((5, 2)), r"X has 5 rows, y has shape \(5, 2\)"),
        (np.ones((5, 2)), np.ones(4), r"X has 5 rows, y has shape \(4,\)"),
        (np.ones((5, 2)), np.float64(3), r"X has 5 rows, y has shape \(\)"),
        (np.ones((5, 0)), np.arange(5.0), "no (inputs|columns|features)"),
        (np.float64(3), np.ones(4), r"expected an array of shape \(rows, columns\)"),
    ],
    ids=[
        "complex X",
        "dates X",
        "complex y",
        "dates y",
        "durations y",
        "records y",
        "bytes y",
        "two targets",
        "short y",
        "scalar y",
        "no columns",
        "scalar X",
    ],
)
def test_arrays(X, y, message, tmp_path):
    np.savez(tmp_path / "t.npz", X=X, y=y)
    with pytest.raises(InvalidInputError, match=message):
        load(tmp_path / "t.npz")


@pytest.mark.parametrize(
    "arrays", [{"X": np.array([[1, None]] * 4)}, {"y": np.array([1, "a", None, 2], object)}]
)
def test_objects_are_never_unpickled(arrays, tmp_path):
    whole = {"X": np.ones((4, 2)), "y": np.arange(4.0)} | arrays
    np.savez(tmp_path / "t.npz", **whole)
    with pytest.raises(InvalidInputError, match="Python objects, which are not read"):
        load(tmp_path / "t.npz")
    np.save(tmp_path / "t.npy", np.array([[1, None]] * 4))
    with pytest.raises(InvalidInputError, match="Python objects, which are not read"):
        load(tmp_path / "t.npy")


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (pd.array(["a", "b", None] * 4, dtype="string"), "NaN in 4 rows"),
        (pd.array(["a", "b", None] * 4, dtype=object), "NaN in 4 rows"),
        (pd.array([1, 2, None] * 4, dtype="Int64"), "NaN in 4 rows"),
        (pd.array([True, False, None] * 4, dtype="boolean"), "NaN in 4 rows"),
        (pd.Categorical(["a", "b", None] * 4), "NaN in 4 rows"),
        (pd.date_range("2020-01-01", periods=12), "target 'y' holds"),
        ([[1, 2]] * 12, "target 'y' holds Python objects"),
        ([{"a": 1}] * 12, "target 'y' holds Python objects"),
        ([b"a", b"b"] * 6, "target 'y' holds Python objects"),
    ],
    ids=["string", "object", "Int64", "boolean", "category", "dates", "lists", "dicts", "bytes"],
)
def test_parquet_targets(y, message, tmp_path):
    frame = pd.DataFrame({"a": rng.standard_normal(12), "y": y})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InvalidInputError, match=message):
        load(tmp_path / "t.parquet")


@pytest.mark.parametrize("dtype", ["Int64", "string", "boolean"])
def test_parquet_features_with_gaps(dtype, tmp_path):
    column = pd.array(["1", "1", None] * 4, dtype="string")
    column = column if dtype == "string" else pd.array([1, 1, None] * 4, dtype=dtype)
    frame = pd.DataFrame({"a": column, "y": rng.standard_normal(12)})
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: 'a' \(4\)"):
        load(tmp_path / "t.parquet")
