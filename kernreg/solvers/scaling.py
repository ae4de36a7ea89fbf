"""Right-hand sides of a size whose squares, and those of their solutions, stay in range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError

__all__ = ["scaled", "unscaled"]

Floats = NDArray[np.float64]

# Powers of two up to which nothing is scaled: squares, products and sums of these are in range.
_ORDINARY = 200
# Share of its largest number that a column may lose where that has no full precision left.
_LOST = 1e-10


def scaled(values: Floats, size: float = 1.0) -> tuple[Floats, NDArray[np.intc]]:
    """Columns over powers of two, and the exponents; as they are where they are of ordinary size.

    Parameters
    ----------
    values : ndarray of shape (n, t)
        Right-hand sides, finite.
    size : float
        Of the matrix: its mean diagonal. Solutions are as large as ``values / size``.

    Returns
    -------
    ndarray of shape (n, t), ndarray of shape (t,)
        What was given is ``ldexp(first, second)``, up to underflow beside a larger number.

    Examples
    --------
    >>> columns, exponents = scaled(np.array([[1.0, 2.0**900], [3.0, 0.0]]))
    >>> columns.tolist(), exponents.tolist()
    ([[1.0, 0.5], [3.0, 0.0]], [0, 901])
    """
    largest = np.max(np.abs(values), axis=0, initial=0.0)
    own = np.frexp(largest)[1]
    matrix = int(np.frexp(size)[1]) if 0 < size < np.inf else 0
    far = np.maximum(np.abs(own), np.abs(own - matrix)) > _ORDINARY
    # In the middle: the solution is as far from one as the right-hand side is, the other way.
    exponents = np.where((largest > 0) & far, own - matrix // 2, 0).astype(np.intc)
    return (np.ldexp(values, -exponents) if exponents.any() else values), exponents


def unscaled(values: Floats, exponents: NDArray[np.intc]) -> Floats:
    """The solutions of what :func:`scaled` was given, from those of what it made.

    Raises
    ------
    InvalidInputError
        If a solution is beyond the range of float64, or so near its lower end that digits are
        lost.

    Examples
    --------
    >>> unscaled(np.array([[0.25, 0.5]]), np.array([0, 2], dtype=np.intc)).tolist()
    [[0.25, 2.0]]
    """
    result = values
    if exponents.any():
        with np.errstate(over="ignore", under="ignore"):
            result = np.ldexp(values, exponents)
    if not np.isfinite(result).all():
        raise InvalidInputError(
            "the coefficients of the solution are beyond the range of float64: divide the targets "
            "by a power of ten, or raise alpha"
        )
    if result is not values:
        back = np.ldexp(result, -exponents)
        largest = np.max(np.abs(values), axis=0, initial=0.0)
        if (np.max(np.abs(back - values), axis=0, initial=0.0) > _LOST * largest).any():
            raise InvalidInputError(
                "the coefficients of the solution are below the range of float64 and would lose "
                "digits: multiply the targets by a power of ten"
            )
    return result
