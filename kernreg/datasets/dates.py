"""Dates and times as days."""

from __future__ import annotations

import datetime
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types
from pandas.tseries.api import guess_datetime_format

__all__ = ["date_format", "dated", "days_of"]

_DATES = (datetime.date, datetime.time, datetime.timedelta)
_DAY = 86_400.0
_UNGUESSED = ("%H:%M", "%H:%M:%S", "%H:%M:%S.%f", "%I:%M %p", "%Y-%m", "%Y/%m", "%b %Y", "%B %Y")
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


def date_format(text: pa.ChunkedArray) -> str | None:
    """The one format that all dates of a column of text have, None if there is none.

    Where months and days could be either way round, months come first.
    """
    values = pd.Series(text.drop_null().to_pylist(), dtype=object)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guesses = [
            guess_datetime_format(value, dayfirst=later)
            for later in (False, True)
            for value in (values.iloc[0], values.iloc[-1], max(values))
        ]
    for guess in dict.fromkeys((*filter(None, guesses), *_UNGUESSED)):
        if not np.isnan(days_of(values, guess)).any():
            return guess
    return None


def days_of(column: pd.Series, pattern: str) -> np.ndarray:
    """Days since the beginning of 1970, or of the day or duration; NaN where there is no date.

    Parameters
    ----------
    column : Series
        Text, or values with a type of dates.
    pattern : str
        The format of text; "" for values with a type of their own.
    """
    if pattern:
        return _since_1970(pd.to_datetime(column, format=pattern, errors="coerce", utc=True))
    if isinstance(column.dtype, pd.ArrowDtype):
        column = pd.Series(column.astype(object).to_numpy(), dtype=object)
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    if types.is_object_dtype(column.dtype):
        return np.array([np.nan if pd.isna(v) else _days(v) for v in column], dtype=np.float64)
    if types.is_timedelta64_dtype(column.dtype):
        return np.array(column.dt.total_seconds() / _DAY, dtype=np.float64)
    return _since_1970(pd.to_datetime(column, utc=True))


def _since_1970(moments: pd.Series) -> np.ndarray:
    seconds = (moments - pd.Timestamp(0, tz="UTC")).dt.total_seconds()
    return np.array(seconds / _DAY, dtype=np.float64)


def _days(value: Any) -> float:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds() / _DAY
    if isinstance(value, datetime.time):
        return (value.hour * 3600 + value.minute * 60 + value.second) / _DAY
    moment = pd.Timestamp(value)
    moment = moment.tz_localize("UTC") if moment.tzinfo is None else moment
    return (moment - pd.Timestamp(0, tz="UTC")).total_seconds() / _DAY
