"""A kernel matrix whose entries are worked out once, where they cost more than all else."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.backends.half import multiplies, multiply_half
from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Rows
from kernreg.operators.inputs import common_dtype
from kernreg.operators.kernel import KernelOperator
from kernreg.operators.outputs import KINDS, as_output
from kernreg.operators.panels import panel_bounds
from kernreg.operators.parts import Parts, bounds, row_numbers

__all__ = ["KeptKernel", "kept"]

_ENTRIES = 2**14
"""Of a panel; between them a callback is told."""

# Of a panel that is multiplied.
_ROWS = 512


class KeptKernel(KernelOperator):
    """The symmetric kernel of some rows, with all its entries in memory.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric.
    callback : callable, optional
        Told ``(rows done, rows)``.

    Notes
    -----
    n^2 numbers. Another type is a copy of them: nothing is worked out again, so that float32
    entries serve ridges above their rounding only.

    Examples
    --------
    >>> from kernreg import nn
    >>> K = KeptKernel(KernelOperator(nn.mlp(depth=1), np.eye(3)))
    >>> K.kept, K.reevaluates, K.take([0, 2]).shape
    (True, True, (2, 2))
    """

    kept = True
    fused = False

    def __init__(self, operator: KernelOperator, callback: Any = None) -> None:
        self.__dict__.update(operator.__dict__)
        self.reevaluates = self.dtype == np.float64
        n = operator.shape[0]
        matrix = as_output(None, (n, n), self.dtype, self.device)
        step = max(1, _ENTRIES // max(1, n))
        for i0, i1 in panel_bounds(n, step):
            # On and below the diagonal, and by symmetry above it.
            part = operator.tile(slice(i0, i1), slice(0, i1))
            lower = torch.as_tensor(part)
            matrix[i0:i1, :i1] = lower
            matrix[:i1, i0:i1] = lower.T
            if callback is not None:
                callback(i1, n)
        self._matrix = matrix

    @property
    def backend(self) -> str:
        """The backend that was taken."""
        return self._binding[0]

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix."""
        (i0, i1), (j0, j1) = bounds(rows, self.shape[0]), bounds(cols, self.shape[1])

        def fill(target: Tensor) -> None:
            target.copy_(self._matrix[i0:i1, j0:j1])

        return self._written(out, (i1 - i0, j1 - j0), fill, self.device)

    def rows(self, index: ArrayLike) -> Any:
        """Whole rows by number, of shape (m, n)."""
        chosen = torch.from_numpy(row_numbers(index, self.shape[0]))
        return self._outward(self._matrix[chosen].to(KINDS[self.dtype.name]))

    def row_diagonal(self) -> NDArray[Any]:
        """The diagonal, shape (n,)."""
        return self._matrix.diagonal().numpy().astype(self.dtype)

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns of shape (n, t), in their type."""
        lines = columns.T
        if not multiplies(lines):
            return self._matrix.to(columns.dtype) @ columns
        panels = ((i0, self._matrix[i0:i1, :i1]) for i0, i1 in panel_bounds(len(lines.T), _ROWS))
        return multiply_half(panels, lines).T.to(columns.dtype).contiguous()

    def take(self, index: Rows) -> KeptKernel:
        """The symmetric operator of some rows alone."""
        self._require_symmetric("take")
        chosen = torch.from_numpy(row_numbers(self._checked(index), self.shape[0]))
        made = copy.copy(self)
        made._X1, made._made = self._X1[chosen], None
        made.shape = (len(chosen), len(chosen))
        made._matrix = self._matrix[chosen][:, chosen]
        return made

    def part(self, rows: Rows, columns: Rows, out: Any = None) -> Any:
        """Entries between the given rows and columns."""
        i, j = (
            torch.from_numpy(row_numbers(self._checked(k), self.shape[0])) for k in (rows, columns)
        )

        def fill(target: Tensor) -> None:
            target.copy_(self._matrix[i][:, j])

        return self._written(out, (len(i), len(j)), fill, self.device)

    def astype(self, dtype: DTypeLike) -> KeptKernel:
        """The same entries in another type."""
        made = copy.copy(self)
        made.dtype = np.dtype(common_dtype(dtype))
        made._matrix = self._matrix.to(KINDS[made.dtype.name])
        return made


def kept(operator: Parts, callback: Any = None) -> Parts:
    """An operator with its entries in memory, each of them worked out once.

    Parameters
    ----------
    operator : Parts
        Symmetric.
    callback : callable, optional
        Told ``(rows done, rows)`` now and then.
    """
    if isinstance(operator, KernelOperator):
        return KeptKernel(operator, callback)
    made = operator.keep()
    if made is None:
        raise InvalidInputError(f"{type(operator).__name__} does not keep its entries.")
    return made
