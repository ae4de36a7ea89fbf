"""Parts of a kernel matrix that need their own rows only, however many others there are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.operators.base import Operator, Rows

__all__ = ["Parts", "bounds", "read_part", "row_numbers"]


def bounds(part: slice, n: int) -> tuple[int, int]:
    """First and end of a slice of n rows or columns.

    Raises
    ------
    InvalidInputError
        If it is no slice, or has a step.

    Examples
    --------
    >>> bounds(slice(-3, None), 10), bounds(slice(4, 2), 10)
    ((7, 10), (4, 4))
    """
    if not isinstance(part, slice):
        raise InvalidInputError(f"expected a slice, found {part!r}; use rows for numbers.")
    start, stop, step = part.indices(n)
    if step != 1:
        raise InvalidInputError(f"slices must have no step, found {part}.")
    return start, max(start, stop)


def row_numbers(index: Rows, n: int) -> NDArray[np.int64]:
    """Row numbers from a slice without a step, or from an array of numbers.

    Raises
    ------
    InvalidInputError
        If a slice has a step, or the array holds no whole numbers.
    IndexError
        If a number is out of bounds.

    Examples
    --------
    >>> row_numbers(slice(2, 4), 10), row_numbers([-1], 10)
    (array([2, 3]), array([9]))
    """
    if isinstance(index, slice):
        return np.arange(*bounds(index, n), dtype=np.int64)
    numbers = np.asarray(index).reshape(-1)
    if numbers.size and numbers.dtype.kind not in "iu":
        raise InvalidInputError(
            f"index must hold row numbers, found dtype {numbers.dtype}; for a mask use "
            "np.flatnonzero(mask)."
        )
    if numbers.size and not -n <= numbers.min() <= numbers.max() < n:
        raise IndexError(
            f"row numbers out of bounds: expected them below {n}, found {numbers.min()} to "
            f"{numbers.max()}"
        )
    return numbers.astype(np.int64) % max(1, n)


class Parts(Operator):
    """Rectangular and principal parts of a symmetric kernel matrix, by row numbers.

    Notes
    -----
    A part of a rows and b columns costs what an operator of a + b rows does: nothing is prepared
    for the other rows. So solvers that never see the whole matrix can run where it has 1e7 rows.
    """

    kernel: str
    n_features: int
    streamed = True

    @abstractmethod
    def settings(self) -> str:
        """Network, kernel and the options that change entries by more than rounding, as JSON.

        Raises
        ------
        NetworkError
            If a Python function in the network has no importable name.
        """

    def row_diagonal(self) -> NDArray[Any]:
        """The kernel of each row with itself, of shape (n1,)."""
        return np.asarray(self.diagonal())

    @abstractmethod
    def astype(self, dtype: DTypeLike) -> Parts:
        """The same matrix with entries of another type, to their full precision."""

    @abstractmethod
    def _points(self, index: Rows) -> Any:
        """Data of the given rows, in the kind that operators take."""

    @abstractmethod
    def _between(self, X1: Any, X2: Any) -> Parts:
        """The kernel on other rows; symmetric if ``X2`` is None."""

    def take(self, index: Rows) -> Parts:
        """The symmetric operator of the given rows alone.

        Parameters
        ----------
        index : slice or array of int, shape (m,)
            Row numbers.

        Returns
        -------
        Parts
            Of shape (m, m).

        Raises
        ------
        InvalidInputError
            If the operator is not symmetric, or ``index`` holds no row number.
        """
        self._require_symmetric("take")
        return self._between(self._points(self._checked(index)), None)

    def part(self, rows: Rows, columns: Rows, out: Any = None) -> Any:
        """Entries between the given rows and columns.

        Parameters
        ----------
        rows : slice or array of int, shape (a,)
            Row numbers.
        columns : slice or array of int, shape (b,)
            Column numbers.
        out : array of shape (a, b), optional
            Where to write.

        Returns
        -------
        array of shape (a, b)

        Raises
        ------
        InvalidInputError
            If the operator is not symmetric, or rows or columns hold no number.

        Notes
        -----
        O((a + b) (d + depth)) time to prepare, O(a b (d + depth)) for the entries.
        """
        self._require_symmetric("part")
        rows, columns = self._checked(rows), self._checked(columns)
        between = self._between(self._points(rows), self._points(columns))
        block = between.to_dense(out)
        # A row meets itself: dropout and rounding make that entry the diagonal's.
        own, place = _meetings(row_numbers(rows, self.shape[0]), columns, self.shape[0])
        if len(own):
            exact = between.row_diagonal()[own]
            block[own, place] = torch.as_tensor(exact) if isinstance(block, Tensor) else exact
        return block

    def _checked(self, index: Rows) -> Rows:
        """``index`` with bounds checked; slices stay slices, which are read without a copy."""
        numbers = row_numbers(index, self.shape[0])
        if not len(numbers):
            raise InvalidInputError("expected at least one row number, found none.")
        return index if isinstance(index, slice) else numbers

    def identity(self) -> str:
        """The settings; the kernel's name alone for a function without an importable name."""
        try:
            return self.settings()
        except NetworkError:
            return self.kernel


def read_part(operator: Operator, rows: Rows, columns: Rows, out: NDArray[Any]) -> NDArray[Any]:
    """A part of an operator in a NumPy array, wherever the operator computes; returns ``out``."""
    if operator.device.type == "cpu":
        operator.part(rows, columns, out)
    else:
        out[...] = torch.as_tensor(operator.part(rows, columns)).cpu().numpy()
    return out


def _meetings(
    rows: NDArray[np.int64], columns: Rows, n: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places in a part where a row meets the column of the same number."""
    numbers = row_numbers(columns, n)
    order = np.argsort(rows, kind="stable")
    low = np.searchsorted(rows[order], numbers, side="left")
    high = np.searchsorted(rows[order], numbers, side="right")
    place = np.repeat(np.arange(len(numbers)), high - low)
    first = np.repeat(low - np.cumsum(np.append(0, high - low))[:-1], high - low)
    return order[first + np.arange(len(place))], place
