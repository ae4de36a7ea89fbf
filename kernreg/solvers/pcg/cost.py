"""What conjugate gradients take of memory and time, and how they make the best of a budget."""

from __future__ import annotations

import bisect
import os
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from kernreg.distributed import processes
from kernreg.exceptions import InvalidInputError
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.packed import share_bytes
from kernreg.operators.storage import Storage
from kernreg.solvers.base import Problem, Solver
from kernreg.solvers.preconditioners import LowPrecisionCholesky, RPCholesky
from kernreg.solvers.preconditioners.base import Preconditioner, rank_limit
from kernreg.solvers.work import READ, entry, flop, product

__all__ = ["PCGSettings"]

# Largest piece of memory that the C library takes from its heap, and how many a preconditioner is
# built from.
_HEAP, _PIECES = 32 * 2**20, 3
# Rows that are taken at once by number.
_TAKEN = 128
# Residuals in float64 on the way to 1e-8, one whenever the residual fell by 1000, and the last.
_RESIDUALS = 4
# Rows of the problem on which iterations are counted.
_SMALL, _LARGE = 2000, 5000


@dataclass(frozen=True)
class PCGSettings(Solver):
    """Settings of :class:`~kernreg.solvers.PCG`, and what they take."""

    name = "pcg"
    one_ridge = False
    leave_one_out = False
    reason = "products with tiles of the matrix"
    drawback = "iterates, where a matrix fits"
    remedies = ("raise max_memory, which allows a better preconditioner",)

    preconditioner: Preconditioner | Literal["auto"] | None = "auto"
    tol: float = 1e-8
    max_iter: int = 1000
    recompute_every: int = 50
    storage: Literal["auto", "recomputed", "packed"] = "auto"
    max_bytes: int | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        if not 0 < self.tol < 1:
            raise InvalidInputError(f"expected 0 < tol < 1, found {self.tol}")
        for name in ("max_iter", "recompute_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"expected {name} >= 1, found {getattr(self, name)}")
        Storage(self.storage, self.max_bytes)  # checks them
        if not (self.preconditioner in ("auto", None) or self.built is self.preconditioner):
            raise InvalidInputError(
                f"expected preconditioner 'auto', None or a kernreg.solvers.Preconditioner, "
                f"found {self.preconditioner!r}"
            )

    @property
    def _storage(self) -> Storage:
        return Storage(self.storage, self.max_bytes)

    @property
    def built(self) -> Preconditioner | None:
        """The preconditioner that will be built, or None."""
        if isinstance(self.preconditioner, Preconditioner):
            return self.preconditioner
        return RPCholesky() if self.preconditioner == "auto" else None

    def peak_bytes(self, problem: Problem) -> int:
        """Most bytes held at once: tiles if they are kept, preconditioner, and vectors.

        Examples
        --------
        >>> from kernreg.solvers import PCG
        >>> PCG(None, storage="recomputed").peak_bytes(Problem(1000, n_outputs=2)) < 10**6
        True
        """
        kept = self._storage.bytes_for(problem.n, problem.products)
        return kept + self._bytes_beside(problem.n, problem.n_outputs)

    def _bytes_beside(self, n: int, n_outputs: int) -> int:
        """Bytes of preconditioner and vectors."""
        return self._built_bytes(n) + 8 * n * (10 * n_outputs + 4)

    def _built_bytes(self, n: int) -> int:
        return 0 if self.built is None else self.built.peak_bytes(n)

    def operator_bytes(self, problem: Problem) -> int:
        """Rows, and what products and rows by number take beside the preconditioner."""
        around = _preconditioned_bytes(self.built, problem.n) - self._built_bytes(problem.n)
        return super().operator_bytes(problem) + around

    def keeps(self, problem: Problem) -> bool:
        """Whether tiles of the matrix will be kept."""
        return self._storage.bytes_for(problem.n, problem.products) > 0

    def stored(self, problem: Problem) -> str:
        """Tiles, a factor that preconditions, or nothing."""
        factor = self.built is not None and self.built.factors
        return "factor" if factor else "packed" if self.keeps(problem) else "recomputed"

    def work(self, problem: Problem) -> dict[str, float]:
        """The preconditioner, and products for each of ``problem.iterations``."""
        n, t, dtype = problem.n, problem.n_outputs, problem.products
        iterations, half = min(problem.iterations, self.max_iter), n * n / 2
        total: dict[str, float] = defaultdict(float)
        if self.built is not None:
            total.update(self.built.work(replace(problem, iterations=iterations)))
        if self.keeps(problem):
            total[READ] += iterations * dtype.itemsize * half
            total[entry(dtype)] += half
        else:
            total[product(dtype)] += iterations * half
        total[flop(dtype)] += iterations * 4 * half * t
        if dtype == np.float32:
            total[product("float64")] += _RESIDUALS * half
            total[flop("float64")] += _RESIDUALS * 4 * half * t
        return total

    @classmethod
    def within(cls, problem: Problem, budget: int, **settings: Any) -> Self:
        """One whose preconditioner and tiles fit a budget, if anything does.

        Examples
        --------
        >>> from kernreg.solvers import PCG
        >>> problem = Problem(100_000, 9, dtype="float32")
        >>> PCG.within(problem, 4 * 10**9).keeps(problem)
        False
        """
        bare = cls(None, storage="recomputed")
        room = budget - Solver.operator_bytes(bare, problem) - bare.peak_bytes(problem)
        return cls(**_settings_within(problem.n, problem.dtype, room) | settings)

    def bounded(self, problem: Problem, budget: int) -> Self:
        """Itself, with a limit on kept tiles where it has none of its own."""
        if self.storage != "auto" or self.max_bytes is not None:
            return self
        room = (
            budget - self.operator_bytes(problem) - self._bytes_beside(problem.n, problem.n_outputs)
        )
        return replace(self, max_bytes=max(0, room))

    def leaner(self) -> tuple[str, Self] | None:
        """Tiles that are evaluated again."""
        if self.storage != "packed":
            return None
        return "storage='recomputed'", replace(self, storage="recomputed")

    def sampled(self, n: int) -> tuple[int, Self]:
        """A sample of ten times as many rows as the rank, and the solver with that rank."""
        built = self.built
        m = min(n, _LARGE, max(_SMALL, 10 * (0 if built is None else built.limit(n))))
        counted = replace(
            self,
            preconditioner=built and built.sampled(n, m),
            storage="packed",
            max_bytes=None,
            checkpoint=None,
        )
        return m, counted


def _preconditioned_bytes(built: Preconditioner | None, n: int) -> int:
    """Most bytes while a preconditioner is built from rows, and in products beside it."""
    panel = min(PANEL_BYTES, 8 * n * n)
    if built is None:
        return panel
    peak = built.peak_bytes(n)
    # Pieces up to this size come from the heap, which may keep those that were given back.
    held = max(built.held_bytes(n), min(peak, _PIECES * _HEAP))
    return max(peak + 8 * n * _TAKEN, held + panel)


def _settings_within(n: int, dtype: np.dtype[Any], room: int) -> dict[str, Any]:
    """The preconditioner, and what is kept of the matrix, for some room beside the vectors."""
    # A factor in float32 is the best preconditioner by far, but one process makes it alone.
    factor = LowPrecisionCholesky()
    alone = processes() == 1
    if alone and dtype == np.float64 and _preconditioned_bytes(factor, n) <= room:
        return {"preconditioner": factor, "storage": "recomputed"}
    # Tiles, where they fit beside as large a preconditioner, are worth more than a larger rank.
    share = room // 2 if share_bytes(n, dtype) <= room // 2 else room

    def bounded(rank: int) -> RPCholesky:
        return RPCholesky(max_bytes=24 * n * rank)  # see rank_limit

    def needed(rank: int) -> int:
        return _preconditioned_bytes(bounded(rank), n)

    fits = bisect.bisect_right(range(1, n + 1), share, key=needed)
    limit = max(1, min(fits, rank_limit(n, "auto", 24 * n * n)))
    return {"preconditioner": bounded(limit), "max_bytes": max(0, room - needed(limit))}
