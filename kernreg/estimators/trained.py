"""The algebra of an infinite ensemble on its training rows, decomposed or from products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import scipy.sparse.linalg
from numpy.typing import NDArray

from kernreg.exceptions import MemoryBudgetError
from kernreg.operators.budget import TILE_ROWS, memory_budget, readable
from kernreg.operators.kernel import KernelOperator
from kernreg.planning.plan import Candidate, Plan, plan
from kernreg.solvers.eigh import Eigh
from kernreg.theory.training import (
    Dynamics,
    Ensemble,
    MatrixFree,
    along_modes,
    largest_learning_rate,
)

__all__ = ["Trained", "plan_of_ensemble"]

Floats = NDArray[np.float64]

# Rows of which all eigenvalues are found as soon as one.
_DENSE = 64
# Products of a Lanczos process, usually.
_DIRECTIONS = 100


@dataclass(eq=False)
class Trained:
    """An ensemble on its training rows.

    Parameters
    ----------
    train : KernelOperator
        The kernel that training follows.
    prior : KernelOperator or None
        That of the initial outputs; None if it is the same.
    dynamics : Dynamics
        For the sum of the losses.
    weights : ndarray of shape (n,)
        Of the rows in the loss.
    ridge, target_noise : float
        Weight decay, and the variance of the noise in the targets.
    scale : float
        What the sum of the losses is divided by.
    decompose : bool
        Whether there is memory for the modes.
    """

    train: KernelOperator
    prior: KernelOperator | None
    dynamics: Dynamics
    weights: Floats
    ridge: float
    target_noise: float
    scale: float
    decompose: bool
    ensemble: Ensemble | MatrixFree = field(init=False)

    def __post_init__(self) -> None:
        if self.decompose:
            equal = bool((self.weights == 1).all())
            modes = Eigh().init(
                self.train, self.ridge, sample_weight=None if equal else self.weights
            )
            self.ensemble = Ensemble(modes, self.dynamics, target_noise=self.target_noise)
        else:
            prior = self.train if self.prior is None else self.prior
            self.ensemble = MatrixFree(
                lambda V: np.asarray(self.train @ V),
                lambda V: np.asarray(prior @ V),
                self.dynamics,
                np.sqrt(self.weights),
                self.ridge,
                self.target_noise,
            )

    @property
    def largest_learning_rate(self) -> float:
        """Above it, steps diverge; for the loss as it is reduced."""
        if isinstance(self.ensemble, Ensemble):
            largest = self.ensemble.largest
        else:
            largest = self._largest() + self.ridge
        return self.scale * largest_learning_rate(largest, self.dynamics.momentum)

    def _largest(self) -> float:
        """Largest eigenvalue of the weighted kernel, from products."""
        root, n = np.sqrt(self.weights), len(self.weights)
        if n <= _DENSE:
            matrix = root[:, None] * np.asarray(self.train.to_dense()) * root
            return float(np.linalg.eigvalsh(matrix)[-1])
        weighted = scipy.sparse.linalg.LinearOperator(
            self.train.shape,
            matvec=lambda v: root * np.asarray(self.train @ (root * np.ravel(v))),
            dtype=np.float64,
        )
        # Random, so that no direction is left out by a symmetry of the data; always the same.
        start = np.random.default_rng(0).standard_normal(n)
        (value,) = scipy.sparse.linalg.eigsh(
            weighted, k=1, v0=start, tol=1e-10, return_eigenvectors=False
        )
        return float(value)

    def with_spread(self, budget: int) -> Ensemble | MatrixFree:
        """The ensemble, with what variances need.

        Raises
        ------
        MemoryBudgetError
            If that does not fit a budget of bytes.
        """
        if (
            self.prior is None
            or isinstance(self.ensemble, MatrixFree)
            or self.ensemble.spread is not None
        ):
            return self.ensemble
        n = len(self.weights)
        needed = 3 * 8 * n * n
        if needed > budget:
            raise MemoryBudgetError(
                f"The spread of an ensemble on {n} rows takes {readable(needed)} with its modes, "
                f"{readable(budget)} may be used: allow more memory, or give solver='krylov'."
            )
        modes = self.ensemble.modes
        spread = along_modes(modes, np.asarray(self.prior.to_dense()), overwrite=True)
        self.ensemble = Ensemble(modes, self.dynamics, spread, self.target_noise)
        return self.ensemble

    def product(self, budget: int) -> Callable[[Floats], Floats]:
        """``V -> T V``, from a matrix that is kept if it fits a budget of bytes."""
        n = len(self.weights)
        if 8 * n * n <= budget // 2:
            matrix = np.asarray(self.train.to_dense())
            return lambda V: np.asarray(matrix @ V)
        return lambda V: np.asarray(self.train @ V)


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
