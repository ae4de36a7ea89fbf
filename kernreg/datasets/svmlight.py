"""Files in the svmlight format: a label and the features of a row that are not 0."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kernreg.datasets.arrays import guarded
from kernreg.datasets.content import utf8
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.sizes import readable
from kernreg.wording import counted

__all__ = ["SVMLIGHT", "read_svmlight"]

SVMLIGHT = (".svm", ".svmlight", ".libsvm")
"""Endings of their names."""


def read_svmlight(
    path: Path, max_memory: int | None, known: Sequence[str] = ()
) -> tuple[pd.DataFrame, np.ndarray]:
    """Rows with their zeros, and labels.

    Parameters
    ----------
    path : Path
        The file, which may be compressed.
    max_memory : int or None
        Bytes that the rows may take.
    known : sequence of str
        Numbers of the features that a model knows; without them they begin at 0 where the file has
        a feature 0, else at 1, and end with the largest number in it.

    Returns
    -------
    DataFrame of shape (n, d), ndarray of shape (n,)
        Columns are named by their numbers.

    Raises
    ------
    InvalidInputError
        If it is no such file, or has features that a model does not know.
    MemoryBudgetError
        If the rows with their zeros take more than is allowed, or than there is.
    """
    from sklearn.datasets import load_svmlight_file

    text, _ = utf8(path)
    # As numbered in the file: what begins at 1 has nothing in the first column.
    rows, labels = guarded(path, lambda: load_svmlight_file(io.BytesIO(text), zero_based=True))
    n, d = rows.shape
    first = int(known[0]) if known else int(rows.indices.size == 0 or rows.indices.min() > 0)
    width = len(known) or d - first
    if width < 1:
        raise InvalidInputError(f"{path} has no features.")
    if d - first > width or (rows.indices.size and rows.indices.min() < first):
        raise InvalidInputError(
            f"{path} has features up to {d - 1:,} from {int(rows.indices.min())} on; the model was "
            f"fitted to {first} to {first + width - 1:,}."
        )
    needed = 8 * n * width
    try:
        if max_memory is not None and needed > max_memory:
            raise MemoryError
        rows.resize(n, first + width)
        X = rows[:, first:].toarray()
    except MemoryError:
        allowed = "there is" if max_memory is None else f"{readable(max_memory)} are allowed"
        raise MemoryBudgetError(
            f"{path} takes {readable(needed)} with its zeros ({counted(n, 'row')}, "
            f"{counted(width, 'feature')}), more than {allowed}: raise --max-memory, or fit "
            "KernelRegressor in Python, which takes sparse rows as they are."
        ) from None
    return pd.DataFrame(X, columns=[str(first + k) for k in range(width)]), labels
