"""Files that are complete or absent, with checksums, on a disk that may be too small."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import DiskSpaceError, StoreError

__all__ = [
    "atomic",
    "check_ours",
    "check_writable",
    "checked_space",
    "draft_folder",
    "file_bytes",
    "full_disk",
    "locked",
    "pages",
    "read_rows",
    "remove_drafts",
    "shared",
    "writable_folder",
    "write_rows",
]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DRAFT, _LOCK, _PROBE = ".tmp", "lock", "kernreg"
# Of a panel file, behind its numbers: their CRC-32, so that a file is known to be whole.
_TRAILER = 4
_REMEDY = "run init again, which does its rows anew"


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name to write to; what was written there gets the name ``path`` when all of it is on disk.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic(Path(folder) / "name") as draft:
    ...         count = draft.write_text("all or nothing")
    ...     os.listdir(folder)
    ['name']
    """
    # In a folder of its own: libraries write beside the name that they are given, and rename.
    with draft_folder(path.parent, path.name) as folder:
        draft = folder / path.name
        yield draft
        with open(draft, "rb") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)


@contextlib.contextmanager
def draft_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden folder for drafts of ``name``, gone at the end.

    A process that is killed leaves it to :func:`remove_drafts`, which knows by a lock that nobody
    writes there any more.
    """
    while True:
        folder = parent / f".{name}.{secrets.token_hex(6)}{_DRAFT}"
        folder.mkdir()
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:  # taken for a leftover before it had its lock
            continue
        with contextlib.suppress(OSError):  # a disk without locks
            fcntl.flock(lock, fcntl.LOCK_SH)
        if folder.exists():
            break
        os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_drafts(
    folder: Path, name: str, *, pattern: bool = False, files: tuple[str, ...] = ()
) -> None:
    """Remove what killed processes left of :func:`atomic` and :func:`check_writable`.

    Parameters
    ----------
    folder : Path
        Where to look.
    name : str
        Of the file whose drafts go.
    pattern : bool, default=False
        Whether the name is a regular expression.
    files : tuple of str
        What is in a draft, if not a file of its name.
    """
    own = name if pattern else re.escape(name)
    draft = re.compile(rf"\.{own}\.[0-9a-f]{{12}}{re.escape(_DRAFT)}", re.DOTALL)
    with contextlib.suppress(OSError):
        for path in [entry for entry in folder.iterdir() if draft.fullmatch(entry.name)]:
            if path.is_symlink():
                continue
            if path.is_dir():
                _remove_draft(path, files)
            elif path.stat().st_size == 0:  # of check_writable
                path.unlink(missing_ok=True)


def _remove_draft(folder: Path, files: tuple[str, ...]) -> None:
    """Remove a folder of drafts, unless its process lives or it holds what no draft is."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        names = files or (folder.name[1 : -len(_DRAFT) - 13],)
        if all(_is_draft(entry, names) for entry in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(lock)


def _is_draft(path: Path, names: tuple[str, ...]) -> bool:
    # Libraries begin a file under a name of their own.
    named = path.name.startswith((*names, ".tmp"))
    return path.is_file() and not path.is_symlink() and (named or path.stat().st_size == 0)


def check_writable(path: Path) -> None:
    """Raise OSError if a file cannot be made beside ``path``."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(6)}{_DRAFT}")
    try:
        probe.touch()
    finally:
        probe.unlink(missing_ok=True)


def writable_folder(folder: Path) -> None:
    """Make a folder if it is missing, and raise StoreError if files cannot be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / _PROBE)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}. Take another folder."
        ) from error


