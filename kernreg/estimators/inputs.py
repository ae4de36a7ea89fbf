"""Data and weights that a fit cannot use, told by name before anything else fails."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernreg.exceptions import InvalidInputError
from kernreg.operators.frames import check_values

__all__ = ["check_data", "check_weights"]


def check_data(X: Any, y: Any = None) -> None:
    """Raise InvalidInputError for masked data, dates, and arguments that are swapped.

    Examples
    --------
    >>> check_data(np.ones(4), np.ones((4, 2)))
    Traceback (most recent call last):
    kernreg.exceptions.InvalidInputError: X is a vector of 4 numbers and y a matrix of shape (4, 2):
    are they swapped? fit takes X, y.
    """
    check_values(X, "X")
    if y is None:
        return
    first, second = (tuple(getattr(values, "shape", ())) for values in (X, y))
    if len(first) == 1 and len(second) == 2:
        raise InvalidInputError(
            f"X is a vector of {first[0]} numbers and y a matrix of shape {second}: are they "
            "swapped? fit takes X, y."
        )
    check_values(y, "y")


def check_weights(weights: Any) -> None:
    """Raise InvalidInputError for weights that are masked, NaN, infinite, or too large to add.

    Examples
    --------
    >>> check_weights([1.0, float("nan")])
    Traceback (most recent call last):
    kernreg.exceptions.InvalidInputError: sample_weight contains NaN or infinity (first in row 1)...
    """
    if weights is None:
        return
    check_values(weights, "sample_weight")
    try:
        values = np.atleast_1d(np.asarray(weights, dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"sample_weight must hold numbers: {error}.") from error
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InvalidInputError(
            f"sample_weight contains NaN or infinity (first in row {wrong[0]}); give every row a "
            "finite weight, 0 to leave it out."
        )
    # Ridges are divided by weights.
    used = values[values > 0]
    with np.errstate(over="ignore"):
        fits = used.size == 0 or (np.isfinite(used.sum()) and np.isfinite(1.0 / used).all())
    if not fits:
        raise InvalidInputError(
            f"sample_weight ranges from {used.min():.3g} to {used.max():.3g}, beyond what can be "
            "added or divided by; scale the weights."
        )
