"""The solvers that a plan chooses from, and what each needs."""

from __future__ import annotations

import bisect
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernreg.distributed import processes
from kernreg.operators.budget import PANEL_BYTES
from kernreg.operators.packed import share_bytes
from kernreg.planning.probe import Probe
from kernreg.planning.work import seconds, work
from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.cholesky.out_of_core import OutOfCoreCholesky
from kernreg.solvers.eigh import Eigh
from kernreg.solvers.pcg.solver import PCG
from kernreg.solvers.precision import product_dtype
from kernreg.solvers.preconditioners import LowPrecisionCholesky, RPCholesky
from kernreg.solvers.preconditioners.rank import rank_limit
from kernreg.solvers.restricted.solver import Restricted
from kernreg.solvers.sketch.solver import SketchAndProject

__all__ = [
    "ALL",
    "AUTO",
    "NAMES",
    "Needs",
    "Solver",
    "bounded_on_disk",
    "bounded_pcg",
    "name_of",
    "named_solver",
]

Solver = str | Cholesky | Eigh | PCG | OutOfCoreCholesky | Restricted | SketchAndProject

# Rows of kernel entries that an operator may hold besides its output.
_TILE_ROWS = 256
# Largest piece of memory that the C library takes from its heap, and how many a preconditioner is
# built from.
_HEAP, _PIECES = 32 * 2**20, 3
# Rows that are taken at once by number.
_TAKEN = 128
_NAMES: dict[type, str] = {
    Cholesky: "cholesky",
    Eigh: "eigh",
    PCG: "pcg",
    OutOfCoreCholesky: "out_of_core",
    Restricted: "restricted",
    SketchAndProject: "sketch",
}
_STORAGE = {
    "cholesky": "packed",
    "eigh": "dense",
    "out_of_core": "disk",
    "restricted": "centres",
    "sketch": "recomputed",
}
AUTO = ("cholesky", "eigh", "pcg")
"""What ``"auto"`` may take."""
NAMES = (*AUTO, "restricted", "sketch")
"""What a name alone can ask for."""
ALL = (*NAMES, "out_of_core")
"""What a plan compares."""


def name_of(solver: Solver) -> str:
    """The name of a solver, or the name that was given.

    Examples
    --------
    >>> name_of(Restricted(centres=10)), name_of("magic")
    ('restricted', 'magic')
    """
    return solver if isinstance(solver, str) else _NAMES.get(type(solver), repr(solver))


def named_solver(name: str) -> Any:
    """The solver of a name with its defaults.

    Examples
    --------
    >>> named_solver("restricted").centres
    2000
    """
    return {name: solver for solver, name in _NAMES.items()}[name]()


@dataclass(frozen=True)
class Needs:
    """Memory and time of a fit by each solver, for any number of rows.

    Parameters
    ----------
    solver : str or solver
        What was asked for; its settings count for its own kind, the others have their defaults.
    d, n_outputs, n_alphas : int
        Numbers per row, right-hand sides, ridges.
    leave_one_out : bool
        Whether errors of it are wanted.
    ridge : float or None
        Smallest one over the mean diagonal, if known.
    copies : bool
        Whether the device needs a copy of the data.
    budgets : mapping of str to int
        Bytes that each solver may use where it keeps its matrix.
    """

    solver: Solver
    d: int
    n_outputs: int
    n_alphas: int
    leave_one_out: bool
    ridge: float | None
    copies: bool
    budgets: Mapping[str, int]

    @property
    def one_ridge(self) -> bool:
        """Whether a solver without leave-one-out errors serves."""
        return self.n_alphas == 1 and not self.leave_one_out

    def made(self, name: str, n: int, dtype: np.dtype[Any]) -> Any:
        """The solver of a name: the one that was asked for, or one with defaults that fit."""
        given = self.solver
        if name != "pcg":
            if not isinstance(given, str) and name_of(given) == name:
                return given
            if name == "out_of_core":
                budget = self.budgets[name]
                return bounded_on_disk(n, self.d, dtype, budget, "")
            return named_solver(name)
        budget = self.budgets["pcg"] - self._copied(n, dtype)
        own = given if isinstance(given, PCG) else None
        return bounded_pcg(n, self.d, self.n_outputs, dtype, budget, own)

    def bytes(self, name: str, n: int, dtype: np.dtype[Any]) -> int:
        """Predicted peak beyond the caller's data."""
        solver, copied = self.made(name, n, dtype), self._copied(n, dtype)
        if name == "eigh":
            rows = 8 * n * (self.d + _TILE_ROWS)
            return int(solver.peak_bytes(n, self.n_outputs, self.n_alphas)) + rows
        if name in ("cholesky", "out_of_core"):
            rows = _factoring_bytes(n, self.d, dtype, solver)
            if name == "cholesky":
                loo = self.leave_one_out
                return copied + rows + int(solver.peak_bytes(n, self.n_outputs, dtype, loo))
        elif name == "restricted":
            rows = PANEL_BYTES + solver.rows_bytes(n, self.d, dtype)
            path = self.n_alphas, self.leave_one_out
            return copied + rows + int(solver.peak_bytes(n, self.n_outputs, dtype, *path))
        elif name == "sketch":
            rows = _row_bytes(n, self.d)
            dtype = product_dtype(dtype, n, self.ridge)
        else:
            rows = _row_bytes(n, self.d) + _preconditioned_bytes(solver.built, n)
            dtype = product_dtype(dtype, n, self.ridge)
            solver = replace(solver, preconditioner=None)
        return copied + solver.peak_bytes(n, self.n_outputs, dtype) + rows

    def storage(self, name: str, n: int, dtype: np.dtype[Any]) -> str:
        """What is kept of the matrix, and where."""
        if name != "pcg":
            return _STORAGE[name]
        solver = self.made(name, n, dtype)
        if isinstance(solver.preconditioner, LowPrecisionCholesky):
            return "factor"
        keeps = solver.keeps(n, product_dtype(dtype, n, self.ridge))
        return "packed" if keeps else "recomputed"

    def block(self, name: str, n: int) -> int:
        """Rows of a panel."""
        given = Cholesky() if isinstance(self.solver, str) else self.solver
        return min(getattr(given, "block", n), n) if name in ("cholesky", "out_of_core") else n

    def seconds(self, name: str, n: int, dtype: np.dtype[Any], probe: Probe | None) -> float | None:
        """Predicted time, None if it cannot be predicted."""
        solver = self.made(name, n, dtype)
        if probe is None or processes() > 1:
            return None
        if getattr(solver, "folder", None) == "":
            return None
        iterations = probe.iterations(solver) if name == "pcg" else 0
        if iterations is None:
            return None
        counted = work(
            solver,
            n,
            self.n_outputs,
            product_dtype(dtype, n, self.ridge) if name in ("pcg", "sketch") else dtype,
            n_alphas=self.n_alphas,
            leave_one_out=self.leave_one_out,
            iterations=iterations,
        )
        return seconds(counted, probe.rates_for(solver))

    def _copied(self, n: int, dtype: np.dtype[Any]) -> int:
        # The caller's copy of the data is in host memory; a GPU gets one of its own.
        return n * self.d * dtype.itemsize * self.copies


