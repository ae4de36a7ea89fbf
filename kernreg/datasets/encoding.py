"""Columns of a table as numbers: numeric ones and dates, categories as indicators or places."""

from __future__ import annotations

import bisect
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pandas.api import types

from kernreg.datasets.columns import (
    MAX_CATEGORIES,
    Column,
    Fill,
    decide,
    is_numeric,
    kind_of,
    numbers_in,
    plain_values,
)
from kernreg.datasets.dates import dated, days_of, kind_of_dates, kind_of_pattern
from kernreg.datasets.problems import all_of
from kernreg.datasets.text import (
    MISSING,
    Commas,
    as_booleans,
    as_numbers,
    count_missing,
    distinct,
    find_commas,
    marked_text,
    stripped,
)
from kernreg.exceptions import InvalidInputError
from kernreg.wording import counted, listed

__all__ = ["MAX_CATEGORIES", "Column", "Encoder"]


@dataclass(frozen=True)
class Encoder:
    """How the columns of a raw table become the features of a model.

    Parameters
    ----------
    columns : tuple of Column
        The columns that are used, in order.
    commas : {"decimal", "thousands"} or None
        What a comma in a number means where numbers are text.
    fills : bool
        Whether missing values are filled in.
    left_out : tuple of str
        Columns that were left out, as they hold nothing that could be a feature.
    prose : tuple of str
        Those of them that hold text which is different in most rows.

    Examples
    --------
    >>> import pandas as pd
    >>> frame = pd.DataFrame({"size": [1.0, 2.5], "colour": ["red", "blue"]})
    >>> encoder = Encoder.fit(frame)
    >>> encoder.feature_names
    ('size', 'colour=blue', 'colour=red')
    >>> encoder.transform(frame)
    array([[1. , 0. , 1. ],
           [2.5, 1. , 0. ]])
    """

    columns: tuple[Column, ...]
    commas: Commas | None = None
    fills: bool = False
    left_out: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()

    @classmethod
    def fit(
        cls, features: Any, impute: Fill | None = None, commas: Commas | None = None
    ) -> Encoder:
        """Decide about every column.

        Parameters
        ----------
        features : DataFrame or ndarray of shape (n, d)
            The raw table.
        impute : {"mean", "median", "auto"}, optional
            Fill missing numbers by this value of their column, and make missing text a category.
            "auto" fills by the median and adds an indicator of what is missing, takes dates as
            days, text with more than :data:`MAX_CATEGORIES` values as its place in alphabetical
            order, and leaves out text that is different in most rows.
        commas : {"decimal", "thousands"}, optional
            What a comma in a number means, for later tables whose numbers are text.

        Raises
        ------
        InvalidInputError
            For complex numbers, objects, text of mostly numbers and, unless ``impute`` is "auto",
            dates and text with more than :data:`MAX_CATEGORIES` values; all such columns named.
        """
        if impute not in (None, "mean", "median", "auto"):
            raise InvalidInputError(f"impute is {impute!r}; expected 'auto', 'mean' or 'median'.")
        if isinstance(features, np.ndarray) and features.dtype.kind in "biuf" and impute is None:
            return cls(tuple(Column(f"x{j}") for j in range(_unmasked(features).shape[1])))
        frame = _as_frame(features)
        decided: list[Column | None] = []

        def decide_about(name: Any) -> None:
            decided.append(decide(str(name), frame[name], impute))

        def look_at_the_rest() -> None:
            if len(decided) < frame.shape[1]:
                rest = tuple(c for c in decided if c is not None)
                cls(rest, commas, impute is not None).transform(frame)

        all_of(*(partial(decide_about, name) for name in frame.columns), look_at_the_rest)
        columns = tuple(column for column in decided if column is not None)
        kept = {column.name for column in columns}
        left_out = tuple(str(name) for name in frame.columns if str(name) not in kept)
        if not columns:
            raise InvalidInputError(
                "There are no inputs: all columns are empty"
                + (", or hold text that is different in most rows." if impute == "auto" else ".")
            )
        prose = tuple(name for name in left_out if distinct(stripped(frame[name])))
        return cls(columns, commas, impute is not None, left_out, prose)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the encoded features, ``column=value`` for indicators."""
        return tuple(name for column in self.columns for name in column.feature_names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about text columns and missing values."""
        notes = [
            f"The text column {c.name!r} has {counted(len(c.categories), 'value')}"
            + "".join(f", {v!r} among them" for v in c.categories if v.lower() in MISSING)
            + (
                "; they became their places in order."
                if c.placed
                else "; each became an indicator."
            )
            for c in self.columns
            if c.categories is not None
        ]
        dates = [f"{c.name} ({c.date})" for c in self.columns if c.date is not None]
        if dates:
            notes.append(f"Dates and times became days: {', '.join(dates)}.")
        blank = [name for name in self.left_out if name not in self.prose]
        if blank:
            notes.append(f"Left out what is empty: {listed(blank)}.")
        if self.prose:
            notes.append(
                f"Left out text that is different in most rows: {listed(self.prose)}; say --id for "
                "one to keep it beside the predictions."
            )
        return tuple(notes)

    def filled(self, features: Any) -> tuple[str, ...]:
        """A note of the missing numbers of a table and what stands for them; none if none miss."""
        if not self.fills:
            return ()
        if isinstance(features, np.ndarray):
            features = pd.DataFrame(features).add_prefix("x")
        numbers = [c for c in self.columns if c.fill is not None and not c.placed and not c.date]
        counts = [(c, count_missing(features[c.name])) for c in numbers]
        shown = [f"{c.name!r} ({count:,} by {c.fill:.6g})" for c, count in counts if count]
        return (f"Missing numbers were filled in: {listed(shown)}.",) if shown else ()

    def transform(self, features: Any) -> np.ndarray:
        """Encode a table with the same columns.

        Parameters
        ----------
        features : DataFrame or ndarray
            Tables are matched by column name and may have further columns; arrays by position.
            Text is read as what the column was: a number, or a category.

        Returns
        -------
        ndarray of shape (n, n_features)
            float32 if the source is an array of float32 or small integers, otherwise float64.

        Raises
        ------
        InvalidInputError
            For missing columns, missing or infinite values, and text where numbers were; all of
            them in one message.
        """
        if isinstance(features, np.ndarray) and features.dtype.kind in "biuf":
            return self._transform_array(features)
        frame = _as_frame(features)
        absent = [c.name for c in self.columns if c.name not in frame.columns]
        parts: dict[str, np.ndarray] = {}

        def encode(column: Column) -> None:
            parts[column.name] = _encode(column, frame[column.name], self)

        all_of(
            lambda: _check_absent(absent, frame.columns),
            *(partial(encode, c) for c in self.columns if c.name not in absent),
            lambda: _check_missing(parts, self.fills),
            lambda: _check_infinite(parts),
        )
        return np.concatenate([np.empty((len(frame), 0)), *parts.values()], axis=1)

    def _transform_array(self, array: np.ndarray) -> np.ndarray:
        array = _unmasked(array)
        text = [c.name for c in self.columns if c.categories is not None or c.date is not None]
        if text:
            raise InvalidInputError(
                f"The model was fitted on a table with text or dates in {listed(text)} and cannot "
                "use an array of numbers; expected a table with these columns."
            )
        if not all(re.fullmatch(r"x\d+", name) for name in self.left_out):
            raise InvalidInputError(
                f"The model was fitted on a table without its {listed(self.left_out)} and "
                "cannot use an array; expected a table with names of columns."
            )
        width = len(self.columns) + len(self.left_out)
        if array.shape[1] != width:
            raise InvalidInputError(
                f"Expected {counted(width, 'column')}, as when the model was fitted, "
                f"found {array.shape[1]}."
            )
        exact = array.dtype.kind in "biu" and array.dtype.itemsize <= 2
        single = exact or array.dtype == np.float32
        X = np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)
        if self.fills:
            kept = [j for j in range(width) if f"x{j}" not in self.left_out]
            X = X[:, kept]
            gaps = np.isnan(X)
            X = np.where(gaps, np.array([c.fill for c in self.columns], X.dtype), X)
            if any(c.flagged for c in self.columns):
                parts = [
                    np.column_stack([X[:, j], gaps[:, j]]) if c.flagged else X[:, [j]]
                    for j, c in enumerate(self.columns)
                ]
                X = np.concatenate(parts, axis=1, dtype=X.dtype)
        _check_finite(X, self.feature_names)
        return X


