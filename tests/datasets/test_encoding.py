"""Columns of text, and what they become."""

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import Column, Encoder, load
from kernreg.datasets.encoding import MAX_CATEGORIES
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
        (pd.date_range("2020-01-01", periods=3), "dates; replace it by numbers"),
        (pd.to_timedelta([1, 2, 3], unit="D"), "dates"),
        ([[1], [2], [3]], r"Python objects such as \[1\] of type list"),
        ([{"a": 1}, "b", "c"], "Python objects such as .* of type dict"),
        ([b"a", b"b", b"c"], "Python objects such as b'a' of type bytes"),
        ([1, "b", None], "Python objects such as 1 of type int"),
    ],
    ids=["complex", "dates", "durations", "lists", "dicts", "bytes", "mixed"],
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