def bounded_pcg(
    n: int, d: int, n_outputs: int, dtype: Any, budget: int, given: PCG | None = None
) -> PCG:
    """Conjugate gradients whose preconditioner and tiles fit a budget, if anything does.

    Parameters
    ----------
    n, d, n_outputs : int
        Rows, numbers per row, right-hand sides.
    dtype : float32 or float64
        Precision of the kernel matrix.
    budget : int
        Bytes for everything beyond the data.
    given : PCG, optional
        Taken as it is, but with a limit on kept tiles where it has none of its own.

    Returns
    -------
    PCG

    Examples
    --------
    >>> solver = bounded_pcg(100_000, 9, 1, "float32", 4 * 10**9)
    >>> solver.keeps(100_000, "float32")
    False
    """
    vectors = PCG(None, storage="recomputed").peak_bytes(n, n_outputs, dtype)
    room = budget - _row_bytes(n, d) - vectors
    if given is not None:
        free = given.storage == "auto" and given.max_bytes is None
        left = max(0, room - _preconditioned_bytes(given.built, n))
        return replace(given, max_bytes=left) if free else given
    # A factor in float32 is the best preconditioner by far, but one process makes it alone.
    factor = LowPrecisionCholesky()
    alone = processes() == 1
    if alone and np.dtype(dtype) == np.float64 and _preconditioned_bytes(factor, n) <= room:
        return PCG(factor, storage="recomputed")
    # Tiles, where they fit beside as large a preconditioner, are worth more than a larger rank.
    share = room // 2 if share_bytes(n, dtype) <= room // 2 else room

    def bounded(rank: int) -> RPCholesky:
        return RPCholesky(max_bytes=24 * n * rank)  # see rank_limit

    def needed(rank: int) -> int:
        return _preconditioned_bytes(bounded(rank), n)

    fits = bisect.bisect_right(range(1, n + 1), share, key=needed)
    limit = max(1, min(fits, rank_limit(n, "auto", 24 * n * n)))
    return PCG(bounded(limit), max_bytes=max(0, room - needed(limit)))


def bounded_on_disk(
    n: int, d: int, dtype: Any, budget: int, folder: str | os.PathLike[str]
) -> OutOfCoreCholesky:
    """Cholesky on disk that takes the memory of a budget, or the least that it can work with.

    Parameters
    ----------
    n, d : int
        Rows, and numbers per row.
    dtype : float32 or float64
        Precision of the kernel matrix.
    budget : int
        Bytes for everything beyond the data.
    folder : path-like
        Where the factor will be.

    Returns
    -------
    OutOfCoreCholesky

    Examples
    --------
    >>> bounded_on_disk(100_000, 9, "float32", 4 * 10**9, "factor").group(100_000, "float32")
    6400
    """
    solver = OutOfCoreCholesky(folder)
    beside = _factoring_bytes(n, d, np.dtype(dtype), solver)
    return replace(solver, max_bytes=max(solver.least_bytes(n, dtype), budget - beside))


def _factoring_bytes(n: int, d: int, dtype: np.dtype[Any], solver: Any) -> int:
    """Rows, in float64 too where products refine, and entries that an operator holds."""
    refined = isinstance(solver, OutOfCoreCholesky) or solver.products(dtype)
    return n * d * (dtype.itemsize + 8 * bool(refined)) + n * _TILE_ROWS * dtype.itemsize


def _row_bytes(n: int, d: int) -> int:
    """Rows in both precisions, and prepared ones, for a solver that iterates."""
    return n * d * (4 + 8 + 8)


def _preconditioned_bytes(built: Any, n: int) -> int:
    """Most bytes while a preconditioner is built from rows, and in products beside it."""
    panel = min(PANEL_BYTES, 8 * n * n)
    if built is None:
        return panel
    peak = int(built.peak_bytes(n))
    held = int(getattr(built, "held_bytes", built.peak_bytes)(n))
    # Pieces up to this size come from the heap, which may keep those that were given back.
    held = max(held, min(peak, _PIECES * _HEAP))
    return max(peak + 8 * n * _TAKEN, held + panel)
