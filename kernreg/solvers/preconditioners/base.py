"""What every preconditioner is, and how large the rank of one may become."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator
from kernreg.solvers.base import Problem
from kernreg.solvers.work import entry, flop

__all__ = ["Preconditioner", "Ranked", "rank_limit"]


class Preconditioner(ABC):
    """Settings of an approximate inverse, which :meth:`build` makes.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import Nystrom, Preconditioner, RPCholesky
    >>> isinstance(Nystrom(), Preconditioner)
    True
    >>> inverse = RPCholesky(rank=2).build(MatrixOperator(np.diag([3.0, 1.0])), 1.0)
    >>> inverse.apply(np.ones((2, 1)), np.array([1.0])).round(6).tolist()
    [[0.25], [0.5]]
    """

    @abstractmethod
    def build(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> Any:
        """An object with ``apply(R, levels)``, the inverse times columns R of shape (n, t).

        ``levels`` are mean ridges, one for each column.
        """

    @abstractmethod
    def peak_bytes(self, n: int) -> int:
        """Most bytes held while it is built."""

    def held_bytes(self, n: int) -> int:
        """Most bytes held while the kernel is multiplied."""
        return self.peak_bytes(n)

    @abstractmethod
    def work(self, problem: Problem) -> Mapping[str, float]:
        """What building it takes, and applying it ``problem.iterations`` times."""

    @property
    def factors(self) -> bool:
        """Whether it is a factor of the whole matrix."""
        return False

    def limit(self, n: int) -> int:
        """Its largest rank, 0 if it has none."""
        return 0

    def sampled(self, n: int, m: int) -> Self:
        """What stands for it on a sample of m of n rows."""
        return self


@dataclass(frozen=True)
class Ranked(Preconditioner):
    """Settings of a preconditioner of low rank.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        Columns of the factor.
    max_bytes : int, default=2 GiB
        Limit of memory on the rank.
    seed : int, default=0
        Of what is drawn.
    """

    rank: int | Literal["auto"] = "auto"
    max_bytes: int = 2**31
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank != "auto" and not (isinstance(self.rank, int) and self.rank >= 1):
            raise InvalidInputError(f"expected rank 'auto' or a number >= 1, found {self.rank!r}")
        if self.max_bytes < 1:
            raise InvalidInputError(f"expected max_bytes >= 1, found {self.max_bytes}")

    def limit(self, n: int) -> int:
        """Its largest rank for n rows."""
        return rank_limit(n, self.rank, self.max_bytes)

    def work(self, problem: Problem) -> Mapping[str, float]:
        """Rows of the kernel, products with them, and those of each iteration."""
        n, rank = problem.n, self.limit(problem.n)
        applied = problem.iterations * 4 * n * rank * problem.n_outputs
        return {
            entry("float64"): float(n * rank),
            flop("float64"): float(6 * n * rank**2 + applied),
        }

    def sampled(self, n: int, m: int) -> Self:
        """One of the same rank; near the size of the sample it would solve it, and take long."""
        rank = self.limit(n)
        return replace(self, rank=min(rank, max(1, m // 4)) if m < n else rank, max_bytes=2**31)


def rank_limit(n: int, rank: int | Literal["auto"], max_bytes: int) -> int:
    """Largest rank for n rows: the one asked for, or ``10 sqrt(n)``, within the memory.

    Examples
    --------
    >>> rank_limit(10_000, "auto", 2**31), rank_limit(10_000, 300, 2**31)
    (1000, 300)
    >>> rank_limit(1_000_000, "auto", 2**31), rank_limit(50, 300, 2**31)
    (89, 50)
    """
    asked = round(10 * n**0.5) if rank == "auto" else int(rank)
    # Factor, orthonormal basis and eigenvectors, all n x rank in float64.
    return max(1, min(n, asked, max_bytes // (24 * n)))
