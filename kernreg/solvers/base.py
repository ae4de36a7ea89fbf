"""What solvers share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["checked_ridge", "checked_ridges"]


def checked_ridge(ridge: Any, n: int) -> NDArray[np.float64]:
    """``ridge`` as a float64 array of shape (n,), finite and not negative."""
    values = np.asarray(ridge, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise InvalidInputError(
            f"expected ridge to be a number or of shape ({n},), found shape {values.shape}"
        )
    usable = np.isfinite(values) & (values >= 0)
    if not usable.all():
        raise InvalidInputError(f"expected a finite ridge >= 0, found {values[~usable][0]:g}")
    return np.ascontiguousarray(np.broadcast_to(values, (n,)))


def checked_ridges(ridges: Any) -> NDArray[np.float64]:
    """A non-empty sequence of ridges as a float64 array, each finite and not negative."""
    values = np.atleast_1d(np.asarray(ridges, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
        raise InvalidInputError(
            f"expected a non-empty one-dimensional sequence of finite ridges >= 0, found {ridges!r}"
        )
    return values
