"""Kernel ridge regression with m centres: one pass over the rows, m^2 numbers of memory."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg.blas import dtrsm

from kernreg.exceptions import ConvergenceWarning, InvalidInputError
from kernreg.operators.base import Operator, symmetric_order
from kernreg.operators.budget import PANEL_BYTES, PREPARED_ROWS
from kernreg.solvers.base import HeldOut, Problem, Solver, checked_ridge, checked_ridges
from kernreg.solvers.precision import entries_share, warn_of_ridge
from kernreg.solvers.preconditioners import RPCholesky
from kernreg.solvers.preconditioners.lowrank import ridge_profile
from kernreg.solvers.restricted.all_rows import covers_all_rows, exact_coefficients
from kernreg.solvers.restricted.normal import moments, normal_part, pivoted
from kernreg.solvers.restricted.path import RestrictedPath, score
from kernreg.solvers.restricted.state import RestrictedState
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.solution import Solution, Stats, Status, finite_right_hand_side
from kernreg.solvers.variance import from_features
from kernreg.solvers.work import EIGH, entry, flop, part

__all__ = ["Restricted", "RestrictedState"]

logger = logging.getLogger(__name__)

# Rows that centres are drawn from, for each centre; their factor takes at most this much memory.
_POOL = 25
_POOL_BYTES = 2**30
# RPCholesky draws in blocks of so many rows.
_DRAWN = 128


@dataclass(frozen=True)
class Restricted(Solver):
    """Kernel ridge regression whose solution lives on m centres.

    Parameters
    ----------
    centres : int or array of int, shape (m,), default=2000
        How many, or which rows.
    method : {"rpcholesky", "uniform"}, default="rpcholesky"
        How to draw them if ``centres`` is a number: as pivots of a randomly pivoted Cholesky
        factorisation, or each row with the same chance.
    seed : int, default=0
        Of the draw.
    chunk : int, optional
        Rows that are worked on at once; as many as make 64 MiB of kernel entries if left out.

    Notes
    -----
    Minimises ``sum_i w_i |k_i^T c - y_i|^2 + ridge c^T K_mm c`` over c of m rows, where ``k_i`` are
    the m entries of row i with the centres and ``ridge / w_i`` is the ridge of row i. With all rows
    as centres the predictions are those of :class:`Cholesky`. Coefficients are large for smooth
    kernels, and cancel: so predict with float64 entries.

    One pass over n m entries accumulates the normal equations of features ``L^-1 k_i``, with the
    pivoted Cholesky factor L of ``K_mm``. Entries are in float64 whatever the dtype of the
    operator: normal equations square the condition, and the products are in float64 anyway.
    Centres that rounding cannot tell from combinations of others get no feature: so duplicates
    among them do no harm. :meth:`solve` streams the entries a second time, as it alone knows the
    targets; any further ridge is then free. With all rows as centres features only precondition the
    equations of ridge regression, for a few more passes: nearly equal rows differ by directions
    that no feature resolves, which are worth 1e-5 of a prediction.

    Time: ``2 n m`` entries, ``2 n m^2`` operations, and some ``10 m^3``. Memory: ``5 m^2`` numbers
    and two chunks, whatever n is. Centres are drawn by RPCholesky among 25 m rows that are drawn
    uniformly if there are more, or among as many as make a factor of 1 GiB, which it holds
    meanwhile; ``uniform`` holds nothing.

    References
    ----------
    Diaz, Epperly, Frangella, Tropp, Webber, Robust, randomized preconditioning for kernel ridge
    regression (arXiv 2304.12465), section 4 (KRILL).
    Rudi, Carratino, Rosasco, FALKON (arXiv 1705.10958).

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> K = KernelOperator(nn.mlp(depth=1), X)
    >>> solver = Restricted(centres=50)
    >>> state = solver.init(K, 1e-3)
    >>> solver.solve(state, X[:, 0]).value.shape, state.centres.shape
    ((50,), (50,))
    """

    name = "restricted"
    one_ridge = False
    leave_one_out = True
    approximate = True
    needs_parts = True
    drawback = "approximate: ask for it"

    centres: Any = 2000
    method: Literal["rpcholesky", "uniform"] = "rpcholesky"
    seed: int = 0
    chunk: int | None = None

    def __post_init__(self) -> None:
        found = np.asarray(self.centres)
        if found.ndim > 1 or found.dtype.kind not in "iu" or found.size == 0:
            raise InvalidInputError(
                f"expected centres to be a number or row numbers, found {self.centres!r}"
            )
        if found.ndim == 0 and found < 1:
            raise InvalidInputError(f"expected centres >= 1, found {self.centres}")
        if found.ndim:  # equal and hashable by content, as other settings are
            object.__setattr__(self, "centres", tuple(found.tolist()))
        if self.method not in ("rpcholesky", "uniform"):
            raise InvalidInputError(
                f"expected method 'rpcholesky' or 'uniform', found {self.method!r}"
            )
        if self.chunk is not None and self.chunk < 1:
            raise InvalidInputError(f"expected chunk >= 1, found {self.chunk}")

    def peak_bytes(self, problem: Problem) -> int:
        """Bytes held at once, from exact counts; numbers are float64 whatever the operator has.

        Examples
        --------
        >>> few, many = (Restricted().peak_bytes(Problem(n)) for n in (10**6, 10**7))
        >>> (many - few) / 9e6 <= 32
        True
        """
        n, n_outputs, n_ridges = problem.n, problem.n_outputs, problem.n_ridges
        (m, pool), rows = self.sizes(n), self._rows(n)
        accumulating = 16 * m * (m + rows)
        vectors = (3 * m * n_ridges + 2 * n) * n_outputs
        # Squared features and shares of the hat matrix, or residuals and what their listener makes.
        scoring = max(rows * (m + 3 * n_ridges), rows * n_ridges * (1 + 3 * n_outputs))
        solving = 8 * (m * (m + rows) + vectors)
        if m == n:
            solving += 8 * 10 * n * n_outputs * n_ridges
        if problem.leave_one_out:
            solving += 8 * (scoring + 2 * n * n_outputs)
        # What RPCholesky holds while it draws: the factor and blocks of rows.
        drawing = 8 * pool * (m + 4 * min(m, _DRAWN))
        return 32 * n + max(drawing, 8 * 5 * m * m, accumulating, solving)

    def operator_bytes(self, problem: Problem) -> int:
        """Bytes of rows, of copies in float64 that parts are made from, and of a panel.

        Examples
        --------
        >>> problem = Problem(1000, 20, dtype="float32")
        >>> Restricted(centres=100).operator_bytes(problem) >= 1000 * 20 * (4 + 8)
        True
        """
        n, d = problem.n, problem.d
        m, pool = self.sizes(n)
        parts = max(3 * pool, 2 * (m + self._rows(n)))
        prepared = n if n <= PREPARED_ROWS else 0
        return PANEL_BYTES + n * d * problem.dtype.itemsize + 8 * d * (parts + prepared)

    def stored(self, problem: Problem) -> str:
        """Columns of some rows."""
        return "centres"

    @property
    def names_rows(self) -> bool:
        """Whether centres are given by number."""
        return np.ndim(self.centres) > 0

    def rows_of(self, state: RestrictedState) -> NDArray[np.int64]:
        """The centres."""
        return state.centres

    def work(self, problem: Problem) -> dict[str, float]:
        """Passes over the entries: one for the normal equations, one for the targets.

        Leave-one-out takes one for all ridges, and one for the best, each with the features of all
        rows.
        """
        n, t = problem.n, problem.n_outputs
        m, pool = self.sizes(n)
        scored = 2 * problem.leave_one_out
        operations = 2 * (1 + scored) * n * m * m + 2 * n * m * t + 2 * pool * m * m
        if problem.leave_one_out:
            operations += (problem.n_ridges + 1) * 2 * n * m * (t + 1)
        return {
            part("float64"): (2.0 + scored) * n * m,
            EIGH: float(m) ** 3,
            flop("float64"): float(operations),
            entry("float64"): float(pool * m),
        }

    def sizes(self, n: int) -> tuple[int, int]:
        """How many centres there are for n rows, and how many rows they are drawn from.

        Examples
        --------
        >>> Restricted(centres=100).sizes(10**6), Restricted(centres=[3, 5]).sizes(10**6)
        ((100, 2500), (2, 0))
        """
        if np.ndim(self.centres):
            return len(self.centres), 0
        m = min(n, int(self.centres))
        if self.method == "uniform" or m == n:
            return m, 0
        return m, min(n, max(2 * m, min(_POOL * m, _POOL_BYTES // (8 * m))))

    def _rows(self, n: int) -> int:
        return min(n, self.chunk or max(256, PANEL_BYTES // (8 * self.sizes(n)[0])))

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> RestrictedState:
        """Draw the centres, accumulate and diagonalise the normal equations.

        Parameters
        ----------
        operator : Operator
            Symmetric, ``streamed``; only ``part`` and ``take`` are used, in float64.
        ridge : float or ndarray of shape (n,)
            One number, not negative; or one for each row, all positive.
        callback : callable, optional
            Called as ``callback(chunk, chunks)``.

        Returns
        -------
        RestrictedState
            The normal equations; ``state.centres`` says which rows the coefficients belong to.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, bad ridge or centres, or NaN or infinity among the entries.
        """
        started = time.perf_counter()
        operator.require_parts()
        n = symmetric_order(operator)
        shift = checked_ridge(ridge, n)
        if shift.min() == 0 < shift.max():
            raise InvalidInputError("expected a ridge > 0 in every row, or 0 in all of them")
        level, profile = ridge_profile(shift)
        weights = 1.0 / profile
        operator = operator.astype("float64")
        centres, chunk = self._draw(operator, n), self._rows(n)
        kept, factor, size = pivoted(operator, centres)
        roots = np.sqrt(weights)
        normal = operator.over_rows(
            normal_part, centres, chunk, kept, factor, roots, callback=callback
        )
        values, vectors = scipy.linalg.eigh(
            normal, driver="evr", overwrite_a=True, check_finite=False
        )
        basis = np.zeros((len(centres), len(kept)))
        basis[kept] = dtrsm(1.0, factor, vectors, lower=1, trans_a=1, overwrite_b=1)
        seconds = time.perf_counter() - started
        logger.info(
            "restricted n=%d to %d centres, rank %d, %.2f s", n, len(centres), len(kept), seconds
        )
        return RestrictedState(
            operator, centres, basis, np.maximum(values, 0.0), level, weights, chunk, size, seconds
        )

    def _draw(self, operator: Operator, n: int) -> NDArray[np.int64]:
        if np.ndim(self.centres):
            chosen = np.asarray(self.centres).astype(np.int64)
            if chosen.min() < 0 or chosen.max() >= n:
                raise InvalidInputError(
                    f"expected centres between 0 and {n - 1}, found {chosen.min()} to "
                    f"{chosen.max()}"
                )
            return chosen
        m, size = self.sizes(n)
        rng = np.random.default_rng(self.seed)
        if not size:
            return np.sort(rng.choice(n, size=m, replace=False))
        pool = np.sort(rng.choice(n, size=size, replace=False))
        drawn = RPCholesky(rank=m, seed=self.seed, max_bytes=24 * len(pool) * m).pivots(
            operator.take(pool)
        )
        return np.sort(pool[drawn]).astype(np.int64)

    def solve(self, state: RestrictedState, Y: NDArray[Any], *, callback: Any = None) -> Solution:
        """Coefficients of the centres for each column of Y.

        Parameters
        ----------
        state : RestrictedState
            From :meth:`init`.
        Y : ndarray of shape (n,) or (n, t)
            Targets.
        callback : object, optional
            Not called: nothing iterates.

        Returns
        -------
        Solution
            ``value`` of shape (m,) or (m, t), float64: predictions are
            ``kernel(X_new, X[state.centres]) @ value``.

        Raises
        ------
        InvalidInputError
            Targets of another shape, or with NaN or infinity.
        """
        started = time.perf_counter()
        targets = finite_right_hand_side(Y, state.n)
        columns, exponents = scaled(targets.reshape(state.n, -1), state.size + state.level)
        status = Status.OK
        residuals: tuple[float, ...] = ()
        if state.level > 0 and covers_all_rows(state):
            refined = exact_coefficients(state, columns, np.full(columns.shape[1], state.level))
            found, residuals = refined.value, refined.residuals
            if not refined.converged.all():
                status = Status.NOT_CONVERGED
                _warn_unsolved(residuals[-1])
        else:
            inner = state.basis.T @ moments(state, columns)
            found = state.basis @ (inner / state.shifted(state.level)[:, None])
        share = entries_share(state.size, found, columns, float(np.finfo(np.float64).eps))
        value = unscaled(found, exponents)
        stats = Stats(
            seconds=state.seconds + time.perf_counter() - started,
            peak_bytes=self.peak_bytes(Problem(state.n, n_outputs=columns.shape[1])),
            residuals=residuals,
            rounding=share,
        )
        if status is Status.OK:
            ridge = state.level / float(state.weights.max())
            warn_of_ridge(share, ridge, state.size, state.n, np.float64)
        return Solution(value.reshape(len(state.centres), *targets.shape[1:]), status, stats)

    def variance_explained(
        self, state: RestrictedState, columns: NDArray[np.float64], *, full: bool = False
    ) -> NDArray[np.float64]:
        """Of the posterior of the restricted model: 2 m k operations for each column.

        ``columns`` are the kernel with the centres. What the centres do not span is left as it was
        before the fit, so that variances grow again far from them.

        References
        ----------
        Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 8.27.
        """
        return from_features(self.features(state).T @ columns, full)

    def features(self, state: RestrictedState) -> NDArray[np.float64]:
        """The basis, each column by the root of the share that the rows determine."""
        return state.basis * np.sqrt(state.values / state.shifted(state.level))

    def path(
        self,
        state: RestrictedState,
        Y: NDArray[Any],
        ridges: Any,
        *,
        leave_one_out: bool = False,
        held_out: HeldOut | None = None,
    ) -> RestrictedPath:
        """Solve for a sequence of ridges, with generalised cross-validation or leave-one-out.

        Parameters
        ----------
        state : RestrictedState
            From :meth:`init`; rows keep their weights, its own ridge plays no role.
        Y : ndarray of shape (n,) or (n, t)
            Targets.
        ridges : array-like of shape (r,)
            Mean ridges, not negative.
        leave_one_out : bool, default=False
            Also the exact leave-one-out errors of the restricted model with these centres, for
            one more pass over the entries and ``2 n m k`` operations.
        held_out : callable, optional
            Called as ``held_out(rows, residuals)`` with the leave-one-out residuals, of shape
            (r, rows, t), of each range of rows; makes them if given.

        Returns
        -------
        RestrictedPath
            Coefficients and errors, one leading entry per ridge.
        """
        targets = finite_right_hand_side(Y, state.n)
        columns = targets.reshape(state.n, -1)
        sequence = checked_ridges(ridges)
        inner = state.basis.T @ moments(state, columns)
        if leave_one_out and held_out is None:
            held_out = _nobody
        return score(state, columns, inner, sequence, targets.shape[1:], held_out)

    def held_out(
        self, state: RestrictedState, Y: NDArray[Any], ridges: Any, listener: HeldOut
    ) -> RestrictedPath:
        """:meth:`path` with a listener to the leave-one-out residuals."""
        return self.path(state, Y, ridges, held_out=listener)


def _warn_unsolved(residual: float) -> None:
    warnings.warn(
        f"refinement stopped at a relative residual of {residual:.1e}: raise alpha",
        ConvergenceWarning,
        stacklevel=3,
    )


def _nobody(rows: slice, residuals: NDArray[np.float64]) -> None:
    """Listens to residuals that only the sums are wanted of."""
