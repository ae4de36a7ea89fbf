"""Choose a solver and predict its memory before any work starts."""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernreg._wording import aligned, lasting
from kernreg.backends.base import CPU
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.operators.budget import enough, memory_budget, readable
from kernreg.operators.inputs import check_device
from kernreg.planning.candidates import ALL, AUTO, NAMES, Needs, Solver, name_of
from kernreg.planning.probe import Probe
from kernreg.solvers.pcg.solver import PCG

__all__ = ["Candidate", "Plan", "plan"]

# One eigendecomposition costs about as much as this many factorisations with leave-one-out.
_EIGH_PAYS = 8


@dataclass(frozen=True)
class Candidate:
    """A solver that was considered: its predictions, and why it was not taken."""

    solver: str
    storage: str
    peak_bytes: int
    reason: str
    seconds: float | None = None


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
    seconds : float or None
        Predicted time, if rates were measured; for projections that of all passes, which may not
        be needed.
    """

    solver: str
    storage: str
    block: int
    peak_bytes: int
    budget_bytes: int
    reason: str
    alternatives: tuple[Candidate, ...] = ()
    seconds: float | None = None

    def __str__(self) -> str:
        taken = Candidate(self.solver, self.storage, self.peak_bytes, self.reason, self.seconds)
        rows = [
            (
                candidate.solver,
                candidate.storage,
                readable(candidate.peak_bytes),
                _time(candidate),
                ("not used: " if number else "taken: ") + candidate.reason,
            )
            for number, candidate in enumerate((taken, *self.alternatives))
        ]
        return "\n".join(
            [
                *aligned(("solver", "storage", "memory", "time", ""), rows),
                f"{readable(self.budget_bytes)} allowed, panels of {self.block} rows",
            ]
        )


def _time(candidate: Candidate) -> str:
    if candidate.seconds is None:
        return ""
    return "up to about " * (candidate.solver == "sketch") + lasting(candidate.seconds)


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
    ridge: float | None = None,
    probe: Probe | None = None,
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
    ridge : float, optional
        Smallest ridge over the mean diagonal: iterations with float32 entries need float64 ones
        below some 32 eps sqrt(n).
    probe : Probe, optional
        Measures what predicted times come from, within seconds; without it there are none.

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
    asked = name_of(solver)
    if asked not in ("auto", *NAMES) and isinstance(solver, str):
        raise InvalidInputError(
            f"Expected solver {', '.join(map(repr, ('auto', *NAMES[:-1])))} or {NAMES[-1]!r}, "
            f"found {solver!r}."
        )
    # Decompositions and factors on disk are made by the CPU, wherever the kernel is.
    homes = {name: CPU if name in _ON_CPU else where for name in ALL}
    budgets = {name: memory_budget(max_memory, home) for name, home in homes.items()}
    needs = Needs(solver, d, n_outputs, n_alphas, leave_one_out, ridge, where != CPU, budgets)
    names = [name for name in AUTO if needs.one_ridge or name not in _ONE_RIDGE]
    names += [asked] * (asked not in ("auto", *names))
    peaks = {name: needs.bytes(name, n, size) for name in ALL}
    chosen, reason = _choose(asked, {name: peaks[name] for name in names}, needs, where.type)
    if peaks[chosen] > budgets[chosen]:
        tried = {name: peaks[name] for name in (names if asked == "auto" else [chosen])}
        raise _too_little(tried, homes, n, size, needs)

    def candidate(name: str, why: str) -> Candidate:
        able = name in names or needs.one_ridge or name not in _ONE_RIDGE
        took = needs.seconds(name, n, size, probe) if able else None
        return Candidate(name, needs.storage(name, n, size), peaks[name], why, took)

    taken = candidate(chosen, reason)
    return Plan(
        chosen,
        taken.storage,
        needs.block(chosen, n),
        taken.peak_bytes,
        budgets[chosen],
        reason,
        tuple(
            candidate(name, _why_not(name, asked, peaks[name], needs))
            for name in ALL
            if name != chosen
        ),
        taken.seconds,
    )


_ON_CPU = ("eigh", "out_of_core")
_ONE_RIDGE = ("pcg", "sketch", "out_of_core")
_WHY_NOT = {
    "cholesky": "a factorisation for each ridge",
    "eigh": "pays from 8 ridges on",
    "pcg": "iterates, where a matrix fits",
    "restricted": "approximate: ask for it",
    "sketch": "needs more entries than pcg, and less memory: ask for it",
    "out_of_core": "needs a folder: ask for it",
}


def _why_not(name: str, asked: str, peak: int, needs: Needs) -> str:
    if not needs.one_ridge and name in _ONE_RIDGE:
        return "gives no leave-one-out errors"
    if needs.copies and name == "out_of_core":
        return "for kernels on the CPU"
    if peak > needs.budgets[name]:
        return "does not fit"
    return _WHY_NOT[name] if asked == "auto" else f"{asked} is asked for"


def _choose(asked: str, peaks: dict[str, int], needs: Needs, where: str) -> tuple[str, str]:
    n_alphas, budgets = needs.n_alphas, needs.budgets
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


def _too_little(
    tried: Mapping[str, int],
    homes: Mapping[str, Any],
    n: int,
    dtype: np.dtype[Any],
    needs: Needs,
) -> MemoryBudgetError:
    """The error of solvers that do not fit, by their peaks."""
    said = " and ".join(f"{name} needs {readable(peak)}" for name, peak in tried.items())
    allowed = {readable(needs.budgets[name]): homes[name] for name in tried}
    places = " and ".join(b + f" on {home}" * needs.copies for b, home in allowed.items())
    return MemoryBudgetError(
        f"{said} for n={n} in {dtype}, allowed are {places}. {_remedies(tried, n, dtype, needs)}"
    )


def _remedies(tried: Mapping[str, int], n: int, dtype: np.dtype[Any], needs: Needs) -> str:
    budgets = needs.budgets
    remedies = [f"allow {enough(min(tried.values()))} by max_memory"]
    given = needs.solver
    if isinstance(given, PCG) and given.storage == "packed":
        bare = dataclasses.replace(needs, solver=dataclasses.replace(given, storage="recomputed"))
        peak = bare.bytes("pcg", n, dtype)
        if peak <= budgets["pcg"]:
            remedies.append(f"use storage='recomputed' ({readable(peak)})")
    free = dataclasses.replace(needs, solver="auto")
    able = [name for name in AUTO if needs.one_ridge or name not in _ONE_RIDGE]
    others = {name: free.bytes(name, n, dtype) for name in able if name not in tried}
    remedies += [
        f"use solver={name!r} ({readable(peak)})"
        for name, peak in others.items()
        if peak <= budgets[name]
    ]
    if not needs.one_ridge and "pcg" not in tried:
        peak = free.bytes("pcg", n, dtype)
        if peak <= budgets["pcg"]:
            remedies.append(f"give one alpha, for which solver='pcg' needs {readable(peak)}")
    single = needs.bytes("cholesky", n, np.dtype(np.float32))
    if len(remedies) == 1 and dtype == np.float64 and single <= budgets["cholesky"]:
        remedies.append(f"use solver='cholesky', dtype='float32' ({readable(single)})")
    peak = free.bytes("restricted", n, dtype)
    if "restricted" not in tried and peak <= budgets["restricted"]:
        remedies.append(f"use solver='restricted', which is approximate ({readable(peak)})")
    fitting = bisect.bisect_left(
        range(1, n),
        True,
        key=lambda rows: all(needs.bytes(name, rows, dtype) > budgets[name] for name in tried),
    )
    if fitting:
        remedies.append(f"use at most {fitting} row{'s' * (fitting > 1)}")
    return f"Remedies: {', or '.join(remedies)}."
