"""Words that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = ["counted", "did_you_mean", "is_number", "listed"]


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> counted(1, "row"), counted(20640, "row")
    ('1 row', '20,640 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest of the known names; nothing if none is near.

    Examples
    --------
    >>> did_you_mean("mlpp", ["mlp", "serial"]), did_you_mean("iris", ["mlp"])
    (" Did you mean 'mlp'?", '')
    """
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def is_number(text: str) -> bool:
    """Whether text reads as a number.

    Examples
    --------
    >>> is_number("1e3"), is_number("one")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def listed(names: Iterable[Any], most: int = 8) -> str:
    """The first names, and how many more there are.

    Examples
    --------
    >>> listed("abc"), listed("abcd", most=2)
    ('a, b, c', 'a, b and 2 more')
    """
    shown = [str(name) for name in names]
    rest = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {rest} more" if rest > 0 else "")
