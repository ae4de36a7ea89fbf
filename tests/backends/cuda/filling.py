"""Kernel matrices by the cuda backend, and the reference beside them."""

from __future__ import annotations

import numpy as np
import torch

import kernreg
from kernreg import nn
from kernreg.backends.base import Part, Request
from kernreg.backends.cuda.backend import CudaBackend
from tests.backends.compare import KERNELS

__all__ = ["error", "fill", "reference"]


def fill(
    net: nn.Layer,
    X1: np.ndarray,
    X2: np.ndarray | None = None,
    part: Part | None = None,
    kernels: tuple[str, ...] = KERNELS,
    dtype: torch.dtype = torch.float64,
    exact: bool = True,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """A part of the kernel matrix; NaN where nothing was written."""
    other = X1 if X2 is None else X2
    part = part or Part(0, len(X1), 0, len(other))
    data = [None if X is None else torch.from_numpy(X).to(device) for X in (X1, X2)]
    request = Request(net.program(), *data, np.dtype("float64"), exact)
    # Wider than the part, so that a wrong stride shows.
    shape = (part.i1 - part.i0, part.j1 - part.j0 + 3)
    out = {k: torch.full(shape, torch.nan, dtype=dtype, device=device) for k in kernels}
    CudaBackend().bind(request).fill(part, {k: v[:, :-3] for k, v in out.items()})
    assert all(bool(v[:, -3:].isnan().all()) for v in out.values())
    return {k: v[:, :-3].cpu().numpy() for k, v in out.items()}


def reference(net: nn.Layer, X1: np.ndarray, X2: np.ndarray | None = None) -> dict[str, np.ndarray]:
    found = kernreg.gram(net, X1, X2, kernel=KERNELS, backend="reference", exact=True)
    return dict(zip(KERNELS, found, strict=True))


def error(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> float:
    """Worst error, relative to the largest entry; NaN if an entry was not written."""
    return float(max(np.max(abs(got[k] - want[k])) / np.max(abs(want[k])) for k in got))
