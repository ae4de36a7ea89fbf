"""What every backend offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends.sparse import AnyRows, SparseRows
from kernreg.exceptions import InvalidInputError
from kernreg.ir.program import Program

__all__ = ["CPU", "KERNELS", "Backend", "Bound", "Fused", "Part", "Request", "is_fused"]

CPU = torch.device("cpu")


KERNELS = ("nngp", "ntk")


@dataclass(frozen=True)
class Part:
    """Rows ``[i0, i1)`` and columns ``[j0, j1)`` of a kernel matrix."""

    i0: int
    i1: int
    j0: int
    j1: int

    def check(self, n1: int, n2: int, out: Mapping[str, Tensor]) -> None:
        """Raise InvalidInputError unless it lies in an n1 x n2 matrix and fits every ``out``."""
        if not (0 <= self.i0 <= self.i1 <= n1 and 0 <= self.j0 <= self.j1 <= n2):
            raise InvalidInputError(f"expected a part of a {n1} x {n2} matrix, found {self}")
        shape = (self.i1 - self.i0, self.j1 - self.j0)
        for kernel, target in out.items():
            contiguous = min(shape) == 0 or shape[1] == 1 or target.stride(1) == 1
            if tuple(target.shape) != shape or not contiguous:
                raise InvalidInputError(
                    f"expected room of shape {shape} with contiguous rows for {kernel}, found "
                    f"shape {tuple(target.shape)} with strides {target.stride()}"
                )


@dataclass(frozen=True)
class Request:
    """A kernel matrix that is wanted.

    Parameters
    ----------
    program : Program
        The network.
    X1, X2 : Tensor or SparseRows of shapes (n1, d) and (n2, d)
        Rows, on one device, both sparse or neither; ``X2=None`` asks for the symmetric matrix of
        ``X1``.
    dtype : dtype
        Of the entries.
    exact : bool
        Run every layer, no profile pass.
    precision : str
        Of float32 products on the matrix units of a GPU.
    kernels : tuple of str
        Those that parts will be filled with.
    """

    program: Program
    X1: AnyRows
    X2: AnyRows | None
    dtype: np.dtype
    exact: bool = False
    precision: str = "tf32x3"
    kernels: tuple[str, ...] = KERNELS

    @property
    def sparse(self) -> bool:
        """Whether the rows are sparse."""
        return isinstance(self.X1, SparseRows)

    @property
    def symmetric(self) -> bool:
        """Whether rows and columns are the same points."""
        return self.X2 is None

    @property
    def device(self) -> torch.device:
        """Where the rows are, and the result."""
        return self.X1.device


class Bound(Protocol):
    """A program bound to rows, ready to fill parts of the matrix."""

    arithmetic: np.dtype

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        """Write a part for each kernel named in ``out`` ("nngp", "ntk"), on the rows' device."""
        ...

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        """The kernel of each row of ``X1`` with itself."""
        ...


class Fused(Bound, Protocol):
    """A bound program that also multiplies without storing the matrix, not even in parts."""

    def multiply(self, kernel: str, V: Tensor) -> Tensor:
        """The matrix times V of shape (n2, t), in the type of the arithmetic."""
        ...


def is_fused(bound: Bound) -> TypeGuard[Fused]:
    """Whether it multiplies: by a name, as asking a protocol is slow."""
    return hasattr(bound, "multiply")


class Backend(Protocol):
    """A way to compute kernel matrices."""

    name: str

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """None if the backend can run ``program`` on ``device``, otherwise the reason why not."""
        ...

    def bind(self, request: Request) -> Bound:
        """Prepare a request; raises BackendError if the data make it impossible."""
        ...
