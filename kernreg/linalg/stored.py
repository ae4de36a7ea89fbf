"""The lower half of a symmetric kernel matrix, evaluated once and kept in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.linalg.cholesky import symmetric_order
from kernreg.linalg.panels import (
    Staircase,
    full_precision,
    new_panel,
    panel_bounds,
    require_finite,
)

__all__ = ["StoredOperator"]

_BLOCK = 512
# Columns of a tile: it stays in the cache while both its products are taken.
_COLUMNS = 1024


class StoredOperator:
    """A symmetric operator whose entries are kept, each pair of rows once.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric; evaluated here, in its own dtype, on its own device.

    Raises
    ------
    InvalidInputError
        If the operator is not symmetric, or has NaN or infinity among its entries.

    Notes
    -----
    Memory: ``n^2/2 + 256 n`` numbers. A product reads every stored tile once and uses it twice,
    for its own rows and for those of its mirror image.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> K = StoredOperator(KernelOperator(nn.mlp(depth=1), np.eye(4)))
    >>> K.shape, (K @ np.ones(4)).shape
    ((4, 4), (4,))
    """

    symmetric = True
    fused = False

    def __init__(self, operator: Any) -> None:
        n = symmetric_order(operator)
        self._source = operator
        self.shape = (n, n)
        self.dtype = np.dtype(operator.dtype)
        self.device = torch.device(getattr(operator, "device", "cpu"))
        self._bounds = panel_bounds(n, min(_BLOCK, n))
        self._panels: list[Tensor] = []
        for i0, i1 in self._bounds:
            panel = new_panel((i1 - i0, i1), self.dtype, self.device)
            operator.lower_panel(i0, i1, panel.numpy() if panel.is_cpu else panel)
            require_finite(panel, i0)
            self._panels.append(panel)

    @staticmethod
    def bytes_for(n: int, dtype: Any) -> int:
        """Bytes that a matrix of order n takes.

        Examples
        --------
        >>> StoredOperator.bytes_for(1024, "float32") == 4 * (512 * 512 + 512 * 1024)
        True
        """
        return Staircase.numbers(n, min(_BLOCK, n)) * np.dtype(dtype).itemsize

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(panel.nbytes for panel in self._panels)

    def __matmul__(self, V: NDArray[Any]) -> NDArray[Any]:
        """Product with a vector or matrix in the dtype of the entries, returned in that of V."""
        # Few long rows times a tile run several times faster than a tile times few columns.
        lines = np.ascontiguousarray(V.reshape(len(V), -1).T, dtype=self.dtype)
        source = torch.from_numpy(lines).to(self.device)
        result = torch.zeros_like(source)
        with full_precision():
            for (i0, i1), panel in zip(self._bounds, self._panels, strict=True):
                for j0 in range(0, i0, _COLUMNS):
                    j1 = min(j0 + _COLUMNS, i0)
                    tile = panel[:, j0:j1]
                    result[:, i0:i1].addmm_(source[:, j0:j1], tile.T)
                    result[:, j0:j1].addmm_(source[:, i0:i1], tile)
                result[:, i0:i1].addmm_(source[:, i0:i1], panel[:, i0:].T)
        product = np.ascontiguousarray(result.cpu().numpy().T, dtype=V.dtype)
        return product.reshape(V.shape)

    def lower_panel(self, i0: int, i1: int, out: Any) -> Any:
        """Rows ``[i0, i1)`` up to and including the block on the diagonal, copied to ``out``."""
        target = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
        for (a, b), panel in zip(self._bounds, self._panels, strict=True):
            top, end = max(a, i0), min(b, i1)
            if top < end:
                target[top - i0 : end - i0, : min(b, i1)] = panel[top - a : end - a, :i1]
        upper = torch.ones(i1 - i0, i1 - i0, dtype=torch.bool, device=target.device).triu(1)
        corner = target[:, i0:i1]
        corner[upper] = corner.T[upper]
        return out

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part, from the operator that was stored."""
        return self._source.tile(rows, cols, out)

    def rows(self, index: Any) -> Any:
        """Whole rows by number, from the operator that was stored."""
        return self._source.rows(index)

    def diagonal(self) -> Any:
        """The diagonal, O(n)."""
        return self._source.diagonal()

    def astype(self, dtype: Any) -> Any:
        """Itself, or for another type the operator that was stored, in that type."""
        return self if np.dtype(dtype) == self.dtype else self._source.astype(dtype)
