"""Whether an ensemble is decomposed or made of products, and what either takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from kernreg.exceptions import MemoryBudgetError
from kernreg.operators.budget import TILE_ROWS, memory_budget
from kernreg.planning.plan import Candidate, Plan, plan
from kernreg.sizes import readable

__all__ = ["plan_of_ensemble"]

# Products of a Lanczos process, usually.
_DIRECTIONS = 100


def plan_of_ensemble(
    shape: tuple[int, int],
    n_targets: int,
    solver: str,
    linear: bool,
    max_memory: str | float | None,
    device: Any,
    probe: Any,
) -> Plan:
    """Whether an ensemble is decomposed or made of products, with what either takes.

    Raises
    ------
    MemoryBudgetError
        If what is asked for, or anything, does not fit.
    """
    n, d = shape
    # Directions of a Lanczos process, and the rows in both places.
    needed = 8 * n * (2 * d + TILE_ROWS + _DIRECTIONS * n_targets)
    free = Candidate("krylov", "recomputed", needed, "products for each time and row")
    if solver != "krylov" and linear:
        try:
            found = plan(
                n, d, n_targets, np.float64, "eigh", max_memory, device=device, probe=probe
            )
        except MemoryBudgetError as error:
            if solver == "eigh":
                why = str(error).partition(". ")[0]
                raise MemoryBudgetError(
                    f"{why}. Allow more memory, or give solver='krylov'."
                ) from error
        else:
            reason = "one decomposition serves all times"
            return replace(found, reason=reason, alternatives=(free,))
    budget = memory_budget(max_memory)
    if needed > budget:
        raise MemoryBudgetError(
            f"An ensemble on {n} rows needs {readable(needed)} without its modes, "
            f"{readable(budget)} may be used: allow more, or take fewer rows or targets."
        )
    reason = "asked for" if solver == "krylov" else "the modes do not fit"
    if not linear:
        reason = "this loss has no modes"
    return Plan(free.solver, free.storage, n, needed, budget, reason)
