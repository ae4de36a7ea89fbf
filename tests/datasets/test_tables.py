"""CSV, TSV and Parquet tables, and which column is the target."""

import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import load, new_rows
from kernreg.exceptions import InvalidInputError

ROWS = 30
rng = np.random.default_rng(1)
FRAME = pd.DataFrame(rng.standard_normal((ROWS, 4)), columns=["a", "b", "c", "y"])


def to_csv(frame, folder):
    frame.to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def to_tsv(frame, folder):
    frame.to_csv(folder / "t.tsv", index=False, sep="\t")
    return folder / "t.tsv"


def to_semicolons(frame, folder):
    frame.to_csv(folder / "t.csv", index=False, sep=";")
    return folder / "t.csv"


def to_bars(frame, folder):
    frame.to_csv(folder / "t.txt", index=False, sep="|")
    return folder / "t.txt"


def to_decimal_commas(frame, folder):
    frame.to_csv(folder / "t.csv", index=False, sep=";", decimal=",")
    return folder / "t.csv"


def to_parquet(frame, folder):
    frame.to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


WRITERS = [to_csv, to_tsv, to_semicolons, to_bars, to_decimal_commas, to_parquet]


@pytest.mark.parametrize("write", WRITERS)
def test_values_survive(write, tmp_path):
    data = load(write(FRAME, tmp_path))
    # Both formats hold the shortest text, or the bits, of a float64: no digit is lost.
    assert np.array_equal(data.X, FRAME[["a", "b", "c"]].to_numpy())
    assert np.array_equal(data.y, FRAME["y"].to_numpy())
    assert data.name == "t"
    assert data.feature_names == ("a", "b", "c")
    assert data.target_name == "y"
    assert data.task == "regression"


@pytest.mark.parametrize(("module", "suffix"), [(gzip, "gz"), (bz2, "bz2"), (lzma, "xz")])
def test_compressed(module, suffix, tmp_path):
    text = to_csv(FRAME, tmp_path).read_bytes()
    path = tmp_path / f"t.csv.{suffix}"
    path.write_bytes(module.compress(text))
    assert np.array_equal(load(path).X, FRAME[["a", "b", "c"]].to_numpy())
    assert load(path).name == "t"


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_separators_inside_names_do_not_count(separator, tmp_path):
    names = [f"{separator}a, b; c", f"d{separator * 3}", "y"]
    frame = FRAME[["a", "b", "y"]].set_axis(names, axis=1)
    frame.to_csv(tmp_path / "t.csv", index=False, sep=separator)
    data = load(tmp_path / "t.csv")
    assert data.feature_names == tuple(name.strip() for name in names[:2])
    assert np.array_equal(data.X, FRAME[["a", "b"]].to_numpy())


def test_text_with_commas_is_text(tmp_path):
    """A comma is a decimal mark only where the whole column is numbers."""
    (tmp_path / "t.csv").write_text("a;y\n1,5;2.5\nx;3.5\n1,5;4.25\nx;1\n")
    data = load(tmp_path / "t.csv")
    assert data.feature_names == ("a=1,5", "a=x")
    assert data.y.tolist() == [2.5, 3.5, 4.25, 1.0]


def test_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = to_csv(FRAME, tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load(path).feature_names == ("a", "b", "c")


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("columns", "chosen"),
    [
        (["target", "b", "c", "d"], "target"),
        (["a", "y", "c", "d"], "y"),
        (["a", "label", "c", "d"], "label"),
        (["class", "b", "c", "d"], "class"),
        (["a", "b", "c", "price"], "price"),
        # "target" comes first in the list of usual names, wherever its column stands.
        (["y", "b", "target", "d"], "target"),
    ],
)
def test_usual_target_names(write, columns, chosen, tmp_path):
    data = load(write(FRAME.set_axis(columns, axis=1), tmp_path))
    assert data.target_name == chosen
    assert np.array_equal(data.y, FRAME.iloc[:, columns.index(chosen)].to_numpy())
    assert chosen not in data.feature_names
    assert any(f"column {chosen!r}; choose another with --target" in note for note in data.notes)


@pytest.mark.parametrize("write", WRITERS)
def test_target_that_is_asked_for(write, tmp_path):
    data = load(write(FRAME, tmp_path), target="b")
    assert np.array_equal(data.y, FRAME["b"].to_numpy())
    assert data.feature_names == ("a", "c", "y")
    assert not any("--target" in note for note in data.notes)


def test_target_that_is_not_there(tmp_path):
    path = to_csv(FRAME.rename(columns={"y": "price"}), tmp_path)
    with pytest.raises(InvalidInputError) as caught:
        load(path, target="prise")
    message = str(caught.value)
    assert "no target column 'prise'; its columns are a, b, c, price" in message
    assert "Did you mean 'price'?" in message


