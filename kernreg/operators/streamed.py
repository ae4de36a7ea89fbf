"""The kernel matrix of rows that are read from a file when an entry needs them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.nn import Layer
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.fingerprint import fingerprint
from kernreg.operators.inputs import KINDS, check_network, common_dtype, kernel_names
from kernreg.operators.kernel import KernelOperator
from kernreg.operators.parts import Parts, Rows, row_numbers
from kernreg.operators.sources import as_source, chosen_rows

__all__ = ["StreamedOperator"]

# Rows that are read at once: as many as take this share of a panel's memory, within bounds. A
# product reads the data once for each so many rows.
_SHARE, _FEWEST, _MOST = 4, 2**10, 2**16
# Reads that are kept: the rows of a part, and those that all parts of a loop have in common.
_HELD = 2


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
    n_features : int
        Numbers per row of the data.

    Raises
    ------
    InvalidInputError
        If source or arguments cannot be used. What the rows hold is checked when they are read.

    Notes
    -----
    For :class:`Restricted` and :class:`SketchAndProject`, which take a matrix in parts. Memory is
    that of the rows of the last two parts; so rows that many parts have in common are read once.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import nn
    >>> K = StreamedOperator(nn.mlp(depth=1), np.eye(4, dtype=np.float32))
    >>> K.shape, K.part(slice(0, 2), [3]).shape
    ((4, 4), (2, 1))
    """

    symmetric = True
    fused = False

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
        self.n_features = self.source.shape[1]
        self._height = max(_FEWEST, min(_MOST, PANEL_BYTES // (_SHARE * 8 * self.n_features)))
        self._held: dict[Any, NDArray[Any]] = {}
        self._first = self._between(self._points(slice(0, 1)), None)
        self.device = self._first.device

    def __repr__(self) -> str:
        n = self.shape[0]
        return f"<StreamedOperator {self.kernel} {n} x {n} {self.dtype.name}>"

    def settings(self) -> str:
        """Network, kernel and the options that change entries by more than rounding, as JSON."""
        return self._first.settings()

    def fingerprint(self) -> str:
        """That of a :class:`KernelOperator` on the same rows, by one pass over them."""
        header = f"{KINDS[self.source.dtype.name]} {self.source.shape}"
        return fingerprint(self.settings(), (header, map(self._points, self._slices(0))), None)

    def diagonal(self) -> NDArray[Any]:
        """The kernel of each row with itself, by one pass over the rows."""
        return np.concatenate([self.take(rows).diagonal() for rows in self._slices(0)])

    def rows(self, index: ArrayLike) -> NDArray[Any]:
        """Whole rows by number, of shape (m, n), by one pass over the data."""
        numbers, n = row_numbers(index, self.shape[0]), self.shape[0]
        out = np.empty((len(numbers), n), dtype=self.dtype)
        for columns in self._slices(0):
            out[:, columns] = self.part(numbers, columns)
        return out

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix; slices have no step."""
        return self.part(rows, cols, out)

    def lower_panel(self, i0: int, i1: int, out: Any = None) -> Any:
        """Rows ``[i0, i1)`` up to and including the block on the diagonal."""
        out = np.empty((i1 - i0, i1), dtype=self.dtype) if out is None else out
        own = self._points(slice(i0, i1))
        for columns in self._slices(0, i0):
            self._between(own, self._points(columns)).to_dense(out[:, columns])
        self._between(own, None).to_dense(out[:, i0:])
        return out

    def to_dense(self, out: Any = None) -> Any:
        """The whole matrix."""
        return self.tile(slice(None), slice(None), out)

    def __matmul__(self, V: NDArray[Any]) -> NDArray[Any]:
        """Product with a vector or matrix of shape (n, t), in the wider of both types.

        Each pair of rows is evaluated once; half the data are read for each 1,024 to 65,536 rows,
        as many as take 16 MiB.
        """
        n = self.shape[0]
        if V.ndim not in (1, 2) or len(V) != n:
            raise InvalidInputError(
                f"operands do not fit: {n} x {n} operator and an array of shape {V.shape}."
            )
        product = self.lower_times(np.ascontiguousarray(V.reshape(n, -1).T), (0, n))
        return np.ascontiguousarray(product.T).reshape(V.shape)

    def lower_times(self, lines: NDArray[Any], rows: tuple[int, int]) -> NDArray[Any]:
        """What some rows of the lower half, and by symmetry their columns, give to ``lines @ K``.

        Parameters
        ----------
        lines : ndarray of shape (t, n)
            The operand.
        rows : tuple of int
            ``(start, stop)``.

        Returns
        -------
        ndarray of shape (t, n)
        """
        source = lines.astype(np.result_type(self.dtype, lines.dtype), copy=False)
        result = np.zeros_like(source)
        for own in self._slices(*rows):
            points = self._points(own)
            for other in self._slices(0, own.start):
                _add(self._between(points, self._points(other)), own, other, source, result)
            _add(self._between(points, None), own, own, source, result)
        return result

    def astype(self, dtype: DTypeLike) -> StreamedOperator:
        """The same operator with entries of another type; both share the rows that are held."""
        made = copy.copy(self)
        made.dtype = common_dtype(dtype)
        made._first = self._first.astype(dtype)
        return made

    def _slices(self, start: int, stop: int | None = None) -> Iterator[slice]:
        """Rows ``[start, stop)``, all from ``start`` on if it is left out, as they are read."""
        stop = self.shape[0] if stop is None else stop
        for i in range(start, stop, self._height):
            yield slice(i, min(i + self._height, stop))

    def _points(self, index: Rows) -> NDArray[Any]:
        if isinstance(index, slice):
            key: Any = index.indices(self.shape[0])
        else:
            index = np.asarray(index)
            key = index.tobytes()
        found = self._held.pop(key, None)
        if found is None:
            if len(self._held) == _HELD:
                del self._held[next(iter(self._held))]
            found = chosen_rows(self.source, index)
        self._held[key] = found
        return found

    def _between(self, X1: Any, X2: Any) -> KernelOperator:
        return KernelOperator(self.net, X1, X2, self.kernel, dtype=self.dtype, **self._options)


def _add(
    block: KernelOperator,
    rows: slice,
    columns: slice,
    source: NDArray[Any],
    result: NDArray[Any],
) -> None:
    """Add to ``result`` what a block and its mirror image give to ``source @ K``, tile by tile.

    Of a symmetric block, which is its own mirror image, the lower half is evaluated.
    """
    height, width = block.shape
    copied = 0 if block.dtype == source.dtype else source.dtype.itemsize
    step = max(1, PANEL_BYTES // (height * (block.dtype.itemsize + copied)))
    buffer = np.empty(height * min(step, width), dtype=block.dtype)
    for a in range(0, width, step):
        b = min(a + step, width)
        # A tile of a symmetric block begins with a square that is on the diagonal.
        top, square = (a, b - a) if block.symmetric else (0, 0)
        tile = buffer[: (height - top) * (b - a)].reshape(height - top, b - a)
        block.tile(slice(top, height), slice(a, b), tile)
        tile = tile.astype(source.dtype, copy=False)
        i, j = slice(rows.start + top, rows.stop), slice(columns.start + a, columns.start + b)
        result[:, i] += source[:, j] @ tile.T
        result[:, j] += source[:, i][:, square:] @ tile[square:]
