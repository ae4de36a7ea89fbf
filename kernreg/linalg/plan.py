"""Choose a solver and predict its memory before any work starts."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernreg.backends.base import CPU
from kernreg.distributed import processes
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.linalg.budget import PANEL_BYTES, enough, memory_budget, readable
from kernreg.linalg.cholesky import Cholesky
from kernreg.linalg.eigh import Eigh
from kernreg.linalg.inputs import check_device
from kernreg.linalg.out_of_core import OutOfCoreCholesky
from kernreg.linalg.pcg import PCG
from kernreg.linalg.preconditioners import LowPrecisionCholesky, RPCholesky
from kernreg.linalg.restricted import Restricted
from kernreg.linalg.sketch import SketchAndProject

__all__ = ["NAMES", "Candidate", "Plan", "Solver", "bounded_pcg", "named_solver", "plan"]

# One eigendecomposition costs about as much as this many factorisations with leave-one-out.
_EIGH_PAYS = 8
# Rows of kernel entries that an operator may hold besides its output.
_TILE_ROWS = 256
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
# What "auto" may take, and what a name alone can ask for.
_AUTO = ("cholesky", "eigh", "pcg")
NAMES = (*_AUTO, "restricted", "sketch")


@dataclass(frozen=True)
class Candidate:
    """A solver that was considered: predicted bytes, and why it was or was not taken."""

    solver: str
    storage: str
    peak_bytes: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What will run; ``str()`` is a table.

    Parameters
    ----------
    solver : str
        ``"cholesky"``, ``"eigh"``, ``"pcg"``, ``"out_of_core"``, ``"restricted"`` or ``"sketch"``.
    storage : str
        ``"packed"`` (half the matrix), ``"dense"``, ``"recomputed"`` (none of it), ``"disk"``
        ``"centres"`` (columns of some rows) or ``"factor"`` (a float32 one that preconditions).
    block : int
        Rows of a panel.
    peak_bytes : int
        Predicted peak beyond the data.
    budget_bytes : int
        What ``peak_bytes`` had to stay under.
    reason : str
        Why this solver.
    alternatives : tuple of Candidate
        The others, with their predictions.
    """

    solver: str
    storage: str
    block: int
    peak_bytes: int
    budget_bytes: int
    reason: str
    alternatives: tuple[Candidate, ...] = ()

    def __str__(self) -> str:
        head = (
            f"solver   {self.solver}: {self.reason}\n"
            f"storage  {self.storage}, panels of {self.block} rows\n"
            f"memory   {readable(self.peak_bytes)} predicted, "
            f"{readable(self.budget_bytes)} allowed"
        )
        rows = [
            f"not used {other.solver} ({other.storage}, {readable(other.peak_bytes)}): "
            f"{other.reason}"
            for other in self.alternatives
        ]
        return "\n".join([head, *rows])


Solver = str | Cholesky | Eigh | PCG | OutOfCoreCholesky | Restricted | SketchAndProject


