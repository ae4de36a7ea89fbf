"""The tiles of a matrix on disk: where they are, whether they are there, and what they hold."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import StoreError

__all__ = ["KINDS_ON_DISK", "TileArray"]

# Zarr has no bfloat16, so its bits are kept.
KINDS_ON_DISK = {
    "float64": ("float64", "float64"),
    "float32": ("float32", "float32"),
    "bfloat16": ("uint16", "float32"),
}
"""How entries are kept: the name in Zarr, and what they are computed in and read as."""

_CHECKSUM = 4


class TileArray:
    """A Zarr array whose chunks are square tiles, without those above the diagonal if symmetric.

    Parameters
    ----------
    path : Path
        Folder of the array.
    array : zarr.Array
        The array, with one CRC-32C per chunk and no compression.
    dtype : str
        How entries are kept, of ``KINDS_ON_DISK``.
    symmetric : bool
        Whether only tiles on and below the diagonal are kept.
    """

    def __init__(self, path: Path, array: Any, dtype: str, symmetric: bool) -> None:
        self.path = path
        self._array = array
        self.shape = (int(array.shape[0]), int(array.shape[1]))
        self.tile = int(array.chunks[0])
        self.dtype = dtype
        self.symmetric = symmetric
        self.entries = np.dtype(KINDS_ON_DISK[dtype][1])

    def tiles(self) -> list[tuple[int, int]]:
        """Numbers of the tiles that a complete store has."""
        height, width = (-(-n // self.tile) for n in self.shape)
        return [
            (row, column)
            for row in range(height)
            for column in range(row + 1 if self.symmetric else width)
        ]

    def pending(self) -> list[tuple[int, int]]:
        """Tiles that are missing or truncated, from the sizes of files: one look-up per tile."""
        return [where for where in self.tiles() if not self._present(*where)]

    def bounds(self, row: int, column: int) -> tuple[int, int, int, int]:
        """First and end of the rows and of the columns of a tile."""
        i0, j0 = row * self.tile, column * self.tile
        return i0, min(i0 + self.tile, self.shape[0]), j0, min(j0 + self.tile, self.shape[1])

    def _file(self, row: int, column: int) -> Path:
        return self.path / "c" / str(row) / str(column)

    @property
    def tile_bytes(self) -> int:
        """Size of the file of a tile; at the edges, too, which Zarr fills up."""
        return self.tile**2 * self._array.dtype.itemsize + _CHECKSUM

    def _present(self, row: int, column: int) -> bool:
        try:
            return self._file(row, column).stat().st_size == self.tile_bytes
        except FileNotFoundError:
            return False

    def read(self, row: int, column: int) -> NDArray[Any]:
        """Entries of a tile; above the diagonal of a symmetric matrix, of its mirror image.

        Raises
        ------
        StoreError
            If the tile is missing or damaged.
        """
        if self.symmetric and column > row:
            return self.read(column, row).T
        i0, i1, j0, j1 = self.bounds(row, column)
        # Zarr reads zeros where there is no file.
        if not self._present(row, column):
            raise StoreError(
                f"{self.path} lacks the tile ({row}, {column}), or it is truncated: write the "
                "store again, which does the missing tiles only."
            )
        try:
            values = np.asarray(self._array[i0:i1, j0:j1])
        except ValueError as error:
            raise StoreError(
                f"The tile ({row}, {column}) of {self.path} is damaged: write the store again, "
                "which replaces damaged tiles."
            ) from error
        return _decoded(values) if self.dtype == "bfloat16" else values

    def intact(self, row: int, column: int) -> bool:
        """Whether a tile is there and its checksum right; reads it."""
        if not self._present(row, column):
            return False
        try:
            self.read(row, column)
        except StoreError:
            return False
        return True

    def put(self, row: int, column: int, values: torch.Tensor) -> None:
        """Write a tile, which is complete or absent at any time."""
        i0, i1, j0, j1 = self.bounds(row, column)
        # A damaged tile would be decoded before a part of it is replaced. One that another process
        # has written meanwhile is never absent.
        if not self.intact(row, column):
            self._file(row, column).unlink(missing_ok=True)
        if self.dtype == "bfloat16":
            values = values.to(torch.bfloat16).view(torch.int16)
        self._array[i0:i1, j0:j1] = values.numpy().view(self._array.dtype)

    def remove_partial(self) -> None:
        """Remove what killed processes left; nobody else may be writing."""
        rows = [self.path / "c" / str(row) for row in range(-(-self.shape[0] // self.tile))]
        for folder, names in ((self.path, "zarr"), *((row, r"\d+") for row in rows)):
            with contextlib.suppress(OSError):
                for partial in folder.iterdir():
                    own = re.fullmatch(rf"{names}\.[0-9a-f]{{32}}\.partial", partial.name)
                    if own and partial.is_file():
                        partial.unlink(missing_ok=True)


def _decoded(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Numbers of bfloat16 from their bits: the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
