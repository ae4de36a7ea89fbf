"""Columns of a table as numbers: numeric ones as they are, categories as indicators."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from kernreg._wording import counted, is_number, listed
from kernreg.exceptions import InvalidInputError

__all__ = ["MAX_CATEGORIES", "Column", "Encoder", "kind_of"]

MAX_CATEGORIES = 20
"""Text columns with at most this many values become indicators."""


@dataclass(frozen=True)
class Column:
    """One column of the raw table.

    Parameters
    ----------
    name : str
        Its name.
    categories : tuple of str or None
        The values of a text column, one indicator each; None for a number.
    """

    name: str
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Encoder:
    """How the columns of a raw table become the features of a model.

    Parameters
    ----------
    columns : tuple of Column
        The columns that are used, in order.

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

    @classmethod
    def fit(cls, features: Any) -> Encoder:
        """Decide about every column.

        Parameters
        ----------
        features : DataFrame or ndarray of shape (n, d)
            The raw table.

        Raises
        ------
        InvalidInputError
            For complex numbers, objects, dates, and text with more than
            :data:`MAX_CATEGORIES` values or mostly numbers.
        """
        if isinstance(features, np.ndarray):
            _check_dtype(features.dtype, "The data")
            if features.dtype.kind in "biuf":
                return cls(tuple(Column(f"x{j}") for j in range(features.shape[1])))
        frame = _as_frame(features)
        return cls(tuple(_decide(str(name), frame[name]) for name in frame.columns))

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the encoded features, ``column=value`` for indicators."""
        names: list[str] = []
        for column in self.columns:
            if column.categories is None:
                names.append(column.name)
            else:
                names += [f"{column.name}={value}" for value in column.categories]
        return tuple(names)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about text columns."""
        return tuple(
            f"The text column {c.name!r} has {len(c.categories)} values; each became an indicator."
            for c in self.columns
            if c.categories is not None
        )

    def transform(self, features: Any) -> np.ndarray:
        """Encode a table with the same columns.

        Parameters
        ----------
        features : DataFrame or ndarray
            Tables are matched by column name and may have further columns; arrays by position.

        Returns
        -------
        ndarray of shape (n, n_features)
            float32 if the source is an array of float32 or small integers, otherwise float64.

        Raises
        ------
        InvalidInputError
            For missing columns, missing or infinite values, and text where numbers were.
        """
        if isinstance(features, np.ndarray) and features.dtype.kind in "biuf":
            return self._transform_array(features)
        frame = _as_frame(features)
        absent = [c.name for c in self.columns if c.name not in frame.columns]
        if absent:
            raise InvalidInputError(
                f"The data lack {len(absent)} of the columns that the model was fitted on: "
                f"{listed(absent)}. They have: {listed(frame.columns)}."
            )
        frame = frame[[c.name for c in self.columns]]
        _check_missing(frame)
        parts = [_encode(column, frame[column.name]) for column in self.columns]
        X = np.concatenate(parts, axis=1)
        _check_finite(X, self.feature_names)
        return X

    def _transform_array(self, array: np.ndarray) -> np.ndarray:
        text = [c.name for c in self.columns if c.categories is not None]
        if text:
            raise InvalidInputError(
                f"The model was fitted on a table with text in {listed(text)} and cannot use an "
                "array of numbers; expected a table with these columns."
            )
        if array.shape[1] != len(self.columns):
            raise InvalidInputError(
                f"Expected {counted(len(self.columns), 'column')}, as when the model was fitted, "
                f"found {array.shape[1]}."
            )
        exact = array.dtype.kind in "biu" and array.dtype.itemsize <= 2
        single = exact or array.dtype == np.float32
        X = np.ascontiguousarray(array, dtype=np.float32 if single else np.float64)
        _check_finite(X, self.feature_names)
        return X


def _as_frame(features: Any) -> pd.DataFrame:
    if isinstance(features, np.ndarray):
        _check_dtype(features.dtype, "The data")
        return pd.DataFrame(features, columns=[f"x{j}" for j in range(features.shape[1])])
    return features