def plan(
    n: int,
    d: int,
    n_outputs: int = 1,
    dtype: Any = "float32",
    solver: Solver = "auto",
    max_memory: str | float | None = None,
    n_alphas: int = 1,
    device: Any = None,
    leave_one_out: bool = False,
) -> Plan:
    """Choose between the solvers, or check the one asked for.

    Parameters
    ----------
    n, d : int
        Rows and numbers per row of the data.
    n_outputs : int, default=1
        Right-hand sides.
    dtype : float32 or float64
        Precision of the kernel matrix.
    solver : "auto", "cholesky", "eigh", "pcg", "restricted", "sketch", or a solver
        A solver object is planned with its own settings. "auto" takes conjugate gradients where
        no matrix fits and there is one ridge.
    max_memory : str, number or None
        See :func:`memory_budget`.
    n_alphas : int, default=1
        Ridges that will be tried; from eight on, one eigendecomposition is cheaper.
    device : device, optional
        Where the kernel is evaluated and factored; the CPU if left out.
    leave_one_out : bool, default=False
        Whether errors of it are wanted, which direct solvers give; several ridges want them.

    Returns
    -------
    Plan
        Solver and predicted peak where it keeps its matrix: Eigh on the CPU, the others on the
        device, its copy of the data included. The caller's data are not counted.

    Raises
    ------
    MemoryBudgetError
        If what was asked for does not fit; nothing was allocated.
    InvalidInputError
        Unknown solver, dtype or budget.

    Examples
    --------
    >>> chosen = plan(10_000, 50, dtype="float32", max_memory="1GB")
    >>> chosen.solver, chosen.storage
    ('cholesky', 'packed')
    >>> chosen = plan(100_000, 50, dtype="float32", max_memory="4GB")
    >>> chosen.solver, chosen.storage
    ('pcg', 'recomputed')
    """
    size = np.dtype(dtype)
    if size not in (np.float32, np.float64):
        raise InvalidInputError(f"Expected dtype float32 or float64, found {size}.")
    for name, value in (("n", n), ("d", d), ("n_outputs", n_outputs), ("n_alphas", n_alphas)):
        if value < 1:
            raise InvalidInputError(f"Expected {name} >= 1, found {value}.")
    where = check_device(device)
    asked = solver if isinstance(solver, str) else _NAMES.get(type(solver), repr(solver))
    if asked not in ("auto", *NAMES) and isinstance(solver, str):
        raise InvalidInputError(
            f"Expected solver {', '.join(map(repr, ('auto', *NAMES[:-1])))} or {NAMES[-1]!r}, "
            f"found {solver!r}."
        )
    names = ["cholesky", "eigh"] + ["pcg"] * (n_alphas == 1 and not leave_one_out)
    names += [asked] * (asked not in ("auto", *names))
    # A decomposition runs on the CPU, wherever the kernel is.
    homes = {name: CPU if name == "eigh" else where for name in names}
    budgets = {name: memory_budget(max_memory, home) for name, home in homes.items()}
    needs = _Needs(solver, d, n_outputs, n_alphas, where != CPU, budgets)
    peaks = {name: needs.bytes(name, n, size) for name in names}
    chosen, reason = _choose(asked, peaks, budgets, n_alphas, where.type)
    if peaks[chosen] > budgets[chosen]:
        tried = peaks if asked == "auto" else {chosen: peaks[chosen]}
        said = " and ".join(f"{name} needs {readable(peak)}" for name, peak in tried.items())
        allowed = {readable(budgets[name]): homes[name] for name in tried}
        raise MemoryBudgetError(
            f"{said} for n={n} in {size}, allowed are "
            + " and ".join(b + f" on {h}" * (where != CPU) for b, h in allowed.items())
            + f". {_remedies(tried, n, size, needs)}"
        )
    others = tuple(
        Candidate(
            name,
            needs.storage(name, n, size),
            peak,
            "does not fit" if peak > budgets[name] else _WHY_NOT[name],
        )
        for name, peak in peaks.items()
        if name != chosen
    )
    return Plan(
        chosen,
        needs.storage(chosen, n, size),
        needs.block(chosen, n),
        peaks[chosen],
        budgets[chosen],
        reason,
        others,
    )


@dataclass(frozen=True)
class _Needs:
    """Memory of a fit by each solver, for any number of rows."""

    solver: Solver
    d: int
    n_outputs: int
    n_alphas: int
    copies: bool
    budgets: Mapping[str, int]

    def bytes(self, name: str, n: int, dtype: np.dtype[Any]) -> int:
        """Predicted peak beyond the caller's data."""
        # The caller's copy of the data is in host memory; a GPU gets one of its own.
        copied = n * self.d * dtype.itemsize * self.copies
        tiles = n * _TILE_ROWS * dtype.itemsize
        match name:
            case "cholesky":
                direct = self.solver if isinstance(self.solver, Cholesky) else Cholesky()
                rows = n * self.d * (dtype.itemsize + (8 if direct.products(dtype) else 0))
                return copied + direct.peak_bytes(n, self.n_outputs, dtype) + rows + tiles
            case "eigh":
                rows = 8 * n * (self.d + _TILE_ROWS)
                return Eigh.peak_bytes(n, self.n_outputs, self.n_alphas) + rows
            case "pcg":
                return copied + self.pcg(n, dtype)[1]
            case "out_of_core":
                rows = n * self.d * (dtype.itemsize + 8)
            case _:
                rows, tiles = _product_bytes(n, self.d), 0
        solver: Any = named_solver(name) if isinstance(self.solver, str) else self.solver
        return copied + solver.peak_bytes(n, self.n_outputs, dtype) + rows + tiles

    def pcg(self, n: int, dtype: np.dtype[Any]) -> tuple[PCG, int]:
        """Conjugate gradients within the budget, and their peak."""
        outside = _product_bytes(n, self.d)
        if isinstance(self.solver, PCG):
            return self.solver, outside + self.solver.peak_bytes(n, self.n_outputs, dtype)
        budget = self.budgets["pcg"] - n * self.d * dtype.itemsize * self.copies
        solver = bounded_pcg(n, self.d, self.n_outputs, dtype, budget)
        return solver, outside + solver.peak_bytes(n, self.n_outputs, dtype)

    def storage(self, name: str, n: int, dtype: np.dtype[Any]) -> str:
        """What is kept of the matrix, and where."""
        if name != "pcg":
            return _STORAGE[name]
        solver = self.pcg(n, dtype)[0]
        if isinstance(solver.preconditioner, LowPrecisionCholesky):
            return "factor"
        return "packed" if solver.keeps(n, dtype) else "recomputed"

    def block(self, name: str, n: int) -> int:
        """Rows of a panel."""
        given = Cholesky() if isinstance(self.solver, str) else self.solver
        return min(getattr(given, "block", n), n) if name in ("cholesky", "out_of_core") else n


