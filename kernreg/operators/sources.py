"""Rows of data that need not fit into memory: arrays, memory maps, Parquet files."""

from __future__ import annotations

import bisect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["ArrayRows", "ParquetRows", "RowSource", "as_source", "chosen_rows"]


@runtime_checkable
class RowSource(Protocol):
    """Rows that are read when they are asked for.

    Parameters
    ----------
    shape : tuple of int
        ``(n, d)``.
    dtype : dtype
        Of the rows, float32 or float64.

    Examples
    --------
    >>> isinstance(ArrayRows(np.eye(3)), RowSource), isinstance(np.eye(3), RowSource)
    (True, False)
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``[start, stop)``, an array of shape (stop - start, d) that the caller may keep."""

    def take(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number, ascending, of shape (m, d)."""


class ArrayRows:
    """Rows of an array in memory or of a memory-mapped file.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        For instance ``numpy.load(path, mmap_mode="r")``; never copied as a whole.

    Raises
    ------
    InvalidInputError
        If it is not a matrix of real numbers with at least one row and one column.

    Examples
    --------
    >>> ArrayRows(np.eye(3)).rows(1, 2)
    array([[0., 1., 0.]])
    """

    def __init__(self, X: NDArray[Any]) -> None:
        if X.ndim != 2 or 0 in X.shape or X.dtype.kind not in "fiub":
            raise InvalidInputError(
                f"expected a matrix of real numbers of shape (n, d), found dtype {X.dtype} of "
                f"shape {X.shape}"
            )
        self._X = X
        self.shape = (int(X.shape[0]), int(X.shape[1]))
        self.dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``[start, stop)``."""
        return np.array(self._X[start:stop], dtype=self.dtype)

    def take(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number."""
        return np.array(self._X[numbers], dtype=self.dtype)


class ParquetRows:
    """Rows of a Parquet file, one row group in memory at a time.

    Parameters
    ----------
    path : path-like
        The file.
    columns : sequence of str, optional
        Which columns, in which order; all if left out. They must hold numbers.
    dtype : {"float32", "float64"}
        Of the rows.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    InvalidInputError
        If it is no Parquet file, has no rows, lacks a column, or a column holds no numbers.

    Notes
    -----
    Memory: one row group, and the last one that was read is kept. Write files for this with row
    groups of 10,000 to 100,000 rows.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "rows.parquet"
    ...     pd.DataFrame({"a": [1.0, 2.0], "y": [0.0, 1.0]}).to_parquet(path)
    ...     ParquetRows(path, ["a"]).rows(0, 2)
    array([[1.],
           [2.]], dtype=float32)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        dtype: str = "float32",
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = Path(path)
        try:
            self._file = pq.ParquetFile(self.path)
        except pa.ArrowInvalid as error:
            raise InvalidInputError(f"{self.path} is no Parquet file: {error}") from error
        schema = self._file.schema_arrow
        self.columns = list(schema.names if columns is None else columns)
        missing = [name for name in self.columns if name not in schema.names]
        if missing:
            raise InvalidInputError(
                f"{self.path} has no column {missing[0]!r}; it has {', '.join(schema.names)}"
            )
        for name in self.columns:
            kind = schema.field(name).type
            if not (
                pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
            ):
                raise InvalidInputError(
                    f"{self.path}: column {name!r} holds {kind}, expected numbers: encode it, or "
                    "name the columns to use"
                )
        meta = self._file.metadata
        self._ends = np.cumsum(
            [meta.row_group(k).num_rows for k in range(meta.num_row_groups)], dtype=np.int64
        ).tolist()
        self.shape = (int(meta.num_rows), len(self.columns))
        if 0 in self.shape:
            raise InvalidInputError(f"{self.path} is empty: shape {self.shape}")
        self.dtype = np.dtype(dtype)
        if self.dtype.name not in ("float32", "float64"):
            raise InvalidInputError(f"expected dtype float32 or float64, found {dtype!r}")
        self._last: tuple[int, NDArray[Any]] = (-1, np.empty((0, 0), dtype=self.dtype))

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Rows ``[start, stop)``."""
        return self.take(np.arange(start, stop))

    def take(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        """Rows by number, ascending: each row group is read once."""
        out = np.empty((len(numbers), self.shape[1]), dtype=self.dtype)
        done = 0
        while done < len(numbers):
            group = bisect.bisect_right(self._ends, int(numbers[done]))
            end = int(np.searchsorted(numbers, self._ends[group]))
            first = self._ends[group - 1] if group else 0
            out[done:end] = self._group(group)[numbers[done:end] - first]
            done = end
        return out

    def _group(self, number: int) -> NDArray[Any]:
        if self._last[0] != number:
            table = self._file.read_row_group(number, columns=self.columns, use_threads=False)
            values = np.empty((table.num_rows, len(self.columns)), dtype=self.dtype)
            for j, name in enumerate(self.columns):
                # Missing values become NaN, which is refused with the number of its row.
                values[:, j] = table.column(name).to_numpy()
            self._last = (number, values)
        return self._last[1]


def as_source(X: Any) -> RowSource:
    """``X`` itself if it is a source of rows, otherwise the rows of an array."""
    return X if isinstance(X, RowSource) else ArrayRows(np.asarray(X))


def chosen_rows(source: RowSource, index: slice | NDArray[np.int64]) -> NDArray[Any]:
    """Rows of a source by slice or by numbers in any order, all finite.

    Raises
    ------
    InvalidInputError
        If one holds NaN or infinity.
    """
    if isinstance(index, slice):
        numbers = np.arange(*index.indices(source.shape[0]))
        values = source.rows(int(numbers[0]), int(numbers[-1]) + 1) if len(numbers) else None
        values = np.empty((0, source.shape[1]), source.dtype) if values is None else values
    else:
        numbers, back = np.unique(index, return_inverse=True)
        values = source.take(numbers)[back]
        numbers = index
    if not np.isfinite(values.sum()):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            row = int(numbers[np.flatnonzero(bad)[0]])
            raise InvalidInputError(
                f"X contains NaN or infinity (first in row {row}); drop or impute them."
            )
    return values
