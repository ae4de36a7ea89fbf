"""What columns of every kind are taken for."""

import datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from kernreg.datasets import Column, Encoder, load
from kernreg.exceptions import InvalidInputError


@pytest.mark.parametrize(
    "column",
    [
        pd.array([1, None, 3], dtype="Int64"),
        pd.array([1.0, None, 3.0], dtype="Float32"),
        pd.Series([1, None, 3], dtype=pd.ArrowDtype(pa.int16())),
        pd.Series([Decimal(1), None, Decimal(3)], dtype=pd.ArrowDtype(pa.decimal128(5, 2))),
        [Decimal(1), None, Decimal("3.00")],
        pd.Series([1, None, np.float32(3)], dtype=object),
    ],
    ids=["Int64", "Float32", "arrow", "arrow decimals", "decimals", "objects"],
)
def test_numbers_of_all_types(column):
    frame = pd.DataFrame({"c": column, "d": [4, 5, 6]})
    encoder = Encoder.fit(frame, "mean")
    assert encoder.columns == (Column("c", None, 2.0), Column("d", None, 5.0))
    assert np.array_equal(encoder.transform(frame), [[1, 4], [2, 5], [3, 6]])
    with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: 'c' \(1\).*--impute"):
        Encoder.fit(frame).transform(frame)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([pd.Timestamp("2020-01-03")], dtype=pd.ArrowDtype(pa.timestamp("s"))),
        pd.Series([datetime.date(2020, 1, 3)], dtype=pd.ArrowDtype(pa.date32())),
        pd.Series([datetime.time(2)], dtype=pd.ArrowDtype(pa.time32("s"))),
        pd.Series([datetime.timedelta(2)], dtype=object),
        pd.Series([None], dtype="datetime64[ns]"),
    ],
    ids=["timestamps", "days", "times", "durations", "nothing"],
)
def test_dates_of_all_types(column):
    with pytest.raises(InvalidInputError, match=r"'c' holds dates.*leave it out by --drop c"):
        Encoder.fit(pd.DataFrame({"c": column}))
    encoder = Encoder((Column("c"),))
    if column.notna().all():
        with pytest.raises(InvalidInputError, match="'c' was numeric when"):
            encoder.transform(pd.DataFrame({"c": column}))
    else:
        with pytest.raises(InvalidInputError, match="now holds values of type datetime64"):
            encoder.transform(pd.DataFrame({"c": column}))


@pytest.mark.parametrize("unit", ["datetime64[s]", "datetime64[ns]", "timedelta64[s]"])
def test_dates_where_numbers_were(unit):
    """They must not become their unit, and not the text that stands for them either."""
    dates = pd.DataFrame({"c": np.arange(3).astype(unit), "d": np.arange(3).astype(unit)})
    with pytest.raises(InvalidInputError) as caught:
        Encoder((Column("c"), Column("d", ("1970-01-01", "x")))).transform(dates)
    assert "'c' was numeric when the model was fitted and now holds values such as '" in (
        str(caught.value)
    )
    assert "'d' holds dates" in str(caught.value)


@pytest.mark.parametrize(
    ("share", "refused"), [(3, True), (2, False)], ids=["more than half", "half"]
)
def test_columns_of_which_most_values_are_dates(share, refused):
    values = [*["3 Jan 2020", "4 Jan 2020", "5 Jan 2020"][:share], "x", "z"]
    frame = pd.DataFrame({"c": values})
    if refused:
        with pytest.raises(InvalidInputError, match="holds dates such as '3 Jan 2020'"):
            Encoder.fit(frame)
    else:
        assert Encoder.fit(frame).columns[0].categories == tuple(sorted(values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (["1", "2", "3"], "holds numbers as text; store them as numbers"),
        (["1", "2", "3", "?", "?", "?"], "except for 3 of 6 values, such as '?'; replace them"),
        (["1", "2", "3", "a", "b", "c"], "except for 3 of 6 values, such as 'c'"),
        (["1", "2", "3", "a", "b", "c", "d"], None),
        (["1", "2", "x"], None),
        (["1", "2"], None),
        (["5%", "6%", "7%"], "numbers with other marks, such as '7%', in all 3 values; write them"),
        (["1", ">2", "$3", "none of it"], "except for 3 of 4 values, such as 'none of it'"),
        (["5%", "6%"], None),
        (["01", "02", "03", "A1"], None),
        (["0", "1", "2", "A1"], "except for 1 of 4 values, such as 'A1'"),
        (["0.1", "0.2", "0.3", "-"], "except for 1 of 4 values, such as '-'"),
    ],
)
def test_text_that_is_nearly_numbers(values, words):
    frame = pd.DataFrame({"c": values})
    if words is None:
        assert Encoder.fit(frame).columns == (Column("c", tuple(sorted(set(values)))),)
        return
    with pytest.raises(InvalidInputError) as caught:
        Encoder.fit(frame)
    assert words in str(caught.value)


