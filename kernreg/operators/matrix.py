"""A kernel matrix that is there as a whole, as an operator."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator, as_tensor
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.inputs import common_dtype
from kernreg.operators.outputs import KINDS
from kernreg.operators.parts import bounds, row_numbers

__all__ = ["MatrixOperator"]


class MatrixOperator(Operator):
    """A symmetric matrix from elsewhere, for solvers.

    Parameters
    ----------
    matrix : array of shape (n, n)
        Symmetric; NumPy or torch. It is not copied.
    dtype : dtype, optional
        Of the entries, float32 or float64; that of the matrix if left out.

    Raises
    ------
    InvalidInputError
        If it is no square matrix of real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg.solvers import Cholesky
    >>> K = MatrixOperator(np.array([[2.0, 1.0], [1.0, 2.0]]))
    >>> solver = Cholesky()
    >>> solver.solve(solver.init(K, 1.0), np.array([4.0, 4.0])).value
    array([1., 1.])
    """

    symmetric = True
    kept = True
    carries_gradients = True

    def __init__(self, matrix: Any, dtype: DTypeLike | None = None) -> None:
        self._tensors = isinstance(matrix, Tensor)
        values = matrix if isinstance(matrix, Tensor) else as_tensor(matrix)
        if values.ndim != 2 or values.shape[0] != values.shape[1] or values.is_complex():
            raise InvalidInputError(
                f"expected a square matrix of real numbers, found {values.dtype} of shape "
                f"{tuple(values.shape)}"
            )
        self._matrix = values
        self.shape = (len(values), len(values))
        self.dtype = common_dtype(dtype, values)
        self.device = values.device

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix."""
        (i0, i1), (j0, j1) = bounds(rows, len(self._matrix)), bounds(cols, len(self._matrix))

        def fill(target: Tensor) -> None:
            target.copy_(self._matrix[i0:i1, j0:j1])

        return self._written(out, (i1 - i0, j1 - j0), fill)

    def rows(self, index: ArrayLike) -> Any:
        """Whole rows by number, of shape (m, n)."""
        chosen = torch.from_numpy(row_numbers(index, len(self._matrix))).to(self.device)
        return self._outward(self._matrix[chosen].to(KINDS[self.dtype.name]))

    def diagonal(self) -> Any:
        """The diagonal, shape (n,)."""
        return self._outward(self._matrix.diagonal().to(KINDS[self.dtype.name], copy=True))

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns of shape (n, t), by panels where types differ."""
        kind = KINDS[self.dtype.name]
        if self._matrix.dtype == kind == columns.dtype:
            return self._matrix @ columns
        step = max(1, PANEL_BYTES // (8 * max(1, len(self._matrix))))
        panels = self._matrix.split(step)
        return torch.cat([panel.to(kind).to(columns.dtype) @ columns for panel in panels])

    def astype(self, dtype: DTypeLike) -> MatrixOperator:
        """The same matrix with its entries in another type."""
        made = MatrixOperator(self._matrix, common_dtype(dtype))
        made._tensors = self._tensors
        return made

    def _outward(self, values: Tensor) -> Tensor | NDArray[Any]:
        """A result in the kind that the matrix came in."""
        return values if self._tensors else values.numpy()
