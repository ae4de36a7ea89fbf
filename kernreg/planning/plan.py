"""Choose a solver and predict its memory before any work starts."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kernreg.backends.base import CPU
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.operators.budget import memory_budget
from kernreg.operators.inputs import check_device
from kernreg.planning.candidates import Needs
from kernreg.planning.probe import Probe
from kernreg.sizes import enough, readable
from kernreg.solvers.base import Problem, Solver
from kernreg.solvers.registry import SOLVERS, gives_errors, solver_of
from kernreg.wording import aligned, lasting

__all__ = ["Candidate", "Plan", "plan"]


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
        Its name.
    storage : str
        ``"packed"`` (half the matrix), ``"dense"``, ``"recomputed"`` (none of it), ``"disk"``
        ``"centres"`` (columns of some rows), ``"factor"`` (a float32 one that preconditions), or
        what another solver declares.
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

    Examples
    --------
    >>> from kernreg import KernelRegressor
    >>> X, y = [[0.0], [1.0]], [0.0, 1.0]
    >>> found = KernelRegressor("mlp(depth=1)").explain(X, y, seconds=False).plan
    >>> found.solver, found.storage, found.peak_bytes < found.budget_bytes
    ('cholesky', 'packed', True)
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
    known = SOLVERS.get(candidate.solver)
    return "up to about " * (known is not None and known.at_most) + lasting(candidate.seconds)


def plan(
    n: int,
    d: int,
    n_outputs: int = 1,
    dtype: Any = "float32",
    solver: str | Solver = "auto",
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
    solver : "auto", a name or a solver
        A solver object is planned with its own settings. "auto" takes conjugate gradients where
        no matrix fits and there is one ridge.
    max_memory : str, number or None
        See :func:`memory_budget`.
    n_alphas : int, default=1
        Ridges that will be tried; of many, one decomposition is cheaper.
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
        Solver and predicted peak where it keeps its matrix: Banded on the CPU, the others on the
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
    named, given = solver_of(solver), None if isinstance(solver, str) else solver
    asked = "auto" if named is None else named.name
    problem = Problem(n, d, n_outputs, size, n_alphas, leave_one_out, ridge)
    classes = SOLVERS | ({} if given is None else {given.name: type(given)})
    on_host = tuple(k for k, c in classes.items() if c.on_host or where.type not in c.runs_on)
    homes = {name: CPU if name in on_host else where for name in classes}
    each = {home: memory_budget(max_memory, home) for home in set(homes.values())}
    budgets = {name: each[home] for name, home in homes.items()}
    needs = Needs(given, where != CPU, budgets, on_host)
    names = _automatic(problem)
    names += [asked] * (asked not in ("auto", *names))
    peaks = {name: needs.bytes(name, problem) for name in classes}
    chosen, reason = _choose(asked, {name: peaks[name] for name in names}, problem, needs, where)
    if peaks[chosen] > budgets[chosen]:
        tried = {name: peaks[name] for name in (names if asked == "auto" else [chosen])}
        raise _too_little(tried, homes, problem, needs)

    def candidate(name: str, why: str) -> Candidate:
        able = name in names or problem.without_errors or gives_errors(classes[name])
        took = needs.seconds(name, problem, probe) if able else None
        stored = needs.made(name, problem).stored(problem)
        return Candidate(name, stored, peaks[name], why, took)

    taken = candidate(chosen, reason)
    others = (name for name in classes if name != chosen)
    return Plan(
        chosen,
        taken.storage,
        needs.made(chosen, problem).panel_rows(n),
        taken.peak_bytes,
        budgets[chosen],
        reason,
        tuple(
            candidate(name, _why_not(name, asked, peaks[name], problem, needs, where))
            for name in others
        ),
        taken.seconds,
    )


def _automatic(problem: Problem) -> list[str]:
    """What "auto" may take."""
    return [
        name
        for name, cls in SOLVERS.items()
        if cls.reason and (problem.without_errors or gives_errors(cls))
    ]


def _why_not(name: str, asked: str, peak: int, problem: Problem, needs: Needs, where: Any) -> str:
    cls = needs.classes()[name]
    if not (problem.without_errors or gives_errors(cls)):
        return "gives no leave-one-out errors"
    if where.type not in cls.runs_on:
        return f"for kernels on the {' or '.join(kind.upper() for kind in cls.runs_on)}"
    if peak > needs.budgets[name]:
        return "does not fit"
    return cls.drawback if asked == "auto" else f"{asked} is asked for"


def _choose(
    asked: str, peaks: dict[str, int], problem: Problem, needs: Needs, where: Any
) -> tuple[str, str]:
    if asked != "auto":
        return asked, "asked for"

    def last(name: str) -> tuple[bool, int, bool, int]:
        cls = SOLVERS[name]
        few = problem.n < cls.from_rows
        # One state for all ridges pays, where there are many.
        pays = problem.n_ridges >= cls.from_ridges and not few and where.type == "cpu"
        turn = 1 if cls.one_ridge else 0 if pays else 2
        return cls.tol is not None, turn, few, -cls.from_rows

    order = sorted(peaks, key=last)
    for name in order:
        if peaks[name] <= needs.budgets[name]:
            reason = SOLVERS[name].reason.format(n=problem.n_ridges)
            return name, reason + f"; {order[0]} does not fit" * (name != order[0])
    return min(peaks, key=lambda name: peaks[name]), "least memory"


def _too_little(
    tried: Mapping[str, int], homes: Mapping[str, Any], problem: Problem, needs: Needs
) -> MemoryBudgetError:
    """The error of solvers that do not fit, by their peaks."""
    said = " and ".join(f"{name} needs {readable(peak)}" for name, peak in tried.items())
    allowed = {readable(needs.budgets[name]): homes[name] for name in tried}
    places = " and ".join(b + f" on {home}" * needs.copies for b, home in allowed.items())
    return MemoryBudgetError(
        f"{said} for n={problem.n} in {problem.dtype}, allowed are {places}. "
        f"{_remedies(tried, problem, needs)}"
    )


def _remedies(tried: Mapping[str, int], problem: Problem, needs: Needs) -> str:
    remedies = [f"allow {enough(min(tried.values()))} by max_memory"]
    free = replace(needs, solver=None)

    def fitting(name: str, by: Needs = free, of: Problem = problem) -> str:
        """What a solver needs; empty if it does not fit."""
        peak = by.bytes(name, of)
        return readable(peak) if peak <= needs.budgets[name] else ""

    leaner = needs.solver and needs.solver.leaner()
    if leaner:
        needed = fitting(leaner[1].name, replace(needs, solver=leaner[1]))
        remedies += [f"use {leaner[0]} ({needed})"] * bool(needed)
    able = _automatic(problem)
    for name in able:
        if name not in tried and (needed := fitting(name)):
            remedies.append(f"use solver={name!r} ({needed})")
    first, *rest = (name for name, cls in SOLVERS.items() if cls.reason)
    for name in rest:
        if name not in (*able, *tried) and (needed := fitting(name)):
            remedies.append(f"give one alpha, for which solver={name!r} needs {needed}")
    narrow = replace(problem, dtype="float32")
    if len(remedies) == 1 and problem.dtype == np.float64:
        needed = fitting(first, needs, narrow)
        remedies += [f"use solver={first!r}, dtype='float32' ({needed})"] * bool(needed)
    for name, cls in SOLVERS.items():
        if cls.approximate and name not in tried and (needed := fitting(name)):
            remedies.append(f"use solver={name!r}, which is approximate ({needed})")

    def too_many(rows: int) -> bool:
        part = replace(problem, n=rows)
        return all(needs.bytes(name, part) > needs.budgets[name] for name in tried)

    most = bisect.bisect_left(range(1, problem.n), True, key=too_many)
    if most:
        remedies.append(f"use at most {most} row{'s' * (most > 1)}")
    return f"Remedies: {', or '.join(remedies)}."
