"""How much memory may be used, and sizes as people read and type them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import psutil
import torch

from kernreg.distributed import local_processes
from kernreg.exceptions import InvalidInputError
from kernreg.operators.inputs import check_device

__all__ = ["PANEL_BYTES", "PREPARED_ROWS", "TILE_ROWS", "enough", "memory_budget", "readable"]

PANEL_BYTES = 64 * 2**20
"""Kernel entries that are worked on at once: many enough for speed, few beside any budget."""
PREPARED_ROWS = 4096
"""Rows that an operator prepares at once, so that errors come early; of more only the first one."""
TILE_ROWS = 256
"""Rows of entries that an operator may hold besides its output."""

# Fewer bytes without a unit are a slip.
_NO_UNIT = 10**6
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def readable(count: float) -> str:
    """Bytes with a decimal unit.

    Examples
    --------
    >>> readable(1_500_000), readable(12)
    ('1.5 MB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def enough(count: int) -> str:
    """Bytes as :func:`readable`, but never fewer.

    Examples
    --------
    >>> enough(6_141_000), readable(6_141_000), enough(12)
    ('6.15 MB', '6.14 MB', '12 B')
    """
    step = 10 ** max(0, len(str(count)) - 3)
    return readable(-(-count // step) * step)


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
    >>> memory_budget("1.5 GB"), memory_budget("2KiB"), memory_budget(10**6)
    (1500000000, 2048, 1000000)
    """
    if max_memory is None:
        where = check_device(device)
        if where.type == "cpu":
            return int(0.9 * psutil.virtual_memory().available / local_processes())
        # What torch keeps for its next tensors counts as free.
        kept = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(0.9 * (torch.cuda.mem_get_info(where)[0] + kept))
    if isinstance(max_memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", max_memory.lower())
        if not match or (match[3] and not match[2]):
            raise InvalidInputError(
                f"Expected max_memory like '4GB', '512MiB' or a number of bytes, "
                f"found {max_memory!r}."
            )
        count = float(match[1]) * (_BINARY if match[3] else _UNITS)[match[2]]
        plain = max_memory.strip()
        if 0 < count < _NO_UNIT and plain[-1] in "0123456789.":
            unit = "GB" if count < 1000 else "MB"
            raise InvalidInputError(
                f"max_memory is {max_memory!r}, which is {count:g} bytes: did you mean "
                f"{plain + unit!r}? Write {plain + 'B'!r} if not."
            )
    else:
        count = float(max_memory)
    if not 1 <= count < np.inf:
        raise InvalidInputError(f"Expected max_memory of at least one byte, found {max_memory!r}.")
    return int(count)
