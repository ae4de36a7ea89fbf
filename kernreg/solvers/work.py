"""The units in which solvers count what they compute, read and write."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DISK", "EIGH", "READ", "entry", "flop", "part", "product", "square"]

EIGH = "n^3 of an eigendecomposition"
READ = "byte of kept tiles"
DISK = "byte of disk"


def entry(dtype: Any) -> str:
    """Name of the unit: one entry of the kernel matrix."""
    return f"entry in {np.dtype(dtype).name}"


def product(dtype: Any) -> str:
    """Name of the unit: one entry of the kernel matrix that is evaluated for a product."""
    return f"entry of a product in {np.dtype(dtype).name}"


def part(dtype: Any) -> str:
    """Name of the unit: one entry between few rows and many, which are prepared for it."""
    return f"entry of a part in {np.dtype(dtype).name}"


def flop(dtype: Any) -> str:
    """Name of the unit: one operation of a large matrix product."""
    return f"operation in {np.dtype(dtype).name}"


def square(dtype: Any) -> str:
    """Name of the unit: n^2 of a factorisation, what its narrow parts cost beside the products."""
    return f"n^2 of a factorisation in {np.dtype(dtype).name}"
