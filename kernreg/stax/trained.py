"""What predictions of stax are made of: kernel matrices, targets and times."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators import solve
from kernreg.solvers.eigh import EighState
from kernreg.theory.training import Dynamics

__all__ = [
    "Trained",
    "matrix_of",
    "require_one_kernel",
    "shaped",
    "symmetric",
    "targets_of",
    "times_of",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Trained:
    """A kernel on the training rows that predictions follow, targets, and what is regularised."""

    kernel: Floats
    targets: Floats
    diag_reg: float
    absolute: bool
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        n = len(self.targets)
        if self.kernel.shape != (n, n):
            raise InvalidInputError(
                f"the kernel of the training rows has shape {self.kernel.shape}, but there are "
                f"{n} targets: expected ({n}, {n})."
            )
        if not self.diag_reg >= 0:
            raise InvalidInputError(f"diag_reg must be at least 0, found {self.diag_reg!r}.")

    @functools.cached_property
    def ridge(self) -> float:
        """What is added to the diagonal."""
        unit = 1.0 if self.absolute else float(np.trace(self.kernel)) / len(self.kernel)
        return self.diag_reg * unit

    @functools.cached_property
    def modes(self) -> EighState:
        """Eigenvectors, for finite times: 9 n^3 operations."""
        return EighState(*np.linalg.eigh(self.kernel), ridge=self.ridge)

    @functools.cached_property
    def dynamics(self) -> Dynamics:
        """Of the mean over all numbers of the targets."""
        return Dynamics(self.learning_rate / self.targets.size)

    def solved(self, columns: Floats) -> Floats:
        """``(T + ridge)^-1 columns``, n^3/3 operations."""
        found = solve(torch.from_numpy(self.kernel), torch.from_numpy(columns), self.ridge)
        return np.asarray(found.numpy())

    @functools.cached_property
    def end(self) -> Floats:
        """Coefficients at the end of training."""
        return self.solved(self.targets)

    def own(self) -> Floats:
        """The kernel between training rows as they are trained: with its ridge."""
        return np.asarray(self.kernel + self.ridge * np.eye(len(self.kernel)))


def require_one_kernel(trace_axes: Any, y: Any) -> None:
    """Refuse axes but that of the outputs."""
    axes = (trace_axes,) if isinstance(trace_axes, int) else tuple(trace_axes)
    if axes not in ((-1,), (np.ndim(y) - 1,)):
        raise InvalidInputError(
            f"trace_axes={trace_axes!r} is not taken: all outputs have one kernel, (-1,); kernels "
            "between outputs are those of kernreg.finite.EmpiricalOperator."
        )


def targets_of(y: Any) -> Floats:
    """Targets as a matrix of shape (n, outputs)."""
    values = np.asarray(y, dtype=np.float64)
    if values.ndim not in (1, 2) or not np.isfinite(values).all():
        raise InvalidInputError(
            f"y_train must be finite numbers of shape (n,) or (n, outputs), found {values.shape}."
        )
    return values.reshape(len(values), -1)


def matrix_of(kernels: Any, name: str, what: str) -> Floats:
    """A kernel by its name, or the matrix itself."""
    found = kernels if isinstance(kernels, np.ndarray) else getattr(kernels, name, None)
    if found is None:
        raise InvalidInputError(f"{what} has no {name} kernel: ask kernel_fn for ('nngp', 'ntk').")
    matrix = np.asarray(found, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InvalidInputError(
            f"{what} must be a matrix of finite numbers, found shape {matrix.shape}."
        )
    return matrix


def times_of(t: Any) -> tuple[float, ...]:
    """One time or several."""
    times = np.atleast_1d(np.asarray(t, dtype=np.float64))
    if times.ndim != 1 or not (times >= 0).all():
        raise InvalidInputError(f"t must be a time of at least 0 or several, found {t!r}.")
    return tuple(float(time) for time in times)


def shaped(values: Floats, y: Any) -> Floats:
    """Outputs in the shape of targets: a vector for a vector."""
    return values[:, 0] if np.ndim(y) == 1 else values


def symmetric(matrix: Floats) -> Floats:
    """A matrix that is symmetric but for rounding, to the last digit."""
    return np.asarray((matrix + matrix.T) / 2)