def _check_dtype(dtype: np.dtype[Any], what: str) -> None:
    if dtype.kind not in "biufUS":
        raise InvalidInputError(f"{what} hold {kind_of(dtype)}; expected real numbers.")


def kind_of(dtype: np.dtype[Any]) -> str:
    """What arrays of a type that is neither numbers nor text hold, in words."""
    kinds = {"c": "complex numbers", "O": "Python objects", "M": "dates", "m": "durations"}
    return kinds.get(dtype.kind, f"values of type {dtype}")


def _decide(name: str, column: pd.Series) -> Column:
    if types.is_complex_dtype(column.dtype):
        raise InvalidInputError(f"Column {name!r} holds complex numbers; expected real numbers.")
    if types.is_numeric_dtype(column.dtype) or types.is_bool_dtype(column.dtype):
        return Column(name)
    if types.is_datetime64_any_dtype(column.dtype) or types.is_timedelta64_dtype(column.dtype):
        raise InvalidInputError(
            f"Column {name!r} holds dates; replace it by numbers (year, day of the week, seconds) "
            "or drop it."
        )
    present = column.dropna()
    strange = next((v for v in present if not isinstance(v, str | bool | np.bool_)), None)
    if strange is not None and not isinstance(column.dtype, pd.CategoricalDtype):
        raise InvalidInputError(
            f"Column {name!r} holds Python objects such as {strange!r} of type "
            f"{type(strange).__name__}; expected numbers or text."
        )
    values = sorted(present.astype(str).unique())
    wrong = [v for v in values if not is_number(v)]
    if len(values) > 2 and len(wrong) <= len(values) / 2:
        count = int(present.astype(str).isin(wrong).sum())
        raise InvalidInputError(
            f"Column {name!r} is numeric except for {count} of {len(column)} values, such as "
            f"{wrong[0]!r}; replace them by numbers or drop these rows."
            if wrong
            else f"Column {name!r} holds numbers as text; store them as numbers."
        )
    if len(values) > MAX_CATEGORIES:
        raise InvalidInputError(
            f"Column {name!r} holds text with {len(values)} different values, such as "
            f"{values[0]!r}; text columns may have at most {MAX_CATEGORIES}. Drop it, or replace "
            "it by numbers."
        )
    return Column(name, tuple(values))


def _encode(column: Column, values: pd.Series) -> np.ndarray:
    if column.categories is None:
        try:
            # Dates would become nanoseconds.
            numbers = values.astype(str) if values.dtype.kind in "mM" else values
            return numbers.to_numpy(dtype=np.float64)[:, None]
        except (TypeError, ValueError):
            raise InvalidInputError(
                f"Column {column.name!r} was numeric when the model was fitted and now holds "
                f"{values.dtype}."
            ) from None
    text = values.astype(str).to_numpy(dtype=object)
    unknown = sorted(set(text) - set(column.categories))
    if unknown:
        warnings.warn(
            f"Column {column.name!r} has values that the model never saw ({listed(unknown)}); "
            "all their indicators are 0.",
            stacklevel=2,
        )
    return np.stack([text == value for value in column.categories], axis=1).astype(np.float64)


def _check_missing(frame: pd.DataFrame) -> None:
    counts = frame.isna().sum()
    counts = counts[counts > 0]
    if len(counts):
        shown = [f"{name!r} ({count})" for name, count in counts.items()]
        raise InvalidInputError(
            f"Missing values in {counted(len(counts), 'column')}: {listed(shown)}. Fill them in, "
            "or drop these rows or columns."
        )


def _check_finite(X: np.ndarray, names: tuple[str, ...]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        total = X.sum(dtype=np.float64)
    if np.isfinite(total):
        return
    bad = ~np.isfinite(X)
    if bad.any():
        counts = bad.sum(axis=0)
        shown = [f"{names[j]!r} ({counts[j]})" for j in np.flatnonzero(counts)]
        raise InvalidInputError(
            f"NaN or infinite values in {counted(len(shown), 'column')}: {listed(shown)}. "
            "Replace them, or drop these rows or columns."
        )
