"""Numbers that functions of theory are given."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from kernreg.exceptions import InvalidInputError

__all__ = ["check_count", "check_number"]


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


def check_count(name: str, value: Any, low: int = 0) -> int:
    """A whole number not below ``low``, as an int.

    Raises
    ------
    InvalidInputError
        If it is none. A float is none, even if it has no fraction.

    Examples
    --------
    >>> import numpy as np
    >>> check_count("depth", np.int64(3))
    3
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < low:
        raise InvalidInputError(f"{name} must be an integer >= {low}, found {value!r}.")
    return int(value)
