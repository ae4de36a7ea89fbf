"""Iterative solver: preconditioned conjugate gradients, the kernel matrix stored or not."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import ConvergenceWarning
from kernreg.operators.base import Operator, symmetric_order
from kernreg.operators.budget import PANEL_BYTES
from kernreg.solvers.base import Progress, checked_ridge, checked_ridges
from kernreg.solvers.pcg.checkpoint import Checkpoint
from kernreg.solvers.pcg.conjugate import Iterates, iterate, reopen, start
from kernreg.solvers.pcg.cost import PCGSettings
from kernreg.solvers.pcg.shifted import Columns, PCGState
from kernreg.solvers.precision import (
    entries_share,
    mean_diagonal,
    smallest_ridge,
    warn_of_ridge,
    warn_of_rounding,
)
from kernreg.solvers.preconditioners.lowrank import ridge_profile
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.solution import Solution, Stats, Status, finite_right_hand_side
from kernreg.solvers.variance import from_solution
from kernreg.wording import counted

__all__ = ["PCG"]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class PCG(PCGSettings):
    """Preconditioned conjugate gradients for ``(K + diag(ridge)) x = y``, many columns at once.

    Parameters
    ----------
    preconditioner : "auto", Preconditioner or None, default="auto"
        ``"auto"`` is :class:`RPCholesky` with its defaults.
    tol : float, default=1e-8
        Residual, relative to that of x = 0, at which a column is solved.
    max_iter : int, default=1000
        Most iterations.
    recompute_every : int, default=50
        Iterations after which the residual is computed from its definition at the latest.
    storage : "auto", "recomputed" or "packed", default="auto"
        Whether products read kept tiles of the kernel, or evaluate them again each time.
        ``"auto"``: kept if they fit into ``max_bytes``, and products evaluate on the CPU.
    max_bytes : int, optional
        Limit on kept tiles; half the free memory if left out.
    checkpoint : path-like, optional
        File that holds the iterates. :meth:`solve` goes on from it if it is there, and leaves it
        when done. With another tolerance or preconditioner it goes on with new directions.
    checkpoint_every : int, default=20
        Iterations between two checkpoints; the last one before ``max_iter`` has one, too.

    Notes
    -----
    Each column has its own recurrence in float64; one product serves all that are not done. An
    iteration costs half a Gram matrix if tiles are evaluated again, and 2 n^2 t + 4 n k t
    operations for t columns and a preconditioner of rank k. Memory: about 7 n t numbers beside
    the preconditioner, and n^2/2 if tiles are kept.

    For a float32 operator products are in float32 as long as its rounding is small beside the
    ridge, and the residual is replaced by one with float64 tiles whenever it fell by 1000; below
    that, and wherever float32 stops to help, products are in float64. So the answer is that of a
    float64 kernel either way. See :func:`kernreg.solvers.pcg.conjugate.iterate` for what counts as
    solved.

    References
    ----------
    Hestenes and Stiefel, Methods of conjugate gradients (1952).
    Van der Vorst and Ye, Residual replacement strategies for Krylov subspace iterative methods,
    SIAM J. Sci. Comput. 22 (2000).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> K = KernelOperator(nn.mlp(depth=1), np.random.default_rng(0).normal(size=(30, 3)))
    >>> solver = PCG(tol=1e-10)
    >>> solution = solver.solve(solver.init(K, 1e-3), np.ones(30))
    >>> solution.ok, solution.stats.residuals[-1] <= 1e-10
    (True, True)
    """

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> PCGState:
        """Build the preconditioner, and evaluate the tiles that are kept.

        Parameters
        ----------
        operator : Operator
            Symmetric, of dtype float32 or float64.
        ridge : float or ndarray of shape (n,)
            Added to the diagonal, not negative.
        callback : callable, optional
            Called as ``callback(step, total)`` while the preconditioner is built.

        Returns
        -------
        PCGState
            The system.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, bad ridge, or NaN or infinity among the kernel's entries.
        MemoryBudgetError
            If ``storage="packed"`` does not fit ``max_bytes``; nothing was evaluated.
        """
        started = time.perf_counter()
        n = symmetric_order(operator)
        shift = checked_ridge(ridge, n)
        warn_of_rounding(operator, shift)
        level, profile = ridge_profile(shift)
        exact = operator.astype("float64")
        noise, size = smallest_ridge(operator), mean_diagonal(operator)
        low = np.dtype(operator.dtype) == np.float32 and float(shift.min()) >= noise
        fast: Operator | None = None
        storage = self._storage
        if low:
            fast, kept = storage.keep(operator, demanded=True)
        else:
            exact, kept = storage.keep(exact, demanded=True)
        chosen = self.built
        built = None if chosen is None else chosen.build(operator, shift, callback)
        seconds = time.perf_counter() - started
        return PCGState(fast, exact, level, profile, built, storage, kept, noise, size, seconds)

    def solve(
        self,
        state: PCGState,
        Y: NDArray[Any],
        *,
        callback: Callable[[Progress], Any] | None = None,
        validation: Callable[[NDArray[np.float64]], float] | None = None,
    ) -> Solution:
        """Solve ``(K + diag(ridge)) x = y`` for each column of Y.

        Parameters
        ----------
        state : PCGState
            From :meth:`init`.
        Y : ndarray of shape (n,) or (n, t)
            Right-hand sides.
        callback : callable, optional
            Called with a :class:`Progress` after each iteration.
        validation : callable, optional
            Given the current solution, of the shape of Y, returns the score for the callback.

        Returns
        -------
        Solution
            ``value`` is float64. ``stats.residuals`` has the largest relative residual over the
            columns before the first and after each iteration; the last one was computed from
            its definition, in float64.

        Raises
        ------
        NotPositiveDefiniteError
            If a direction of negative curvature was found.
        CheckpointError
            If the checkpoint is broken or belongs to another problem.

        Warns
        -----
        ConvergenceWarning
            If a column was not solved: status ``MAX_ITERATIONS`` or ``NOT_CONVERGED``.
        """
        values = finite_right_hand_side(Y, state.n)
        levels = np.full(values.size // state.n, state.level)
        (solution,) = self._run(state, values, levels, 1, callback, validation)
        _warn([solution], self)
        _warn_of_ridge(solution, state, state.level)
        return replace(solution, value=solution.value.reshape(values.shape))

    def variance_explained(
        self, state: PCGState, columns: NDArray[np.float64], *, full: bool = False
    ) -> NDArray[np.float64]:
        """From a solve for each column; too small by ``r^T A^-1 r`` for its residual r."""
        solution = replace(self, checkpoint=None).solve(state, columns)
        ridge = state.level * state.profile
        return from_solution(state.exact, ridge, columns, solution.value, full)

    def columns_at_once(self, n: int) -> int:
        """So many that the vectors of all their solves are a panel."""
        return max(1, PANEL_BYTES // (8 * 8 * n))

    def path(
        self,
        state: PCGState,
        Y: NDArray[Any],
        ridges: Any,
        *,
        callback: Callable[[Progress], Any] | None = None,
    ) -> tuple[Solution, ...]:
        """Solve for a sequence of ridges with the products of one solve.

        Parameters
        ----------
        state : PCGState
            From :meth:`init`, best with the smallest ridge; a ridge per row there is the profile
            that the ridges multiply (relative to its mean).
        Y : ndarray of shape (n,) or (n, t)
            Targets.
        ridges : array-like of shape (r,)
            Ridges, not negative, in any order.
        callback : callable, optional
            Called with a :class:`Progress` after each iteration.

        Returns
        -------
        tuple of Solution
            One for each ridge, with the history of its own columns.

        Notes
        -----
        Each pair of ridge and target is a column with a shift and a preconditioner of its own.
        The columns share evaluations and reads of the kernel, which are as many as the hardest
        ridge takes alone; operations and vectors are those of r solves.
        """
        values = finite_right_hand_side(Y, state.n)
        sequence = checked_ridges(ridges)
        if float(sequence.min(initial=np.inf)) * float(state.profile.min()) < state.noise:
            state.raise_precision()
        t = values.size // state.n
        repeated = np.tile(values.reshape(state.n, t), len(sequence))
        solutions = self._run(
            state, repeated, np.repeat(sequence, t), len(sequence), callback, None
        )
        found = tuple(replace(s, value=s.value.reshape(values.shape)) for s in solutions)
        _warn(found, self)
        for level, s in zip(sequence, found, strict=True):
            _warn_of_ridge(s, state, float(level))
        return found

    def _run(
        self,
        state: PCGState,
        values: NDArray[np.float64],
        levels: NDArray[np.float64],
        parts: int,
        callback: Callable[[Progress], Any] | None,
        validation: Callable[[NDArray[np.float64]], float] | None,
    ) -> list[Solution]:
        """Solve all columns, and cut the solution into parts of as many columns each."""
        started = time.perf_counter()
        given = np.ascontiguousarray(values.reshape(state.n, -1))
        rhs, exponents = scaled(given, state.size + state.level)
        system = Columns(state, levels)
        strict = bool(np.min(state.profile) * np.min(levels, initial=np.inf) == 0)
        file = None
        if self.checkpoint is not None:
            settings = f"{self.built!r}, tol={self.tol!r}"
            file = Checkpoint(self.checkpoint, state.exact, state.profile, levels, rhs, settings)
        at = self._resume(system, rhs, file, strict) or start(system, rhs)

        def after(now: Iterates) -> None:
            last = now.iteration == self.max_iter or not now.open.any()
            if file is not None and (last or now.iteration % self.checkpoint_every == 0):
                file.save(now)
            if callback is not None:
                score = None
                if validation is not None:
                    score = validation(unscaled(now.x, exponents).reshape(values.shape))
                callback(Progress(now.iteration, max(now.history[-1]), score))

        iterate(
            system,
            rhs,
            at,
            tol=self.tol,
            max_iter=self.max_iter,
            recompute_every=self.recompute_every,
            strict=strict,
            after=after,
        )
        seconds = state.seconds + time.perf_counter() - started
        width = rhs.shape[1] // parts if parts else 0
        solutions = []
        for part in range(parts):
            columns = slice(part * width, (part + 1) * width)
            value = unscaled(at.x[:, columns], exponents[columns])
            status = Status.OK
            if at.open[columns].any():
                status = Status.MAX_ITERATIONS
            elif not at.solved[columns].all():
                status = Status.NOT_CONVERGED
            last = int(at.finished[columns].max(initial=0))
            # A column that waits for its true residual has it in the last entry.
            rows = [*at.history[:last], at.history[-1]]
            stats = Stats(
                seconds=seconds,
                peak_bytes=state.kept_bytes + self._bytes_beside(state.n, rhs.shape[1]),
                residuals=tuple(max(row[columns], default=0.0) for row in rows),
                iterations=last,
                rounding=entries_share(state.size, at.x[:, columns], rhs[:, columns], _EPS),
            )
            solutions.append(Solution(value.copy(), status, stats))
        return solutions

    def _resume(
        self,
        system: Columns,
        rhs: NDArray[np.float64],
        file: Checkpoint | None,
        strict: bool,
    ) -> Iterates | None:
        """The iterates of a checkpoint, ready to go on."""
        found = None if file is None else file.load()
        if found is None:
            return None
        at, same = found
        if system.low and not at.low:
            system.raise_precision()
        at.low = system.low
        if not same or not at.open.any():
            reopen(system, rhs, at, tol=self.tol, strict=strict)
        return at


def _warn(solutions: Any, solver: PCG) -> None:
    """One warning for all columns that were not solved."""
    failed = [s for s in solutions if s.status is not Status.OK]
    if failed:
        stats = failed[0].stats
        warnings.warn(
            f"conjugate gradients stopped at a relative residual of {stats.residuals[-1]:.1e} "
            f"after {counted(stats.iterations, 'iteration')}, asked for was {solver.tol:.1e}: "
            f"{failed[0].status}",
            ConvergenceWarning,
            stacklevel=3,
        )


def _warn_of_ridge(solution: Solution, state: PCGState, level: float) -> None:
    """A warning if a system was solved, but rounding of the entries shows in the fit."""
    if not solution.ok:
        return
    ridge = level * float(state.profile.min())
    warn_of_ridge(solution.stats.rounding, ridge, state.size, state.n, np.float64, stacklevel=4)
