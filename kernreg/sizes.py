"""Sizes in bytes as people read and type them."""

from __future__ import annotations

import math
import re

from kernreg.exceptions import InvalidInputError

__all__ = ["enough", "parse_size", "readable"]

# Fewer bytes without a unit are a slip.
_NO_UNIT = 10**6
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def readable(count: float) -> str:
    """Bytes with a decimal unit.

    Examples
    --------
    >>> readable(1_500_000), readable(12)
    ('1.5 MB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def enough(count: int) -> str:
    """Bytes as :func:`readable`, but never fewer.

    Examples
    --------
    >>> enough(6_141_000), readable(6_141_000), enough(12)
    ('6.15 MB', '6.14 MB', '12 B')
    """
    step = 10 ** max(0, len(str(count)) - 3)
    return readable(-(-count // step) * step)


def parse_size(size: str | float) -> int:
    """Bytes of ``"4GB"`` (10^9), ``"4GiB"`` (2^30), or a number of bytes.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or is not positive.

    Examples
    --------
    >>> parse_size("1.5 GB"), parse_size("2KiB"), parse_size(10**6)
    (1500000000, 2048, 1000000)
    """
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", size.lower())
        if not match or (match[3] and not match[2]):
            raise InvalidInputError(
                f"Expected max_memory like '4GB', '512MiB' or a number of bytes, found {size!r}."
            )
        count = float(match[1]) * (_BINARY if match[3] else _UNITS)[match[2]]
        plain = size.strip()
        if 0 < count < _NO_UNIT and plain[-1] in "0123456789.":
            unit = "GB" if count < 1000 else "MB"
            raise InvalidInputError(
                f"max_memory is {size!r}, which is {count:g} bytes: did you mean "
                f"{plain + unit!r}? Write {plain + 'B'!r} if not."
            )
    else:
        count = float(size)
    if not 1 <= count < math.inf:
        raise InvalidInputError(f"Expected max_memory of at least one byte, found {size!r}.")
    return int(count)