def named_solver(name: str) -> Any:
    """The solver of a name with its defaults.

    Examples
    --------
    >>> named_solver("restricted").centres
    2000
    """
    return {name: solver for solver, name in _NAMES.items()}[name]()


def bounded_pcg(n: int, d: int, n_outputs: int, dtype: Any, budget: int) -> PCG:
    """Conjugate gradients whose preconditioner and tiles fit a budget, if anything does.

    Parameters
    ----------
    n, d, n_outputs : int
        Rows, numbers per row, right-hand sides.
    dtype : float32 or float64
        Precision of the kernel matrix.
    budget : int
        Bytes for everything beyond the data.

    Returns
    -------
    PCG

    Examples
    --------
    >>> solver = bounded_pcg(100_000, 9, 1, "float32", 4 * 10**9)
    >>> solver.keeps(100_000, "float32")
    False
    """
    room = (
        budget
        - _product_bytes(n, d)
        - PCG(None, storage="recomputed").peak_bytes(n, n_outputs, dtype)
    )
    # A factor in float32 is the best preconditioner by far, but one process makes it alone.
    factor = LowPrecisionCholesky()
    alone = processes() == 1
    if alone and np.dtype(dtype) == np.float64 and factor.peak_bytes(n) <= room:
        return PCG(factor, storage="recomputed")
    fits = bisect.bisect_right(
        range(1, n + 1), room // 2, key=lambda rank: RPCholesky(rank).peak_bytes(n)
    )
    # 24 bytes for each row and rank: see rank_limit.
    preconditioner = RPCholesky(max_bytes=24 * n * max(1, fits))
    return PCG(preconditioner, max_bytes=max(0, room - preconditioner.peak_bytes(n)))


def _product_bytes(n: int, d: int) -> int:
    """Rows in both precisions, a panel of a product, and rows against which a few are taken."""
    return n * d * (4 + 8 + 8) + min(PANEL_BYTES, 8 * n * n) + 8 * n * _TILE_ROWS


_WHY_NOT = {
    "cholesky": "a factorisation for each ridge",
    "eigh": "pays from 8 ridges on",
    "pcg": "iterates, where a matrix fits",
}


def _choose(
    asked: str, peaks: dict[str, int], budgets: dict[str, int], n_alphas: int, where: str
) -> tuple[str, str]:
    if asked != "auto":
        return asked, "asked for"
    reasons = {
        "cholesky": f"one factorisation for each ridge ({n_alphas})",
        "eigh": f"one decomposition serves all ridges ({n_alphas})",
        "pcg": "products with tiles of the matrix",
    }
    pays = n_alphas >= _EIGH_PAYS and where == "cpu"
    order = ("eigh", "cholesky") if pays else ("cholesky", "eigh")
    best = order[0]
    for name in (*order, "pcg"):
        if name in peaks and peaks[name] <= budgets[name]:
            return name, reasons[name] + ("" if name == best else f"; {best} does not fit")
    return min(peaks, key=lambda name: peaks[name]), "least memory"


def _remedies(tried: Mapping[str, int], n: int, dtype: np.dtype[Any], needs: _Needs) -> str:
    budgets = needs.budgets
    remedies = [f"allow {enough(min(tried.values()))} by max_memory"]
    free = dataclasses.replace(needs, solver="auto")
    others = {
        name: free.bytes(name, n, dtype) for name in budgets if name not in tried and name in _AUTO
    }
    remedies += [
        f"use solver={name!r} ({readable(peak)})"
        for name, peak in others.items()
        if peak <= budgets[name]
    ]
    if "pcg" not in budgets:
        room = {**budgets, "pcg": budgets["cholesky"]}
        peak = dataclasses.replace(free, budgets=room).bytes("pcg", n, dtype)
        if peak <= room["pcg"]:
            remedies.append(f"give one alpha, for which solver='pcg' needs {readable(peak)}")
    single = needs.bytes("cholesky", n, np.dtype(np.float32))
    if len(remedies) == 1 and dtype == np.float64 and single <= budgets["cholesky"]:
        remedies.append(f"in Python use solver='cholesky', dtype='float32' ({readable(single)})")
    fitting = bisect.bisect_left(
        range(1, n),
        True,
        key=lambda rows: all(needs.bytes(name, rows, dtype) > budgets[name] for name in tried),
    )
    if fitting:
        remedies.append(f"use at most {fitting} row{'s' * (fitting > 1)}")
    return f"Remedies: {', or '.join(remedies)}."