def test_categories_of_numbers_are_categories():
    """Whoever makes a column categorical means it."""
    frame = pd.DataFrame({"c": pd.Categorical([3, 10, 3, 7]), "d": pd.Categorical([1.5, 2, 2, 4])})
    encoder = Encoder.fit(frame)
    assert encoder.columns[0] == Column("c", ("10", "3", "7"))
    assert np.array_equal(
        encoder.transform(frame)[:, :3], [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    )
    # From a file without types, and from whole numbers with a gap elsewhere.
    again = pd.DataFrame({"c": [3.0, 10.0, 3.0, 7.0], "d": ["1.5", " 2.0", "2.0 ", "4.0"]})
    assert np.array_equal(encoder.transform(again), encoder.transform(frame))


@pytest.mark.parametrize(
    ("values", "missing"), [(["a", None, " "], 2), ([None] * 3, 3), ([np.nan, "b", "b"], 1)]
)
def test_text_that_is_missing(values, missing):
    frame = pd.DataFrame({"c": pd.Series(values, dtype=object), "d": 1.0})
    if missing == 3:
        with pytest.raises(InvalidInputError, match="'c' is empty; leave it out by --drop c"):
            Encoder.fit(frame)
        encoder = Encoder.fit(frame, "mean")
        assert encoder.left_out == ("c",)
        assert encoder.notes == ("Left out what is empty: c.",)
        assert np.array_equal(encoder.transform(frame), [[1], [1], [1]])
        return
    with pytest.raises(InvalidInputError, match=rf"Missing values in 1 column: 'c' \({missing}\)"):
        Encoder.fit(frame).transform(frame)
    encoder = Encoder.fit(frame, "median")
    assert encoder.feature_names[:1] == ("c is missing",)
    assert encoder.transform(frame)[:, 0].sum() == missing


def test_text_that_is_missing_only_in_new_rows():
    """As a value that was never seen; not as a number that stands for nothing."""
    frame = pd.DataFrame({"c": ["a", "b", "a"]})
    new = pd.DataFrame({"c": ["b", None, "a"]})
    with pytest.warns(UserWarning, match=r"never saw \(missing\)"):
        X = Encoder.fit(frame, "mean").transform(new)
    assert np.array_equal(X, [[0, 1], [0, 0], [1, 0]])
    with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: 'c' \(1\)"):
        Encoder.fit(frame).transform(new)


@pytest.mark.parametrize("word", ["NA", "n/a", "None", "null", "nan"])
def test_words_for_nothing_are_text_in_text_and_missing_in_numbers(word, tmp_path):
    lines = [f"{i if i != 4 else word},{word if i % 2 else 'x'},{i * 0.3}" for i in range(8)]
    (tmp_path / "t.csv").write_text("\n".join(["a,c,y", *lines]))
    with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: 'a' \(1\)\."):
        load(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv", impute="median")
    assert set(data.feature_names) == {"a", f"c={word}", "c=x"}
    assert data.X[4, 0] == np.median([0, 1, 2, 3, 5, 6, 7])
    assert any(f"has 2 values, {word!r} among them; each" in note for note in data.notes)


def test_arrow_text_of_all_types():
    words = ["a", None, " b", "a "]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
        frame = pd.DataFrame({"c": pd.Series(words, dtype=pd.ArrowDtype(kind))})
        encoder = Encoder.fit(frame, "mean")
        assert encoder.columns == (Column("c", ("", "a", "b")),)
        assert encoder.transform(frame).argmax(axis=1).tolist() == [1, 0, 2, 1]
    for kind, value in ((pa.list_(pa.int8()), [1]), (pa.binary(), b"x")):
        frame = pd.DataFrame({"c": pd.Series([value], dtype=pd.ArrowDtype(kind))})
        with pytest.raises(InvalidInputError, match="'c' holds values of type "):
            Encoder.fit(frame)
