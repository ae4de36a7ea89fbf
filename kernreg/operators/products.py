"""Products with a kernel matrix that is never stored."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends.base import Bound, Fused, Part
from kernreg.exceptions import InvalidInputError
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.inputs import KINDS, as_output, within_memory
from kernreg.operators.panels import full_precision

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

__all__ = ["Products", "operand"]


class Products(ABC):
    """An operator that multiplies tiles or panels as they are made."""

    kernel: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    symmetric: bool
    device: torch.device

    @property
    @abstractmethod
    def _bound(self) -> Bound:
        """The kernel, bound to rows and columns."""

    @abstractmethod
    def _mirrored(self) -> Products:
        """The operator with rows and columns exchanged."""

    def __matmul__(self, V: Any) -> Any:
        """Product with a vector or a matrix of shape (n2, t); NumPy in, NumPy out.

        On a GPU tiles are multiplied as they are made, in the precision of the entries; on the
        CPU panels are, in the type of the operand if that is wider.
        """
        right = operand(V, self.shape)
        kind = torch.promote_types(KINDS[self.dtype.name], right.dtype)
        columns = right.to(self.device, kind).reshape(len(right), -1)
        if columns.is_complex():
            product = torch.complex(self._times(columns.real), self._times(columns.imag))
        else:
            product = self._times(columns)
        product = product.reshape(self.shape[0], *right.shape[1:])
        return product.to(V.device) if isinstance(V, Tensor) else product.cpu().numpy()

    def _times(self, V: Tensor) -> Tensor:
        """The product with real columns, in their type."""
        with within_memory(
            f"A product with {V.shape[1]} columns does not fit the free memory of {self.device}: "
            "multiply fewer columns at once, or use device='cpu'."
        ):
            if isinstance(self._bound, Fused):
                return self._bound.multiply(self.kernel, V).to(V.dtype)
            with full_precision():
                return self._by_panels(V)

    def _by_panels(self, V: Tensor) -> Tensor:
        n = self.shape[0]
        # Few long rows times a panel run several times faster than a panel times few columns.
        lines = V.T.contiguous()
        out = torch.zeros((V.shape[1], n), dtype=V.dtype, device=self.device)
        step = min(n, max(1, PANEL_BYTES // (self.dtype.itemsize * max(1, self.shape[1]))))
        i0, room = 0, None
        while i0 < n:
            i1 = min(n, i0 + step)
            try:
                if room is None:  # for all panels: new memory costs as much as its entries
                    room = as_output(None, (step * self.shape[1],), self.dtype, self.device)
                self._add_panel(i0, i1, lines, out, room)
            except (torch.cuda.OutOfMemoryError, MemoryError):
                if step == 1:
                    raise
                step, room = max(1, step // 2), None
            else:
                i0 = i1
        return out.T.contiguous()

    def _add_panel(self, i0: int, i1: int, lines: Tensor, out: Tensor, room: Tensor) -> None:
        """Add what rows ``[i0, i1)`` give to ``V^T K``; nothing if memory does not suffice."""
        width = i1 if self.symmetric else self.shape[1]
        panel = room[: (i1 - i0) * width].view(i1 - i0, width)
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

        def rmatmat(V: NDArray[Any]) -> Any:
            return self._mirrored() @ V

        return LinearOperator(
            dtype=self.dtype,
            shape=self.shape,
            matvec=lambda v: self @ np.ravel(v),
            rmatvec=lambda v: rmatmat(np.ravel(v)),
            matmat=lambda V: self @ V,
            rmatmat=rmatmat,
        )


def operand(V: Any, shape: tuple[int, int]) -> Tensor:
    """An array as a tensor that an operator of a shape can be multiplied with.

    Raises
    ------
    InvalidInputError
        If it is neither a vector nor a matrix with as many rows as the operator has columns.
    """
    right = V if isinstance(V, Tensor) else _as_tensor(V)
    if right.ndim not in (1, 2) or right.shape[0] != shape[1]:
        raise InvalidInputError(
            f"operands do not fit: {shape[0]} x {shape[1]} operator and an array of shape "
            f"{tuple(right.shape)}."
        )
    return right


def _as_tensor(V: Any) -> Tensor:
    """An array in a type that torch has, copied where torch would warn of read-only memory."""
    array = np.asarray(V)
    kinds = (np.float32, np.float64, np.complex64, np.complex128)
    kind = next((k for k in kinds if array.dtype == k), np.float64)
    array = np.ascontiguousarray(array, dtype=kind)
    return torch.from_numpy(array if array.flags.writeable else array.copy())
