"""What operators share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["as_array", "rounding_of", "symmetric_order"]

# Rounding to the 8 bits of bfloat16, in the mean square.
_BFLOAT16 = 2.0**-9


def symmetric_order(operator: Any) -> int:
    """Order of a symmetric operator, or an error."""
    n, m = operator.shape
    if not operator.symmetric or n != m:
        raise InvalidInputError(
            f"expected a symmetric operator (no X2), found shape {tuple(operator.shape)}"
        )
    if n == 0:
        raise InvalidInputError("expected at least one row, found an empty operator")
    return int(n)


def as_array(values: Any) -> NDArray[np.float64]:
    """What an operator returned, as a float64 array; an error if it is not finite."""
    if isinstance(values, torch.Tensor):
        values = values.cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array.sum()) and not np.isfinite(array).all():
        raise InvalidInputError(
            "the kernel matrix contains NaN or infinity: check the input for NaN and huge values, "
            "or use dtype float64"
        )
    return array


def rounding_of(dtype: Any) -> float:
    """Share by which entries err that are kept in a type, "bfloat16" among them.

    Examples
    --------
    >>> rounding_of("float32") == 2.0**-23, rounding_of("bfloat16")
    (True, 0.001953125)
    """
    return _BFLOAT16 if str(dtype) == "bfloat16" else float(np.finfo(dtype).eps)
