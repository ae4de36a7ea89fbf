"""Sparse rows: arrays of SciPy that count their rows, and do what backends ask of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError

__all__ = [
    "AnyRows",
    "SparseRows",
    "dense_rows",
    "for_engine",
    "numbers_per_row",
    "sparse_or_as_it_is",
]

_WIDE = 2**16


class SparseRows(scipy.sparse.csr_array):
    """Rows of SciPy's kind with a length, as the rows of a matrix have.

    The features of each row are in order, none of them twice, and none of them 0.

    Examples
    --------
    >>> X = SparseRows.of(scipy.sparse.coo_array(np.eye(3)), np.float64)
    >>> len(X), X[1:].toarray().tolist()
    (3, [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    """

    device = torch.device("cpu")

    @classmethod
    def of(cls, X: Any, dtype: Any) -> Self:
        """From a sparse matrix of any kind; shares its memory where nothing has to change."""
        given = scipy.sparse.csr_array(X)
        if not given.has_canonical_format or not given.data.all():
            given = given.copy()
            given.sum_duplicates()  # in their own type, as SciPy does elsewhere
            given.eliminate_zeros()
        return cls(given, dtype=dtype)

    @classmethod
    def from_parts(cls, values: Any, start: Any, features: Any, columns: int) -> Self:
        """Inverse of :meth:`parts`; ValueError where these are no rows."""
        start, features = np.asarray(start), np.asarray(features)
        whole = start.dtype.kind == "i" and features.dtype.kind == "i" and columns > 0
        fits = whole and values.ndim == start.ndim == features.ndim == 1 and len(start) > 1
        fits = fits and start[0] == 0 and start[-1] == len(values) == len(features)
        fits = fits and bool((np.diff(start) >= 0).all())
        if fits and len(features):
            first = np.zeros(len(features), dtype=bool)
            first[start[:-1][np.diff(start) > 0]] = True
            fits = features.min() >= 0 and features.max() < columns
            fits = fits and bool((first[1:] | (np.diff(features) > 0)).all())
        if not fits:
            raise ValueError("malformed sparse rows")
        return cls((values, features, start), shape=(len(start) - 1, columns))

    def groups(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Of each distinct row where it first appears, in order, and which of these each row is."""
        known: dict[tuple[bytes, bytes], int] = {}
        first: list[int] = []
        group = np.empty(len(self), dtype=np.intp)
        for i in range(len(self)):
            part = slice(self.indptr[i], self.indptr[i + 1])
            key = self.indices[part].tobytes(), self.data[part].tobytes()
            group[i] = known.setdefault(key, len(known))
            if group[i] == len(first):
                first.append(i)
        return np.array(first, dtype=np.intp), group

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(index.numpy() if isinstance(index, Tensor) else index)

    def split(self, rows: int) -> Iterator[SparseRows]:
        """Blocks of so many rows."""
        for start in range(0, len(self), rows):
            yield self[start : start + rows]

    def lengths(self) -> Tensor:
        """Length of each row, in float64; squares neither overflow nor underflow."""
        values = np.abs(self.data.astype(np.float64))
        top = np.zeros(len(self))
        filled = np.flatnonzero(np.diff(self.indptr))
        if len(filled):
            top[filled] = np.maximum.reduceat(values, self.indptr[filled])
        unit = np.where(top == 0, 1.0, top)
        row = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        squares = np.bincount(row, (values / unit[row]) ** 2, minlength=len(self))
        return torch.from_numpy(top * np.sqrt(squares))

    def over(self, length: Tensor, dtype: torch.dtype) -> SparseRows:
        """The rows over their ``length``, rounded once; rows of zeros stay."""
        row = np.repeat(np.arange(len(self)), np.diff(self.indptr))
        divisor = torch.where(length == 0, 1.0, length).numpy()
        values = self.data.astype(np.float64) / divisor[row]
        kind = np.float32 if dtype == torch.float32 else np.float64
        return SparseRows((values.astype(kind), self.indices, self.indptr), shape=self.shape)

    def parts(self) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64], int]:
        """Values, where rows begin, features, and their number."""
        start = self.indptr.astype(np.int64, copy=False)
        return self.data, start, self.indices.astype(np.int64, copy=False), int(self.shape[1])


AnyRows = Tensor | SparseRows
"""Rows that backends take."""


def for_engine(sides: Sequence[AnyRows]) -> list[Any]:
    """Rows and columns as the extension takes them: arrays, or parts of sparse rows.

    Features that no row has are left out where there are many, as tiles number all of them.
    """
    sparse = [X for X in sides if isinstance(X, SparseRows)]
    return _parts(sparse) if sparse else [X.numpy() for X in sides if isinstance(X, Tensor)]


def _parts(sides: list[SparseRows]) -> list[tuple[Any, ...]]:
    """Values, starts, features and their number."""
    indices, columns = [X.indices for X in sides], sides[0].shape[1]
    if columns > max(_WIDE, sum(X.nnz for X in sides)):
        used = np.unique(np.concatenate(indices))
        indices, columns = [np.searchsorted(used, i) for i in indices], max(1, len(used))
    if columns > np.iinfo(np.int32).max:
        raise InvalidInputError(
            f"The sparse rows have values in {columns:,} columns, at most 2^31 - 1 are for tiles: "
            "hash them to fewer."
        )
    return [
        (X.data, X.indptr.astype(np.int64, copy=False), i.astype(np.int32, copy=False), columns)
        for X, i in zip(sides, indices, strict=True)
    ]


def sparse_or_as_it_is(X: Any) -> Any:
    """Rows with a length where they are sparse; anything else as it is."""
    return SparseRows.of(X, X.dtype) if scipy.sparse.issparse(X) else X


def numbers_per_row(X: Any) -> int:
    """Numbers that a row of data takes: of sparse rows their values, and features at half a number.

    Examples
    --------
    >>> numbers_per_row(np.ones((3, 4))), numbers_per_row(SparseRows.of(np.eye(3), float))
    (4, 2)
    """
    if not isinstance(X, SparseRows):
        return int(X.shape[1])
    return max(1, -(-3 * X.nnz // (2 * len(X))))


def dense_rows(X: AnyRows) -> Tensor:
    """Rows with their zeros."""
    return X if isinstance(X, Tensor) else torch.from_numpy(X.toarray())
