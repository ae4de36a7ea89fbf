"""How large a network's description may be, so that no file fills memory or takes for ever."""

from __future__ import annotations

import math
from typing import Any

from kernreg.exceptions import NetworkError

__all__ = ["check_bounds", "check_length", "functions_named"]

_MOST_NESTED = 100
"""Layers inside layers; each takes several frames of Python's stack."""
_MOST_LAYERS = 50_000
"""Layers with all repetitions: a matrix of 25,000 hidden ones takes about 10 s to prepare."""
_MOST_CHECKS = 100_000
"""Layers times those around them: each of these is checked with all that is inside, 0.1 ms each."""
_MOST_ENTRIES = 100_000
"""Numbers and names."""
_MOST_SIZE = 2**53
_MOST_TEXT = 2**24
# Entries that repeat what is inside or what the layer stands for.
_COUNTS = {"Repeat": "n", "Mlp": "depth", "Cnn": "depth", "WideResnet": "depth"}


def check_length(text: str) -> None:
    """Raise :class:`NetworkError` for a text that takes too much memory as Python's objects."""
    if len(text) > _MOST_TEXT:
        raise NetworkError(
            f"The text has {len(text)} characters, a network has at most {_MOST_TEXT}."
        )


def check_bounds(value: Any) -> None:
    """Raise :class:`NetworkError` for a description that is too large to work with.

    Parameters
    ----------
    value : object
        What JSON can hold: the description of a network.

    Examples
    --------
    >>> check_bounds({"layer": "Repeat", "block": {"layer": "Relu"}, "n": 10**9})
    Traceback (most recent call last):
    kernreg.exceptions.NetworkError: The network has 1000000000 layers, at most 50000 can be read.
    """
    layers = checks = entries = 0
    # With the number of layers around, and how often they repeat what is inside.
    todo = [(value, 0, 1)]
    while todo:
        item, nested, times = todo.pop()
        entries += 1
        if isinstance(item, dict):
            if "layer" in item:
                times *= _count(item)
                layers += times
                nested += 1
                checks += nested
            todo += [(inner, nested, times) for inner in item.values()]
        elif isinstance(item, list | tuple):
            # Lists in lists are no layers, but deep as well.
            todo += [(inner, nested + isinstance(inner, list | tuple), times) for inner in item]
        elif isinstance(item, int) and abs(item) > _MOST_SIZE:
            raise NetworkError("The network holds a whole number of more than 16 digits.")
        if nested > _MOST_NESTED:
            raise NetworkError(
                f"The network is nested more than {_MOST_NESTED} layers deep: write layers side by "
                "side, as in serial(a, b, c)."
            )
        if layers > _MOST_LAYERS:
            raise NetworkError(
                f"The network has {layers} layers, at most {_MOST_LAYERS} can be read."
            )
        if checks > _MOST_CHECKS:
            raise NetworkError(
                "The network has too many layers inside others: write layers side by side, as in "
                "serial(a, b, c)."
            )
        if entries > _MOST_ENTRIES:
            raise NetworkError(f"The network's description has more than {_MOST_ENTRIES} entries.")


def _count(layer: dict[str, Any]) -> int:
    name = layer["layer"]
    count = layer.get(_COUNTS.get(name, ""), 1) if isinstance(name, str) else 1
    number = isinstance(count, int | float) and not isinstance(count, bool)
    # Anything else is refused where the layer is built.
    return int(count) if number and 1 < count < math.inf else 1


def functions_named(value: Any) -> list[str]:
    """Python functions that a network in ``value``, which JSON can hold, would look up."""
    found, todo = [], [value]
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            found += [str(item["callable"])] if "callable" in item else []
            todo += item.values()
        elif isinstance(item, list | tuple):
            todo += item
    return found