def _unmasked(array: np.ndarray) -> np.ndarray:
    if isinstance(array, np.ma.MaskedArray):
        count = int(np.ma.count_masked(array))
        if count:
            raise InvalidInputError(
                f"The data are a masked array with {counted(count, 'masked value')}; fill them in, "
                "or drop these rows."
            )
        return np.asarray(array.data)
    return array


def _as_frame(features: Any) -> pd.DataFrame:
    if isinstance(features, np.ndarray):
        features = _unmasked(features)
        if features.dtype.kind not in "biufUS":
            raise InvalidInputError(
                f"The data hold {kind_of(features.dtype)}; expected real numbers."
            )
        return pd.DataFrame(features, columns=[f"x{j}" for j in range(features.shape[1])])
    return features


def _encode(column: Column, values: pd.Series, encoder: Encoder) -> np.ndarray:
    """The features of one column; NaN where a value is missing and nothing stands for it."""
    if not column.indicated:
        if column.categories is not None:
            numbers = _places(column, stripped(_whole(plain_values(column.name, values))))
        elif column.date is not None:
            numbers = _encode_dates(column, values)
        else:
            numbers = _encode_numbers(column.name, values, encoder.commas)
        gaps = np.isnan(numbers)
        if column.fill is not None:
            numbers[gaps] = column.fill
        return np.column_stack([numbers, gaps]) if column.flagged else numbers[:, None]
    assert column.categories is not None
    text = stripped(_whole(plain_values(column.name, values)))
    if encoder.fills:
        text = pc.fill_null(text, "")
    codes = pc.index_in(text, value_set=pa.array(column.categories, text.type))
    missing = text.is_null().to_numpy()
    strange = distinct(text.filter(pc.and_(codes.is_null(), text.is_valid())))
    if strange:
        warnings.warn(
            f"Column {column.name!r} has values that the model never saw "
            f"({listed(value or 'missing' for value in strange)}); all their indicators are 0.",
            stacklevel=2,
        )
    place = pc.fill_null(codes, -1).to_numpy()
    indicators = np.equal.outer(place, np.arange(len(column.categories))).astype(np.float64)
    indicators[missing] = np.nan
    return indicators


