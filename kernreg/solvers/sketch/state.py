"""A system in blocks of rows, in two precisions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import NotPositiveDefiniteError
from kernreg.operators.base import Operator, as_array
from kernreg.operators.panels import full_precision
from kernreg.operators.parts import read_part

__all__ = ["CHUNK", "SketchState"]

CHUNK = 16 * 2**20
"""Bytes of a tile of columns: it stays near the cache until it is multiplied."""

_EPS = float(np.finfo(np.float64).eps)


@dataclass(eq=False)
class SketchState:
    """A system ``K + diag(ridge)`` ready to be solved.

    Parameters
    ----------
    operator, exact : Operator
        Entries of the steps, and those of blocks and true residuals in float64.
    ridge : ndarray of shape (n,)
        Added to the diagonal.
    size : float
        Mean diagonal of the kernel.
    seconds : float
        Time of :meth:`SketchAndProject.init`.

    Examples
    --------
    >>> from kernreg import KernelOperator
    >>> from kernreg.solvers import SketchAndProject
    >>> K = KernelOperator("mlp(depth=1)", np.eye(4))
    >>> state = SketchAndProject(block=2).init(K, 1.0)
    >>> state.n, state.low, state.residual(np.ones((4, 1)), np.zeros((4, 1))).ravel().tolist()
    (4, False, [1.0, 1.0, 1.0, 1.0])
    """

    operator: Operator
    exact: Operator
    ridge: NDArray[np.float64]
    size: float
    seconds: float

    @property
    def n(self) -> int:
        """Order of the system."""
        return len(self.ridge)

    @property
    def low(self) -> bool:
        """Whether steps have float32 entries."""
        return np.dtype(self.operator.dtype) == np.float32

    def raise_precision(self) -> None:
        """Take float64 entries from now on."""
        self.operator = self.exact

    def residual(self, rhs: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``rhs - (K + diag(ridge)) x`` from its definition, in float64."""
        return rhs - as_array(self.exact @ x) - self.ridge[:, None] * x

    def solve(self, rows: NDArray[np.int64], R: NDArray[np.float64]) -> NDArray[np.float64]:
        """``A[rows][:, rows]^-1 R`` by Cholesky; a block that has no factor gets a jitter."""
        block = torch.from_numpy(as_array(self.exact.part(rows, rows)))
        diagonal = block.diagonal()
        diagonal += torch.from_numpy(self.ridge[rows])
        jitter = len(rows) * _EPS * float(diagonal.mean())
        for _ in range(8):
            factor, failed = torch.linalg.cholesky_ex(block)
            if not failed:
                return np.asarray(torch.cholesky_solve(torch.from_numpy(R), factor).numpy())
            diagonal += jitter
            jitter *= 10.0
        raise NotPositiveDefiniteError(
            f"a block of {len(rows)} rows of the kernel matrix has no Cholesky factor even with "
            f"{jitter / 10:.3g} on its diagonal: raise alpha, or check data and network"
        )

    def columns_times(self, rows: NDArray[np.int64], D: NDArray[np.float64]) -> NDArray[np.float64]:
        """``A[:, rows] D``, by chunks of the other rows."""
        dtype = np.dtype(self.operator.dtype)
        # Scaled, so that float32 neither overflows nor underflows.
        scale = np.max(np.abs(D), axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        narrow = np.ascontiguousarray(D / scale, dtype=dtype)
        image = self.operator.over_rows(_columns_times, rows, narrow, joined=True)
        image *= scale
        image[rows] += self.ridge[rows, None] * D
        return as_array(image)


def _columns_times(
    operator: Operator, start: int, stop: int, rows: NDArray[np.int64], narrow: NDArray[Any], _: Any
) -> NDArray[np.float64]:
    """``K[start:stop, rows] narrow``, by chunks."""
    chunk = min(stop - start, max(256, CHUNK // (operator.dtype.itemsize * len(rows))))
    buffer = np.empty((chunk, len(rows)), dtype=operator.dtype)
    image = np.empty((stop - start, narrow.shape[1]))
    factor = torch.from_numpy(narrow)
    with full_precision():
        for i0 in range(start, stop, max(1, chunk)):
            i1 = min(i0 + chunk, stop)
            tile = torch.from_numpy(read_part(operator, slice(i0, i1), rows, buffer[: i1 - i0]))
            image[i0 - start : i1 - start] = tile @ factor
    return image
