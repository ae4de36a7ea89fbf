"""Settings that come from the environment, read in one place."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["backend", "cache_dir", "isa", "num_threads", "triton_interpreter"]


def num_threads() -> int:
    """Threads used by compiled kernels.

    ``KERNREG_NUM_THREADS`` or ``OMP_NUM_THREADS`` if set, otherwise the number of cores this
    process may run on.

    Examples
    --------
    >>> num_threads() >= 1
    True
    """
    for name in ("KERNREG_NUM_THREADS", "OMP_NUM_THREADS"):
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) > 0:
            return int(value)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def isa() -> str | None:
    """Instruction set asked for by ``KERNREG_ISA``: "avx512", "avx2" or "baseline".

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, KERNREG_ISA="avx2"):
    ...     isa()
    'avx2'
    """
    return os.environ.get("KERNREG_ISA")


def backend() -> str:
    """Backend to take where none is named: ``KERNREG_BACKEND``, default "auto".

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, KERNREG_BACKEND="reference"):
    ...     backend()
    'reference'
    """
    return os.environ.get("KERNREG_BACKEND", "auto")


def cache_dir() -> Path:
    """Folder for generated code: ``KERNREG_CACHE``, default ``kernreg`` in the user's cache.

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, KERNREG_CACHE="", XDG_CACHE_HOME="/scratch"):
    ...     print(cache_dir())
    /scratch/kernreg
    """
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("KERNREG_CACHE") or Path(home) / "kernreg")


def triton_interpreter() -> bool:
    """Whether Triton interprets its kernels on the CPU (``TRITON_INTERPRET=1``).

    Examples
    --------
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
    ...     triton_interpreter()
    True
    """
    return os.environ.get("TRITON_INTERPRET", "") in ("1", "true", "on", "yes")
