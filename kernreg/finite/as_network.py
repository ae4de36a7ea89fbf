"""A torch module in the place of a description, for estimators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.finite.empirical import EmpiricalOperator
from kernreg.finite.empirical.checks import frozen

__all__ = ["ModuleNetwork"]


class ModuleNetwork:
    """A module at its parameters as they are, and the shape of what it takes.

    Parameters
    ----------
    module : Module
        A copy is taken.
    shape : tuple of int or None
        Of one row of its input; None for vectors.
    """

    def __init__(self, module: torch.nn.Module, shape: tuple[int, ...] | None) -> None:
        self.module, self.shape = frozen(module), shape
        self._made: dict[tuple[str, str], EmpiricalOperator] = {}

    def __repr__(self) -> str:
        count = sum(p.numel() for p in self.module.parameters())
        return f"{type(self.module).__name__} of {count:,} parameters"

    def __getstate__(self) -> dict[str, Any]:
        return {"module": self.module, "shape": self.shape, "_made": {}}

    def flops(self) -> int:
        """Operations for an entry: a product of derivatives by all parameters."""
        return 2 * sum(p.numel() for p in self.module.parameters())

    def check(self, columns: int) -> None:
        """Raise InvalidInputError unless rows of so many numbers are what the module takes."""
        if self.shape is not None and math.prod(self.shape) != columns:
            raise InvalidInputError(
                f"X has {columns} numbers in a row, but input_shape {self.shape} has "
                f"{math.prod(self.shape)}."
            )

    def operator(
        self, X: NDArray[Any], X2: NDArray[Any] | None, kernel: str, dtype: Any
    ) -> EmpiricalOperator:
        """The kernel on rows, evaluated in a type."""
        kind = np.dtype(dtype).name
        if (kernel, kind) not in self._made:
            first = EmpiricalOperator(self.module, self._rows(X[:3], kind), kernel=kernel)
            self._made[kernel, kind] = first.astype(kind)
        rows = self._rows(X, kind)
        return self._made[kernel, kind].on(rows, None if X2 is None else self._rows(X2, kind))

    def _rows(self, X: NDArray[Any], kind: str) -> NDArray[Any]:
        rows = np.asarray(X, dtype=kind)
        return rows if self.shape is None else rows.reshape(len(rows), *self.shape)
