"""Results as JSON can hold them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

__all__ = ["as_plain"]


def as_plain(value: Any, shown: type | tuple[type, ...] = ()) -> Any:
    """Dataclasses and arrays as dicts and lists; NaN and infinity, which JSON has not, as None.

    Parameters
    ----------
    value : object
        Also nested in dicts, lists and tuples.
    shown : type or tuple of types
        What is written as its ``repr``.

    Examples
    --------
    >>> as_plain({"a": np.array([1.0, np.inf]), "b": (2, float("nan"))})
    {'a': [1.0, None], 'b': [2, None]}
    """
    if isinstance(value, shown):
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: as_plain(inner, shown) for key, inner in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [as_plain(inner, shown) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
