"""Generated modules as files: readable, kept between runs, named by their content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from kernreg import config

__all__ = ["load"]


@functools.lru_cache(maxsize=256)
def load(text: str) -> ModuleType:
    """Import generated text from a file in the cache, which is written if it is missing.

    Parameters
    ----------
    text : str
        A Python module.

    Returns
    -------
    ModuleType
        One for each text.

    Notes
    -----
    Triton reads the source of its kernels from their file, so there must be one. Files are
    written under another name and renamed: processes that start together do not disturb each
    other. Where the cache cannot be written, a folder for temporary files serves.

    Examples
    --------
    >>> load("answer = 42").answer
    42
    """
    name = "kernreg_program_" + hashlib.sha256(text.encode()).hexdigest()[:24]
    path = _written(name + ".py", text)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _written(name: str, text: str) -> Path:
    temporary = Path(tempfile.gettempdir()) / f"kernreg-{os.getuid()}"
    for folder in (config.cache_dir() / "triton", temporary):
        path = folder / name
        with contextlib.suppress(OSError):
            if path.exists() and path.read_text() == text:
                return path
            folder.mkdir(parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=folder, suffix=".draft")
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(draft, path)
            return path
    raise OSError(
        f"generated code can be written neither to {config.cache_dir()} nor to {temporary}; "
        "name a writable folder by KERNREG_CACHE"
    )