def test_many_columns_are_not_all_listed(tmp_path):
    wide = pd.DataFrame(rng.standard_normal((5, 50)), columns=[f"column{i}" for i in range(50)])
    with pytest.raises(InvalidInputError) as caught:
        load(to_csv(wide, tmp_path), target="nothing")
    assert "column10, column11 and 38 more." in str(caught.value)
    assert "column12" not in str(caught.value)


def test_spaces_around_names_do_not_matter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(" a , y \n1.5,2.5\n2.5,3.5\n4,7.5\n")
    data = load(path, target="y")
    assert data.feature_names == ("a",)
    assert data.y.tolist() == [2.5, 3.5, 7.5]
    path.write_text("a, a,y\n1,2,3\n2,3,4\n")
    with pytest.raises(InvalidInputError, match="column names occur twice: a"):
        load(path)


def test_parquet_types(tmp_path):
    frame = pd.DataFrame(
        {
            "small": np.arange(ROWS, dtype=np.int8),
            "nullable": pd.array(range(ROWS), dtype="Int64"),
            "single": np.linspace(0, 1, ROWS, dtype=np.float32),
            "flag": np.arange(ROWS) % 2 == 0,
            "kind": pd.Categorical(["u", "v", "w"] * 10),
            "y": np.linspace(0, 1, ROWS),
        }
    )
    data = load(to_parquet(frame, tmp_path))
    assert data.feature_names[:4] == ("small", "nullable", "single", "flag")
    assert data.feature_names[4:] == ("kind=u", "kind=v", "kind=w")
    assert np.array_equal(data.X[:, 0], np.arange(ROWS))
    assert np.array_equal(data.X[:, 1], np.arange(ROWS))
    assert np.array_equal(data.X[:, 2], np.linspace(0, 1, ROWS, dtype=np.float32))
    assert np.array_equal(data.X[:, 3], np.arange(ROWS) % 2 == 0)
    assert np.array_equal(data.X[:, 4:], np.tile(np.eye(3), (10, 1)))


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("rows", [slice(None), slice(None, None, -3)])
def test_index_of_a_frame_is_no_feature(rows, twice, tmp_path):
    FRAME.iloc[rows].to_csv(tmp_path / "t.csv")
    if twice:
        pd.read_csv(tmp_path / "t.csv").to_csv(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv")
    assert data.feature_names == ("a", "b", "c")
    what = (
        "left out Unnamed: 0.1, Unnamed: 0, as they have no name"
        if twice
        else "left out the unnamed first column"
    )
    assert any(what in note for note in data.notes)
    rows = new_rows(data.encoder, str(tmp_path / "t.csv"), "y")
    X, y = rows.X, rows.y
    assert np.array_equal(X, data.X)
    assert np.array_equal(y, data.y)


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize(
    "values",
    [np.arange(ROWS) // 2, np.linspace(0, 1, ROWS), [f"r{i // 3}" for i in range(ROWS)]],
    ids=["repeated", "fractions", "text"],
)
def test_columns_without_a_name_are_left_out_whatever_they_hold(values, place, tmp_path):
    frame = FRAME.copy()
    frame.insert(place, "", values)
    data = load(to_csv(frame, tmp_path))
    assert data.feature_names == ("a", "b", "c")
    assert np.array_equal(data.y, FRAME["y"])
    name = "the unnamed first column" if place == 0 else f"Unnamed: {place}"
    assert any(f"left out {name}" in note for note in data.notes)


@pytest.mark.parametrize("names", [["shop"], ["shop", "till"], [None]])
def test_index_of_a_parquet_file_is_no_feature(names, tmp_path):
    levels = [np.arange(ROWS)[::-1] // 2 for _ in names]
    FRAME.set_index(pd.MultiIndex.from_arrays(levels, names=names)).to_parquet(
        tmp_path / "t.parquet"
    )
    data = load(tmp_path / "t.parquet")
    assert data.feature_names == ("a", "b", "c")
    assert "its index (" in data.notes[0]
    if names[0]:
        assert np.array_equal(load(tmp_path / "t.parquet", id_name="shop").ids, levels[0])


def test_index_alone_is_no_input(tmp_path):
    FRAME[["y"]].to_csv(tmp_path / "t.csv")
    with pytest.raises(InvalidInputError, match="one column beside an index, 'y', and so no in"):
        load(tmp_path / "t.csv")


def test_unnamed_first_column_may_be_the_target(tmp_path):
    FRAME.to_csv(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv", target="Unnamed: 0", task="regression")
    assert data.feature_names == ("a", "b", "c", "y")
    assert np.array_equal(data.y, np.arange(ROWS))
