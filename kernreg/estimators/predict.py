"""The kernel between new and training rows, times coefficients, in blocks of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import MemoryBudgetError
from kernreg.operators.budget import PANEL_BYTES, memory_budget
from kernreg.operators.parts import Parts

__all__ = ["times_dual"]


def times_dual(operator: Parts, dual: NDArray[Any], max_memory: str | float | None) -> NDArray[Any]:
    """``operator @ dual`` within a limit of memory.

    Parameters
    ----------
    operator : Parts
        Between n new and m training rows.
    dual : ndarray of shape (m,) or (m, t)
        Coefficients, in the dtype of the entries.
    max_memory : str, number or None
        See :func:`kernreg.operators.memory_budget`.

    Returns
    -------
    ndarray of shape (n,) or (n, t)

    Raises
    ------
    MemoryBudgetError
        If one row of kernel entries does not fit.
    """
    if operator.fused or operator.device.type != "cpu":
        return np.asarray(operator @ dual)
    n, m = operator.shape
    result = np.empty((n, *dual.shape[1:]), dtype=operator.dtype)
    step = min(_rows_per_block(m * operator.dtype.itemsize, max_memory), n)
    block = np.empty((step, m), dtype=operator.dtype)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        part = operator.tile(rows, slice(0, m), out=block[: rows.stop - start])
        result[rows] = part @ dual
    return result


def _rows_per_block(row: int, max_memory: str | float | None) -> int:
    """Rows of a block; never a function of the memory that happens to be free."""
    allowed = PANEL_BYTES
    if max_memory is not None:
        budget = memory_budget(max_memory)
        if row > budget:
            raise MemoryBudgetError(
                f"One row of kernel entries takes {row} bytes, max_memory allows {budget}: "
                "raise max_memory."
            )
        allowed = min(allowed, budget // 2)
    return max(1, allowed // row)
