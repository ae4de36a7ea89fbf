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
        assert encoder.empty == ("c",)
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
    assert encoder.notes == ("Dates and times became days: when.",)
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


def test_times_of_the_day():
    frame = frame_of(when=["06:00", "18:00", None])
    X = Encoder.fit(frame, "auto").transform(frame)
    assert X[1, 0] - X[0, 0] == pytest.approx(0.5, abs=1e-9)
    assert X[:, 1].tolist() == [0.0, 0.0, 1.0]


def test_dates_in_no_one_format_are_refused():
    mixed = frame_of(when=["2020-01-02", "03.04.2021", "5 May 2020", "2020-03-04"])
    with pytest.raises(InvalidInputError, match=r"'when' holds dates such as '03\.04\.2021'"):
        Encoder.fit(mixed, "auto")


def test_dates_that_become_something_else():
    encoder = Encoder.fit(frame_of(when=["2020-01-02", "2020-01-03"]), "auto")
    with pytest.raises(InvalidInputError, match=r"held dates .* %Y-%m-%d, and now holds 'soon'"):
        encoder.transform(frame_of(when=["2020-01-02", "soon"]))


def test_text_with_many_values_is_in_alphabetical_order():
    names = [f"k{j:02d}" for j in range(MAX_CATEGORIES + 5)]
    values = [*names, *names, *names, None]
    encoder = Encoder.fit(frame_of(c=values), "auto")
    assert encoder.columns[0].ordered
    X = encoder.transform(frame_of(c=values))
    assert X[:3, 0].tolist() == [0.0, 1.0, 2.0]
    assert X[-1].tolist() == [12.0, 1.0]
    # What was never seen stands between its neighbours.
    assert encoder.transform(frame_of(c=["k03x"])).tolist() == [[3.5, 0.0]]


def test_text_that_names_rows_is_left_out():
    frame = frame_of(name=[f"row {j}" for j in range(30)], x=np.arange(30.0))
    encoder = Encoder.fit(frame, "auto")
    assert encoder.columns == (Column("x", None, 14.5),)
    assert (encoder.empty, encoder.prose) == (("name",), ("name",))
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
