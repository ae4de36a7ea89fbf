"""The lower half of a symmetric kernel matrix, evaluated once and kept in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernreg.distributed import processes
from kernreg.operators.base import Operator, symmetric_order
from kernreg.operators.mirrored import times_half
from kernreg.operators.outputs import KINDS, as_output
from kernreg.operators.panels import panel_bounds, require_finite

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

    def __init__(self, operator: Operator, rows: tuple[int, int]) -> None:
        symmetric_order(operator)
        self.dtype = np.dtype(operator.dtype)
        self.device = operator.device
        self._bounds = _blocks(rows)
        self._panels: list[Tensor] = []
        for i0, i1 in self._bounds:
            panel = as_output(None, (i1 - i0, i1), self.dtype, self.device)
            operator.fill_panel(panel, i0)
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

    def panels(self) -> Iterator[tuple[int, int, Tensor]]:
        """First row, end, and entries of each panel."""
        for (i0, i1), panel in zip(self._bounds, self._panels, strict=True):
            yield i0, i1, panel

    def times(self, lines: Tensor) -> Tensor:
        """What these rows, and by symmetry the columns of theirs, give to ``lines @ K``.

        Parameters
        ----------
        lines : Tensor of shape (t, n)
            Taken in the dtype of the entries.

        Returns
        -------
        Tensor of shape (t, n)
        """
        source = lines.to(self.device, KINDS[self.dtype.name])
        return times_half(((i0, panel) for i0, _, panel in self.panels()), source)


def _blocks(rows: tuple[int, int]) -> list[tuple[int, int]]:
    start, stop = rows
    height = max(1, min(_BLOCK, stop - start))
    return [(start + i0, start + i1) for i0, i1 in panel_bounds(stop - start, height)]


class PackedOperator(Operator):
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
    kept = True

    def __init__(self, operator: Operator) -> None:
        n = symmetric_order(operator)
        self._half = PackedPanels(operator, (0, n))
        self._source = operator
        self.shape = (n, n)
        self.dtype, self.device = self._half.dtype, self._half.device

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._half.nbytes

    @staticmethod
    def bytes_for(n: int, dtype: Any) -> int:
        """Bytes that a matrix of order n takes.

        Examples
        --------
        >>> PackedOperator.bytes_for(1024, "float32") == 4 * (512 * 512 + 512 * 1024)
        True
        """
        return PackedPanels.numbers((0, n)) * np.dtype(dtype).itemsize

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns, worked out in the dtype of the entries."""
        return self._half.times(columns.T.contiguous()).T.to(columns.dtype).contiguous()

    def lower_panel(self, i0: int, i1: int, out: Any = None) -> Any:
        """Rows ``[i0, i1)`` up to and including the block on the diagonal."""
        if out is None:
            out = np.empty((i1 - i0, i1), dtype=self.dtype)
        target = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
        for a, b, panel in self._half.panels():
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

    def astype(self, dtype: Any) -> Operator:
        """Itself, or for another type the operator that was stored, in that type."""
        return self if np.dtype(dtype) == self.dtype else self._source.astype(dtype)


def keep(operator: Operator) -> Operator:
    """The operator with its entries kept, in the way of its own if it has one."""
    return operator.keep() or PackedOperator(operator)


def kept_bytes(operator: Operator) -> int:
    """Bytes that :func:`keep` takes in a process that has a share of the entries."""
    return share_bytes(operator.shape[0], operator.dtype, operator.processes)


def shares(n: int, size: int) -> list[tuple[int, int]]:
    """Rows of the lower half that each of some processes sees to: as many entries for each.

    Examples
    --------
    >>> shares(100, 4)
    [(0, 50), (50, 71), (71, 87), (87, 100)]
    """
    return list(itertools.pairwise(round(n * math.sqrt(k / size)) for k in range(size + 1)))


def share_bytes(n: int, dtype: Any, size: int | None = None) -> int:
    """Bytes of a kept matrix of order n in the process that keeps most of it.

    ``size`` are the processes, those of the job if left out.

    Examples
    --------
    >>> share_bytes(1024, "float32") == PackedOperator.bytes_for(1024, "float32")
    True
    """
    parts = shares(n, processes() if size is None else size)
    return np.dtype(dtype).itemsize * max(map(PackedPanels.numbers, parts))
