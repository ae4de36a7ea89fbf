"""Columns of text, and what they become."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.datasets import Column, Encoder, load
from kernreg.datasets.columns import MAX_CATEGORIES
from kernreg.exceptions import InvalidInputError

FRAME = pd.DataFrame(
    {"size": [1.0, 2.5, -1.0, 0.0], "colour": ["red", "blue", "red", "ÿ green"], "on": [1, 0, 1, 1]}
)
ENCODED = [[1.0, 0, 1, 0, 1], [2.5, 1, 0, 0, 0], [-1.0, 0, 1, 0, 1], [0.0, 0, 0, 1, 1]]


def test_indicators():
    encoder = Encoder.fit(FRAME)
    assert encoder.columns == (
        Column("size"),
        Column("colour", ("blue", "red", "ÿ green")),
        Column("on"),
    )
    assert encoder.feature_names == ("size", "colour=blue", "colour=red", "colour=ÿ green", "on")
    assert np.array_equal(encoder.transform(FRAME), ENCODED)
    assert encoder.notes == ("The text column 'colour' has 3 values; each became an indicator.",)


def test_columns_are_matched_by_name():
    encoder = Encoder.fit(FRAME)
    shuffled = FRAME[["on", "colour", "size"]].assign(extra=["x"] * 4)
    assert np.array_equal(encoder.transform(shuffled), ENCODED)


def test_columns_that_are_missing():
    with pytest.raises(InvalidInputError) as caught:
        Encoder.fit(FRAME).transform(FRAME[["size"]].assign(other=0))
    message = str(caught.value)
    assert "lack 2 of the columns" in message
    assert "colour, on. They have: size, other" in message


def test_values_that_were_never_seen():
    encoder = Encoder.fit(FRAME)
    with pytest.warns(UserWarning, match=r"'colour' has values .* \(black\); all their"):
        X = encoder.transform(FRAME.assign(colour=["red", "black", "red", "blue"]))
    assert np.array_equal(X[:, 1:4], [[0, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])


def test_text_where_numbers_were():
    encoder = Encoder.fit(FRAME)
    with pytest.raises(InvalidInputError, match="Column 'size' was numeric when the model was fit"):
        encoder.transform(FRAME.assign(size=["1", "2", "small", "4"]))


@pytest.mark.parametrize("values", [["a", "b"], ["True", "False"], ["1", "2"]])
@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_two_values_of_any_kind(values, dtype):
    column = pd.Series(values * 3, dtype=dtype)
    X = Encoder.fit(pd.DataFrame({"c": column})).transform(pd.DataFrame({"c": column}))
    order = sorted(map(str, values))
    expected = [[float(str(v) == name) for name in order] for v in values * 3]
    assert np.array_equal(X, expected)


@pytest.mark.parametrize("dtype", [bool, "boolean", "category"])
def test_booleans_are_numbers(dtype):
    frame = pd.DataFrame({"c": pd.Series([True, False, True], dtype=dtype)})
    assert Encoder.fit(frame).columns == (Column("c"),)
    assert np.array_equal(Encoder.fit(frame).transform(frame), [[1], [0], [1]])


@pytest.mark.parametrize("count", [MAX_CATEGORIES, MAX_CATEGORIES + 1])
def test_too_many_categories(count):
    frame = pd.DataFrame({"name": [f"n{i:02}" for i in range(count)]})
    if count <= MAX_CATEGORIES:
        assert np.array_equal(Encoder.fit(frame).transform(frame), np.eye(count))
        return
    with pytest.raises(InvalidInputError) as caught:
        Encoder.fit(frame)
    assert f"'name' holds text with {count} different values, such as 'n00'" in str(caught.value)
    assert f"at most {MAX_CATEGORIES}" in str(caught.value)


def test_numbers_spoiled_by_a_few_words(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,y\n1,1.5\n2,2.5\n?,3.5\n4,4.5\n?,0.5\n")
    with pytest.raises(InvalidInputError, match=r"'a' is numeric except for 2 of 5 values, such a"):
        load(path)
    frame = pd.DataFrame({"a": ["1", "2", "3.5"]}, dtype=object)
    with pytest.raises(InvalidInputError, match="'a' holds numbers as text; store them as numbers"):
        Encoder.fit(frame)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([1, 2j, 3]), "complex numbers"),
        (
            pd.date_range("2020-01-01", periods=3),
            "dates such as '2020-01-01 .*; leave it out by --drop c",
        ),
        (pd.to_timedelta([1, 2, 3], unit="D"), "dates"),
        ([[1], [2], [3]], r"Python objects such as \[1\] of type list"),
        ([{"a": 1}, "b", "c"], "Python objects such as .* of type dict"),
        ([b"a", b"b", b"c"], "Python objects such as b'a' of type bytes"),
        ([1, "b", None], "Python objects such as 1 of type int"),
        (pd.period_range("2020-01", periods=3, freq="M"), "dates such as '2020-01'"),
        ([datetime.date(2020, 1, 3)] * 3, "dates such as '2020-01-03'"),
        ([datetime.time(12, 30)] * 3, "dates such as '12:30:00'"),
        (["2020-01-03", "2020-02-03", "x"], "dates such as '2020-01-03'"),
    ],
    ids=[
        *("complex", "timestamps", "durations", "lists", "dicts", "bytes", "mixed", "periods"),
        *("dates", "times", "dates as text"),
    ],
)
def test_columns_of_other_kinds(values, message):
    with pytest.raises(InvalidInputError, match=f"Column 'c' holds {message}"):
        Encoder.fit(pd.DataFrame({"c": pd.Series(values), "d": 1.0}))


def test_arrays_of_text():
    array = np.array([["a", "x"], ["b", "x"], ["a", "y"]])
    encoder = Encoder.fit(array)
    assert encoder.feature_names == ("x0=a", "x0=b", "x1=x", "x1=y")
    assert np.array_equal(encoder.transform(array), [[1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 0, 1]])


def test_arrays_of_the_wrong_width():
    encoder = Encoder.fit(np.ones((3, 2)))
    with pytest.raises(InvalidInputError, match=r"Expected 2 columns, .*found 3"):
        encoder.transform(np.ones((3, 3)))


def test_numbers_for_a_table_with_text():
    """Positions cannot stand for categories; the message must not say that 3 is not 3."""
    with pytest.raises(InvalidInputError, match="colour"):
        Encoder.fit(FRAME).transform(np.ones((4, 3)))


# What later tables may hold


def test_what_is_missing_in_columns_that_are_not_used_does_not_matter():
    encoder = Encoder.fit(FRAME)
    new = FRAME.assign(size2=np.nan, when=pd.NaT, odd=[{1}, None, 2j, b""], big=np.inf)
    assert np.array_equal(encoder.transform(new), ENCODED)


@pytest.mark.parametrize("dtype", [object, "str", pd.ArrowDtype(pa.string())])
def test_text_is_read_as_what_the_column_was(dtype):
    encoder = Encoder((Column("n"), Column("t", ("01", "1", "TRUE"))))
    texts = {"n": [" 1", "−2.5", "+3e2", "007"], "t": ["01", "1 ", "TRUE", "01"]}
    X = encoder.transform(pd.DataFrame(texts, dtype=dtype))
    assert np.array_equal(X[:, 0], [1, -2.5, 300, 7])
    assert np.array_equal(X[:, 1:], [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    encoder = Encoder((Column("n"),))
    with pytest.raises(
        InvalidInputError,
        match="and now holds text such as 'x'",
    ):
        encoder.transform(pd.DataFrame({"n": ["1", "x", "NA", "2"]}, dtype=dtype))
    with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: 'n' \(2\)"):
        encoder.transform(pd.DataFrame({"n": ["1", "", "NA", "2"]}, dtype=dtype))


@pytest.mark.parametrize(
    ("commas", "text", "number"),
    [
        ("decimal", "1,234", 1.234),
        ("decimal", "1.234,5", 1234.5),
        ("decimal", "12", 12.0),
        ("thousands", "1,234", 1234.0),
        ("thousands", "1,234.5", 1234.5),
        (None, "2,5", 2.5),
        (None, "1,234,567", 1234567.0),
        (None, "1,234", None),
        ("thousands", "2,5", None),
        ("decimal", "1,234,567", None),
    ],
)
def test_commas_mean_what_they_meant_in_training(commas, text, number):
    """A value alone in a file has the meaning that it has among others, or is refused."""
    encoder = Encoder((Column("c"),), commas)
    frame = pd.DataFrame({"c": [text]})
    if number is None:
        with pytest.raises(InvalidInputError, match=f"text such as {text!r}"):
            encoder.transform(frame)
    elif commas is None:
        what = "decimal marks" if number == 2.5 else "thousands separators"
        with pytest.warns(UserWarning, match=f"'c' has commas, taken for {what}"):
            assert encoder.transform(frame) == [[number]]
    else:
        assert encoder.transform(frame) == [[number]]


def test_true_and_false_where_numbers_were():
    encoder = Encoder((Column("c"),))
    with pytest.warns(UserWarning, match="'c' was numeric .*: its true and false are taken for 1"):
        X = encoder.transform(pd.DataFrame({"c": ["True", "FALSE", "true"]}))
    assert np.array_equal(X, [[1], [0], [1]])
    with pytest.raises(InvalidInputError, match="text such as 'True'"):
        encoder.transform(pd.DataFrame({"c": ["True", "1", "0"]}))


def test_all_problems_are_named_at_once():
    frame = pd.DataFrame(
        {"a": ["2020-01-03"] * 3, "b": [f"n{i}" for i in range(3)], "c": [1, None, 2]}
    )
    frame["d"] = [1.0, np.inf, 2.0]
    frame = pd.concat([frame] * 9, ignore_index=True).assign(b=[f"n{i}" for i in range(27)])
    with pytest.raises(InvalidInputError) as caught:
        Encoder.fit(frame)
    message = str(caught.value)
    assert message.startswith("4 problems: (1) Column 'a' holds dates")
    assert "(2) Column 'b' holds text with 27 different values" in message
    assert "(3) Missing values in 1 column: 'c' (9)" in message
    assert "(4) NaN or infinite values in 1 column: 'd' (9)" in message
    encoder = Encoder((Column("a"), Column("c"), Column("d"), Column("e")))
    with pytest.raises(InvalidInputError) as caught:
        encoder.transform(frame)
    message = str(caught.value)
    assert message.startswith("4 problems: (1) The data lack 1 of the columns")
    assert "(2) Column 'a' was numeric" in message


# Arrays


def test_masked_arrays():
    array = np.ma.array(np.arange(6.0).reshape(3, 2), mask=np.zeros((3, 2), bool))
    assert np.array_equal(Encoder.fit(array).transform(array), array.data)
    array[1, 0] = np.ma.masked
    for step in (Encoder.fit, Encoder.fit(array.data).transform):
        with pytest.raises(InvalidInputError, match="masked array with 1 masked value; fill them"):
            step(array)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_arrays_with_gaps(dtype):
    array = np.array([[1, 5, np.nan], [np.nan, 6, np.nan], [3, 9, np.nan]], dtype)
    with pytest.raises(
        InvalidInputError, match=r"NaN or infinite values in 2 columns: 'x0' \(1\), 'x2' \(3\)"
    ):
        Encoder.fit(array).transform(array)
    encoder = Encoder.fit(array, "median")
    assert encoder.left_out == ("x2",)
    X = encoder.transform(array)
    assert X.dtype == dtype
    assert np.array_equal(X, [[1, 5], [2, 6], [3, 9]])
    with pytest.raises(InvalidInputError, match=r"Expected 3 columns, .* found 2"):
        encoder.transform(array[:, :2])


@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.int8, bool])
def test_small_integers_are_exact_in_float32(dtype):
    array = np.array([[0, 1], [1, 1]], dtype)
    assert Encoder.fit(array).transform(array).dtype == np.float32
    assert Encoder.fit(array.astype(np.int32)).transform(array.astype(np.int32)).dtype == np.float64


@pytest.mark.parametrize("kind", ["mode", "", 0])
def test_unknown_ways_to_fill(kind):
    with pytest.raises(InvalidInputError, match="expected 'auto', 'mean' or 'median'"):
        Encoder.fit(FRAME, kind)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_fills_are_those_of_scikit_learn(data):
    from sklearn.impute import SimpleImputer

    number = st.one_of(st.none(), st.floats(-1e6, 1e6))
    column = st.lists(number, min_size=5, max_size=5).filter(
        lambda v: any(x is not None for x in v)
    )
    table = pd.DataFrame({name: data.draw(column) for name in "ab"}, dtype=float)
    way = data.draw(st.sampled_from(["mean", "median"]))
    expected = SimpleImputer(strategy=way).fit_transform(table.to_numpy())
    found = Encoder.fit(table, way).transform(table)
    # Sums in another order: 5 roundings of 1e6.
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(["a", "b ", " c", "NA", "01", "é", "1"]), min_size=1, max_size=9))
def test_rows_are_encoded_alone_as_they_are_together(values):
    encoder = Encoder((Column("c", ("01", "1", "NA", "a", "b", "c", "é")),))
    together = encoder.transform(pd.DataFrame({"c": values}))
    alone = [encoder.transform(pd.DataFrame({"c": [value]}))[0] for value in values]
    assert np.array_equal(together, alone)
    assert np.array_equal(together.sum(axis=1), np.ones(len(values)))


def test_nothing_is_filled_in_unless_training_was():
    encoder = Encoder((Column("c", ("a", "b")), Column("n")))
    for gap in ({"c": [None, "a"], "n": [1, 2]}, {"c": ["b", "a"], "n": [1, None]}):
        with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: '[cn]' \(1\)"):
            encoder.transform(pd.DataFrame(gap))
