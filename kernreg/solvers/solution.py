"""What every solver returns: the value, how far it can be trusted, and what it cost."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Solution", "Stats", "Status"]


class Status(enum.Enum):
    """How a solve ended; ``str()`` gives a sentence that says what to do.

    Examples
    --------
    >>> print(Status.OK)
    the system was solved to working accuracy
    >>> Status.NOT_CONVERGED.name
    'NOT_CONVERGED'
    """

    OK = "the system was solved to working accuracy"
    JITTERED = (
        "the matrix was not numerically positive definite: a system with a slightly larger ridge "
        "was solved (stats.jitter says by how much); raise alpha or remove duplicate rows"
    )
    NOT_CONVERGED = (
        "the system was not solved: the residual stopped above the tolerance and the level of a "
        "float64 direct solve (see stats.residuals); raise alpha"
    )
    MAX_ITERATIONS = (
        "the system was not solved: the limit of iterations or passes was reached before the "
        "tolerance (see stats.residuals); raise max_iter or max_passes, raise alpha, or give "
        "conjugate gradients a preconditioner of higher rank"
    )

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, eq=False)
class Stats(Mapping[str, Any]):
    """Cost and history of a solve; attributes, and a read-only mapping of the same names.

    Parameters
    ----------
    seconds : float
        Wall-clock time, factorisation included.
    peak_bytes : int
        Most memory that the solver itself held at once (factor, workspace, vectors).
    residuals : tuple of float
        ``max_j ||b_j - A x_j|| / ||b_j||`` in float64, before the first and after each
        refinement cycle or iteration; empty if no residual was computed.
    iterations : int
        Products with the kernel matrix: of refinement, or of an iterative solver.
    jitter : float
        What was added to the diagonal of the factored matrix beyond the ridge.
    log_determinant : float or None
        Of the factored matrix, ridge and jitter included.
    rounding : float
        By what share of the targets rounding of the kernel's entries changes the fit, about.

    Examples
    --------
    >>> stats = Stats(seconds=0.5, jitter=1e-7)
    >>> stats["jitter"] == stats.jitter
    True
    >>> sorted(stats)[:2]
    ['iterations', 'jitter']
    """

    seconds: float = 0.0
    peak_bytes: int = 0
    residuals: tuple[float, ...] = ()
    iterations: int = 0
    jitter: float = 0.0
    log_determinant: float | None = None
    rounding: float = 0.0

    def __getitem__(self, name: str) -> Any:
        if name not in self.__dataclass_fields__:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (field.name for field in fields(self))

    def __len__(self) -> int:
        return len(fields(self))


@dataclass(frozen=True, eq=False)
class Solution:
    """A solved system.

    Parameters
    ----------
    value : ndarray of shape (n,) or (n, t)
        The solution, in the shape of the right-hand side.
    status : Status
        ``Status.OK``, or what is less than perfect about ``value``.
    stats : Stats
        Time, memory, residual history.

    Examples
    --------
    >>> import numpy as np
    >>> solution = Solution(np.ones(3), Status.OK, Stats(seconds=0.1))
    >>> solution.ok, solution.value.shape
    (True, (3,))
    """

    value: NDArray[Any]
    status: Status
    stats: Stats

    @property
    def ok(self) -> bool:
        """Whether the system asked for was solved to working accuracy."""
        return self.status is Status.OK


def finite_right_hand_side(Y: Any, n: int) -> NDArray[Any]:
    """``Y`` as a float array of n rows, or an error that says what is wrong with it."""
    from kernreg.exceptions import InvalidInputError

    values = np.asarray(Y)
    if values.ndim not in (1, 2) or values.shape[0] != n:
        raise InvalidInputError(
            f"expected targets of shape ({n},) or ({n}, t), found {values.shape}"
        )
    if values.dtype.kind not in "fiub":
        raise InvalidInputError(f"expected real targets, found dtype {values.dtype}")
    values = values.astype(np.float64, copy=False)
    if not np.isfinite(values).all():
        raise InvalidInputError("targets contain NaN or infinity: remove or impute those rows")
    return values
