"""Memory of a preconditioner beside an operator, and the one that makes best use of a budget."""

from __future__ import annotations

import bisect
from typing import Any

import numpy as np

from kernreg.distributed import processes
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.packed import share_bytes
from kernreg.solvers.preconditioners import LowPrecisionCholesky, RPCholesky
from kernreg.solvers.preconditioners.base import Preconditioner, rank_limit

__all__ = ["preconditioned_bytes", "settings_within"]

# Largest piece of memory that the C library takes from its heap, and how many a preconditioner is
# built from.
_HEAP, _PIECES = 32 * 2**20, 3
# Rows that are taken at once by number.
_TAKEN = 128


def preconditioned_bytes(built: Preconditioner | None, n: int) -> int:
    """Most bytes while a preconditioner is built from rows, and in products beside it."""
    panel = min(PANEL_BYTES, 8 * n * n)
    if built is None:
        return panel
    peak = built.peak_bytes(n)
    # Pieces up to this size come from the heap, which may keep those that were given back.
    held = max(built.held_bytes(n), min(peak, _PIECES * _HEAP))
    return max(peak + 8 * n * _TAKEN, held + panel)


def settings_within(n: int, dtype: np.dtype[Any], room: int) -> dict[str, Any]:
    """The preconditioner, and what is kept of the matrix, for some room beside the vectors."""
    # A factor in float32 is the best preconditioner by far, but one process makes it alone.
    factor = LowPrecisionCholesky()
    alone = processes() == 1
    if alone and dtype == np.float64 and preconditioned_bytes(factor, n) <= room:
        return {"preconditioner": factor, "storage": "recomputed"}
    # Tiles, where they fit beside as large a preconditioner, are worth more than a larger rank.
    share = room // 2 if share_bytes(n, dtype) <= room // 2 else room

    def bounded(rank: int) -> RPCholesky:
        return RPCholesky(max_bytes=24 * n * rank)  # see rank_limit

    def needed(rank: int) -> int:
        return preconditioned_bytes(bounded(rank), n)

    fits = bisect.bisect_right(range(1, n + 1), share, key=needed)
    limit = max(1, min(fits, rank_limit(n, "auto", 24 * n * n)))
    return {"preconditioner": bounded(limit), "max_bytes": max(0, room - needed(limit))}
