"""A hash of what a kernel matrix is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["fingerprint"]

Side = tuple[str, Iterable[NDArray[Any]]] | None


def fingerprint(settings: str, *sides: Side) -> str:
    """64 hexadecimal digits for the settings of an operator and its data.

    Parameters
    ----------
    settings : str
        Network, kernel and options.
    *sides : (str, iterable of ndarray) or None
        Rows and columns: type and shape, and the rows in blocks of any size.

    Examples
    --------
    >>> X = np.ones((2, 1))
    >>> whole = fingerprint("ntk", ("float64 (2, 1)", [X]), None)
    >>> whole == fingerprint("ntk", ("float64 (2, 1)", [X[:1], X[1:]]), None)
    True
    """
    digest = hashlib.sha256(settings.encode())
    for side in sides:
        header, blocks = ("none", ()) if side is None else side
        digest.update(header.encode())
        for block in blocks:
            digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
