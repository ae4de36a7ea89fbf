"""The kernel matrix of rows that are read from a file when an entry needs them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.backends.base import CPU
from kernreg.nn import Layer
from kernreg.operators.base import Rows
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.fingerprint import fingerprint
from kernreg.operators.inputs import check_network, common_dtype, kernel_names
from kernreg.operators.kernel import KernelOperator
from kernreg.operators.mirrored import Tile, add_half
from kernreg.operators.outputs import KINDS
from kernreg.operators.parts import Parts, bounds, row_numbers
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
        for columns in self._slices(0) if len(numbers) else ():
            out[:, columns] = self.part(numbers, columns)
        return out

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix; slices have no step."""
        (i0, i1), (j0, j1) = (bounds(part, self.shape[0]) for part in (rows, cols))
        fill = partial(self.part, slice(i0, i1), slice(j0, j1))
        return self._written(out, (i1 - i0, j1 - j0), fill, CPU)

    def lower_panel(self, i0: int, i1: int, out: Any = None) -> Any:
        """Rows ``[i0, i1)`` up to and including the block on the diagonal."""
        out = np.empty((i1 - i0, i1), dtype=self.dtype) if out is None else out
        own = self._points(slice(i0, i1))
        for columns in self._slices(0, i0):
            self._between(own, self._points(columns)).to_dense(out[:, columns])
        self._between(own, None).to_dense(out[:, i0:])
        return out

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns of shape (n, t).

        Each pair of rows is evaluated once; half the data are read for each 1,024 to 65,536 rows,
        as many as take 16 MiB.
        """
        return self.lower_times(columns.T.contiguous(), (0, self.shape[0])).T.contiguous()

    def lower_times(self, lines: Tensor, rows: tuple[int, int]) -> Tensor:
        """What some rows of the lower half, and by symmetry their columns, give to ``lines @ K``.

        Blocks are made in host memory, and multiplied by NumPy.
        """
        given = lines.cpu().numpy()
        source = given.astype(np.result_type(self.dtype, given.dtype), copy=False)
        tiles = (
            tile
            for own, other, block in self._blocks(rows)
            for tile in _tiles(block, own, other, source.dtype)
        )
        result = add_half(tiles, source, np.zeros_like(source), add=_add)
        return torch.from_numpy(result).to(lines.device)

    def _blocks(self, rows: tuple[int, int]) -> Iterator[tuple[slice, slice, KernelOperator]]:
        """Rows and columns as they are read, and the kernel between them."""
        for own in self._slices(*rows):
            points = self._points(own)
            for other in self._slices(0, own.start):
                yield own, other, self._between(points, self._points(other))
            yield own, own, self._between(points, None)

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


def _add(result: NDArray[Any], lines: NDArray[Any], tile: NDArray[Any]) -> None:
    result += lines @ tile


def _tiles(
    block: KernelOperator, rows: slice, columns: slice, dtype: np.dtype[Any]
) -> Iterator[Tile]:
    """The entries of a block, of a symmetric one those below the top of each tile's columns."""
    height, width = block.shape
    copied = 0 if block.dtype == dtype else dtype.itemsize
    step = max(1, PANEL_BYTES // (height * (block.dtype.itemsize + copied)))
    buffer = np.empty(height * min(step, width), dtype=block.dtype)
    for a in range(0, width, step):
        b = min(a + step, width)
        top = a if block.symmetric else 0
        tile = buffer[: (height - top) * (b - a)].reshape(height - top, b - a)
        block.tile(slice(top, height), slice(a, b), tile)
        yield rows.start + top, columns.start + a, tile.astype(dtype, copy=False)