def check_ours(folder: Path, header: str, mark: bytes, what: str, drafts: str) -> None:
    """Raise StoreError unless a folder is new, empty but for drafts, or begun by kernreg.

    Parameters
    ----------
    folder : Path
        The folder.
    header : str
        Name of the file by which it is known.
    mark : bytes
        How that file begins.
    what : str
        What the folder holds, for the message.
    drafts : str
        Regular expression of the names of files that are written in it.
    """
    leftover = re.compile(rf"\.({drafts}|{_PROBE})\.[0-9a-f]{{12}}{re.escape(_DRAFT)}")
    try:
        if (folder / header).exists():
            with open(folder / header, "rb") as file:
                known = file.read(len(mark)) == mark
            if not known:
                raise StoreError(
                    f"{folder} is no folder of {what}: its {header} is another program's, or "
                    "damaged. Take another folder."
                )
            return
        names = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
        locks = [n for n in names if n == _LOCK and not (folder / n).stat().st_size]
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}. Take another folder."
        ) from error
    foreign = [n for n in names if n not in locks and not leftover.fullmatch(n)]
    if foreign:
        raise StoreError(
            f"{folder} is no folder of {what} and not empty (it holds {foreign[0]}): take a new "
            "or an empty folder."
        )


@contextlib.contextmanager
def shared(folder: Path, alone: Callable[[], None]) -> Iterator[None]:
    """Work in a folder beside other processes; ``alone`` runs first if there are none."""
    with open(folder / _LOCK, "ab") as file:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone()
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the lock ends with the process, however that ends.

    Raises
    ------
    StoreError
        If another process holds it.
    """
    with open(folder / _LOCK, "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"Another process works in {folder}: wait for it, or take another folder."
            ) from error
        yield


def checked_space(folder: Path, count: int) -> None:
    """Raise DiskSpaceError if ``count`` more bytes do not fit the disk of ``folder``."""
    free = shutil.disk_usage(folder).free
    if count > free:
        raise DiskSpaceError(
            f"{folder} needs {count / 1e9:.3g} GB of disk, {free / 1e9:.3g} GB are free: free "
            "some, or take a folder on another disk."
        )


@contextlib.contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Say of a disk that runs full what can be done about it."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise DiskSpaceError(
            f"{folder} could not be written further: {error.strerror}. What is finished is kept: "
            "free some space and run again with the same arguments."
        ) from error


def pages(count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros on memory pages of their own.

    They go back to the system at once when they are no longer used, and always start at a cache
    line: libraries may sum in another order elsewhere, and work that is done again after a kill
    is to give the same bits.
    """
    return np.frombuffer(mmap.mmap(-1, max(1, count) * dtype.itemsize), dtype)[:count]


def file_bytes(rows: int, columns: int, dtype: np.dtype[Any]) -> int:
    """Size of a file of :func:`write_rows`."""
    return rows * columns * dtype.itemsize + _TRAILER


def write_rows(path: Path, matrix: NDArray[Any]) -> None:
    """Write a matrix with contiguous rows, and its checksum, as one atomic file."""
    check = 0
    with atomic(path) as draft, open(draft, "wb") as file:
        for row in matrix:
            view = row.data.cast("B")
            check = zlib.crc32(view, check)
            file.write(view)
        file.write(check.to_bytes(_TRAILER, "little"))


def read_rows(path: Path, out: NDArray[Any]) -> None:
    """Read what :func:`write_rows` wrote into a contiguous matrix of the same shape.

    Raises
    ------
    StoreError
        If the file is missing or of another size, or if its checksum is wrong.
    """
    view = out.data.cast("B")
    try:
        with open(path, "rb", buffering=0) as file:
            count = 0
            while count < len(view) and (got := file.readinto(view[count:])):
                count += got
            trailer = file.read(_TRAILER + 1)
    except FileNotFoundError as error:
        raise StoreError(f"{path} is missing: {_REMEDY}.") from error
    wanted = len(view) + _TRAILER
    if count + len(trailer) != wanted:
        size = path.stat().st_size
        raise StoreError(f"{path} has {size} bytes, {wanted} were expected: {_REMEDY}.")
    check, noted = zlib.crc32(view), int.from_bytes(trailer, "little")
    if check != noted:
        raise StoreError(
            f"{path} is damaged, its checksum is {check:08x} and not {noted:08x}: {_REMEDY}."
        )
