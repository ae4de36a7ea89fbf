"""Text among numbers, told by the name of its column."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from kernreg.exceptions import InvalidInputError
from kernreg.wording import is_number

__all__ = ["naming_text"]


@contextlib.contextmanager
def naming_text(X: Any, y: Any = None) -> Iterator[None]:
    """Say which column holds the text that the block fails to convert to numbers.

    Parameters
    ----------
    X : array-like of shape (n_rows, n_features)
        The data that the block converts.
    y : array-like, optional
        Targets that it converts as well.

    Raises
    ------
    InvalidInputError
        In place of NumPy's error about one string.

    Examples
    --------
    >>> with naming_text([["1", "red"]]):
    ...     float("red")
    Traceback (most recent call last):
    kernreg.exceptions.InvalidInputError: Column 1 of X holds text such as 'red'; expected...
    """
    try:
        yield
    except ValueError as error:
        if "could not convert string to float" not in str(error):
            raise
        found = _first_text(X)
        if found is not None:
            raise InvalidInputError(
                f"Column {found[0]} of X holds text such as {found[1]!r}; expected numbers. Encode "
                "it before, for example with sklearn.preprocessing.OneHotEncoder, or drop it."
            ) from error
        found = None if y is None else _first_text(y)
        if found is None:
            raise
        raise InvalidInputError(
            f"y holds text such as {found[1]!r}; expected numbers. Convert it, or predict labels "
            "with KernelClassifier."
        ) from error


def _first_text(data: Any) -> tuple[str, str] | None:
    """Name or number of the first column with text that is no number, and the text."""
    values = np.asarray(data, dtype=object)
    values = values.reshape(len(values), -1)
    names = getattr(data, "columns", range(values.shape[1]))
    for name, column in zip(names, values.T, strict=True):
        for value in column:
            if isinstance(value, str) and not is_number(value):
                return repr(name), value
    return None
