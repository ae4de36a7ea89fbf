"""Which numbers text stands for, and what the commas in them mean."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg.datasets import load
from kernreg.datasets.text import (
    are_codes,
    are_dates,
    as_booleans,
    as_numbers,
    distinct,
    find_commas,
    look_like_thousands,
    numberlike,
    stripped,
)
from kernreg.exceptions import InvalidInputError


def text(*values):
    return stripped(pd.Series(list(values), dtype=object))


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["1", " 2 ", "-3"], [1, 2, -3]),
        (["1.5", "2.", ".5", "+1e-3"], [1.5, 2, 0.5, 1e-3]),
        (["−4.5", "1"], [-4.5, 1]),
        (["1", None, "", "NaN", "n/a"], [1, np.nan, np.nan, np.nan, np.nan]),
        (["inf", "-Infinity"], [np.inf, -np.inf]),
        (["007", "1"], [7, 1]),
        (["9007199254740993"], [9007199254740993]),
        (["1", "x"], None),
        (["1_000"], None),
        (["0x10"], None),
        (["1 000"], None),
        (["1,5"], None),
        (["12%"], None),
    ],
)
def test_numbers(values, numbers):
    found = as_numbers(text(*values))
    if numbers is None:
        assert found is None
    else:
        assert np.array_equal(found, numbers, equal_nan=True)


def test_whole_numbers_stay_whole():
    assert as_numbers(text("9007199254740993", "1")).dtype == np.int64
    assert as_numbers(text("9007199254740993", None)).dtype == np.float64


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=9))
def test_no_digit_is_lost(values):
    assert np.array_equal(as_numbers(text(*map(repr, values))), values)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=9))
def test_thousands_are_read_as_they_are_written(values):
    written = text(*(f"{value:,}" for value in values))
    meaning, conflict = find_commas({"c": written})
    assert conflict is None
    assert as_numbers(written, meaning).tolist() == values


@settings(max_examples=50, deadline=None)
@given(st.lists(st.decimals(-99, 99, places=2), min_size=1, max_size=9))
def test_decimal_commas_are_read_as_they_are_written(values):
    written = text(*(str(value).replace(".", ",") for value in values))
    assert find_commas({"c": written}) == ("decimal", None)
    assert as_numbers(written, "decimal").tolist() == [float(value) for value in values]


@pytest.mark.parametrize(
    ("columns", "meaning"),
    [
        ({"a": ["1,234", "5"]}, "thousands"),
        ({"a": ["1,234", "0,567"]}, "decimal"),
        ({"a": ["1,234"], "b": ["2,5"]}, "decimal"),
        ({"a": ["1,234"], "b": ["1,234.5"]}, "thousands"),
        ({"a": ["12,345,678"]}, "thousands"),
        ({"a": ["1.234,50", "999,10"]}, "decimal"),
        ({"a": ["1234,567"]}, "decimal"),
        ({"a": ["1,5", "1.5"]}, None),
        ({"a": ["Rome, IT"], "b": ["1"]}, None),
        ({"a": ["1,5", "x"]}, None),
        ({"a": ["1", "2"]}, None),
    ],
)
def test_commas(columns, meaning):
    assert find_commas({n: text(*values) for n, values in columns.items()}) == (meaning, None)


def test_commas_that_contradict_each_other():
    meaning, conflict = find_commas({"a": text("2,5"), "b": text("1,234,567")})
    assert meaning is None
    assert "thousands in 'b' ('1,234,567') and for decimals in 'a' ('2,5')" in conflict


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
@pytest.mark.parametrize("way", ["thousands", "decimal"])
def test_commas_in_files(separator, way, tmp_path):
    numbers = np.array([1234.0, 56789.0, 42.0, 987654.0] * 3) / (1000 if way == "decimal" else 1)
    write = "{:,.0f}" if way == "thousands" else "{:.3f}"
    values = [
        write.format(v) if way == "thousands" else write.format(v).replace(".", ",")
        for v in numbers
    ]
    frame = pd.DataFrame({"size": values, "z": np.arange(12) % 5, "y": np.arange(12) / 8})
    frame.to_csv(tmp_path / "t.csv", sep=separator, index=False)
    data = load(tmp_path / "t.csv")
    assert data.X[:, 0].tolist() == numbers.tolist()
    what = "thousands separators" if way == "thousands" else "decimal marks"
    assert f"commas are {what} in 'size'" in data.notes[0]
    frame.assign(y="2,5", size="1,234,567").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InvalidInputError, match=r"t\.csv: Commas stand for thousands in 'size'"):
        load(tmp_path / "t.csv")


def test_points_that_may_be_thousands_are_noted(tmp_path):
    lines = ["a;b;y", *(f"{i + 1}.{i}50;0.{i}50;{i}.5" for i in range(8))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = load(tmp_path / "t.csv")
    assert data.X[:, 0].tolist() == [float(f"{i + 1}.{i}50") for i in range(8)]
    assert "; points are decimal marks in 'a'." in data.notes[0]
    assert look_like_thousands(text("1.234", "7"))
    assert not look_like_thousands(text("0.234"))
    assert not look_like_thousands(text("1.23"))
    assert not look_like_thousands(text("7"))


def test_true_and_false(tmp_path):
    assert as_booleans(text("TRUE", "false", None)).tolist()[:2] == [1, 0]
    assert as_booleans(text("true", "x")) is None
    assert as_booleans(text("1", "0")) is None
    assert as_booleans(text(None)) is None
    lines = ["a,b,y", *(f"{i},{['yes', 'no'][i % 2]},{['TRUE', 'FALSE'][i % 2]}" for i in range(8))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert load(tmp_path / "t.csv").classes.tolist() == ["FALSE", "TRUE"]
    assert load(tmp_path / "t.csv", task="regression").y.tolist() == [1, 0] * 4
    data = load(tmp_path / "t.csv", target="b")
    assert data.X[:, 1].tolist() == [1, 0] * 4
    assert "true and false are 1 and 0 in 'y'" in data.notes[0]


def test_leading_zeros(tmp_path):
    assert are_codes(text("12", "01"))
    assert not are_codes(text("0", "0.1", "-1", "A01", "10"))
    lines = ["a,y", *(f"{i:03},{i % 3:02}" for i in range(12))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    data = load(tmp_path / "t.csv")
    assert data.classes.tolist() == ["00", "01", "02"]
    assert data.X[:, 0].tolist() == list(range(12))
    assert "numbers with leading zeros are numbers in 'a'" in data.notes[0]
    assert load(tmp_path / "t.csv", task="regression").y.tolist() == [0, 1, 2] * 4


@pytest.mark.parametrize(
    "value",
    [
        "2021-03-04",
        "2021/3/4",
        "04.03.2021",
        "4/3/21",
        "4-Mar-2021",
        "March 4, 2021",
        "mar 2021",
        "2021-03",
        "2021-03-04T05:06:07.89Z",
        "2021-03-04 05:06+01:00",
        "5:06 pm",
        "23:59:59",
    ],
)
def test_dates(value):
    assert are_dates({value: 1})
    assert are_dates({value: 3, "x": 2})
    assert not are_dates({value: 1, "x": 1})


@pytest.mark.parametrize(
    "value", ["1.2.3", "18-25", "3/4", "may", "mar tin 4", "2021", "12", "A-1-2", "1-2-3-4", "12:3"]
)
def test_what_is_no_date(value):
    assert not are_dates({value: 1})
    assert not are_dates({})


def test_numberlike():
    values = ["1", "-2.5", "64%", ">90", "<= 3", "$1,234.50", "1 234", "12 €", "3+", "~7"]
    others = ["x", "A1", "18-25", "10 kg", "?", "", "-", "1st", "2021-01-01", "%"]
    assert numberlike([*values, *others]) == (values[:2], values[2:])


def test_distinct():
    assert distinct(text("b", "a", None, "b ")) == {"a": 1, "b": 2}
    assert list(distinct(text("b", "a"))) == ["a", "b"]
