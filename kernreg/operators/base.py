"""A kernel matrix as solvers see it: what it is, what it gives, and what it can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, DTypeLike, NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.mirrored import times_half
from kernreg.operators.outputs import KINDS, as_output, deliver
from kernreg.operators.panels import panel_bounds

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Operator", "Rows", "as_array", "as_tensor", "rounding_of", "symmetric_order"]

Rows = slice | ArrayLike
"""Row numbers, or a slice of them without a step."""

# Rounding to the 8 bits of bfloat16, in the mean square.
_BFLOAT16 = 2.0**-9


class Operator(ABC):
    """A kernel matrix, whether its entries are kept or evaluated when they are asked for.

    A subclass sets the first four attributes and defines the abstract methods; the others, and
    ``fingerprint``, ``part`` and ``take``, where they are other than here.

    Attributes
    ----------
    shape : tuple of int
        ``(n1, n2)``.
    dtype : dtype
        Of the entries, float32 or float64.
    symmetric : bool
        Whether rows and columns are the same points.
    device : torch.device
        Where entries are made.
    fused : bool
        Whether products multiply tiles as they are made and store none.
    kept : bool
        Whether entries are in memory, so that keeping them gains nothing.
    streamed : bool
        Whether :meth:`part` and :meth:`take` evaluate their own rows only, so that a solver can
        go through a matrix that it never sees as a whole.
    reevaluates : bool
        Whether :meth:`astype` evaluates entries anew; False for a rounded copy of a matrix.
    dear : bool
        Whether entries cost so much that none should be worked out twice.
    processes : int
        How many have the operator, and keep a share of its entries each.
    rounding : float
        Share of themselves by which entries err.
    carries_gradients : bool
        Whether a product has a gradient by the vectors that it was made with.
    tile_rows : int
        Rows of a tile that is worked out within seconds, and so lost by a kill at most.

    Examples
    --------
    >>> from kernreg import KernelOperator, nn
    >>> K = KernelOperator(nn.mlp(depth=1), np.eye(3))
    >>> isinstance(K, Operator), K.fused, K.kept, K.streamed, K.reevaluates
    (True, False, False, True, True)
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    symmetric: bool
    device: torch.device

    fused: bool = False
    kept: bool = False
    tile_rows: int = 1024
    streamed: bool = False
    reevaluates: bool = True
    carries_gradients: bool = False
    dear: bool = False
    processes: int = 1

    @property
    def rounding(self) -> float:
        """Share of themselves by which entries err."""
        return rounding_of(self.dtype)

    @abstractmethod
    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part; slices have no step.

        Parameters
        ----------
        rows, cols : slice
            Of the matrix.
        out : array, optional
            Where to write: in host memory if entries are made there, else there or on ``device``.

        Returns
        -------
        array
            ``out`` if it was given.
        """

    @abstractmethod
    def rows(self, index: ArrayLike) -> Any:
        """Whole rows by number, an array of shape (m, n2)."""

    @abstractmethod
    def diagonal(self) -> Any:
        """The diagonal of a symmetric matrix, of shape (n,)."""

    @abstractmethod
    def times(self, columns: Tensor) -> Tensor:
        """The product with real columns of shape (n2, t), in their type.

        They are on ``device``, in the type of the entries or a wider one; so is what is returned,
        of shape (n1, t) and contiguous.
        """

    def lower_panel(self, i0: int, i1: int, out: Any = None) -> Any:
        """Rows ``[i0, i1)`` of a symmetric matrix up to the end of the square on the diagonal.

        Parameters
        ----------
        i0, i1 : int
            Range of rows.
        out : array of shape (i1 - i0, i1), optional
            Where to write.
        """
        self._require_symmetric("lower_panel", "; use tile")
        return self.tile(slice(i0, i1), slice(0, i1), out)

    @abstractmethod
    def astype(self, dtype: DTypeLike) -> Operator:
        """The same matrix with entries of another type, to their full precision."""

    def to_dense(self, out: Any = None) -> Any:
        """The whole matrix."""
        return self.tile(slice(None), slice(None), out)

    def _written(
        self, out: Any, shape: tuple[int, int], fill: Callable[[Tensor], None], where: Any = None
    ) -> Any:
        """``out``, or a new array (on ``where`` if given), with what ``fill`` writes to it."""
        target = as_output(out, shape, self.dtype, where or self.device)
        if target.numel():
            fill(target)
        if out is None:
            return self._outward(target)
        deliver(target, out)
        return out

    def _outward(self, values: Tensor) -> Any:
        """A result in the kind that is wanted."""
        return values.cpu().numpy()

    def fill_panel(self, panel: Tensor, i0: int) -> None:
        """:meth:`lower_panel` for the rows from ``i0`` on, into a tensor on ``device``."""
        self.lower_panel(i0, i0 + len(panel), panel.numpy() if panel.is_cpu else panel)

    def part(self, rows: Rows, columns: Rows, out: Any = None) -> Any:
        """Entries between rows and columns by number, if the operator is ``streamed``."""
        raise self._without_parts()

    def take(self, index: Rows) -> Operator:
        """The symmetric operator of some rows alone, if the operator is ``streamed``."""
        raise self._without_parts()

    def require_parts(self) -> None:
        """Raise InvalidInputError unless the operator is ``streamed``."""
        if not self.streamed:
            raise self._without_parts()

    def _without_parts(self) -> InvalidInputError:
        return InvalidInputError(
            f"{type(self).__name__} has no parts by row numbers: solve with the KernelOperator "
            "that it was made from, or with Cholesky or PCG"
        )

    def fingerprint(self) -> str:
        """A hash of what the entries are made of: what is kept on disk carries it."""
        raise InvalidInputError(
            f"expected an operator with a fingerprint, found {type(self).__name__}: what is kept "
            "on disk must know what it is of; use a KernelOperator"
        )

    def identity(self) -> str:
        """What is equal to the last letter in all processes that have the same matrix."""
        return self.fingerprint()

    def keep(self) -> Self | None:
        """Itself with its entries kept, in a way of its own; None leaves that to PackedOperator."""
        return None

    def __matmul__(self, V: Any) -> Any:
        """Product with a vector or a matrix of shape (n2, t), in the wider of both types.

        NumPy in, NumPy out; torch in, torch out on the same device.

        Raises
        ------
        InvalidInputError
            If the shapes do not fit, or ``V`` requires a gradient, which only products with a
            kernel operator or a matrix in memory carry.
        """
        right = _operand(V, self.shape)
        if right.requires_grad and torch.is_grad_enabled() and not self.carries_gradients:
            raise InvalidInputError(
                f"V requires a gradient, which products with a {type(self).__name__} do not carry: "
                "pass V.detach(), or multiply with a KernelOperator of the rows."
            )
        kind = torch.promote_types(KINDS[self.dtype.name], right.dtype)
        columns = right.to(self.device, kind).reshape(len(right), -1)
        if columns.is_complex():
            product = torch.complex(self.times(columns.real), self.times(columns.imag))
        else:
            product = self.times(columns)
        product = product.reshape(self.shape[0], *right.shape[1:])
        return product.to(V.device) if isinstance(V, Tensor) else product.cpu().numpy()

    def lower_times(self, lines: Tensor, rows: tuple[int, int]) -> Tensor:
        """What some rows of the lower half, and by symmetry their columns, give to ``lines @ K``.

        Parameters
        ----------
        lines : Tensor of shape (t, n)
            The operand.
        rows : tuple of int
            ``(start, stop)``.

        Returns
        -------
        Tensor of shape (t, n)
            In the wider of both types.
        """
        source = lines.to(self.device, torch.promote_types(KINDS[self.dtype.name], lines.dtype))
        return times_half(self._lower_panels(rows), source)

    def _lower_panels(self, rows: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
        """First row and entries of panels of some rows of the lower half."""
        start, stop = rows
        step = max(1, PANEL_BYTES // (self.dtype.itemsize * max(1, stop)))
        for a, b in panel_bounds(stop - start, step):
            shape = (b - a, start + b)
            panel = as_output(None, shape, self.dtype, self.device)
            self.fill_panel(panel, start + a)
            yield start + a, panel

    def over_rows(
        self,
        work: Callable[..., NDArray[Any]],
        *arguments: Any,
        joined: bool = False,
        callback: Callable[[int, int], None] | None = None,
    ) -> NDArray[Any]:
        """``work`` on all rows, by all processes of a job that have the operator.

        Parameters
        ----------
        work : callable
            A function of a module, ``work(operator, start, stop, *arguments, callback)``, for rows
            ``[start, stop)``.
        *arguments : object
            Sent to every process.
        joined : bool
            Whether results are rows that are put below each other; they are added if not.
        callback : callable, optional
            Given to ``work`` in the first process only.
        """
        return work(self, 0, self.shape[0], *arguments, callback)

    def transposed(self) -> Operator:
        """The operator with rows and columns exchanged."""
        if not self.symmetric:
            raise InvalidInputError(f"{type(self).__name__} gives no transposed products.")
        return self

    def as_scipy(self) -> LinearOperator:
        """The operator for ``scipy.sparse.linalg``.

        Returns
        -------
        scipy.sparse.linalg.LinearOperator
        """
        from scipy.sparse.linalg import LinearOperator

        def rmatmat(V: NDArray[Any]) -> Any:
            return self.transposed() @ V

        return LinearOperator(
            dtype=self.dtype,
            shape=self.shape,
            matvec=lambda v: self @ np.ravel(v),
            rmatvec=lambda v: rmatmat(np.ravel(v)),
            matmat=lambda V: self @ V,
            rmatmat=rmatmat,
        )

    def _require_symmetric(self, name: str, instead: str = "") -> None:
        if not self.symmetric:
            raise InvalidInputError(f"{name} is for symmetric operators{instead}.")


def _operand(V: Any, shape: tuple[int, int]) -> Tensor:
    """An array as a tensor that an operator of a shape can be multiplied with."""
    right = V if isinstance(V, Tensor) else as_tensor(V)
    if right.ndim not in (1, 2) or right.shape[0] != shape[1]:
        raise InvalidInputError(
            f"operands do not fit: {shape[0]} x {shape[1]} operator and an array of shape "
            f"{tuple(right.shape)}."
        )
    return right


def as_tensor(values: ArrayLike) -> Tensor:
    """An array in a type that torch has, copied where torch would warn of read-only memory."""
    array = np.asarray(values)
    kinds = (np.float32, np.float64, np.complex64, np.complex128)
    kind = next((k for k in kinds if array.dtype == k), np.float64)
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def symmetric_order(operator: Operator) -> int:
    """Order of a symmetric operator, or an error."""
    n, m = operator.shape
    if not operator.symmetric or n != m:
        raise InvalidInputError(
            f"expected a symmetric operator (no X2), found shape {tuple(operator.shape)}"
        )
    if n == 0:
        raise InvalidInputError("expected at least one row, found an empty operator")
    return int(n)


def as_array(values: Any) -> NDArray[np.float64]:
    """What an operator returned, as a float64 array; an error if it is not finite."""
    if isinstance(values, torch.Tensor):
        values = values.cpu().numpy()
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array.sum()) and not np.isfinite(array).all():
        raise InvalidInputError(
            "the kernel matrix contains NaN or infinity: check the input for NaN and huge values, "
            "or use dtype float64"
        )
    return array


def rounding_of(dtype: Any) -> float:
    """Share by which entries err that are kept in a type, "bfloat16" among them.

    Examples
    --------
    >>> rounding_of("float32") == 2.0**-23, rounding_of("bfloat16")
    (True, 0.001953125)
    """
    return _BFLOAT16 if str(dtype) == "bfloat16" else float(np.finfo(dtype).eps)
