"""Arrays and frames that hold something other than numbers: masks, dates, types of pandas."""

from __future__ import annotations

import datetime
import numbers
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["as_numbers", "check_values"]

_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


def check_values(values: Any, name: str) -> None:
    """Raise InvalidInputError for masked values and for dates.

    Both would silently become numbers: what stands under the mask, and a count in a unit that
    depends on where the dates come from.

    Parameters
    ----------
    values : array-like
        Array, frame, series or lists.
    name : str
        What to call it in errors.

    Examples
    --------
    >>> check_values(np.ma.array([1.0, 2.0], mask=[False, True]), "y")
    Traceback (most recent call last):
    kernreg.exceptions.InvalidInputError: y is masked (first in row 1); drop or impute these rows.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        row = int(np.argwhere(np.ma.getmaskarray(values))[0][0])
        raise InvalidInputError(
            f"{name} is masked (first in row {row}); drop or impute these rows."
        )
    for column, kind, part in _columns(values):
        if kind in ("M", "m") or (kind == "O" and _holds_dates(part)):
            raise InvalidInputError(
                f"{name} holds dates{column}; expected numbers. Convert them, for example to days "
                "since a date or to month and weekday, or drop them."
            )


def as_numbers(values: Any, name: str) -> NDArray[Any]:
    """An array of real numbers, float32 or float64 where the values are.

    Parameters
    ----------
    values : array-like
        Array, frame (its types nullable, Arrow or object) or nested lists.
    name : str
        What to call it in errors.

    Raises
    ------
    InvalidInputError
        If it is masked, ragged, or holds dates, text or complex numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> as_numbers(pd.DataFrame({"a": [1, 2]}, dtype="Int64"), "X").dtype
    dtype('float64')
    """
    check_values(values, name)
    if _of_pandas(values) and hasattr(values, "columns"):
        kinds = {kind for _, kind, _ in _columns(values)}
        if kinds and kinds <= set("fiub"):
            single = all(getattr(t, "itemsize", 8) == 4 and t.kind == "f" for t in values.dtypes)
            dtype = np.float32 if single else np.float64
            return np.asarray(values.to_numpy(dtype=dtype, na_value=np.nan))
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InvalidInputError(f"{name} is not a rectangular array: {error}") from error
    if array.dtype == object:
        return _from_objects(array, name)
    if array.dtype.kind not in "fiub":
        raise InvalidInputError(
            f"{name} must hold real numbers, found dtype {array.dtype}; encode text and split "
            "complex numbers first."
        )
    return array


def _from_objects(array: NDArray[Any], name: str) -> NDArray[np.float64]:
    """Objects that are numbers or missing."""
    for value in array.flat:
        # Decimal counts itself to no kind of numbers but Number.
        real = isinstance(value, numbers.Number) and not isinstance(value, complex)
        if not real and not _missing(value):
            raise InvalidInputError(
                f"{name} must hold real numbers, found {type(value).__name__} such as "
                f"{str(value)[:40]!r}; encode text and split complex numbers first."
            )
    given = [np.nan if _missing(value) else float(value) for value in array.flat]
    return np.array(given, dtype=np.float64).reshape(array.shape)


def _missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _of_pandas(values: Any) -> bool:
    return type(values).__module__.partition(".")[0] == "pandas"


def _columns(values: Any) -> list[tuple[str, str, Any]]:
    """Words that name each column, its kind of type, and its values; one without a name."""
    if not _of_pandas(values):
        if hasattr(values, "columns") and hasattr(values, "dtypes"):  # another kind of frame
            values = np.asarray(values)
        elif isinstance(values, list | tuple):
            values = _first_objects(values)
        kind = getattr(getattr(values, "dtype", None), "kind", "")
        return [("", kind, values)]
    if not hasattr(values, "columns"):
        return [("", _kind(getattr(values, "dtype", None)), values)]
    return [
        (f" in column {column!r}", _kind(dtype), values.iloc[:, i])
        for i, (column, dtype) in enumerate(zip(values.columns, values.dtypes, strict=True))
    ]


def _first_objects(values: Any) -> Any:
    """The first few of nested lists, as objects: enough to see what they hold."""
    first = [list(v)[:64] if isinstance(v, list | tuple) else [v] for v in list(values)[:64]]
    return np.array([part for row in first for part in row] + [None], dtype=object)


def _kind(dtype: Any) -> str:
    """The kind of a type of NumPy or pandas; dates of Arrow and periods are objects there."""
    name = str(dtype)
    if name.startswith(("date", "time", "duration", "period", "interval")):
        return "M"
    return str(getattr(dtype, "kind", ""))


def _holds_dates(values: Any) -> bool:
    return any(isinstance(value, _DATES) for value in np.asarray(values, dtype=object).flat)