def _places(column: Column, text: pa.ChunkedArray) -> np.ndarray:
    """Places among the categories; NaN where missing."""
    assert column.categories is not None
    known = {value: float(place) for place, value in enumerate(column.categories)}
    alphabetical = list(column.categories) == sorted(column.categories)
    strange = [value for value in distinct(text) if value not in known]
    for value in strange:
        between = bisect.bisect_left(column.categories, value) - 0.5
        known[value] = between if alphabetical else float(column.fill or 0.0)
    if strange:
        where = "stand between their neighbours" if alphabetical else "stand in the middle"
        warnings.warn(
            f"Column {column.name!r} has values that the model never saw ({listed(strange)}); they "
            f"{where}.",
            stacklevel=2,
        )
    return np.array([np.nan if v is None else known[v] for v in text.to_pylist()])


def _encode_dates(column: Column, values: pd.Series) -> np.ndarray:
    pattern = column.date
    assert pattern is not None
    typed = dated(values)
    text = values if typed else marked_text(values)
    if text.isna().all():
        return np.full(len(text), np.nan)
    if typed and kind_of_dates(values) != kind_of_pattern(pattern):
        raise InvalidInputError(
            f"Column {column.name!r} held {_meant(pattern)} when the model was fitted and now "
            f"holds values of type {values.dtype}."
        )
    found = days_of(text, pattern)
    strange = text[np.isnan(found) & text.notna().to_numpy()]
    if len(strange):
        raise InvalidInputError(
            f"Column {column.name!r} held {_meant(pattern)} when the model was fitted and now "
            f"holds {str(strange.iloc[0])!r}."
        )
    return found


