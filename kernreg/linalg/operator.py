"""The kernel matrix of a network on data, as an operator that is never stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from kernreg.backends import bind
from kernreg.backends.base import Part, Request
from kernreg.exceptions import InvalidInputError
from kernreg.linalg.inputs import (
    as_rows,
    check_device,
    check_network,
    common_dtype,
    kernel_names,
)
from kernreg.nn import Layer

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["KernelOperator"]

_PANEL_BYTES = 64 * 2**20


class KernelOperator:
    """Kernel matrix ``K[i, j] = kernel(X1[i], X2[j])`` of an infinitely wide network.

    Parameters
    ----------
    net : Layer
        The network.
    X1 : array of shape (n1, d)
        Rows, NumPy or torch.
    X2 : array of shape (n2, d), optional
        Columns; left out, the matrix is the symmetric one of ``X1``.
    kernel : {"ntk", "nngp"}
        Which kernel.
    dtype : dtype, optional
        float32 or float64; that of the data if left out.
    device : str, optional
        Only "cpu".
    backend : str
        "auto", "cpu" or "reference".
    exact : bool
        Run every layer; no profile pass.

    Attributes
    ----------
    shape : tuple of int
        ``(n1, n2)``.
    dtype : dtype
        Of the entries.
    symmetric : bool
        Whether ``X2`` was left out.
    backend : str
        The backend that was taken.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.
    BackendError
        If the backend that was asked for cannot run the network.

    Notes
    -----
    Memory is O(n (d + depth)), whatever the number of entries asked for. A tile of m entries
    costs O(m (d + depth)) time.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> K = KernelOperator(nn.mlp(depth=2), np.eye(4))
    >>> K.shape, (K @ np.ones(4)).shape
    ((4, 4), (4,))
    """

    def __init__(
        self,
        net: Layer,
        X1: Any,
        X2: Any = None,
        kernel: str = "ntk",
        *,
        dtype: DTypeLike | None = None,
        device: str | None = None,
        backend: str = "auto",
        exact: bool = False,
    ) -> None:
        check_network(net)
        check_device(device)
        (self.kernel,) = kernel_names(kernel, single=True)
        self.net, self._asked, self._exact = net, backend, exact
        self._X1 = as_rows(X1, "X1")
        self._X2 = None if X2 is None else as_rows(X2, "X2", like=self._X1)
        self.dtype = common_dtype(dtype, self._X1, self._X2)
        request = Request(net.program(), self._X1, self._X2, self.dtype, exact)
        self.backend, self._bound = bind(request, backend)
        self.symmetric = self._X2 is None
        self.shape = (len(self._X1), len(self._X1 if self._X2 is None else self._X2))

    def __repr__(self) -> str:
        return (
            f"<KernelOperator {self.kernel} {self.shape[0]} x {self.shape[1]} "
            f"{self.dtype.name} on {self.backend}>"
        )

    def tile(
        self, rows: slice, cols: slice, out: NDArray[Any] | None = None
    ) -> NDArray[np.floating]:
        """A rectangular part of the matrix.

        Parameters
        ----------
        rows, cols : slice
            Without a step.
        out : ndarray, optional
            Where to write; its rows must be contiguous.

        Returns
        -------
        ndarray

        Raises
        ------
        InvalidInputError
            If a slice has a step, or ``out`` has the wrong shape or dtype.
        """
        (i0, i1), (j0, j1) = self._bounds(rows, 0), self._bounds(cols, 1)
        out = self._target(out, (i1 - i0, j1 - j0))
        if out.size:
            self._bound.fill(Part(i0, i1, j0, j1), {self.kernel: out})
        return out

    def lower_panel(
        self, i0: int, i1: int, out: NDArray[Any] | None = None
    ) -> NDArray[np.floating]:
        """Rows ``[i0, i1)`` up to and including the block on the diagonal.

        Parameters
        ----------
        i0, i1 : int
            Range of rows.
        out : ndarray of shape (i1 - i0, i1), optional
            Where to write.

        Returns
        -------
        ndarray of shape (i1 - i0, i1)
        """
        if not self.symmetric:
            raise InvalidInputError("lower_panel is for symmetric operators; use tile.")
        return self.tile(slice(i0, i1), slice(0, i1), out)

    def rows(self, index: ArrayLike) -> NDArray[np.floating]:
        """Whole rows by number.

        Parameters
        ----------
        index : array of int, shape (m,)
            Row numbers.

        Returns
        -------
        ndarray of shape (m, n2)
        """
        numbers = np.asarray(index)
        if numbers.size and numbers.dtype.kind not in "iu":
            raise InvalidInputError(
                f"index must hold row numbers, found dtype {numbers.dtype}; for a mask use "
                "np.flatnonzero(mask)."
            )
        index = numbers.astype(np.intp).reshape(-1)
        if not len(index):
            return np.empty((0, self.shape[1]), self.dtype)
        columns = self._X1 if self._X2 is None else self._X2
        block = KernelOperator(
            self.net,
            self._X1[index],
            columns,
            self.kernel,
            dtype=self.dtype,
            backend=self._asked,
            exact=self._exact,
        ).to_dense()
        if self.symmetric:
            # A row meets itself: dropout and rounding make that entry the diagonal's.
            block[np.arange(len(index)), index] = self.diagonal()[index]
        return block

    def diagonal(self) -> NDArray[np.floating]:
        """The kernel of each row with itself, O(n).

        Returns
        -------
        ndarray of shape (n,)
        """
        if not self.symmetric:
            raise InvalidInputError("diagonal is for symmetric operators.")
        return self._bound.diagonal(self.kernel).astype(self.dtype)

    def to_dense(self, out: NDArray[Any] | None = None) -> NDArray[np.floating]:
        """The whole matrix.

        Parameters
        ----------
        out : ndarray of shape (n1, n2), optional
            Where to write.

        Returns
        -------
        ndarray of shape (n1, n2)
        """
        return self.tile(slice(None), slice(None), out)

    def astype(self, dtype: DTypeLike) -> Self:
        """The same operator with entries of another floating type.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        KernelOperator
        """
        return type(self)(
            self.net,
            self._X1,
            self._X2,
            self.kernel,
            dtype=dtype,
            backend=self._asked,
            exact=self._exact,
        )

    def __matmul__(self, V: ArrayLike) -> NDArray[np.floating]:
        """Product with a vector or a matrix of shape (n2, t), panel by panel."""
        V = np.asarray(V)
        if V.ndim not in (1, 2) or V.shape[0] != self.shape[1]:
            raise InvalidInputError(
                f"operands do not fit: {self.shape[0]} x {self.shape[1]} operator and an array "
                f"of shape {V.shape}."
            )
        dtype = np.result_type(self.dtype, V.dtype)
        out = np.zeros((self.shape[0], *V.shape[1:]), dtype)
        n = self.shape[0]
        step = max(1, _PANEL_BYTES // (self.dtype.itemsize * max(1, self.shape[1])))
        for i0 in range(0, n, step):
            i1 = min(n, i0 + step)
            if not self.symmetric:
                out[i0:i1] = self.tile(slice(i0, i1), slice(None)) @ V
                continue
            panel = self.lower_panel(i0, i1)
            out[i0:i1] += panel @ V[:i1]
            out[:i0] += panel[:, :i0].T @ V[i0:i1]
        return out

    def as_scipy(self) -> LinearOperator:
        """The operator for ``scipy.sparse.linalg``.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
        """
        from scipy.sparse.linalg import LinearOperator

        transposed = self if self.symmetric else None

        def rmatmat(V: NDArray[Any]) -> NDArray[Any]:
            if transposed is not None:
                return transposed @ V
            swapped = KernelOperator(
                self.net, self._X2, self._X1, self.kernel, dtype=self.dtype, backend=self._asked
            )
            return swapped @ V

        return LinearOperator(
            dtype=self.dtype,
            shape=self.shape,
            matvec=lambda v: self @ np.ravel(v),
            rmatvec=lambda v: rmatmat(np.ravel(v)),
            matmat=lambda V: self @ V,
            rmatmat=rmatmat,
        )

    def _bounds(self, part: slice, axis: int) -> tuple[int, int]:
        if not isinstance(part, slice):
            raise InvalidInputError(f"expected a slice, found {part!r}; use rows for numbers.")
        start, stop, step = part.indices(self.shape[axis])
        if step != 1:
            raise InvalidInputError(f"slices must have no step, found {part}.")
        return start, max(start, stop)

    def _target(self, out: NDArray[Any] | None, shape: tuple[int, int]) -> NDArray[Any]:
        if out is None:
            return np.empty(shape, self.dtype)
        fits = isinstance(out, np.ndarray) and out.shape == shape and out.dtype == self.dtype
        if not fits or out.strides[1] != out.itemsize or not out.flags.writeable:
            found = f"{type(out).__name__} of shape {getattr(out, 'shape', None)} and dtype "
            raise InvalidInputError(
                f"out must be a writeable array of shape {shape} and dtype {self.dtype.name} with "
                f"contiguous rows, found {found}{getattr(out, 'dtype', None)}."
            )
        return out
