"""What every backend offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kernreg.ir.program import Program

__all__ = ["Backend", "Bound", "Part", "Request"]


@dataclass(frozen=True)
class Part:
    """Rows ``[i0, i1)`` and columns ``[j0, j1)`` of a kernel matrix."""

    i0: int
    i1: int
    j0: int
    j1: int


@dataclass(frozen=True)
class Request:
    """A kernel matrix that is wanted.

    Parameters
    ----------
    program : Program
        The network.
    X1, X2 : ndarray of shapes (n1, d) and (n2, d)
        Rows; ``X2=None`` asks for the symmetric matrix of ``X1``.
    dtype : dtype
        Of the entries.
    exact : bool
        Run every layer, no profile pass.
    """

    program: Program
    X1: NDArray[Any]
    X2: NDArray[Any] | None
    dtype: np.dtype
    exact: bool = False

    @property
    def symmetric(self) -> bool:
        """Whether rows and columns are the same points."""
        return self.X2 is None


class Bound(Protocol):
    """A program bound to rows, ready to fill parts of the matrix."""

    arithmetic: np.dtype

    def fill(self, part: Part, out: Mapping[str, NDArray[Any]]) -> None:
        """Write a part for each kernel named in ``out`` ("nngp", "ntk")."""
        ...

    def diagonal(self, kernel: str) -> NDArray[np.float64]:
        """The kernel of each row of ``X1`` with itself."""
        ...


class Backend(Protocol):
    """A way to compute kernel matrices."""

    name: str

    def supports(self, program: Program) -> str | None:
        """None if the backend can run ``program``, otherwise the reason why not."""
        ...

    def bind(self, request: Request) -> Bound:
        """Prepare a request; raises BackendError if the data make it impossible."""
        ...
