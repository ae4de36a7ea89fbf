"""What a column of a table holds, and whether a model can use it."""

from __future__ import annotations

import decimal
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api import types

from kernreg.datasets.dates import date_format, dated, days_of, kind_of_dates
from kernreg.datasets.text import (
    are_dates,
    as_numbers,
    distinct,
    marked_text,
    numberlike,
    stripped,
)
from kernreg.exceptions import InvalidInputError

__all__ = [
    "MAX_CATEGORIES",
    "Column",
    "Fill",
    "decide",
    "is_numeric",
    "kind_of",
    "numbers_in",
    "plain_values",
    "spoiled",
]

MAX_CATEGORIES = 20
"""Text columns with at most this many values become indicators."""
MANY = 0.5
"""Text with more different values than this share of the rows names rows, or is prose."""

Fill = Literal["mean", "median", "auto"]
"""How gaps are filled; "auto" also makes features of dates and of text with many values."""

_NUMBERS = (int, float, decimal.Decimal)


@dataclass(frozen=True)
class Column:
    """One column of the raw table.

    Parameters
    ----------
    name : str
        Its name.
    categories : tuple of str or None
        The values of a text column, in alphabetical order; None for a number. The category "" is
        text that is missing.
    fill : float or None
        What stands for a missing number; None if none may be missing.
    placed : bool
        Whether text becomes its place among the categories, one number, instead of indicators.
    flagged : bool
        Whether a further feature is 1 where the number is missing.
    date : str or None
        The format of dates, times or durations, which become days; see
        :data:`kernreg.datasets.dates.Pattern`.

    Examples
    --------
    >>> Column("colour", ("blue", "red")).feature_names
    ('colour=blue', 'colour=red')
    >>> Column("size", fill=1.5, flagged=True).feature_names
    ('size', 'size is missing')
    """

    name: str
    categories: tuple[str, ...] | None = None
    fill: float | None = None
    placed: bool = False
    flagged: bool = False
    date: str | None = None

    @property
    def indicated(self) -> bool:
        """Whether the column becomes an indicator for each category."""
        return self.categories is not None and not self.placed

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of its features, ``column=value`` for indicators."""
        if self.categories is not None and self.indicated:
            return tuple(
                f"{self.name}={value}" if value else f"{self.name} is missing"
                for value in self.categories
            )
        return (self.name, f"{self.name} is missing") if self.flagged else (self.name,)


def decide(name: str, column: pd.Series, impute: Fill | None) -> Column | None:
    """What a column becomes; None for one that no feature is made of, if gaps are filled.

    Parameters
    ----------
    name : str
        Its name.
    column : Series
        Its values.
    impute : {"mean", "median", "auto"} or None
        How missing numbers are filled in; None if they may not be missing.

    Raises
    ------
    InvalidInputError
        For complex numbers, objects, and numbers with marks; unless ``impute`` is "auto" also for
        dates and for text with many values.
    """
    auto = impute == "auto"
    if auto and dated(column):
        if column.isna().all():
            return None
        kind = kind_of_dates(column)
        return _of_numbers(Column(name, date=kind), days_of(column, kind), impute)
    column = plain_values(name, column)
    if is_numeric(column):
        return _of_numbers(Column(name), numbers_in(column), impute)
    text = stripped(column)
    values = distinct(text)
    if not values:
        if impute is None:
            raise InvalidInputError(
                f"Column {name!r} is empty; leave it out by --drop {quote(name)}."
            )
        return None
    if are_dates(values):
        dates = marked_text(column)
        pattern = date_format(dates) if auto else None
        if pattern is not None:
            return _of_numbers(Column(name, date=pattern), days_of(dates, pattern), impute)
        if auto:
            raise InvalidInputError(
                f"Column {name!r} holds dates such as {next(iter(values))!r} and {max(values)!r}, "
                "which no one format reads all of; write them alike, or leave the column out by "
                f"--drop {quote(name)}."
            )
        raise InvalidInputError(
            f"Column {name!r} holds dates such as {next(iter(values))!r}; leave it out by --drop "
            f"{quote(name)}, or replace it by numbers (year, day of the week, seconds)."
        )
    nominal = isinstance(column.dtype, pd.CategoricalDtype)
    problem = None if nominal else spoiled(values)
    if problem is not None:
        raise InvalidInputError(f"Column {name!r} {problem}.")
    if len(values) > MAX_CATEGORIES:
        if auto and len(values) > MANY * sum(values.values()):
            return None
        if auto:
            return _placed(name, column, values, text.null_count > 0)
        raise InvalidInputError(
            f"Column {name!r} holds text with {len(values):,} different values, such as "
            f"{next(iter(values))!r}; text columns may have at most {MAX_CATEGORIES}. Leave it out "
            f"by --drop {quote(name)}, keep it beside the predictions by --id {quote(name)}, or "
            "replace it by numbers."
        )
    gap = ("",) if impute is not None and text.null_count else ()
    return Column(name, (*gap, *values))


def _placed(name: str, column: pd.Series, values: dict[str, int], gaps: bool) -> Column | None:
    """Text as places: in the order of the type if it has one, else of the numbers, or letters."""
    numbers = as_numbers(stripped(column))
    if numbers is not None:
        return _of_numbers(Column(name), numbers.astype(np.float64), "auto")
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype) and dtype.ordered:
        values = {v: values[v] for v in map(str, dtype.categories) if v in values}
    places = np.repeat(np.arange(len(values)), list(values.values()))
    return Column(name, tuple(values), float(np.median(places)), placed=True, flagged=gaps)


def _of_numbers(column: Column, values: np.ndarray, impute: Fill | None) -> Column | None:
    """A column of numbers, and how its gaps are filled; None if it holds nothing but gaps."""
    if impute is None:
        return column
    present = values[~np.isnan(values)]
    if not len(present):
        return None
    # A value that overflows is refused as infinite when the column is encoded.
    with np.errstate(over="ignore", invalid="ignore"):
        fill = np.mean(present) if impute == "mean" else np.median(present)
    flagged = impute == "auto" and len(present) < len(values)
    return replace(column, fill=float(fill), flagged=flagged)


def plain_values(name: str, column: pd.Series) -> pd.Series:
    """The column with values of a plain type; an error for those that are neither."""
    if dated(column):
        raise InvalidInputError(_dates(name, column))
    dtype = column.dtype
    arrow = dtype.pyarrow_dtype if isinstance(dtype, pd.ArrowDtype) else None
    if types.is_complex_dtype(dtype):
        raise InvalidInputError(f"Column {name!r} holds complex numbers; expected real numbers.")
    if arrow is not None and pa.types.is_decimal(arrow):
        return column.astype("float64[pyarrow]")
    if arrow is not None and (pa.types.is_nested(arrow) or pa.types.is_binary(arrow)):
        raise InvalidInputError(
            f"Column {name!r} holds values of type {arrow}; expected numbers or text."
        )
    if not types.is_object_dtype(dtype):
        return column
    present = column.dropna()
    if len(present) and all(type(v) in _NUMBERS or isinstance(v, np.number) for v in present):
        return column.map(float, na_action="ignore").astype(np.float64)
    strange = next((v for v in present if not isinstance(v, str | bool | np.bool_)), None)
    if strange is not None:
        raise InvalidInputError(
            f"Column {name!r} holds Python objects such as {strange!r} of type "
            f"{type(strange).__name__}; expected numbers or text."
        )
    if len(present) and all(isinstance(v, bool | np.bool_) for v in present):
        return column.astype("boolean")
    return column


def _dates(name: str, column: pd.Series) -> str:
    example = column.dropna()
    shown = f" such as {str(example.iloc[0])!r}" if len(example) else ""
    return (
        f"Column {name!r} holds dates{shown}; leave it out by --drop {quote(name)}, or replace "
        "it by numbers (year, day of the week, seconds)."
    )


def is_numeric(column: pd.Series) -> bool:
    """Whether a column holds numbers or booleans."""
    return bool(types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype))


def numbers_in(column: pd.Series) -> np.ndarray:
    """The numbers of a numeric column as float64, NaN where missing."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
        return np.array([np.nan if pd.isna(v) else float(v) for v in column])
    return np.array(column.to_numpy(dtype=np.float64, na_value=np.nan))


