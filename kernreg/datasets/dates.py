"""Dates, times of the day and durations as days."""

from __future__ import annotations

import datetime
import warnings
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types
from pandas.tseries.api import guess_datetime_format

__all__ = [
    "TYPED",
    "Pattern",
    "date_format",
    "dated",
    "days_of",
    "kind_of_dates",
    "kind_of_pattern",
]

Kind = Literal["moment", "time", "duration"]
Pattern = str
"""The format of dates in text, or one of :data:`TYPED` where they have a type of their own."""

TYPED = ("moment", "time", "duration")
"""Dates with or without a time, times of the day, and lengths of time."""

_DATES = (datetime.date, datetime.time, datetime.timedelta)
_DAY = 86_400.0
_CLOCKS = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p")
_UNGUESSED = (*_CLOCKS, "%Y-%m", "%Y/%m", "%b %Y", "%B %Y")
"""Formats that pandas does not guess."""


def dated(column: pd.Series) -> bool:
    """Whether the values of a column are dates, times or durations by their type."""
    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        return bool(pa.types.is_temporal(dtype.pyarrow_dtype))
    if types.is_object_dtype(dtype):
        present = column.dropna()
        return len(present) > 0 and all(isinstance(v, _DATES) for v in present)
    return bool(
        types.is_datetime64_any_dtype(dtype)
        or types.is_timedelta64_dtype(dtype)
        or isinstance(dtype, pd.PeriodDtype)
    )


def kind_of_dates(column: pd.Series) -> Kind:
    """What a column of a type of dates holds."""
    dtype = column.dtype
    if isinstance(dtype, pd.ArrowDtype):
        arrow = dtype.pyarrow_dtype
        if pa.types.is_time(arrow):
            return "time"
        return "duration" if pa.types.is_duration(arrow) else "moment"
    if types.is_object_dtype(dtype):
        first = column.dropna().iloc[0]
        if isinstance(first, datetime.timedelta):
            return "duration"
        return "time" if isinstance(first, datetime.time) else "moment"
    return "duration" if types.is_timedelta64_dtype(dtype) else "moment"


def kind_of_pattern(pattern: Pattern) -> Kind:
    """What a column holds whose dates have a pattern."""
    if pattern in _CLOCKS or pattern == "time":
        return "time"
    return "duration" if pattern == "duration" else "moment"


def date_format(text: pd.Series) -> Pattern | None:
    """The one format that all dates of a column of text have, None if there is none.

    Where days and months could be either way round, days come first before dots, else months.
    """
    values = text.dropna()
    if values.empty:
        return None
    dotted = values.str.contains(r"^\d+\.\d+\.\d+", regex=True).all()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guesses = [
            guess_datetime_format(value, dayfirst=later)
            for later in ((True, False) if dotted else (False, True))
            for value in (values.iloc[0], values.iloc[-1], max(values))
        ]
    for guess in dict.fromkeys((*filter(None, guesses), *_UNGUESSED)):
        if not np.isnan(_written(values, guess)).any():
            return guess
    return None


def days_of(column: pd.Series, pattern: Pattern) -> np.ndarray:
    """Days since the beginning of 1970, or of the day or duration; NaN where there is no date.

    Parameters
    ----------
    column : Series
        Text, or values with a type of dates.
    pattern : str
        The format of text. One of :data:`TYPED` reads text of moments as ISO 8601, of times by
        the usual formats, and of durations not at all.
    """
    if dated(column):
        return _typed(column)
    if pattern == "moment":
        return _written(column, "ISO8601")
    if pattern == "time":
        found = [_written(column, clock) for clock in _CLOCKS]
        return np.asarray(min(found, key=lambda days: int(np.isnan(days).sum())))
    return np.full(len(column), np.nan) if pattern == "duration" else _written(column, pattern)


def _written(text: pd.Series, pattern: str) -> np.ndarray:
    moments = pd.to_datetime(text, format=pattern, errors="coerce", utc=True)
    days = _since_1970(moments)
    # A clock alone is read as one of the first day of 1900.
    return days + 25_567.0 if pattern in _CLOCKS else days


def _typed(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.ArrowDtype):
        column = pd.Series(column.astype(object).to_numpy(), dtype=object)
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if types.is_object_dtype(column.dtype):
        return np.array([np.nan if pd.isna(v) else _days(v) for v in column], dtype=np.float64)
    if types.is_timedelta64_dtype(column.dtype):
        return np.array(column.dt.total_seconds() / _DAY, dtype=np.float64)
    return _since_1970(column if column.dt.tz is not None else column.dt.tz_localize("UTC"))


def _since_1970(moments: pd.Series) -> np.ndarray:
    # In microseconds, as nanoseconds end in the year 2262.
    micros = moments.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]")
    days = micros.astype(np.int64) / (1e6 * _DAY)
    return np.where(np.isnat(micros), np.nan, days)


def _days(value: Any) -> float:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds() / _DAY
    if isinstance(value, datetime.time):
        return (value.hour * 3600 + value.minute * 60 + value.second) / _DAY
    if not isinstance(value, datetime.datetime):
        return float((value - datetime.date(1970, 1, 1)).days)
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime(warn=False)
    zone = None if value.tzinfo is None else datetime.UTC
    return (value - datetime.datetime(1970, 1, 1, tzinfo=zone)).total_seconds() / _DAY
