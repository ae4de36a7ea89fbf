"""A kernel matrix on disk, written tile by tile, that survives kills and serves many solves."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError, StoreError
from kernreg.operators.base import Operator
from kernreg.operators.panels import require_finite
from kernreg.operators.store.check import compare
from kernreg.operators.store.disk import checked_space, full_disk, pages, shared, writable_folder
from kernreg.operators.store.header import (
    FORMAT,
    VERSION,
    check_tiles,
    has_header,
    publish,
    read_header,
)
from kernreg.operators.store.operator import StoredOperator
from kernreg.operators.store.tiles import KINDS_ON_DISK, TileArray

__all__ = ["TileStore"]

logger = logging.getLogger(__name__)

# Seconds in which another process that replaces a damaged tile has it complete again.
_PATIENCE = 2.0


class TileStore(TileArray):
    """A kernel matrix in a folder: a Zarr array whose chunks are the tiles.

    Open one with :meth:`create` or :meth:`open`.

    Attributes
    ----------
    path : Path
        The folder.
    shape : tuple of int
        ``(n1, n2)``.
    symmetric : bool
        Whether only tiles on and below the diagonal are kept.
    dtype : str
        ``"float32"``, ``"float64"`` or ``"bfloat16"``, as kept.
    entries : dtype
        What entries are read as: float32 for bfloat16.
    tile : int
        Rows and columns of a tile.
    fingerprint : str
        Hash of network, kernel and data.
    note : dict
        What :meth:`create` was told to keep beside the matrix; empty if nothing.

    Notes
    -----
    A tile is complete or absent: it is written beside its place and renamed. Its CRC-32C is
    checked whenever it is read, and a hash over the header when the store is opened. Which tiles
    are still to do is seen from the disk alone, so several processes can write to one store. The
    array is not compressed: digits of a kernel do not repeat. A ``bfloat16`` array has the type
    ``uint16``; its numbers are the bits.

    Examples
    --------
    >>> import tempfile
    >>> from kernreg.operators import KernelOperator
    >>> K = KernelOperator("mlp(depth=1)", np.eye(4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = TileStore.create(folder, K, tile=2, note={"data": "unit vectors"})
    ...     store.write(K), store.pending(), TileStore.open(folder).note
    (3, [], {'data': 'unit vectors'})
    """

    def __init__(self, path: Path, array: Any, header: dict[str, Any]) -> None:
        super().__init__(path, array, str(header["dtype"]), bool(header["symmetric"]))
        self.fingerprint = str(header["fingerprint"])
        self.description = str(header["operator"])
        self.note: dict[str, Any] = dict(header.get("note", {}))

    def __repr__(self) -> str:
        return f"<TileStore {self.path}: {self.shape[0]} x {self.shape[1]} {self.dtype}>"

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        operator: Operator,
        *,
        dtype: str | None = None,
        tile: int | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> TileStore:
        """A new store for an operator, or the one that is there if it is for the same operator.

        Parameters
        ----------
        path : path-like
            A folder; made if missing.
        operator : KernelOperator
            What will be written.
        dtype : {"float32", "float64", "bfloat16"}, optional
            How entries are kept; the type of the operator if left out.
        tile : int, optional
            Rows and columns of a tile; left out, those of the store that is there, or 1024;
            fewer where pooling makes entries dear.
        note : mapping, optional
            What JSON can hold, kept in the attributes of a new store: how the data were made, say.

        Returns
        -------
        TileStore

        Raises
        ------
        InvalidInputError
            For an unknown dtype or a bad tile, or more than 2^20 tiles.
        StoreError
            If the folder cannot be written, holds something else, or zarr is not installed.
        DiskSpaceError
            If the disk is full.
        """
        kind = str(np.dtype(operator.dtype)) if dtype is None else dtype
        if kind not in KINDS_ON_DISK:
            raise InvalidInputError(
                f"dtype must be one of {', '.join(KINDS_ON_DISK)}, found {dtype!r}."
            )
        if tile is not None and tile < 1:
            raise InvalidInputError(f"tile must be at least 1, found {tile}.")
        _zarr()
        folder = Path(path)
        header = {
            "format": FORMAT,
            "version": VERSION,
            "dtype": kind,
            "symmetric": bool(operator.symmetric),
            "fingerprint": operator.fingerprint(),
            "operator": repr(operator),
            "note": dict(note or {}),
        }
        if not has_header(folder):
            side = min(tile or operator.tile_rows, max(operator.shape))
            check_tiles(operator.shape, side)
            writable_folder(folder)
            names = sorted(entry.name for entry in folder.iterdir())
            foreign = [n for n in names if not n.startswith(".") and not n.endswith(".partial")]
            # Another process may have been faster in the meantime.
            if foreign and not has_header(folder):
                raise StoreError(
                    f"{folder} is no tile store and not empty (it holds {foreign[0]}): take "
                    "another folder."
                )
            with full_disk(folder):
                publish(folder, operator.shape, side, header)
        store = cls.open(folder)
        store.require(operator, kind, tile)
        return store

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TileStore:
        """A store that is there, complete or not.

        Raises
        ------
        FileNotFoundError
            If there is none.
        StoreError
            If it is damaged, not a kernreg store, or of another format version.
        """
        folder = Path(path)
        if not has_header(folder):
            raise FileNotFoundError(
                f"There is no tile store {folder}: `kernreg gram DATA --out {folder}` writes one."
            )
        zarr = _zarr()
        header = read_header(folder)
        try:
            # Otherwise Zarr leaves tiles out that hold nothing but zeros.
            with zarr.config.set({"array.write_empty_chunks": True}):
                array = zarr.open_array(store=zarr.storage.LocalStore(folder), mode="r+")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreError(f"{folder} has a damaged header: {error!r}.") from error
        return cls(folder, array, header)

    def require(
        self, operator: Operator, dtype: str | None = None, tile: int | None = None
    ) -> None:
        """Raise StoreError unless the store is of this operator, and of this type and tile."""
        if tile is not None:
            tile = min(tile, max(self.shape))
        for name, wanted in (("dtype", dtype), ("tile", tile)):
            if wanted is not None and getattr(self, name) != wanted:
                raise StoreError(
                    f"{self.path} has {name} {getattr(self, name)}, not {wanted}: ask for that, "
                    "or take another folder."
                )
        same = self.shape == tuple(operator.shape) and self.symmetric == operator.symmetric
        if not same or self.fingerprint != operator.fingerprint():
            raise StoreError(
                f"{self.path} is the store of another network or other data "
                f"({self.description}): take another folder."
            )

    def write(
        self,
        operator: Operator,
        callback: Callable[[int, int], None] | None = None,
        tiles: Iterable[tuple[int, int]] | None = None,
    ) -> int:
        """Write the tiles that are missing or damaged.

        Parameters
        ----------
        operator : KernelOperator
            The operator of this store.
        callback : callable, optional
            Called as ``callback(step, total)`` after each tile, those that were there included.
        tiles : iterable of (int, int), optional
            Which tiles to see to, in which order; all if left out. A shared queue of tiles is
            such an iterable.

        Returns
        -------
        int
            How many tiles were written; the others were there.

        Raises
        ------
        StoreError
            If the store is of another operator, cannot be written, or lost tiles meanwhile.
        InvalidInputError
            If an entry is NaN or infinite.
        DiskSpaceError
            If the disk is too small, or ran full; finished tiles stay.

        Notes
        -----
        Time: the entries of the tiles, and reading those that are there. Memory: three tiles.
        Files are not forced to the disk one by one: what a power failure takes is found by the
        checksums of the next run.
        """
        self.require(operator)
        if operator.dtype != self.entries:
            operator = operator.astype(self.entries)
        writable_folder(self.path)
        checked_space(self.path, len(self.pending()) * self.tile_bytes)
        total, written = len(self.tiles()), 0
        buffer = pages(self.tile**2, self.entries)
        with shared(self.path, self.remove_partial), full_disk(self.path):
            for step, (row, column) in enumerate(self.tiles() if tiles is None else tiles, 1):
                if not self.intact(row, column):
                    self._write_tile(operator, row, column, buffer)
                    written += 1
                if callback is not None:
                    callback(step, total)
        if tiles is None:
            self.require_complete()
        logger.info("wrote %d of %d tiles to %s", written, total, self.path)
        return written

    def require_complete(self) -> None:
        """Raise StoreError unless all tiles are there, and the header: somebody may remove them."""
        end = time.monotonic() + _PATIENCE
        while (missing := self.pending()) and time.monotonic() < end:
            time.sleep(0.05)
        if missing or not has_header(self.path):
            lost = f"{len(missing)} of {len(self.tiles())} tiles" if missing else "the header"
            raise StoreError(
                f"{self.path} lacks {lost} after all were written: another program removes files "
                "there. Write the store again, or take another folder."
            )

    def _write_tile(self, operator: Operator, row: int, column: int, buffer: NDArray[Any]) -> None:
        i0, i1, j0, j1 = self.bounds(row, column)
        values = buffer[: (i1 - i0) * (j1 - j0)].reshape(i1 - i0, j1 - j0)
        made = torch.from_numpy(values)
        if operator.device.type == "cpu":
            operator.tile(slice(i0, i1), slice(j0, j1), values)
        else:
            made.copy_(torch.as_tensor(operator.tile(slice(i0, i1), slice(j0, j1))))
        if self.dtype == "bfloat16":
            made.copy_(made.to(torch.bfloat16))
        require_finite(made, i0, j0)
        self.put(row, column, made)

    def verify(self, operator: Operator | None = None, *, samples: int = 32, seed: int = 0) -> int:
        """Read every tile and check it; with the operator, compare entries.

        Parameters
        ----------
        operator : KernelOperator, optional
            Its diagonal (of a symmetric store) and blocks of 16 x 16 entries in ``samples`` tiles
            are compared with those of the store.
        samples : int
            How many tiles.
        seed : int
            Which.

        Returns
        -------
        int
            How many tiles were checked.

        Raises
        ------
        StoreError
            If tiles are missing, damaged or not finite, or entries differ by more than rounding.
        """
        bad = []
        diagonal = np.empty(min(self.shape), dtype=self.entries)
        for row, column in self.tiles():
            try:
                values = self.read(row, column)
            except StoreError:
                bad.append((row, column))
                continue
            if not np.isfinite(values).all():
                bad.append((row, column))
            if row == column and self.symmetric:
                i0, i1, _, _ = self.bounds(row, column)
                diagonal[i0:i1] = values.diagonal()
        if bad:
            raise StoreError(
                f"{self.path}: {len(bad)} of {len(self.tiles())} tiles are missing or damaged, the "
                f"first is {bad[0]}: write the store again, which does those tiles only."
            )
        if operator is not None:
            compare(self, operator, diagonal, samples, np.random.default_rng(seed))
        return len(self.tiles())

    def operator(self, exact: Operator | None = None) -> StoredOperator:
        """The matrix as an operator that solvers take.

        Parameters
        ----------
        exact : KernelOperator, optional
            What the store was written from. Refinement then evaluates float64 entries anew, so
            that solutions are those of the kernel matrix and not of its rounded copy; without it
            solvers warn where the ridge is not large beside the rounding.

        Raises
        ------
        StoreError
            If the store is incomplete, or ``exact`` is another operator.
        """
        return StoredOperator(self, exact=exact)


def _zarr() -> Any:
    try:
        import zarr
        import zarr.codecs
        import zarr.storage
    except ImportError as error:
        raise StoreError("A tile store needs the package zarr: pip install zarr.") from error
    return zarr
