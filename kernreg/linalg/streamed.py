"""The kernel matrix of rows that are read from a file when an entry needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.linalg.inputs import check_network, common_dtype, kernel_names
from kernreg.linalg.operator import KernelOperator
from kernreg.linalg.parts import Parts, Rows, row_numbers
from kernreg.linalg.sources import as_source, chosen_rows
from kernreg.nn import Layer

__all__ = ["StreamedOperator"]

_ROWS = 2**16
_TILE = 2**13


class StreamedOperator(Parts):
    """Symmetric kernel matrix of rows that stay where they are.

    Parameters
    ----------
    net : Layer
        The network.
    source : RowSource or ndarray of shape (n, d)
        For instance a :class:`ParquetRows`, or ``numpy.load(path, mmap_mode="r")``.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : dtype, optional
        Of the entries, float32 or float64; that of the rows if left out.
    **options : object
        ``device``, ``backend``, ``exact`` and ``precision`` of :class:`KernelOperator`.

    Attributes
    ----------
    shape : tuple of int
        ``(n, n)``.
    dtype : dtype
        Of the entries.

    Raises
    ------
    InvalidInputError
        If source or arguments cannot be used. What the rows hold is checked when they are read.

    Notes
    -----
    For :class:`Restricted` and :class:`SketchAndProject`, which take a matrix in parts. Memory is
    that of the rows of a part.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import nn
    >>> K = StreamedOperator(nn.mlp(depth=1), np.eye(4, dtype=np.float32))
    >>> K.shape, K.part(slice(0, 2), [3]).shape
    ((4, 4), (2, 1))
    """

    symmetric = True

    def __init__(
        self,
        net: Layer,
        source: Any,
        kernel: str = "ntk",
        *,
        dtype: DTypeLike | None = None,
        **options: Any,
    ) -> None:
        check_network(net)
        (self.kernel,) = kernel_names(kernel, single=True)
        self.net = net
        self.source = as_source(source)
        self.dtype = common_dtype(self.source.dtype if dtype is None else dtype)
        self._options = options
        self.shape = (self.source.shape[0], self.source.shape[0])
        first = self._between(self._points(slice(0, 1)), None)
        self.device = first.device

    def diagonal(self) -> NDArray[Any]:
        """The kernel of each row with itself, by one pass over the rows."""
        n = self.shape[0]
        starts = range(0, n, _ROWS)
        return np.concatenate([self.take(slice(i, min(i + _ROWS, n))).diagonal() for i in starts])

    def rows(self, index: ArrayLike) -> NDArray[Any]:
        """Whole rows by number, of shape (m, n), by one pass over the data."""
        numbers, n = row_numbers(index, self.shape[0]), self.shape[0]
        out = np.empty((len(numbers), n), dtype=self.dtype)
        for i in range(0, n, _ROWS):
            columns = slice(i, min(i + _ROWS, n))
            out[:, columns] = self.part(numbers, columns)
        return out

    def __matmul__(self, V: NDArray[Any]) -> NDArray[Any]:
        """Product with a vector or matrix of shape (n, t), in the wider of both types.

        Each pair of rows is evaluated once; the data are read ``n / 8192`` times, half of them.
        """
        n = self.shape[0]
        if V.ndim not in (1, 2) or len(V) != n:
            raise InvalidInputError(
                f"operands do not fit: {n} x {n} operator and an array of shape {V.shape}."
            )
        kind = np.result_type(self.dtype, V.dtype)
        source = V.reshape(n, -1).astype(kind, copy=False)
        result = np.zeros_like(source)
        for i in range(0, n, _TILE):
            rows = slice(i, min(i + _TILE, n))
            for j in range(0, i + 1, _TILE):
                columns = slice(j, min(j + _TILE, n))
                tile = self.part(rows, columns).astype(kind, copy=False)
                result[rows] += tile @ source[columns]
                if j < i:
                    result[columns] += tile.T @ source[rows]
        return result.reshape(V.shape)

    def astype(self, dtype: DTypeLike) -> StreamedOperator:
        """The same operator with entries of another floating type."""
        return StreamedOperator(self.net, self.source, self.kernel, dtype=dtype, **self._options)

    def _points(self, index: Rows) -> NDArray[Any]:
        return chosen_rows(self.source, index if isinstance(index, slice) else np.asarray(index))

    def _between(self, X1: Any, X2: Any) -> KernelOperator:
        return KernelOperator(self.net, X1, X2, self.kernel, dtype=self.dtype, **self._options)
