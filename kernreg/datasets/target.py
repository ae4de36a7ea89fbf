"""Whether a target asks for regression or for classification, and as what it is learned."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from kernreg.datasets.columns import kind_of, spoiled
from kernreg.datasets.text import are_dates, as_booleans, as_numbers
from kernreg.exceptions import InvalidInputError
from kernreg.wording import counted

__all__ = ["MAX_AUTO_CLASSES", "Task", "decide_target"]

Task = Literal["regression", "classification"]
MAX_AUTO_CLASSES = 20


def decide_target(
    y: np.ndarray, name: str | None, wanted: str | None
) -> tuple[np.ndarray, Task, str]:
    """The target as numbers or labels, the task, and a note if the task was guessed.

    Parameters
    ----------
    y : ndarray of shape (n,)
        Numbers, booleans or text.
    name : str or None
        Its name, for messages.
    wanted : {"regression", "classification"} or None
        The task; guessed if None.

    Raises
    ------
    InvalidInputError
        For missing values, dates, numbers with marks, and a target that does not suit the task.
    """
    missing = int(pd.isna(y).sum()) if y.dtype.kind in "Ofc" else 0
    if missing:
        raise InvalidInputError(
            f"The target {name!r} is missing or NaN in {counted(missing, 'row')}; drop such rows."
        )
    text = y.dtype.kind in "US" or (y.dtype.kind == "O" and _is_text(y))
    if not text and y.dtype.kind not in "biuf":
        dated = y.dtype.kind == "O" and all(isinstance(v, datetime.date | datetime.time) for v in y)
        raise InvalidInputError(
            f"The target {name!r} holds {'dates' if dated else kind_of(y.dtype)}; expected numbers "
            "or text."
        )
    if text:
        try:
            y = y.astype(str)
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"The target {name!r} holds bytes that are no ASCII text; store it as text."
            ) from None
        y, text = _text_target(y, name, wanted)
    if not text and not np.isfinite(y).all():
        raise InvalidInputError(f"The target {name!r} has infinite values; drop such rows.")
    values = np.unique(y)
    if len(values) == 1:
        raise InvalidInputError(
            f"The target {name!r} has the same value, {values[0]}, in all {len(y):,} rows: there "
            "is nothing to learn."
        )
    whole = text or y.dtype.kind == "b" or bool((y == np.round(y)).all())
    note = ""
    if wanted is None:
        few = len(values) <= min(MAX_AUTO_CLASSES, max(2, len(y) // 2))
        classes = text or y.dtype.kind == "b" or (whole and few)
        wanted = "classification" if classes else "regression"
        note = f"The task is {wanted}: the target has {len(values):,} values; see --task."
    if wanted == "regression":
        if text:
            raise InvalidInputError(
                f"The target {name!r} holds text such as {str(y[0])!r}; regression needs numbers."
            )
        return y.astype(np.float64), "regression", note
    if not whole:
        raise InvalidInputError(
            f"The target {name!r} has {len(values)} fractional values; classification needs text "
            "or whole numbers. Use --task regression."
        )
    if len(values) > len(y) / 2:
        other = "" if text else " If they are numbers, use --task regression."
        raise InvalidInputError(
            f"The target {name!r} has {len(values)} classes in {len(y)} rows; most classes would "
            f"have one row. Choose another target.{other}"
        )
    if y.dtype.kind == "f" and np.abs(y).max() < 2**53:
        y = y.astype(np.int64)
    return y, "classification", note


def _text_target(y: np.ndarray, name: str | None, wanted: str | None) -> tuple[np.ndarray, bool]:
    """Text as labels, or as the numbers that it stands for; and whether it is text."""
    column = pa.chunked_array([pa.array(y.tolist(), pa.string())])
    numbers = as_numbers(column)
    few = len(np.unique(y)) <= MAX_AUTO_CLASSES
    if numbers is not None and (wanted == "regression" or (wanted is None and not few)):
        return numbers, False
    if wanted == "regression":
        truth = as_booleans(column)
        if truth is not None:
            return truth, False
    values = dict(sorted(Counter(y.tolist()).items()))
    if are_dates(values):
        raise InvalidInputError(
            f"The target {name!r} holds dates such as {str(y[0])!r}; replace it by numbers, or "
            "choose another with --target."
        )
    problem = None if wanted == "classification" or numbers is not None else spoiled(values)
    if problem is not None:
        labels = "" if wanted else ", or say --task classification if they are labels"
        raise InvalidInputError(f"The target {name!r} {problem}{labels}.")
    return y, True


def _is_text(y: np.ndarray) -> bool:
    return all(isinstance(v, str | bool | np.bool_) for v in y)
