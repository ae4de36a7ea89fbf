"""The kernel matrix of rows that are read from a file when an entry needs them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kernreg.linalg.inputs import check_network, common_dtype, kernel_names
from kernreg.linalg.operator import KernelOperator
from kernreg.linalg.parts import Parts, Rows
from kernreg.linalg.sources import as_source, chosen_rows
from kernreg.nn import Layer

__all__ = ["StreamedOperator"]

_ROWS = 2**16


class StreamedOperator(Parts):
    """Symmetric kernel matrix of rows that stay where they are.

    Parameters
    ----------
    net : Layer
        The network.
    source : RowSource or ndarray of shape (n, d)
        For instance a :class:`ParquetRows`, or ``numpy.load(path, mmap_mode="r")``.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : dtype, optional
        Of the entries, float32 or float64; that of the rows if left out.
    **options : object
        ``device``, ``backend``, ``exact`` and ``precision`` of :class:`KernelOperator`.

    Attributes
    ----------
    shape : tuple of int
        ``(n, n)``.
    dtype : dtype
        Of the entries.

    Raises
    ------
    InvalidInputError
        If source or arguments cannot be used. What the rows hold is checked when they are read.

    Notes
    -----
    For :class:`Restricted` and :class:`SketchAndProject`, which take a matrix in parts. Memory is
    that of the rows of a part.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import nn
    >>> K = StreamedOperator(nn.mlp(depth=1), np.eye(4, dtype=np.float32))
    >>> K.shape, K.part(slice(0, 2), [3]).shape
    ((4, 4), (2, 1))
    """

    symmetric = True

    def __init__(
        self,
        net: Layer,
        source: Any,
        kernel: str = "ntk",
        *,
        dtype: DTypeLike | None = None,
        **options: Any,
    ) -> None:
        check_network(net)
        (self.kernel,) = kernel_names(kernel, single=True)
        self.net = net
        self.source = as_source(source)
        self.dtype = common_dtype(self.source.dtype if dtype is None else dtype)
        self._options = options
        self.shape = (self.source.shape[0], self.source.shape[0])
        first = self._between(self._points(slice(0, 1)), None)
        self.device = first.device

    def diagonal(self) -> NDArray[Any]:
        """The kernel of each row with itself, by one pass over the rows."""
        n = self.shape[0]
        starts = range(0, n, _ROWS)
        return np.concatenate([self.take(slice(i, min(i + _ROWS, n))).diagonal() for i in starts])

    def astype(self, dtype: DTypeLike) -> StreamedOperator:
        """The same operator with entries of another floating type."""
        return StreamedOperator(self.net, self.source, self.kernel, dtype=dtype, **self._options)

    def _points(self, index: Rows) -> NDArray[Any]:
        return chosen_rows(self.source, index if isinstance(index, slice) else np.asarray(index))

    def _between(self, X1: Any, X2: Any) -> KernelOperator:
        return KernelOperator(self.net, X1, X2, self.kernel, dtype=self.dtype, **self._options)
