"""What each solver needs for a problem, for plans to compare."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from kernreg.distributed import processes
from kernreg.planning.probe import Probe, seconds
from kernreg.solvers.base import Problem, Solver
from kernreg.solvers.registry import SOLVERS
from kernreg.solvers.work import READ, entry, product

__all__ = ["Needs"]


@dataclass(frozen=True)
class Needs:
    """Memory and time of a fit by each solver.

    Parameters
    ----------
    solver : Solver or None
        What was given; its settings count for its own kind, the others have their defaults.
    copies : bool
        Whether the device needs a copy of the data.
    budgets : mapping of str to int
        Bytes that each solver may use where it keeps its matrix.
    on_host : collection of str
        Solvers that keep it in host memory.
    """

    solver: Solver | None
    copies: bool
    budgets: Mapping[str, int]
    on_host: tuple[str, ...]

    def classes(self) -> dict[str, type[Solver]]:
        """The solvers that are compared: those with a name, and the one that was given."""
        given = {} if self.solver is None else {self.solver.name: type(self.solver)}
        return SOLVERS | given

    def made(self, name: str, problem: Problem) -> Solver:
        """The solver of a name: the one that was given, or one with defaults that fit."""
        budget = self.budgets[name] - self._copied(name, problem)
        if self.solver is not None and self.solver.name == name:
            return self.solver.bounded(problem, budget)
        return self.classes()[name].within(problem, budget)

    def bytes(self, name: str, problem: Problem) -> int:
        """Predicted peak beyond the caller's data."""
        solver = self.made(name, problem)
        held = solver.peak_bytes(problem) + solver.operator_bytes(problem)
        return self._copied(name, problem) + held

    def seconds(self, name: str, problem: Problem, probe: Probe | None) -> float | None:
        """Predicted time, None if it cannot be predicted."""
        solver = self.made(name, problem)
        unknown = solver.files is not None and not os.fspath(solver.files)
        if probe is None or processes() > 1 or unknown:
            return None
        iterations = probe.iterations(solver)
        if iterations is None:
            return None
        work = solver.work(replace(problem, iterations=iterations))
        rates = dict(probe.rates_for(solver))
        if not probe.kept or solver.needs_parts:
            return seconds(work, rates)
        once = problem.n * (problem.n + 1) / 2 * rates[entry(problem.dtype)]
        for unit in (entry, product):
            for kind in ("float32", "float64"):
                rates[unit(kind)] = rates[READ] * np.dtype(kind).itemsize
        return once + seconds(work, rates)

    def _copied(self, name: str, problem: Problem) -> int:
        # The caller's copy of the data is in host memory; a GPU gets one of its own.
        copies = self.copies and name not in self.on_host
        return problem.n * problem.d * problem.dtype.itemsize * copies
