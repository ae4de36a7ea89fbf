"""Where products with rounded entries serve, and where they must be in float64."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["product_dtype", "rounding_of", "smallest_ridge", "warn_of_rounding"]

# Entries that err by a share eps each err as a matrix by sqrt(n) eps: their products serve a ridge
# of at least this many times that, relative to the mean diagonal.
_TRUSTED = 32.0
# Rounding to the 8 bits of bfloat16, in the mean square.
_BFLOAT16 = 2.0**-9


def rounding_of(dtype: Any) -> float:
    """Share by which entries err that are kept in a type, "bfloat16" among them.

    Examples
    --------
    >>> rounding_of("float32") == 2.0**-23, rounding_of("bfloat16")
    (True, 0.001953125)
    """
    return _BFLOAT16 if str(dtype) == "bfloat16" else float(np.finfo(dtype).eps)


def product_dtype(dtype: Any, n: int, ridge: float | None) -> np.dtype[Any]:
    """Type of the products that an iterative solver takes.

    Parameters
    ----------
    dtype : float32 or float64
        Of the operator.
    n : int
        Its order.
    ridge : float or None
        Of the system, over the mean diagonal; taken to be large if it is not known.

    Examples
    --------
    >>> product_dtype("float32", 10_000, 1e-3), product_dtype("float32", 10_000, 1e-6)
    (dtype('float32'), dtype('float64'))
    """
    low = ridge is None or ridge >= _trusted(rounding_of(dtype), n)
    return np.dtype(dtype if low else "float64")


def smallest_ridge(operator: Any) -> float:
    """Ridge from which products with float32 entries serve; 0 for a float64 operator.

    An operator whose entries err by more than those of its type has an attribute ``rounding``.
    """
    if np.dtype(operator.dtype) != np.float32:
        return 0.0
    return _resolved(operator, getattr(operator, "rounding", rounding_of(operator.dtype)))


def warn_of_rounding(operator: Any, ridge: NDArray[np.float64]) -> None:
    """Warn of a rounded copy of a matrix whose rounding is not small beside the ridge.

    Parameters
    ----------
    operator : operator
        What a solver was given; only one with a ``rounding`` and without ``exact`` is a copy.
    ridge : ndarray of shape (n,)
        Of the system.

    Warns
    -----
    UserWarning
        The solution will be that of the copy, and not of the matrix that was meant.
    """
    rounding = getattr(operator, "rounding", None)
    if rounding is None or operator.exact is not None:
        return
    least, found = _resolved(operator, rounding), float(ridge.min())
    if found < least:
        warnings.warn(
            f"{operator!r} holds rounded entries, which serve a ridge of at least {least:.2g}, "
            f"found {found:.2g}: the solution will be that of the rounded matrix. Give the "
            "operator that was stored, store.operator(exact=...), or store in a wider type.",
            UserWarning,
            stacklevel=3,
        )


def _resolved(operator: Any, rounding: float) -> float:
    mean = float(np.mean(np.asarray(operator.diagonal(), dtype=np.float64)))
    return _trusted(rounding, operator.shape[0]) * mean


def _trusted(rounding: float, n: int) -> float:
    return _TRUSTED * rounding * float(n) ** 0.5
