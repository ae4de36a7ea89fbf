"""The matrix of a tile store as an operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.backends.base import CPU
from kernreg.exceptions import StoreError
from kernreg.operators.base import Operator, rounding_of
from kernreg.operators.inputs import common_dtype
from kernreg.operators.matrix import MatrixOperator
from kernreg.operators.mirrored import Tile, add_half
from kernreg.operators.parts import bounds, row_numbers

if TYPE_CHECKING:
    from kernreg.operators.store.store import TileStore

__all__ = ["StoredOperator"]


class StoredOperator(Operator):
    """A complete :class:`~kernreg.operators.TileStore`, read tile by tile.

    Parameters
    ----------
    store : TileStore
        The store.
    dtype : dtype, optional
        Of the entries; that of the store if left out (float32 for bfloat16).
    exact : KernelOperator, optional
        The operator that was stored; see :meth:`TileStore.operator`.

    Notes
    -----
    ``astype("float64")`` gives ``exact`` in float64 where there is one, otherwise the stored
    numbers: a solver then refines towards the solution of the rounded matrix, and warns where the
    ridge is too small for that. Memory: two tiles and what is asked for.

    Examples
    --------
    >>> import tempfile
    >>> from kernreg.operators import KernelOperator, TileStore
    >>> exact = KernelOperator("mlp(depth=1)", np.eye(3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = TileStore.create(folder, exact, dtype="float32")
    ...     count = store.write(exact)
    ...     K = store.operator(exact)
    ...     K.dtype, type(K.astype("float64")).__name__  # of refinement
    (dtype('float32'), 'KernelOperator')
    """

    device = CPU

    def __init__(
        self, store: TileStore, dtype: DTypeLike | None = None, exact: Operator | None = None
    ) -> None:
        if exact is not None:
            store.require(exact)
        pending = store.pending()
        if pending:
            raise StoreError(
                f"{store.path} is incomplete: {len(pending)} of {len(store.tiles())} tiles are to "
                "do. Write the store again, which does those tiles only."
            )
        self.store = store
        self._original, self.reevaluates = exact, exact is not None
        self.shape = store.shape
        self.symmetric = store.symmetric
        self.dtype = common_dtype(store.entries if dtype is None else dtype)

    def __repr__(self) -> str:
        return f"<StoredOperator {self.shape[0]} x {self.shape[1]} {self.dtype} {self.store.path}>"

    @property
    def rounding(self) -> float:
        """How far entries err from those that were stored, as a share of themselves."""
        return rounding_of(self.store.dtype)

    def fingerprint(self) -> str:
        """That of the operator that was stored, and how its entries are kept."""
        return f"{self.store.fingerprint} {self.store.dtype}"

    def astype(self, dtype: DTypeLike) -> Operator:
        """The same matrix with entries of another floating type."""
        wanted = common_dtype(dtype)
        if wanted == self.dtype:
            return self
        if self._original is not None and wanted == np.float64:
            return self._original.astype(wanted)
        return StoredOperator(self.store, wanted, self._original)

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix, of shape (rows, columns); slices without a step."""
        (i0, i1), (j0, j1) = bounds(rows, self.shape[0]), bounds(cols, self.shape[1])
        size = self.store.tile

        def fill(target: Tensor) -> None:
            values = target.numpy()
            for row in range(i0 // size, -(-i1 // size)):
                for column in range(j0 // size, -(-j1 // size)):
                    top, left = row * size, column * size
                    block = self.store.read(row, column)
                    a0, a1 = max(i0, top), min(i1, top + size)
                    b0, b1 = max(j0, left), min(j1, left + size)
                    part = block[a0 - top : a1 - top, b0 - left : b1 - left]
                    values[a0 - i0 : a1 - i0, b0 - j0 : b1 - j0] = part

        return self._written(out, (i1 - i0, j1 - j0), fill)

    def rows(self, index: ArrayLike) -> NDArray[Any]:
        """Whole rows by number, of shape (m, n2)."""
        numbers = row_numbers(index, self.shape[0])
        result = np.empty((len(numbers), self.shape[1]), dtype=self.dtype)
        size = self.store.tile
        for row in np.unique(numbers // size):
            chosen = np.flatnonzero(numbers // size == row)
            for left in range(0, self.shape[1], size):
                block = self.store.read(int(row), left // size)
                result[chosen, left : left + size] = block[numbers[chosen] - row * size]
        return result

    def in_memory(self, index: ArrayLike) -> MatrixOperator:
        """The symmetric matrix of some rows alone; reads the tiles that they lie in."""
        self._require_symmetric("in_memory")
        numbers = row_numbers(index, self.shape[0])
        matrix = np.empty((len(numbers), len(numbers)), dtype=self.dtype)
        for start in range(0, len(numbers), self.store.tile):
            part = slice(start, start + self.store.tile)
            matrix[part] = self.rows(numbers[part])[:, numbers]
        return MatrixOperator(matrix)

    def diagonal(self) -> NDArray[Any]:
        """The diagonal, shape (n,); reads the tiles on it."""
        self._require_symmetric("diagonal")
        size = self.store.tile
        parts = [self.store.read(k, k).diagonal() for k in range(-(-self.shape[0] // size))]
        return np.concatenate(parts).astype(self.dtype)

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns of shape (n2, t); reads each tile once."""
        product = torch.zeros((self.shape[0], columns.shape[1]), dtype=columns.dtype)
        add_half(self._read(columns.dtype), columns.T, product.T, mirrored=self.symmetric, add=_add)
        return product

    def _read(self, kind: torch.dtype) -> Iterator[Tile]:
        for row, column in self.store.tiles():
            i0, _, j0, _ = self.store.bounds(row, column)
            yield i0, j0, torch.from_numpy(self.store.read(row, column)).to(kind)


def _add(result: Tensor, lines: Tensor, tile: Tensor) -> None:
    """Add ``lines @ tile`` by its transpose, which is what columns in memory are."""
    result += (tile.T @ lines.T).T
