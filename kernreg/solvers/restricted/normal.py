"""The normal equations of a restricted problem, from one pass over the entries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk, dtrsm
from scipy.linalg.lapack import dpstrf

from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator, as_array
from kernreg.solvers.restricted.state import RestrictedState, chunks

__all__ = ["moments", "normal_part", "pivoted"]


def pivoted(
    operator: Operator, centres: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.float64], float]:
    """Which centres are no combinations of others up to rounding, and their Cholesky factor.

    Also the mean diagonal.
    """
    corner = as_array(operator.take(centres).to_dense())
    size = float(np.mean(np.diagonal(corner)))
    # What elimination leaves of a diagonal entry has lost up to m eps of the largest one.
    floor = max(len(centres), 10.0 * len(centres) ** 0.5) * float(np.finfo(np.float64).eps)
    tol = floor * float(np.max(np.diagonal(corner), initial=0.0))
    factor, pivots, rank, _ = dpstrf(corner.T, tol=tol, lower=1, overwrite_a=1)
    if not rank or tol == 0:
        raise InvalidInputError("the kernel matrix of the centres is zero: check data and network")
    return pivots[:rank].astype(np.intp) - 1, np.asfortranarray(factor[:rank, :rank]), size


def moments(state: RestrictedState, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """``K_mn W Y`` in float64."""
    weighted = state.weights[:, None] * columns
    return state.operator.over_rows(_moment, state.centres, state.chunk, weighted)


def _moment(
    operator: Operator,
    start: int,
    stop: int,
    centres: NDArray[np.int64],
    chunk: int,
    weighted: NDArray[np.float64],
    _: Any,
) -> NDArray[np.float64]:
    """What rows ``[start, stop)`` give to ``K_mn W Y``."""
    moments = np.zeros((len(centres), weighted.shape[1]))
    for rows, tile in chunks(operator, centres, chunk, start, stop):
        moments += tile.T @ weighted[rows]
    return moments


def normal_part(
    operator: Operator,
    start: int,
    stop: int,
    centres: NDArray[np.int64],
    chunk: int,
    kept: NDArray[np.intp],
    factor: NDArray[np.float64],
    roots: NDArray[np.float64],
    callback: Callable[[int, int], None] | None,
) -> NDArray[np.float64]:
    """What rows ``[start, stop)`` give to the lower triangle of the normal equations."""
    normal = np.zeros((len(kept), len(kept)), order="F")
    room = np.empty((min(chunk, stop - start), len(kept)))
    for rows, tile in chunks(operator, centres, chunk, start, stop):
        columns = np.take(tile, kept, axis=1, out=room[: len(tile)], mode="clip")
        # In place: a transposed array of rows is one of columns.
        features = dtrsm(1.0, factor, columns.T, lower=1, overwrite_b=1)
        features *= roots[rows]
        normal = dsyrk(1.0, features, beta=1.0, c=normal, overwrite_c=1, lower=1)
        if callback is not None:
            callback(rows.stop - start, stop - start)
    return normal
