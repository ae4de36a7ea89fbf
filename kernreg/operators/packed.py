"""The lower half of a symmetric kernel matrix, evaluated once and kept in memory."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.distributed import processes
from kernreg.operators.base import symmetric_order
from kernreg.operators.inputs import as_output
from kernreg.operators.panels import (
    add_panel,
    full_precision,
    panel_bounds,
    require_finite,
)

__all__ = ["PackedOperator", "PackedPanels", "keep", "kept_bytes", "share_bytes", "shares"]

_BLOCK = 512


class PackedPanels:
    """Rows ``[start, stop)`` of the lower half of a symmetric matrix, kept in memory.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric; evaluated here, in its own dtype, on its own device.
    rows : tuple of int
        ``(start, stop)``.

    Raises
    ------
    InvalidInputError
        If the operator is not symmetric, or has NaN or infinity among these entries.
    """

    def __init__(self, operator: Any, rows: tuple[int, int]) -> None:
        symmetric_order(operator)
        self.dtype = np.dtype(operator.dtype)
        self.device = torch.device(getattr(operator, "device", "cpu"))
        self._bounds = _blocks(rows)
        self._panels: list[Tensor] = []
        for i0, i1 in self._bounds:
            panel = as_output(None, (i1 - i0, i1), self.dtype, self.device)
            operator.lower_panel(i0, i1, panel.numpy() if panel.is_cpu else panel)
            require_finite(panel, i0)
            self._panels.append(panel)

    @staticmethod
    def numbers(rows: tuple[int, int]) -> int:
        """How many numbers these rows take."""
        return sum((i1 - i0) * i1 for i0, i1 in _blocks(rows))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(panel.nbytes for panel in self._panels)

    def times(self, lines: NDArray[Any]) -> Tensor:
        """What these rows, and by symmetry the columns of theirs, give to ``lines @ K``.

        Parameters
        ----------
        lines : ndarray of shape (t, n)
            C-contiguous; taken in the dtype of the entries.

        Returns
        -------
        Tensor of shape (t, n)
        """
        # Few long rows times a tile run several times faster than a tile times few columns.
        source = torch.from_numpy(lines.astype(self.dtype, copy=False)).to(self.device)
        result = torch.zeros_like(source)
        with full_precision():
            for (i0, _), panel in zip(self._bounds, self._panels, strict=True):
                add_panel(panel, i0, source, result)
        return result


def _blocks(rows: tuple[int, int]) -> list[tuple[int, int]]:
    start, stop = rows
    height = max(1, min(_BLOCK, stop - start))
    return [(start + i0, start + i1) for i0, i1 in panel_bounds(stop - start, height)]


class PackedOperator(PackedPanels):
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
    >>> K = PackedOperator(KernelOperator(nn.mlp(depth=1), np.eye(4)))
    >>> K.shape, (K @ np.ones(4)).shape
    ((4, 4), (4,))
    """

    symmetric = True
    fused = False

    def __init__(self, operator: Any) -> None:
        n = symmetric_order(operator)
        super().__init__(operator, (0, n))
        self._source = operator
        self.shape = (n, n)

    @staticmethod
    def bytes_for(n: int, dtype: Any) -> int:
        """Bytes that a matrix of order n takes.

        Examples
        --------
        >>> PackedOperator.bytes_for(1024, "float32") == 4 * (512 * 512 + 512 * 1024)
        True
        """
        return PackedPanels.numbers((0, n)) * np.dtype(dtype).itemsize

    def __matmul__(self, V: NDArray[Any]) -> NDArray[Any]:
        """Product with a vector or matrix in the dtype of the entries, returned in that of V."""
        result = self.times(np.ascontiguousarray(V.reshape(len(V), -1).T))
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


def keep(operator: Any) -> Any:
    """The operator with its entries kept, in the way of its own if it has one."""
    return operator.keep() if hasattr(operator, "keep") else PackedOperator(operator)


def kept_bytes(operator: Any) -> int:
    """Bytes that :func:`keep` takes in this process."""
    if hasattr(operator, "kept_bytes"):
        return int(operator.kept_bytes())
    return PackedOperator.bytes_for(operator.shape[0], operator.dtype)


def shares(n: int) -> list[tuple[int, int]]:
    """Rows of the lower half that each process of the job sees to: as many entries for each.

    Examples
    --------
    >>> shares(100)
    [(0, 100)]
    """
    size = processes()
    return list(itertools.pairwise(round(n * math.sqrt(k / size)) for k in range(size + 1)))


def share_bytes(n: int, dtype: Any) -> int:
    """Bytes of a kept matrix of order n in the process that keeps most of it.

    Examples
    --------
    >>> share_bytes(1024, "float32") == PackedOperator.bytes_for(1024, "float32")
    True
    """
    return np.dtype(dtype).itemsize * max(map(PackedPanels.numbers, shares(n)))