def _meant(pattern: str) -> str:
    if pattern == "moment":
        return "dates (in text they are read as 2020-12-31)"
    if pattern == "time":
        return "times of the day"
    return "durations" if pattern == "duration" else f"dates or times written as {pattern}"


def _encode_numbers(name: str, values: pd.Series, commas: Commas | None) -> np.ndarray:
    try:
        values = plain_values(name, values)
    except InvalidInputError:
        example = "".join(f" such as {str(value)!r}" for value in values.dropna().iloc[:1])
        raise InvalidInputError(
            f"Column {name!r} was numeric when the model was fitted and now holds values{example} "
            f"of type {values.dtype}."
        ) from None
    if is_numeric(values):
        return numbers_in(values)
    text = stripped(values)
    if commas is None:
        commas, _ = find_commas({name: text}, guess=False)
        if commas is not None:
            meant = "decimal marks" if commas == "decimal" else "thousands separators"
            warnings.warn(f"Column {name!r} has commas, taken for {meant}.", stacklevel=2)
    numbers = as_numbers(text, commas)
    if numbers is None:
        numbers = as_booleans(text)
        if numbers is not None:
            warnings.warn(
                f"Column {name!r} was numeric when the model was fitted: its true and false are "
                "taken for 1 and 0.",
                stacklevel=2,
            )
    if numbers is None:
        strange = [v for v in distinct(text) if as_numbers(pa.chunked_array([[v]]), commas) is None]
        raise InvalidInputError(
            f"Column {name!r} was numeric when the model was fitted and now holds text such as "
            f"{strange[0]!r}."
        )
    return np.array(numbers, dtype=np.float64)


def _whole(column: pd.Series) -> pd.Series:
    """Whole numbers without the point that a gap in their column gives them."""
    if types.is_float_dtype(column.dtype) and (column.dropna() % 1 == 0).all():
        return column.astype("Int64")
    return column


def _check_absent(absent: list[str], names: Iterable[Any]) -> None:
    if absent:
        raise InvalidInputError(
            f"The data lack {len(absent)} of the columns that the model was fitted on: "
            f"{listed(absent)}. They have: {listed(names)}."
        )


def _check_missing(parts: dict[str, np.ndarray], fills: bool) -> None:
    counts = {name: int(np.isnan(part).any(axis=1).sum()) for name, part in parts.items()}
    shown = [f"{name!r} ({count})" for name, count in counts.items() if count]
    if shown:
        raise InvalidInputError(
            f"Missing values in {counted(len(shown), 'column')}: {listed(shown)}. Fill them in, "
            "drop these rows or columns" + ("." if fills else ", or say --impute auto.")
        )


def _check_infinite(parts: dict[str, np.ndarray]) -> None:
    counts = {name: int(np.isinf(part).sum()) for name, part in parts.items()}
    _refuse_infinite([f"{name!r} ({count})" for name, count in counts.items() if count])


def _check_finite(X: np.ndarray, names: tuple[str, ...]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = X.sum(dtype=np.float64)
    if np.isfinite(total):
        return
    counts = (~np.isfinite(X)).sum(axis=0)
    _refuse_infinite([f"{names[j]!r} ({counts[j]})" for j in np.flatnonzero(counts)])


def _refuse_infinite(shown: list[str]) -> None:
    if shown:
        raise InvalidInputError(
            f"NaN or infinite values in {counted(len(shown), 'column')}: {listed(shown)}. "
            "Replace them, or drop these rows or columns."
        )
