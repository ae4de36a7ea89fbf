"""How wide intervals must be, from rows that were left out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["ascending", "bounds_of", "check_level", "quantile_of"]

Floats = NDArray[np.float64]


def check_level(level: Any) -> None:
    """Raise InvalidInputError unless a level, or each of several, is between 0 and 1."""
    try:
        levels = np.atleast_1d(np.asarray(level, dtype=np.float64))
    except (TypeError, ValueError):
        levels = np.array([np.nan])
    if levels.ndim != 1 or not len(levels) or not ((levels > 0) & (levels < 1)).all():
        raise InvalidInputError(f"expected a level between 0 and 1, found {level!r}")


def ascending(sizes: Floats) -> Floats:
    """Columns in ascending order, without rows that could not be left out.

    Examples
    --------
    >>> ascending(np.array([[2.0], [np.nan], [1.0]])).tolist()
    [[1.0], [2.0]]
    """
    return np.sort(sizes[~np.isnan(sizes).any(axis=1)], axis=0)


def bounds_of(sizes: Floats, level: Any, mean: Floats, spread: Any) -> tuple[Floats, Floats]:
    """Intervals about a mean, as many spreads wide as sizes that were left out say.

    Parameters
    ----------
    sizes : ndarray of shape (k, t)
        As for :func:`quantile_of`.
    level : float or sequence of float
        Of the intervals; several are the first axis of what is returned.
    mean : ndarray of shape (n,) or (n, t)
        Predictions.
    spread : float or ndarray of the shape of mean
        What sizes are relative to.
    """
    shape = (1, *mean.shape[1:])
    half = [quantile_of(sizes, float(x)).reshape(shape) * spread for x in np.atleast_1d(level)]
    wide = np.stack([np.broadcast_to(h, mean.shape) for h in half])
    lower, upper = mean - wide, mean + wide
    return (lower[0], upper[0]) if np.ndim(level) == 0 else (lower, upper)


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
