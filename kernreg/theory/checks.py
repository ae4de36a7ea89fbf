"""Numbers that functions of theory are given."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from kernreg.exceptions import InvalidInputError

__all__ = ["check_number"]


def check_number(name: str, value: Any, low: float = 0.0, *, strict: bool = False) -> float:
    """A finite number not below ``low``, as a float.

    Raises
    ------
    InvalidInputError
        If it is none.

    Examples
    --------
    >>> check_number("ridge", 1)
    1.0
    """
    wrong = not isinstance(value, Real) or isinstance(value, bool)
    if wrong or not math.isfinite(value) or value < low or (strict and value == low):
        raise InvalidInputError(
            f"{name} must be a finite number {'>' if strict else '>='} {low:g}, found {value!r}."
        )
    return float(value)
