"""What the windows of filters and poolings read, as numbers of positions and as matrices."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from kernreg.ir.taps import Sizes, Taps

__all__ = ["pooling", "windows"]


@functools.lru_cache(maxsize=256)
def windows(taps: Taps, sizes: Sizes) -> Tensor:
    """What each tap reads for each position behind, by number, -1 for nothing.

    Returns
    -------
    Tensor of shape (taps, positions)
    """
    if taps.shape is None:
        return torch.arange(math.prod(sizes))[:, None]
    found = np.zeros((1, 1), dtype=np.int64)
    for axis, size in enumerate(sizes):
        source = np.array(taps.sources(axis, size), dtype=np.int64).T
        both = found[:, None, :, None] * size + source[None, :, None, :]
        gone = (found[:, None, :, None] < 0) | (source[None, :, None, :] < 0)
        both = np.where(gone, -1, both)
        found = both.reshape(both.shape[0] * both.shape[1], -1)
    return torch.from_numpy(found)


@functools.lru_cache(maxsize=64)
def pooling(taps: Taps, sizes: Sizes, how: str) -> Tensor:
    """The matrix of a pooling: what each position behind takes of each one before."""
    source = windows(taps, sizes)
    inside = source >= 0
    matrix = torch.zeros((source.shape[1], math.prod(sizes)), dtype=torch.float64)
    behind = torch.arange(source.shape[1]).expand_as(source)
    # A window that wraps around may meet a position twice.
    ones = torch.ones(int(inside.sum()), dtype=torch.float64)
    matrix.index_put_((behind[inside], source[inside]), ones, accumulate=True)
    if how == "sum":
        return matrix
    count = inside.sum(0) if how == "present" else torch.full_like(behind[0], len(source))
    return matrix / count[:, None]
