"""The kernel matrix of a network on data, as an operator that is never stored."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.backends import bind
from kernreg.backends.base import CPU, Bound, Fused, Part, Request
from kernreg.exceptions import InvalidInputError
from kernreg.linalg.inputs import (
    KINDS,
    as_output,
    as_rows,
    check_network,
    check_precision,
    common_dtype,
    deliver,
    kernel_names,
    within_memory,
)
from kernreg.linalg.parts import Parts, Rows, row_numbers
from kernreg.linalg.transfer import fill
from kernreg.nn import Layer, to_json

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["PANEL_BYTES", "KernelOperator"]

PANEL_BYTES = 64 * 2**20
_HASHED_ROWS = 4096
# Rows that are prepared at once, so that errors come early; of more only the first one is.
_EAGER = 4096
# Rows of which the diagonal is found at once.
_ROWS = 2**16


class KernelOperator(Parts):
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
    device : device, optional
        "cpu" or "cuda"; where the data are if left out.
    backend : str
        "auto", "cpu", "triton", "cuda" or "reference".
    exact : bool
        Run every layer; no profile pass.
    precision : {"tf32x3", "ieee", "tf32", "bf16x3"}
        Of float32 products on the matrix units of a GPU; see :func:`kernreg.gram`.

    Attributes
    ----------
    shape : tuple of int
        ``(n1, n2)``.
    dtype : dtype
        Of the entries.
    symmetric : bool
        Whether ``X2`` was left out.
    n_features : int
        Numbers per row of the data.
    backend : str
        The backend that was taken.
    device : torch.device
        Where the entries are made.
    fused : bool
        Whether products multiply tiles as they are made and store none.

    Raises
    ------
    InvalidInputError
        If data or arguments cannot be used.
    BackendError
        If the backend that was asked for cannot run the network.

    Notes
    -----
    Memory is O(n (d + depth)), whatever the number of entries asked for. A tile of m entries
    costs O(m (d + depth)) time. More than 4,096 rows are prepared when ``tile``, ``rows`` or a
    product first needs them; ``part``, ``take`` and ``diagonal`` prepare their own rows only.

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
        precision: str = "tf32x3",
    ) -> None:
        check_network(net)
        (self.kernel,) = kernel_names(kernel, single=True)
        self.net = net
        self._options: dict[str, Any] = {
            "backend": backend,
            "exact": exact,
            "precision": precision,
        }
        self._tensors = isinstance(X1, Tensor)
        self._X1 = as_rows(X1, "X1", device=device)
        self.device = self._X1.device
        self._X2 = None if X2 is None else as_rows(X2, "X2", like=self._X1, device=self.device)
        self.dtype = common_dtype(dtype, self._X1, self._X2)
        check_precision(precision)
        self.symmetric = self._X2 is None
        self.n_features = int(self._X1.shape[1])
        self.shape = (len(self._X1), len(self._X1 if self._X2 is None else self._X2))
        self._made: tuple[str, Bound] | None = None
        if max(self.shape) <= _EAGER:
            self._made = self._bind(self._X1, self._X2)
        else:
            self._bind(self._X1[:1], None if self._X2 is None else self._X2[:1])

    def __repr__(self) -> str:
        return (
            f"<KernelOperator {self.kernel} {self.shape[0]} x {self.shape[1]} "
            f"{self.dtype.name} on {self.backend}>"
        )

    def fingerprint(self) -> str:
        """A hash of network, kernel and data: equal for operators with the same entries.

        What is kept on disk carries it, and is refused to an operator with another one. The type
        of the entries and the backend, which change them by rounding only, are left out.

        Returns
        -------
        str
            64 hexadecimal digits.

        Raises
        ------
        NetworkError
            If a Python function in the network has no importable name.
        """
        digest = hashlib.sha256()
        settings = {k: self._options[k] for k in ("exact", "precision")}
        digest.update(json.dumps([to_json(self.net), self.kernel, settings]).encode())
        for X in (self._X1, self._X2):
            digest.update(b"none" if X is None else f"{X.dtype} {tuple(X.shape)}".encode())
            for part in () if X is None else X.split(_HASHED_ROWS):
                digest.update(part.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _bind(self, X1: Tensor, X2: Tensor | None) -> tuple[str, Bound]:
        options = self._options
        request = Request(
            self.net.program(), X1, X2, self.dtype, options["exact"], options["precision"]
        )
        return bind(request, options["backend"])

    @property
    def _binding(self) -> tuple[str, Bound]:
        """The backend's name, and the rows prepared by it: made when an entry is asked for."""
        if self._made is None:
            self._made = self._bind(self._X1, self._X2)
        return self._made

    @property
    def _bound(self) -> Bound:
        return self._binding[1]

    @property
    def backend(self) -> str:
        """The backend that was taken."""
        return self._binding[0]

    @property
    def fused(self) -> bool:
        """Whether products multiply tiles as they are made and store none."""
        return isinstance(self._bound, Fused)

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part of the matrix.

        Parameters
        ----------
        rows, cols : slice
            Without a step.
        out : array, optional
            Where to write, on the device or in host memory; its rows must be contiguous.

        Returns
        -------
        array

        Raises
        ------
        InvalidInputError
            If a slice has a step, or ``out`` has the wrong shape or dtype.
        """
        (i0, i1), (j0, j1) = self._bounds(rows, 0), self._bounds(cols, 1)
        # Results that become NumPy arrays are brought to host memory panel by panel.
        where = self.device if self._tensors else CPU
        target = as_output(out, (i1 - i0, j1 - j0), self.dtype, where)
        if target.numel():
            self._fill(Part(i0, i1, j0, j1), target)
        if out is None:
            return self._outward(target)
        deliver(target, out)
        return out

    def lower_panel(self, i0: int, i1: int, out: Any = None) -> Any:
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

    def rows(self, index: ArrayLike) -> Any:
        """Whole rows by number.

        Parameters
        ----------
        index : array of int, shape (m,)
            Row numbers.

        Returns
        -------
        ndarray of shape (m, n2)
        """
        numbers = row_numbers(index, self.shape[0])
        chosen = torch.from_numpy(numbers).to(self.device)
        if not len(chosen):
            return self._outward(as_output(None, (0, self.shape[1]), self.dtype, self.device))
        columns = self._X1 if self._X2 is None else self._X2
        block = as_output(None, (len(chosen), self.shape[1]), self.dtype, self.device)
        among = self._like(self._X1[chosen], columns)
        among.to_dense(block)
        if self.symmetric:
            # A row meets itself: dropout and rounding make that entry the diagonal's.
            block[torch.arange(len(chosen)), chosen] = torch.from_numpy(among.row_diagonal())
        return self._outward(block)

    def diagonal(self) -> Any:
        """The kernel of each row with itself, O(n).

        Returns
        -------
        ndarray of shape (n,)
        """
        if not self.symmetric:
            raise InvalidInputError("diagonal is for symmetric operators.")
        return self.row_diagonal()

    def row_diagonal(self) -> NDArray[Any]:
        """The kernel of each row of ``X1`` with itself, O(n1).

        Returns
        -------
        ndarray of shape (n1,)
        """
        if self._made is not None:
            return self._bound.diagonal(self.kernel).astype(self.dtype)
        pieces = []
        for X in self._X1.split(_ROWS):
            _, piece = bind(Request(self.net.program(), X, None, self.dtype), "reference")
            pieces.append(piece.diagonal(self.kernel))
        return np.concatenate(pieces).astype(self.dtype)

    def to_dense(self, out: Any = None) -> Any:
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

    def astype(self, dtype: DTypeLike) -> KernelOperator:
        """The same operator with entries of another floating type.

        Parameters
        ----------
        dtype : dtype
            float32 or float64.

        Returns
        -------
        KernelOperator
        """
        return self._like(self._X1, self._X2, dtype)

    def _like(
        self, X1: Tensor, X2: Tensor | None, dtype: DTypeLike | None = None
    ) -> KernelOperator:
        """The same kernel on other rows, or of another type."""
        options: dict[str, Any] = {"dtype": dtype or self.dtype, **self._options}
        made = KernelOperator(self.net, X1, X2, self.kernel, **options)
        made._tensors = self._tensors
        return made

    def _points(self, index: Rows) -> Tensor:
        return self._X1[index if isinstance(index, slice) else torch.as_tensor(index)]

    def _between(self, X1: Any, X2: Any) -> KernelOperator:
        return self._like(X1, X2)

    def __matmul__(self, V: Any) -> Any:
        """Product with a vector or a matrix of shape (n2, t); NumPy in, NumPy out.

        On a GPU tiles are multiplied as they are made, in the precision of the entries; on the
        CPU panels are, in the type of the operand if that is wider.
        """
        right = V if isinstance(V, Tensor) else _as_tensor(V)
        if right.ndim not in (1, 2) or right.shape[0] != self.shape[1]:
            raise InvalidInputError(
                f"operands do not fit: {self.shape[0]} x {self.shape[1]} operator and an array "
                f"of shape {tuple(right.shape)}."
            )
        kind = torch.promote_types(KINDS[self.dtype.name], right.dtype)
        columns = right.to(self.device, kind).reshape(len(right), -1)
        if columns.is_complex():
            product = torch.complex(self._times(columns.real), self._times(columns.imag))
        else:
            product = self._times(columns)
        product = product.reshape(self.shape[0], *right.shape[1:])
        return product.to(V.device) if isinstance(V, Tensor) else product.cpu().numpy()

    def _fill(self, part: Part, target: Tensor) -> None:
        outs = {self.kernel: target}
        fill(self._bound, part, outs, symmetric=self.symmetric, device=self.device)

    def _times(self, V: Tensor) -> Tensor:
        """The product with real columns, in their type."""
        with within_memory(
            f"A product with {V.shape[1]} columns does not fit the free memory of {self.device}: "
            "multiply fewer columns at once, or use device='cpu'."
        ):
            if isinstance(self._bound, Fused):
                return self._bound.multiply(self.kernel, V).to(V.dtype)
            return self._by_panels(V)

    def _by_panels(self, V: Tensor) -> Tensor:
        n = self.shape[0]
        # Few long rows times a panel run several times faster than a panel times few columns.
        lines = V.T.contiguous()
        out = torch.zeros((V.shape[1], n), dtype=V.dtype, device=self.device)
        step = max(1, PANEL_BYTES // (self.dtype.itemsize * max(1, self.shape[1])))
        i0 = 0
        while i0 < n:
            i1 = min(n, i0 + step)
            try:
                self._add_panel(i0, i1, lines, out)
            except torch.cuda.OutOfMemoryError:
                if step == 1:
                    raise
                step = max(1, min(step, n) // 2)
            else:
                i0 = i1
        return out.T.contiguous()

    def _add_panel(self, i0: int, i1: int, lines: Tensor, out: Tensor) -> None:
        """Add what rows ``[i0, i1)`` give to ``V^T K``; nothing if memory does not suffice."""
        width = i1 if self.symmetric else self.shape[1]
        panel = torch.empty((i1 - i0, width), dtype=KINDS[self.dtype.name], device=self.device)
        self._bound.fill(Part(i0, i1, 0, width), {self.kernel: panel})
        panel = panel.to(lines.dtype)
        below = lines[:, :width] @ panel.T
        if self.symmetric and i0:
            out[:, :i0].addmm_(lines[:, i0:i1], panel[:, :i0])
        out[:, i0:i1] += below

    def as_scipy(self) -> LinearOperator:
        """The operator for ``scipy.sparse.linalg``.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
        """
        from scipy.sparse.linalg import LinearOperator

        other = self._X2

        def rmatmat(V: NDArray[Any]) -> Any:
            if other is None:
                return self @ V
            return self._like(other, self._X1) @ V

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

    def _outward(self, values: Tensor) -> Any:
        """A result in the kind that the data came in."""
        return values if self._tensors else values.cpu().numpy()


def _as_tensor(V: Any) -> Tensor:
    """An array in a type that torch has, copied where torch would warn of read-only memory."""
    array = np.asarray(V)
    kinds = (np.float32, np.float64, np.complex64, np.complex128)
    kind = next((k for k in kinds if array.dtype == k), np.float64)
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
