"""Arrays and texts in one safetensors file, with a hash over all of them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

__all__ = [
    "MOST_TEXT",
    "Changed",
    "Damaged",
    "digest",
    "header_digest",
    "parse",
    "read_record",
    "write_record",
]

_HASH = "hash"
MOST_TEXT = 2**24
"""Characters of a text in a file: as Python objects JSON takes some twenty times as much."""
# Levels of lists and objects in a text; those of a network are bounded by its description.
_MOST_LEVELS = 250


class Damaged(ValueError):
    """A file that is not what was written: internal signal to those who know what it was."""


class Changed(Damaged):
    """A whole file whose hash is another than that of its content."""


def digest(texts: Mapping[str, str], arrays: Mapping[str, NDArray[Any]]) -> str:
    """64 hexadecimal digits for texts and arrays by name, their types and shapes included.

    Examples
    --------
    >>> one = digest({}, {"x": np.zeros(4)})
    >>> one == digest({}, {"x": np.zeros((2, 2))})
    False
    """
    found = hashlib.sha256()
    for name in sorted(texts):
        found.update(json.dumps([name, texts[name]]).encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        found.update(json.dumps([name, array.dtype.str, array.shape]).encode())
        found.update(array.reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def header_digest(header: Mapping[str, Any]) -> str:
    """The digest of a header that JSON holds, whatever the order of its parts."""
    return digest({"header": json.dumps(header, sort_keys=True)}, {})


def write_record(
    path: str | os.PathLike[str], arrays: dict[str, NDArray[Any]], texts: Mapping[str, str]
) -> None:
    """Write arrays and texts, and the hash of both; not atomic.

    Raises
    ------
    OSError, SafetensorError
        If the file cannot be written.
    ValueError
        If a text is longer than can be read again.
    """
    longest = max((len(text) for text in texts.values()), default=0)
    if longest > MOST_TEXT:
        raise ValueError(
            f"the description has {longest} characters, at most {MOST_TEXT} can be read"
        )
    texts = {name: text for name, text in texts.items() if name != _HASH}
    save_file(arrays, path, metadata=texts | {_HASH: digest(texts, arrays)})


def read_record(
    path: str | os.PathLike[str],
) -> tuple[dict[str, str], dict[str, NDArray[Any]], bool]:
    """Read what :func:`write_record` wrote.

    Returns
    -------
    texts, arrays : dict
        By name.
    hashed : bool
        Whether the file has a hash, which is then right; earlier versions wrote none.

    Raises
    ------
    OSError
        If there is no such file, or it may not be read.
    Damaged
        If it is no safetensors file, truncated, or other than its hash says.
    """
    with open(path, "rb"):
        pass  # safetensors reports a file that may not be read as missing
    try:
        with safe_open(Path(path), framework="numpy") as file:
            texts = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # Types that NumPy lacks end in errors of several kinds.
    except (SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged(str(error)) from error
    noted = texts.pop(_HASH, None)
    if noted is not None and noted != digest(texts, arrays):
        raise Changed("its hash is another than that of its content")
    return texts, arrays, noted is not None


def parse(text: str) -> Any:
    """Values of a JSON text that is neither too long nor nested too deeply.

    Raises
    ------
    Damaged
        If it is no such text.

    Examples
    --------
    >>> parse("[[1]]")
    [[1]]
    """
    if len(text) > MOST_TEXT:
        raise Damaged(f"a text has {len(text)} characters, at most {MOST_TEXT} are read")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(str(error)) from error
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return value
    raise Damaged(f"a text is nested more than {_MOST_LEVELS} levels deep")


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
