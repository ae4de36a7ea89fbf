"""``impute="auto"``: gaps, dates and text with many values become features, and stay the same."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernreg.datasets import load
from kernreg.datasets.columns import MAX_CATEGORIES, Column
from kernreg.datasets.encoding import Encoder
from kernreg.exceptions import InvalidInputError


def frame_of(**columns):
    return pd.DataFrame(columns)


@given(st.lists(st.one_of(st.none(), st.floats(-9, 9)), min_size=3, max_size=12))
def test_gaps_are_medians_with_an_indicator(values):
    frame = frame_of(c=pd.Series(values, dtype="float64"), d=np.arange(len(values)))
    gaps = frame["c"].isna().to_numpy()
    encoder = Encoder.fit(frame, "auto")
    X = encoder.transform(frame)
    if gaps.all():
        assert encoder.left_out == ("c",)
        return
    median = np.median(frame["c"].dropna())
    np.testing.assert_array_equal(X[:, 0], np.where(gaps, median, frame["c"]))
    assert encoder.feature_names[-1] == "d"
    if gaps.any():
        assert encoder.feature_names[1] == "c is missing"
        np.testing.assert_array_equal(X[:, 1], gaps)


def test_gaps_of_later_tables_are_filled():
    encoder = Encoder.fit(frame_of(c=[1.0, 2.0, 6.0], d=[1.0, np.nan, 3.0]), "auto")
    later = frame_of(c=[np.nan, 5.0], d=[4.0, np.nan])
    assert encoder.transform(later).tolist() == [[2.0, 4.0, 0.0], [5.0, 2.0, 1.0]]
    assert encoder.filled(later) == ("Missing numbers were filled in: 'c' (1 by 2), 'd' (1 by 2).",)


def test_arrays_have_indicators_too():
    X = np.array([[1.0, np.nan], [3.0, 4.0], [2.0, 6.0]])
    encoder = Encoder.fit(X, "auto")
    expected = [[1.0, 5.0, 1.0], [3.0, 4.0, 0.0], [2.0, 6.0, 0.0]]
    assert encoder.transform(X).tolist() == expected
    assert encoder.transform(X.astype(np.float32)).dtype == np.float32


DAYS = pd.date_range("2019-12-20", periods=40, freq="31h")


@pytest.mark.parametrize(
    "written",
    ["%Y-%m-%d %H:%M:%S", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y-%m-%dT%H:%M", "%b %Y", "%Y-%m"],
)
def test_dates_are_days(written):
    """Whichever way round days and months are, where some day tells."""
    text = DAYS.strftime(written)
    meant = pd.to_datetime(pd.Series(text), format=written)
    encoder = Encoder.fit(frame_of(when=text), "auto")
    days = (meant - pd.Timestamp(0)) / pd.Timedelta(days=1)
    np.testing.assert_allclose(encoder.transform(frame_of(when=text))[:, 0], days, rtol=1e-12)
    assert encoder.notes == (f"Dates and times became days: when ({written}).",)
    typed = encoder.transform(frame_of(when=meant))
    np.testing.assert_allclose(typed[:, 0], days, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "days"),
    [
        (pd.to_datetime(["1970-01-02", None, "1970-01-04"]), [1.0, 2.0, 3.0]),
        (pd.to_timedelta([12, 36, None], "h"), [0.5, 1.5, 1.0]),
        ([datetime.date(1970, 1, 2), datetime.date(1969, 12, 31), None], [1.0, -1.0, 0.0]),
        ([datetime.time(6), datetime.time(18), datetime.time(12)], [0.25, 0.75, 0.5]),
        (pd.period_range("1970-01", periods=3, freq="M"), [0.0, 31.0, 59.0]),
        (pd.Series(["1970-01-02", "1970-01-03", None], dtype="date32[pyarrow]"), [1.0, 2.0, 1.5]),
    ],
)
def test_types_of_dates(values, days):
    encoder = Encoder.fit(frame_of(when=values), "auto")
    np.testing.assert_allclose(encoder.transform(frame_of(when=values))[:, 0], days, atol=1e-9)


def test_times_of_the_day_are_the_same_in_text_and_by_type():
    text = frame_of(when=["06:00", "18:00", None])
    typed = frame_of(when=[datetime.time(6), datetime.time(18), None])
    for one in (text, typed):
        encoder = Encoder.fit(one, "auto")
        for other in (text, typed):
            X = encoder.transform(other)
            np.testing.assert_allclose(X[:, 0], [0.25, 0.75, 0.5], atol=1e-9)
            assert X[:, 1].tolist() == [0.0, 0.0, 1.0]


def test_dates_that_pandas_has_no_nanoseconds_for():
    far = ["9999-12-31", "2020-01-01", "0700-05-01"]
    days = [(datetime.date.fromisoformat(v) - datetime.date(1970, 1, 1)).days for v in far]
    for values in (
        far,
        [datetime.date.fromisoformat(v) for v in far],
        pd.Series([datetime.date.fromisoformat(v) for v in far], dtype="date32[pyarrow]"),
    ):
        encoder = Encoder.fit(frame_of(when=values), "auto")
        assert encoder.transform(frame_of(when=values))[:, 0].tolist() == days


def test_marks_of_missing_dates():
    frame = frame_of(when=["2020-01-01", "2020-01-03", "2020-01-05", "NA", "NaT", None])
    encoder = Encoder.fit(frame, "auto")
    X = encoder.transform(frame)
    assert X[:, 1].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert X[3, 0] == X[1, 0]


@pytest.mark.parametrize("values", [["01.02.2020", "01.03.2020"], ["12.02.2020", "13.02.2020"]])
def test_days_come_first_before_dots(values):
    assert Encoder.fit(frame_of(when=values), "auto").columns[0].date == "%d.%m.%Y"


def test_a_column_of_typed_dates_that_is_blank_later():
    encoder = Encoder.fit(frame_of(when=DAYS, x=np.arange(40.0)), "auto")
    for blank in (["", ""], [None, None], [pd.NaT, pd.NaT]):
        X = encoder.transform(frame_of(when=blank, x=[1.0, 2.0]))
        assert X[:, 0].tolist() == [encoder.columns[0].fill] * 2


def test_later_text_of_typed_dates_is_read_alone():
    """No row is read as its neighbours are."""
    encoder = Encoder.fit(frame_of(when=DAYS), "auto")
    assert encoder.transform(frame_of(when=["2020-02-01"])).tolist() == [[18293.0]]
    for other in ("01/02/2020", "soon"):
        with pytest.raises(InvalidInputError, match=f"now holds '{other}'"):
            encoder.transform(frame_of(when=[other, "13/02/2020"]))
    with pytest.raises(InvalidInputError, match=r"held dates .* type timedelta"):
        encoder.transform(frame_of(when=pd.to_timedelta([1, 2], "h")))


def test_dates_in_no_one_format_are_refused():
    mixed = frame_of(when=["2020-01-02", "03.04.2021", "5 May 2020", "2020-03-04"])
    with pytest.raises(InvalidInputError, match="which no one format reads all of"):
        Encoder.fit(mixed, "auto")


def test_dates_that_become_something_else():
    encoder = Encoder.fit(frame_of(when=["2020-01-02", "2020-01-03"]), "auto")
    with pytest.raises(InvalidInputError, match=r"held dates .* %Y-%m-%d when .* now holds 'soon'"):
        encoder.transform(frame_of(when=["2020-01-02", "soon"]))


def test_text_with_many_values_is_in_alphabetical_order():
    names = [f"k{j:02d}" for j in range(MAX_CATEGORIES + 5)]
    values = [*names, *names, *names, None]
    encoder = Encoder.fit(frame_of(c=values), "auto")
    assert encoder.columns[0].placed
    X = encoder.transform(frame_of(c=values))
    assert X[:3, 0].tolist() == [0.0, 1.0, 2.0]
    assert X[-1].tolist() == [12.0, 1.0]
    with pytest.warns(UserWarning, match=r"never saw \(k03x\); they stand between"):
        assert encoder.transform(frame_of(c=["k03x"])).tolist() == [[3.5, 0.0]]


def test_many_categories_with_an_order_of_their_own():
    names = ["low", "mid", "high", *(f"n{j}" for j in range(MAX_CATEGORIES))]
    values = pd.Categorical([*names] * 3, categories=names, ordered=True)
    encoder = Encoder.fit(frame_of(c=values), "auto")
    assert encoder.transform(frame_of(c=["mid", "high"])).tolist() == [[1.0], [2.0]]
    with pytest.warns(UserWarning, match="stand in the middle"):
        assert encoder.transform(frame_of(c=["other"])).tolist() == [[11.0]]


def test_many_categories_that_are_numbers():
    values = pd.Categorical([*range(1, 30)] * 3)
    encoder = Encoder.fit(frame_of(c=values), "auto")
    assert encoder.columns == (Column("c", None, 15.0),)
    assert encoder.transform(frame_of(c=[2.0, 12.0])).tolist() == [[2.0], [12.0]]


def test_images_with_gaps_are_refused(tmp_path):
    X = np.ones((6, 4, 4))
    X[2, 1, 1] = np.nan
    np.savez(tmp_path / "i.npz", X=X, y=np.arange(6.0))
    with pytest.raises(InvalidInputError, match="NaN"):
        load(tmp_path / "i.npz", impute="auto")


def test_arrays_for_a_table_of_which_text_was_left_out():
    frame = frame_of(x=np.arange(30.0), z=np.ones(30), name=[f"row {j}" for j in range(30)])
    encoder = Encoder.fit(frame, "auto")
    with pytest.raises(InvalidInputError, match="names of columns"):
        encoder.transform(np.ones((2, 3)))


def test_text_that_names_rows_is_left_out():
    frame = frame_of(name=[f"row {j}" for j in range(30)], x=np.arange(30.0))
    encoder = Encoder.fit(frame, "auto")
    assert encoder.columns == (Column("x", None, 14.5),)
    assert (encoder.left_out, encoder.prose) == (("name",), ("name",))
    assert encoder.transform(frame.drop(columns="name")).shape == (30, 1)
    with pytest.raises(InvalidInputError, match="text that is different in most rows"):
        Encoder.fit(frame[["name"]], "auto")


def test_a_table_as_people_have_it(tmp_path):
    random = np.random.default_rng(0)
    frame = frame_of(
        patient=[f"P{j:03d}" for j in range(90)],
        seen=DAYS.strftime("%d/%m/%Y")[np.arange(90) % 40],
        ward=random.choice([f"W{j}" for j in range(25)], 90),
        weight=np.where(random.random(90) < 0.2, np.nan, random.normal(70, 9, 90)),
        sex=random.choice(["f", "m"], 90),
        y=random.standard_normal(90),
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InvalidInputError, match=r"'patient' .* 'seen'"):
        load(tmp_path / "t.csv")
    data = load(tmp_path / "t.csv", impute="auto")
    names = ("seen", "ward", "weight", "weight is missing", "sex=f", "sex=m")
    assert data.feature_names == names
    assert np.isfinite(data.X).all()
