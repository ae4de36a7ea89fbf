"""Where products with rounded entries serve, and where they must be in float64."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import RoundingWarning
from kernreg.numerics.columns import norms
from kernreg.operators.base import Operator, rounding_of

__all__ = [
    "BEARABLE",
    "entries_share",
    "mean_diagonal",
    "product_dtype",
    "smallest_ridge",
    "warn_of_ridge",
    "warn_of_rounding",
]

# Entries that err by a share eps each err as a matrix by sqrt(n) eps: their products serve a ridge
# of at least this many times that, relative to the mean diagonal.
_TRUSTED = 32.0
BEARABLE = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-6}
"""Share of the targets by which rounding of entries may change a fit, unsaid."""


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


def smallest_ridge(operator: Operator) -> float:
    """Ridge from which products with float32 entries serve; 0 for a float64 operator."""
    if np.dtype(operator.dtype) != np.float32:
        return 0.0
    return _resolved(operator)


def warn_of_rounding(operator: Operator, ridge: NDArray[np.float64]) -> None:
    """Warn of a rounded copy of a matrix whose rounding is not small beside the ridge.

    Parameters
    ----------
    operator : Operator
        What a solver was given; one that is not ``exact`` is a copy.
    ridge : ndarray of shape (n,)
        Of the system.

    Warns
    -----
    UserWarning
        The solution will be that of the copy, and not of the matrix that was meant.
    """
    if operator.reevaluates:
        return
    least, found = _resolved(operator), float(ridge.min())
    if found < least:
        warnings.warn(
            f"{operator!r} holds rounded entries, which serve a ridge of at least {least:.2g}, "
            f"found {found:.2g}: the solution will be that of the rounded matrix. Give the "
            "operator that was stored, store.operator(exact=...), or store in a wider type.",
            UserWarning,
            stacklevel=3,
        )


def entries_share(size: float, values: NDArray[Any], rhs: NDArray[np.float64], eps: float) -> float:
    """By what share of the targets rounding of the entries changes the fit, as a solution shows.

    Parameters
    ----------
    size : float
        Mean diagonal of the kernel.
    values : ndarray of shape (m, t)
        Coefficients.
    rhs : ndarray of shape (n, t)
        Targets.
    eps : float
        Share by which entries are rounded.

    Returns
    -------
    float
        Of the column with most, in root mean squares: ``eps size ||x|| sqrt(n) / ||y||``.

    Notes
    -----
    Entries that err by ``eps size`` each, independently, change each sum ``sum_j K_ij x_j`` by
    ``eps size ||x||``. As ``||x|| <= ||y|| / ridge``, no ridge of ``sqrt(n) eps size`` over a share
    leads to more than that share; ridges far below do no harm where the kernel itself is well
    conditioned, which only the solution shows.

    Examples
    --------
    >>> entries_share(2.0, np.full((4, 1), 3.0), np.ones((4, 1)), 1e-7)
    1.2e-06
    """
    # Over their largest numbers, whose squares may be out of range.
    top = np.max(np.abs(rhs), axis=0, initial=0.0)
    live = top > 0
    length = norms(rhs[:, live] / top[live])
    found = norms(np.asarray(values, dtype=np.float64)[:, live] / top[live]) / length
    return float(np.max(found, initial=0.0) * eps * size * len(rhs) ** 0.5)


def warn_of_ridge(
    share: float, ridge: float, size: float, n: int, dtype: Any, stacklevel: int = 3
) -> None:
    """Warn if the ridge of a solution is below the rounding of the entries.

    Parameters
    ----------
    share : float
        From :func:`entries_share`.
    ridge : float
        Smallest one of a row.
    size : float
        Mean diagonal of the kernel.
    n : int
        Rows.
    dtype : dtype
        Precision of the solution.
    stacklevel : int
        As for ``warnings.warn``, from here.

    Warns
    -----
    RoundingWarning
        It names the ridge, the level of the rounding, and what to do.
    """
    kind = np.dtype(dtype)
    if share <= BEARABLE[kind]:
        return
    least = n**0.5 * float(np.finfo(kind).eps) * size / BEARABLE[kind]
    other = ", use dtype float64" if kind == np.float32 else ""
    warnings.warn(
        f"the ridge of {ridge:.2g} is below the rounding of the {kind} kernel's entries, which "
        f"changes the fit by about {share:.1e} of the targets: a ridge of {least:.1e} "
        f"({least / size:.1e} of the mean diagonal) is enough to rule that out; raise alpha{other}"
        " or merge rows that are equal or nearly so",
        RoundingWarning,
        stacklevel=stacklevel,
    )


def mean_diagonal(operator: Operator) -> float:
    """Mean of the kernel of each row with itself, O(n)."""
    return float(np.mean(np.asarray(operator.diagonal(), dtype=np.float64)))


def _resolved(operator: Operator) -> float:
    return _trusted(operator.rounding, operator.shape[0]) * mean_diagonal(operator)


def _trusted(rounding: float, n: int) -> float:
    return _TRUSTED * rounding * float(n) ** 0.5
