"""Files in the svmlight format: a label and the features of a row that are not 0."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from kernreg.datasets.arrays import guarded
from kernreg.datasets.content import utf8
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.sizes import readable
from kernreg.wording import counted

__all__ = ["SVMLIGHT", "read_svmlight"]

SVMLIGHT = (".svm", ".svmlight", ".libsvm")
"""Endings of their names."""


def read_svmlight(
    path: Path, max_memory: int | None, columns: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with their zeros, and labels.

    Parameters
    ----------
    path : Path
        The file, which may be compressed.
    max_memory : int or None
        Bytes that the rows may take.
    columns : int, optional
        Features that a model knows; without it as many as the largest number in the file.

    Returns
    -------
    ndarray of shape (n, d), ndarray of shape (n,)

    Raises
    ------
    InvalidInputError
        If it is no such file, or has more features than a model knows.
    MemoryBudgetError
        If the rows with their zeros take more than is allowed.
    """
    from sklearn.datasets import load_svmlight_file

    text, _ = utf8(path)
    rows, labels = guarded(path, lambda: load_svmlight_file(io.BytesIO(text)))
    n, d = rows.shape
    if columns is not None and d > columns:
        raise InvalidInputError(
            f"{path} has {counted(d, 'feature')}; the model was fitted to {columns:,}."
        )
    width = d if columns is None else columns
    needed = 8 * n * width
    if max_memory is not None and needed > max_memory:
        raise MemoryBudgetError(
            f"{path} takes {readable(needed)} with its zeros ({counted(n, 'row')}, "
            f"{counted(width, 'feature')}), {readable(max_memory)} are allowed: raise "
            "--max-memory, or fit KernelRegressor in Python, which takes sparse rows as they are."
        )
    rows.resize(n, width)
    return rows.toarray(), labels
