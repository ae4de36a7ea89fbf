"""Generated modules as files: readable, kept between runs, named by their content."""

from __future__ import annotations

import functools
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import linecache
import logging
import os
import stat
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from kernreg import config

__all__ = ["load"]

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=256)
def load(text: str) -> ModuleType:
    """Import generated text, of which a file in the cache has a copy.

    Parameters
    ----------
    text : str
        A Python module.

    Returns
    -------
    ModuleType
        One for each text.

    Raises
    ------
    OSError
        If no file can be written.

    Notes
    -----
    The file is for readers, debuggers and profilers. What runs is ``text`` itself: neither a file
    that somebody changed nor bytecode beside it is executed, and Triton, which reads the source of
    its kernels, gets it from :mod:`linecache`. Files are written under another name and renamed:
    processes that start together do not disturb each other. The folder is the user's own, with mode
    0700; where there is none, a new one for temporary files serves.

    Examples
    --------
    >>> load("answer = 42").answer
    42
    """
    name = "kernreg_program_" + hashlib.sha256(text.encode()).hexdigest()[:24]
    path = str(_written(name + ".py", text))
    loader = _Text(text, path)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=path)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    # Without a time of modification: never read again from the disk.
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


class _Text(importlib.abc.InspectLoader):
    """Loads a module from its text."""

    def __init__(self, text: str, path: str) -> None:
        self._text, self._path = text, path

    def get_source(self, fullname: str) -> str:
        """The text."""
        return self._text

    def get_filename(self, fullname: str) -> str:
        """Where the copy is."""
        return self._path

    def exec_module(self, module: ModuleType) -> None:
        """Run the text."""
        exec(compile(self._text, self._path, "exec", dont_inherit=True), module.__dict__)


def _written(name: str, text: str) -> Path:
    """The file of a text, in the first folder where it can be written."""
    path = config.cache_dir() / "triton" / name
    try:
        _require_private(path.parent)
        if path.is_symlink() or not path.is_file() or path.read_text(encoding="utf-8") != text:
            _write(path, text)
        return path
    except (OSError, UnicodeDecodeError) as error:
        logger.warning("generated code is not kept in %s: %s", path.parent, error)
    try:
        path = Path(_temporary().name) / name
        _write(path, text)
        return path
    except OSError as error:
        raise OSError(
            f"generated code can be written neither to {config.cache_dir()} nor to "
            f"{tempfile.gettempdir()}; name a writable folder by KERNREG_CACHE"
        ) from error


def _require_private(folder: Path) -> None:
    """Make a folder, and raise OSError unless it is the user's own and nobody else's."""
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise PermissionError(f"{folder} is a link, or no folder")
    if found.st_uid != os.geteuid():
        raise PermissionError(f"{folder} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{folder} can be written by others: chmod 700 {folder}")
    if stat.S_IMODE(found.st_mode) != stat.S_IRWXU:
        folder.chmod(stat.S_IRWXU)


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    """A folder of this process, whose name nobody can know before; removed at its end."""
    return tempfile.TemporaryDirectory(prefix="kernreg-")


def _write(path: Path, text: str) -> None:
    handle, draft = tempfile.mkstemp(dir=path.parent, suffix=".draft")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
