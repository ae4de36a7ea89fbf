"""What ``alpha`` stands for: numbers, or a choice that is made by leave-one-out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.planning.plan import plan
from kernreg.solvers.base import Solver
from kernreg.solvers.registry import SOLVERS, by_name, for_ridges, gives_errors, solver_of
from kernreg.wording import either

__all__ = ["ALPHAS", "FIXED", "ROWS", "Approach", "approach", "is_auto", "sample"]

ALPHAS = np.logspace(-8, 0, 17)
"""What ``alpha="auto"`` chooses from, relative to the mean diagonal."""
FIXED = 1e-3
"""What it is where nothing can be left out."""
ROWS = 3000
"""Rows that are decomposed for a choice at most: seconds, whatever the fit takes."""

# A mean and a row to predict are left with three.
_FEWEST = 3
# Halves of the sample that are tried where memory is short.
_SMALLEST = 48
# Entries in float32 err by 1e-7 sqrt(n) times coefficients of size residual / alpha: below this
# alpha that exceeds the residual.
_LEAST_SINGLE = 1e-6


@dataclass(frozen=True, eq=False)
class Approach:
    """How a fit comes to its ridge.

    Parameters
    ----------
    alphas : ndarray of shape (n_alphas,)
        What is chosen from.
    leave_one_out : bool
        Whether the fit itself gives leave-one-out errors.
    rows : int
        Rows of a sample on which one of ``alphas`` is chosen before the fit; 0 for none.
    fixed : bool
        Whether memory is too short for a choice that was wanted.
    """

    alphas: NDArray[np.float64]
    leave_one_out: bool
    rows: int = 0
    fixed: bool = False

    @property
    def in_fit(self) -> NDArray[np.float64]:
        """The ridges of the fit itself; where a sample chooses one, a usual one stands for it."""
        if not self.rows:
            return self.alphas
        return self.alphas[[int(np.argmin(np.abs(np.log(self.alphas / self.alphas[-1] / FIXED))))]]


def is_auto(alpha: Any) -> bool:
    """Whether the choice is kernreg's."""
    return isinstance(alpha, str) and alpha == "auto"


def approach(
    alpha: Any,
    shape: tuple[int, int],
    n_targets: int,
    *,
    dtype: Any,
    read: Any,
    solver: str | Solver,
    max_memory: str | float | None,
    device: Any,
    unit: Callable[[], float],
) -> Approach:
    """Decide where a ridge is chosen.

    Parameters
    ----------
    alpha : "auto", float or array-like
        As the user gave it.
    shape : (int, int)
        Of the data.
    n_targets : int
        Columns of the targets.
    dtype, read : float32 or float64
        Of kernel entries in predictions, and of those that the solver reads.
    solver, max_memory, device
        As for :func:`kernreg.planning.plan.plan`.
    unit : callable
        What the values of "auto" are multiplied by, called if needed.

    Raises
    ------
    InvalidInputError
        If alpha cannot be used, or is to be chosen where nothing can be left out.
    """
    n = shape[0]
    one = n > 1 and gives_errors(solver_of(solver), free=True)
    if not is_auto(alpha):
        return Approach(_numbers(alpha), _must_choose(alpha, n, solver) or one)
    scale = unit()
    if n < _FEWEST:
        return Approach(np.array([FIXED]) * scale, one)
    least = _LEAST_SINGLE if np.dtype(dtype) == np.float32 else 0.0
    grid = ALPHAS[least * (1 - 1e-9) <= ALPHAS] * scale

    def fits(rows: int, solver: str | Solver) -> bool:
        outputs, count = n_targets + 1, len(grid)
        try:
            plan(rows, shape[1], outputs, dtype, solver, max_memory, count, device, True)
        except MemoryBudgetError:
            return False
        return True

    exact = np.dtype(read) == np.dtype(dtype) or np.dtype(read) == np.float64
    if n <= ROWS and exact and gives_errors(solver_of(solver)) and fits(n, solver):
        return Approach(grid, True)
    rows = min(n, ROWS)
    least_rows = min(rows, _SMALLEST)
    while rows >= least_rows and not fits(rows, for_ridges(rows)):
        rows //= 2
    if rows < least_rows:
        return Approach(np.array([FIXED]) * scale, one, fixed=True)
    return Approach(grid, one, rows)


def sample(n: int, rows: int) -> NDArray[np.intp]:
    """Rows that stand for all, ascending; the same for every call."""
    return np.sort(np.random.default_rng(0).permutation(n)[:rows])


def _numbers(alpha: Any) -> NDArray[np.float64]:
    """All values of ``alpha``, of shape (n_alphas,)."""
    alphas = np.atleast_1d(np.asarray(alpha))
    if alphas.ndim != 1 or alphas.size == 0 or alphas.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"alpha must be 'auto', a number or a non-empty sequence of numbers, found {alpha!r}."
        )
    alphas = alphas.astype(np.float64)
    if not (np.isfinite(alphas).all() and (alphas >= 0).all()):
        raise InvalidInputError(f"alpha must be finite and >= 0, found {alpha!r}.")
    return alphas


def _must_choose(alpha: Any, n: int, solver: str | Solver) -> bool:
    """Whether there are several numbers, which only leave-one-out can choose from."""
    if not np.ndim(alpha):
        return False
    if n < 2:
        raise InvalidInputError(
            "A choice of alpha by leave-one-out needs at least two rows, found n_samples=1: give "
            "alpha as one number."
        )
    if not gives_errors(solver_of(solver)):
        raise InvalidInputError(
            f"solver={solver!r} gives no leave-one-out errors to choose alpha by: give alpha as "
            "one number, leave it 'auto', which chooses on a sample of the rows, or use "
            f"solver={either(repr(name) for name in by_name() if gives_errors(SOLVERS[name]))}."
        )
    return True
