"""Whether all processes of a job work on the same kernel matrix."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from kernreg import distributed as job
from kernreg.exceptions import DistributedError
from kernreg.operators.base import Operator, as_array, symmetric_order
from kernreg.operators.store.check import TOLERANCE

__all__ = ["require_same"]

# Rows that stand for all of the matrix: in them each row of the data has its entries.
_PROBES = 4


def require_same(operator: Operator) -> None:
    """Raise DistributedError, in every process, unless all have the same matrix.

    Network and options must be equal, entries to rounding: processors prepare data differently.
    """
    own: tuple[NDArray[np.float64], ...] = ()
    error, what = None, ""
    try:
        n = symmetric_order(operator)
        digest = hashlib.sha256(operator.identity().encode()).hexdigest()[:16]
        what = f"has a kernel matrix of {n} rows in {operator.dtype} by network {digest}"
        index = np.unique(np.linspace(0, n - 1, _PROBES).astype(np.int64))
        own = as_array(operator.diagonal()), as_array(operator.rows(index))
    except Exception as found:
        error = found
    job.agree(error, what)
    first = job.tell(own)
    # Relative to the rows that meet: one large row must not hide the others.
    size = np.sqrt(np.abs(first[0]))
    tolerance = TOLERANCE[np.dtype(operator.dtype).name]
    scales = size * size, size[index][:, None] * size
    for mine, other, scale in zip(own, first, scales, strict=True):
        apart = np.atleast_2d(np.abs(mine - other) > tolerance * scale).any(axis=0)
        if error is None and apart.any():
            error = DistributedError(
                f"rank {job.rank()} has other data than rank 0 (first seen in row "
                f"{int(np.argmax(apart))}): run the same program on the same data everywhere."
            )
    job.agree(error)
