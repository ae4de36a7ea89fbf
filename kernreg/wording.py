"""Words that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "aligned",
    "counted",
    "did_you_mean",
    "either",
    "is_number",
    "lasting",
    "listed",
    "significant",
]


def aligned(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = False
) -> list[str]:
    """Lines of a table with columns of equal width; empty columns are left out.

    ``numbers`` puts all columns but the first to the right.

    Examples
    --------
    >>> aligned(("solver", "time"), [("eigh", "2 s"), ("cholesky", "1 s")])
    ['solver    time', 'eigh      2 s', 'cholesky  1 s']
    >>> aligned(("n", "test"), [("100", "0.5")], numbers=True)
    ['n    test', '100   0.5']
    """
    body = list(rows)
    kept = [i for i in range(len(head)) if any(row[i] for row in body)]
    lines = [[line[i] for i in kept] for line in (head, *body)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    place = [str.rjust if numbers and column else str.ljust for column in range(len(widths))]
    return [
        "  ".join(
            put(cell, width) for put, cell, width in zip(place, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]


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
    >>> did_you_mean("ReLU", ["Relu", "Selu"])
    " Did you mean 'Relu'?"
    """
    spelled = {known_name.lower(): known_name for known_name in known}
    near = difflib.get_close_matches(name.lower(), spelled, n=1)
    return f" Did you mean {spelled[near[0]]!r}?" if near and spelled[near[0]] != name else ""


def either(names: Iterable[Any]) -> str:
    """Names to choose from.

    Examples
    --------
    >>> either("abc"), either(["one"])
    ('a, b or c', 'one')
    """
    *first, last = map(str, names)
    return f"{', '.join(first)} or {last}" if first else last


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


def lasting(seconds: float) -> str:
    """A time in the unit that people would take.

    Examples
    --------
    >>> lasting(0.0312), lasting(75), lasting(5000), lasting(400_000)
    ('0.03 s', '1.2 min', '1.4 h', '4.6 d')
    """
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86_400, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.{1 if seconds >= 1 else 2}f} {unit}"
    return f"{seconds / 86_400:.1f} d"


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


def significant(value: float, digits: int = 4) -> str:
    """A number with so many significant digits; an exponent only where zeros would hide it.

    Examples
    --------
    >>> significant(12345.67), significant(0.0123456), significant(3.0), significant(1.5e-9)
    ('12,346', '0.01235', '3.000', '1.500e-09')
    """
    size = abs(value)
    if not 1e-4 <= size < 1e9:
        return f"{value:.{digits - 1}e}" if size else "0"
    # The exponent after rounding: 9.9999 is 10.00.
    exponent = int(f"{size:.{digits - 1}e}".partition("e")[2])
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"