def kind_of(dtype: np.dtype[Any]) -> str:
    """What arrays of a type that is neither numbers nor text hold, in words."""
    kinds = {"c": "complex numbers", "O": "Python objects", "M": "dates", "m": "durations"}
    return kinds.get(dtype.kind, f"values of type {dtype}")


def spoiled(values: dict[str, int]) -> str | None:
    """What is wrong with numbers that some values keep from being numbers; None for plain text.

    Parameters
    ----------
    values : dict of str to int
        How often each value occurs.
    """
    numbers, marked = numberlike(values)
    # Leading zeros make codes, which are no numbers.
    plain = [v for v in numbers if not (v.isdigit() and v.startswith("0") and len(v) > 1)]
    like = len(plain) + len(marked)
    if like < 3 or len(values) - like > len(values) / 2:
        return None
    wrong = [v for v in values if v not in set(plain)]
    rows, count = sum(values.values()), sum(values[v] for v in wrong)
    if not wrong:
        return "holds numbers as text; store them as numbers"
    example = max(wrong, key=lambda v: (values[v], v))
    if count == rows:
        return (
            f"holds numbers with other marks, such as {example!r}, in all {rows:,} values; write "
            "them as plain numbers"
        )
    return (
        f"is numeric except for {count:,} of {rows:,} values, such as {example!r}; replace them "
        "by numbers or drop these rows"
    )
