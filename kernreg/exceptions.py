"""Errors and warnings of kernreg.

Every error is a :class:`KernregError` and also the builtin that a caller would expect, so that
``except ValueError`` keeps working.
"""

from __future__ import annotations

__all__ = [
    "ArgumentError",
    "BackendError",
    "BackendWarning",
    "CheckpointError",
    "ConvergenceWarning",
    "DiskSpaceError",
    "DistributedError",
    "InvalidInputError",
    "JitterWarning",
    "KernregError",
    "MemoryBudgetError",
    "ModelFileError",
    "NetworkError",
    "NotPositiveDefiniteError",
    "RoundingWarning",
    "StoreError",
    "UnknownOperationError",
]


class KernregError(Exception):
    """Base of all errors that kernreg raises on purpose."""


class InvalidInputError(KernregError, ValueError):
    """Data or an argument that cannot be used: wrong shape, NaN, unknown name."""


class NetworkError(KernregError, ValueError):
    """A network description that does not fit together; raised when it is built."""


class ArgumentError(NetworkError, TypeError):
    """A layer was given an argument that it does not have, or lacks one."""


class BackendError(KernregError, NotImplementedError):
    """A backend that was asked for by name cannot run this program."""


class UnknownOperationError(NetworkError, NotImplementedError):
    """A pass over a network meets an operation that it has no rule for."""


class MemoryBudgetError(KernregError, MemoryError):
    """The work does not fit the memory budget; raised before it starts."""


class NotPositiveDefiniteError(KernregError, ArithmeticError):
    """A matrix has no Cholesky factor, even after the jitter ladder."""


class ModelFileError(KernregError, ValueError):
    """A saved model that is truncated, foreign or of another version."""


class CheckpointError(KernregError, ValueError):
    """A checkpoint that is damaged, of another problem, or cannot be written."""


class DistributedError(KernregError, RuntimeError):
    """Another process of the job failed or was lost, or does something else."""


class StoreError(KernregError, ValueError):
    """A store or a factor on disk that is incomplete, damaged, or of another network or data."""


class DiskSpaceError(KernregError, OSError):
    """The work does not fit the disk; raised before it starts where that can be known."""


class BackendWarning(UserWarning):
    """A much slower backend is used than this machine could run."""


class ConvergenceWarning(UserWarning):
    """A solver stopped before it reached its tolerance."""


class JitterWarning(UserWarning):
    """A solver added more to the diagonal than it was asked to."""


class RoundingWarning(UserWarning):
    """A ridge is so small that the rounding of the kernel's entries shows in what is fitted."""
