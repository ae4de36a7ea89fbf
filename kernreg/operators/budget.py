"""How much memory may be used."""

from __future__ import annotations

from typing import Any

import psutil
import torch

from kernreg.distributed import local_processes
from kernreg.operators.inputs import check_device
from kernreg.sizes import parse_size

__all__ = ["PANEL_BYTES", "PREPARED_ROWS", "TILE_ROWS", "memory_budget"]

PANEL_BYTES = 64 * 2**20
"""Kernel entries that are worked on at once: many enough for speed, few beside any budget."""
PREPARED_ROWS = 4096
"""Rows that an operator prepares at once, so that errors come early; of more only the first one."""
TILE_ROWS = 256
"""Rows of entries that an operator may hold besides its output."""


def memory_budget(max_memory: str | float | None = None, device: Any = None) -> int:
    """Bytes that may be used.

    Parameters
    ----------
    max_memory : str, number or None
        ``"4GB"`` (10^9), ``"4GiB"`` (2^30), a number of bytes, or None for 90 % of the memory
        that is available now, over the processes of a job that share it.
    device : device, optional
        Whose memory; that of the CPU if left out.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or is not positive.

    Examples
    --------
    >>> memory_budget("1.5 GB")
    1500000000
    """
    if max_memory is None:
        where = check_device(device)
        if where.type == "cpu":
            return int(0.9 * psutil.virtual_memory().available / local_processes())
        # What torch keeps for its next tensors counts as free.
        kept = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(0.9 * (torch.cuda.mem_get_info(where)[0] + kept))
    return parse_size(max_memory)
