"""Where products in float32 serve, and where they must be in float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernreg.linalg.preconditioners.lowrank import as_array

__all__ = ["product_dtype", "smallest_ridge"]

# Float32 entries err by about eps each, as a matrix by sqrt(n) eps: products in float32 serve a
# ridge of at least this many times that, relative to the mean diagonal.
_TRUSTED = 32.0


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
    low = ridge is None or ridge >= _trusted(dtype, n)
    return np.dtype(dtype if low else "float64")


def smallest_ridge(operator: Any) -> float:
    """Ridge from which products with float32 entries serve; 0 for a float64 operator."""
    if np.dtype(operator.dtype) != np.float32:
        return 0.0
    mean = float(np.mean(as_array(operator.diagonal())))
    return _trusted(operator.dtype, operator.shape[0]) * mean


def _trusted(dtype: Any, n: int) -> float:
    return _TRUSTED * float(np.finfo(dtype).eps) * float(n) ** 0.5
