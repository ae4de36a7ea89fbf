"""How wide intervals must be, from rows that were left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["check_level", "quantile_of"]

Floats = NDArray[np.float64]


def check_level(level: float) -> None:
    """Raise InvalidInputError unless a level is between 0 and 1."""
    if not 0 < level < 1:
        raise InvalidInputError(f"expected a level between 0 and 1, found {level!r}")


def quantile_of(sizes: Floats, level: float) -> Floats:
    """The size that a new residual exceeds with probability ``1 - level`` at most.

    Parameters
    ----------
    sizes : ndarray of shape (n, t)
        Absolute residuals of rows that were left out, each column ascending.
    level : float
        Between 0 and 1.

    Returns
    -------
    ndarray of shape (t,)

    Raises
    ------
    InvalidInputError
        If there are too few rows for such a level.

    References
    ----------
    Barber et al., "Predictive inference with the jackknife+" (2021).

    Examples
    --------
    >>> quantile_of(np.arange(1.0, 100.0)[:, None], 0.9).tolist()
    [90.0]
    """
    n = len(sizes)
    place = int(np.ceil(level * (n + 1)))
    if place > n:
        raise InvalidInputError(
            f"{n} rows left out cannot tell an interval of level {level:g}: at least "
            f"{int(np.ceil(level / (1 - level)))} are needed, or a smaller level"
        )
    return np.asarray(sizes[place - 1])
