"""Where results are written: new arrays, or those that a caller gave."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends.base import CPU
from kernreg.exceptions import InvalidInputError, MemoryBudgetError

__all__ = ["KINDS", "as_output", "backwards", "check_apart", "deliver", "within_memory"]

KINDS = {"float32": torch.float32, "float64": torch.float64}
"""Types of torch by their names in NumPy."""


@contextlib.contextmanager
def within_memory(message: str) -> Iterator[None]:
    """Raise MemoryBudgetError, with this message, where no memory is left.

    Examples
    --------
    >>> with within_memory("too much"):
    ...     raise torch.cuda.OutOfMemoryError
    Traceback (most recent call last):
    kernreg.exceptions.MemoryBudgetError: too much
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError) as error:
        raise MemoryBudgetError(message) from error


def as_output(out: Any, shape: tuple[int, ...], dtype: np.dtype, device: torch.device) -> Tensor:
    """``out`` as a tensor to write to, or a new one on ``device`` if it is None.

    Given ones may be in host memory, wherever the entries are made.

    Raises
    ------
    InvalidInputError
        If it has another shape, dtype or device, is read-only, or its rows are not contiguous.
    """
    kind = KINDS[dtype.name]
    if out is None:
        with within_memory(
            f"A {dtype.name} matrix of shape {shape} does not fit the free memory of {device}: "
            "write to host memory (out=, or rows in NumPy), use a KernelOperator, which stores "
            "none, or float32."
        ):
            if device.type == "cpu":
                # NumPy asks for huge pages, which are touched for the first time in half the time.
                return torch.from_numpy(np.empty(shape, dtype))
            return torch.empty(shape, dtype=kind, device=device)
    target = out
    if isinstance(out, np.ndarray) and out.dtype == dtype and out.flags.writeable:
        # Torch knows no negative strides: the result is copied by `deliver`.
        target = torch.from_numpy(out.copy() if backwards(out) else out)
    fits = isinstance(target, Tensor) and (target.shape, target.dtype) == (shape, kind)
    if not fits or target.stride(1) != 1 or target.device not in (device, CPU):
        found = getattr(out, "dtype", type(out).__name__), getattr(out, "shape", None)
        raise InvalidInputError(
            f"out must be a writeable {dtype.name} array of shape {shape} with contiguous rows on "
            f"{device}{'' if device == CPU else ' or in host memory'}, found {found[0]} of shape "
            f"{found[1]}."
        )
    return target


def check_apart(out: Any, *others: Any) -> None:
    """Raise InvalidInputError if ``out`` shares memory with other arrays, or in itself.

    Examples
    --------
    >>> room = np.zeros((3, 5))
    >>> check_apart(room[:, :3], room[:, 3:])
    >>> check_apart(room[:, :3], room[:, 2:])
    Traceback (most recent call last):
    kernreg.exceptions.InvalidInputError: out shares memory with the data: give it its own.
    """
    if any(_overlap(out, other) for other in others):
        raise InvalidInputError("out shares memory with the data: give it its own.")
    if _rows_overlap(out):
        raise InvalidInputError("The rows of out share memory: give each its own.")


def _rows_overlap(out: Any) -> bool:
    if len(out) < 2 or not all(out.shape):
        return False
    if isinstance(out, Tensor):
        return abs(out.stride(0)) < out.shape[1]
    return abs(out.strides[0]) < out.shape[1] * out.itemsize


def _overlap(one: Any, other: Any) -> bool:
    spans = _span(one), _span(other)
    if spans[0] is None or spans[1] is None or spans[0][0] != spans[1][0]:
        return False
    if spans[0][2] <= spans[1][1] or spans[1][2] <= spans[0][1]:
        return False
    try:
        hard: Any = 10_000  # NumPy's types know two values only
        return np.shares_memory(_addresses(one), _addresses(other), max_work=hard)
    except np.exceptions.TooHardError:
        return True


def _span(array: Any) -> tuple[torch.device, int, int] | None:
    """Device of an array, and the range of its addresses there."""
    if isinstance(array, Tensor):
        device, first, size = array.device, array.data_ptr(), array.element_size()
        steps = [size * step for step in array.stride()]
    elif isinstance(array, np.ndarray):
        device, first, size = CPU, array.ctypes.data, array.itemsize
        steps = list(array.strides)
    else:
        return None
    if not all(array.shape):
        return None
    ends = [(count - 1) * step for count, step in zip(array.shape, steps, strict=True)]
    low = first + sum(end for end in ends if end < 0)
    return device, low, first + sum(end for end in ends if end > 0) + size


def _addresses(array: Any) -> NDArray[Any]:
    """An array of NumPy, or one at the addresses of a tensor: nothing is read there."""
    if isinstance(array, np.ndarray):
        return array
    size = array.element_size()

    class Addresses:
        __array_interface__: ClassVar[dict[str, Any]] = {
            "data": (array.data_ptr(), False),
            "shape": tuple(array.shape),
            "strides": tuple(size * step for step in array.stride()),
            "typestr": f"|V{size}",
            "version": 3,
        }

    return np.asarray(Addresses())


def deliver(target: Tensor, out: Any) -> None:
    """Bring a result to ``out`` if :func:`as_output` could not write there directly."""
    if isinstance(out, np.ndarray) and backwards(out):
        out[...] = target.numpy()


def backwards(array: NDArray[Any]) -> bool:
    """Whether an array has a negative stride, which torch does not know."""
    return any(step < 0 for step in array.strides)
