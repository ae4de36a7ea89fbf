"""Iterative solver for many rows: projections on random blocks of rows, accelerated by passes."""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import (
    ConvergenceWarning,
    InvalidInputError,
)
from kernreg.numerics.columns import norms, worst
from kernreg.operators.base import Operator, symmetric_order
from kernreg.operators.budget import PANEL_BYTES
from kernreg.solvers.base import Problem, Progress, Solver, checked_ridge
from kernreg.solvers.pcg.checkpoint import Checkpoint
from kernreg.solvers.precision import entries_share, mean_diagonal, smallest_ridge, warn_of_ridge
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.sketch.projections import Projected, replace_residual, run_pass, start
from kernreg.solvers.sketch.state import CHUNK, SketchState
from kernreg.solvers.solution import Solution, Stats, Status, finite_right_hand_side
from kernreg.solvers.variance import from_solution
from kernreg.solvers.work import entry, flop, part, product

__all__ = ["SketchAndProject"]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)
_SMALLEST_BLOCK, _LARGEST_BLOCK = 512, 4096
# With float32 entries the residual is computed anew whenever it fell to this share.
_STRIDE = 1e-3


@dataclass(frozen=True)
class SketchAndProject(Solver):
    """Full kernel ridge regression by accelerated projections on random blocks of rows.

    Parameters
    ----------
    block : int or "auto", default="auto"
        Rows of a block; ``"auto"`` is n/100, between 512 and 4,096.
    tol : float, default=1e-6
        Residual, relative to that of x = 0, at which a column is solved.
    max_passes : int, default=100
        Most passes over the matrix, checks of the residual included; where they do not suffice one
        more product gives the true residual.
    directions : int, default=3
        Earlier passes whose sums are kept as search directions.
    seed : int, default=0
        Of the blocks.
    checkpoint : path-like, optional
        File that holds the iterates. :meth:`solve` goes on from it if it is there.
    checkpoint_every : int, default=20
        Blocks between two checkpoints; the end of the last pass has one, too.

    Notes
    -----
    A step takes b rows in random order, solves their block exactly by Cholesky, and multiplies the
    n x b columns of the kernel, so that the residuals of all rows stay known. A pass is n/b steps:
    n^2 entries, ``2 n^2 t + n b^2 / 3`` operations. Nothing of the matrix is kept: memory is
    some ``(2 directions + 10) n t`` numbers, 2 b^2 and a tile. Where a preconditioner with its n k
    numbers fits, :class:`PCG` needs fewer entries; this is for n beyond.

    When the recurred residual meets ``tol`` it is computed from its definition, in float64, by half
    a Gram matrix; only that one counts as solved. For a float32 operator steps take float32
    entries as long as their rounding is small beside the ridge and the true residual falls.

    Two things differ from the algorithm of the paper. The exact block solve takes the place of a
    Nystrom approximation with damping and step size: on a CPU it costs less than the b columns of
    the kernel. Optimal combinations of the sums of the last passes take the place of Nesterov's
    extrapolation, whose two parameters nobody knows: they converge as fast without any.

    References
    ----------
    Rathore, Frangella, Yang, Derezinski, Udell, Have ASkotch: a neat solution for large-scale
    kernel ridge regression (arXiv 2407.10070).
    Rathore et al., Turbocharging Gaussian process inference with approximate sketch-and-project
    (arXiv 2505.13723).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> solver = SketchAndProject(block=20)
    >>> solution = solver.solve(solver.init(KernelOperator(nn.mlp(depth=1), X), 0.1), np.ones(60))
    >>> solution.ok, solution.stats.residuals[-1] <= 1e-6
    (True, True)
    """

    name = "sketch"
    one_ridge = True
    leave_one_out = False
    needs_parts = True
    at_most = True
    drawback = "needs more entries than pcg, and less memory: ask for it"
    remedies = ("use solver='pcg'",)

    block: int | Literal["auto"] = "auto"
    tol: float = 1e-6
    max_passes: int = 100
    directions: int = 3
    seed: int = 0
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        if self.block != "auto" and not (isinstance(self.block, int) and self.block >= 1):
            raise InvalidInputError(f"expected block 'auto' or a number >= 1, found {self.block!r}")
        if not 0 < self.tol < 1:
            raise InvalidInputError(f"expected 0 < tol < 1, found {self.tol}")
        for name in ("max_passes", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"expected {name} >= 1, found {getattr(self, name)}")
        if self.directions < 0:
            raise InvalidInputError(f"expected directions >= 0, found {self.directions}")

    def size(self, n: int) -> int:
        """Rows of a block for n rows.

        Examples
        --------
        >>> SketchAndProject(block=500).size(100)
        100
        """
        auto = max(_SMALLEST_BLOCK, min(_LARGEST_BLOCK, n // 100))
        return min(n, auto if self.block == "auto" else int(self.block))

    def peak_bytes(self, problem: Problem) -> int:
        """Most bytes held at once: vectors, a block and its factor, a tile.

        Examples
        --------
        >>> SketchAndProject().peak_bytes(Problem(10**6, dtype="float32")) < 600 * 2**20
        True
        """
        n, b, size = problem.n, self.size(problem.n), problem.products.itemsize
        # Columns of a block, and a panel of the product that makes the true residual: the heap may
        # keep the first for the next block.
        tile = min(n * b * size, max(256 * b * size, CHUNK)) + min(8 * n * n, PANEL_BYTES)
        vectors = (2 * self.directions + 10) * problem.n_outputs + 2
        return 8 * n * vectors + 8 * 2 * b * b + tile

    def work(self, problem: Problem) -> dict[str, float]:
        """``max_passes`` passes, which may not be needed, and the true residual."""
        n, t, dtype = problem.n, problem.n_outputs, problem.products
        block, passes = self.size(n), self.max_passes
        total: dict[str, float] = defaultdict(float)
        total[part(dtype)] = passes * float(n) * n
        total[entry("float64")] = passes * n * block
        total[flop(dtype)] += passes * 2 * n * n * t
        total[flop("float64")] += passes * n * block**2 / 3
        total[product("float64")] += n * n / 2
        total[flop("float64")] += 2 * n * n * t
        return total

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> SketchState:
        """Check the system and choose the precision of its entries; none is evaluated.

        Parameters
        ----------
        operator : Operator
            Symmetric, ``streamed``, of dtype float32 or float64.
        ridge : float or ndarray of shape (n,)
            Added to the diagonal, not negative.
        callback : callable, optional
            Called as ``callback(1, 1)``.

        Returns
        -------
        SketchState
            The system.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, or bad ridge.
        """
        started = time.perf_counter()
        operator.require_parts()
        shift = checked_ridge(ridge, symmetric_order(operator))
        exact = operator.astype("float64")
        low = float(shift.min()) >= smallest_ridge(operator)
        if callback is not None:
            callback(1, 1)
        size, seconds = mean_diagonal(operator), time.perf_counter() - started
        return SketchState(operator if low else exact, exact, shift, size, seconds)

    def variance_explained(
        self, state: SketchState, columns: NDArray[np.float64], *, full: bool = False
    ) -> NDArray[np.float64]:
        """From a solve for each column; too small by ``r^T A^-1 r`` for its residual r."""
        solution = replace(self, checkpoint=None).solve(state, columns)
        return from_solution(state.exact, state.ridge, columns, solution.value, full)

    def columns_at_once(self, n: int) -> int:
        """So many that the vectors of all their solves are a panel."""
        return max(1, PANEL_BYTES // (8 * 8 * n))

    def solve(
        self,
        state: SketchState,
        Y: NDArray[Any],
        *,
        callback: Callable[[Progress], Any] | None = None,
        validation: Callable[[NDArray[np.float64]], float] | None = None,
    ) -> Solution:
        """Solve ``(K + diag(ridge)) x = y`` for each column of Y.

        Parameters
        ----------
        state : SketchState
            From :meth:`init`.
        Y : ndarray of shape (n,) or (n, t)
            Right-hand sides.
        callback : callable, optional
            Called after each block with a :class:`Progress`, whose ``iteration`` counts blocks.
        validation : callable, optional
            Given the current solution, of the shape of Y, returns the score for the callback.

        Returns
        -------
        Solution
            ``value`` is float64. ``stats.residuals`` has the largest relative residual over the
            columns before the first and after each pass: recurred ones, but the last one was
            computed from its definition, in float64. ``stats.iterations`` counts passes.

        Raises
        ------
        NotPositiveDefiniteError
            If a block has no Cholesky factor.
        InvalidInputError
            If targets or entries of the kernel hold NaN or infinity.
        CheckpointError
            If the checkpoint is broken or belongs to another problem.

        Warns
        -----
        ConvergenceWarning
            If a column was not solved: status ``MAX_ITERATIONS`` or ``NOT_CONVERGED``.
        """
        started = time.perf_counter()
        values = finite_right_hand_side(Y, state.n)
        given = np.ascontiguousarray(values.reshape(state.n, -1))
        rhs, exponents = scaled(given, state.size + float(np.mean(state.ridge)))
        size = self.size(state.n)
        steps = -(-state.n // size)
        file = None
        if self.checkpoint is not None:
            settings = f"block={size}, seed={self.seed}, directions={self.directions}"
            levels = np.ones(rhs.shape[1])
            file = Checkpoint(
                self.checkpoint, state.exact, state.ridge, levels, rhs, settings, Projected
            )
        at = self._resume(state, rhs, file) or start(rhs, self.directions, state.low)
        norm_b, verified = norms(rhs), False

        def after(now: Projected) -> None:
            nonlocal verified
            done = now.rounds * steps + now.step
            if now.step == 0:
                now.history.append(worst(norms(now.residual), norm_b))
                verified = self._judge(state, rhs, now, norm_b)
            last = now.step == 0 and (now.solved or now.stuck or now.passes >= self.max_passes)
            if file is not None and (last or done % self.checkpoint_every == 0):
                file.save(now)
            if callback is not None:
                score = None
                if validation is not None:
                    score = validation(unscaled(now.x, exponents).reshape(values.shape))
                callback(Progress(done, worst(norms(now.residual), norm_b), score))

        while not (at.solved or at.stuck or at.passes >= self.max_passes):
            run_pass(state, at, size=size, seed=self.seed, after=after)
        if not (at.solved or at.stuck or verified):
            sizes = norms(state.residual(rhs, at.x))
            at.history[-1] = worst(sizes, norm_b)
            at.solved = bool((sizes <= self.tol * norm_b).all())
        value = unscaled(at.x, exponents).reshape(values.shape)
        status = Status.OK
        if not at.solved:
            status = Status.NOT_CONVERGED if at.stuck else Status.MAX_ITERATIONS
            warnings.warn(
                f"{status}: after {at.passes} passes the relative residual is "
                f"{at.history[-1]:.1e}, asked was {self.tol:.1e}",
                ConvergenceWarning,
                stacklevel=2,
            )
        stats = Stats(
            seconds=state.seconds + time.perf_counter() - started,
            peak_bytes=self.peak_bytes(
                Problem(state.n, n_outputs=rhs.shape[1], dtype=state.operator.dtype)
            ),
            residuals=tuple(at.history),
            iterations=at.passes,
            rounding=entries_share(state.size, at.x, rhs, _EPS),
        )
        if at.solved:
            ridge = float(state.ridge.min())
            warn_of_ridge(stats.rounding, ridge, state.size, state.n, np.float64)
        return Solution(value, status, stats)

    def _judge(
        self,
        state: SketchState,
        rhs: NDArray[np.float64],
        at: Projected,
        norm_b: NDArray[np.float64],
    ) -> bool:
        """At the end of a pass: compute the true residual if it may decide something.

        Returns whether it did.
        """
        sizes, target = norms(at.residual), self.tol * norm_b
        due = (sizes <= np.maximum(target, _STRIDE * at.reference * state.low)) | (norm_b == 0)
        if not due.all():
            return False
        before = at.reference
        true = state.residual(rhs, at.x)
        replace_residual(at, true)
        at.passes += 1
        at.history[-1] = worst(at.reference, norm_b)
        open_ = at.reference > target
        at.solved = not open_.any()
        logger.debug("pass %d: true residual %.2e", at.passes, at.history[-1])
        if not at.solved and not (at.reference[open_] < 0.5 * before[open_]).any():
            at.stuck = not state.low
            state.raise_precision()
            at.low = False
        return True

    def _resume(
        self, state: SketchState, rhs: NDArray[np.float64], file: Checkpoint | None
    ) -> Projected | None:
        """The iterates of a checkpoint, ready to go on."""
        found = None if file is None else file.load()
        if found is None:
            return None
        at: Projected = found[0]
        same = found[1]
        if state.low and not at.low:
            state.raise_precision()
        if not same or at.solved or at.stuck:
            at.directions = np.zeros((self.directions, *rhs.shape))
            at.images = np.zeros_like(at.directions)
            replace_residual(at, state.residual(rhs, at.x))
            at.solved = bool(np.all(at.reference <= self.tol * norms(rhs)))
            at.stuck = False
        at.low = state.low
        return at
