"""A Cholesky factor, wherever it is kept, and the refined solves that it serves."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import ConvergenceWarning, InvalidInputError
from kernreg.operators.base import Operator, symmetric_order
from kernreg.operators.budget import TILE_ROWS
from kernreg.operators.outputs import within_memory
from kernreg.operators.panels import Staircase, full_precision
from kernreg.solvers.base import Problem, Solver, checked_ridge
from kernreg.solvers.cholesky.ladder import Ladder
from kernreg.solvers.precision import (
    entries_share,
    mean_diagonal,
    smallest_ridge,
    warn_of_ridge,
    warn_of_rounding,
)
from kernreg.solvers.refine import Coarse, Refined, SymmetricProduct, product_tile, refine
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.solution import Solution, Stats, Status, finite_right_hand_side
from kernreg.solvers.variance import from_features
from kernreg.solvers.work import READ, entry, flop, product, square

__all__ = ["CholeskyState", "Factoring"]

_DEFAULT_PRODUCTS = 40
# Products that refine a float32 solution, usually, and those of them with float64 tiles.
_REFINING, _IN_FLOAT64 = 3, 2


@dataclass(eq=False)
class CholeskyState:
    """A factored matrix ``K + diag(ridge) + jitter I``.

    Parameters
    ----------
    operator : Operator
        What was factored; refinement evaluates its tiles again in float64.
    factor : Staircase
        The factor, by row panels.
    ridge : ndarray of shape (n,)
        Added to the diagonal as asked for.
    jitter : float
        Added beyond that to make the factorisation succeed; 0 if all went well.
    seconds : float
        Time of the factorisation, kernel evaluation included.

    Examples
    --------
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import Cholesky
    >>> state = Cholesky().init(MatrixOperator(np.diag([1.0, 3.0])), 1.0)
    >>> state.inverse_diagonal().round(6).tolist(), round(state.log_determinant(), 6)  # log 8
    ([0.5, 0.25], 2.079442)
    """

    operator: Operator
    factor: Staircase
    ridge: NDArray[np.float64]
    jitter: float
    seconds: float
    _inverse_diagonal: NDArray[np.float64] | None = None

    def log_determinant(self) -> float:
        """``log det(K + diag(ridge) + jitter I)``, O(n)."""
        return 2.0 * float(np.sum(np.log(self.factor.diagonal())))

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Diagonal of the inverse, shape (n,).

        Notes
        -----
        n^3/3 operations on the first call (as much as the factorisation), n * block numbers of
        workspace; the result is kept. Relative error about ``cond * eps`` of the factor's dtype.
        """
        if self._inverse_diagonal is None:
            with full_precision(), self._room():
                self._inverse_diagonal = self.factor.inverse_diagonal()
        return self._inverse_diagonal

    def leave_one_out(self, dual: NDArray[Any]) -> NDArray[np.float64]:
        """Residuals ``y_i - f_{-i}(x_i)`` of n fits that each leave one row out.

        Parameters
        ----------
        dual : ndarray of shape (n,) or (n, t)
            Solution for the targets y, ``(K + diag(ridge))^-1 y``.

        References
        ----------
        Rasmussen and Williams, Gaussian Processes for Machine Learning, equation 5.12.
        """
        diagonal = self.inverse_diagonal()
        return np.asarray(dual / (diagonal if dual.ndim == 1 else diagonal[:, None]))

    def half_solve(self, V: NDArray[Any]) -> NDArray[Any]:
        """``L^-1 V`` in the factor's dtype, for V of shape (n,) or (n, t): n^2 t operations."""
        with full_precision(), self._room():
            return self.factor.forward(self._work(V)).cpu().numpy().reshape(V.shape)

    def inverse_times(self, V: NDArray[Any]) -> NDArray[Any]:
        """``(L L^T)^-1 V`` in the factor's dtype, without refinement: 2 n^2 t operations."""
        with full_precision(), self._room():
            work = self._work(V)
            return self.factor.backward(self.factor.forward(work)).cpu().numpy().reshape(V.shape)

    def _room(self) -> contextlib.AbstractContextManager[None]:
        return within_memory(
            "The right-hand sides do not fit the free memory of the GPU beside the factor: solve "
            "for fewer at once, or use a smaller block or device='cpu'."
        )

    def _work(self, V: NDArray[Any]) -> torch.Tensor:
        columns = np.array(V.reshape(len(V), -1), dtype=self.factor.dtype, order="C")
        return torch.from_numpy(columns).to(self.factor.device)

    def precondition(self, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """:meth:`inverse_times` on float64 columns, scaled so that float32 cannot underflow."""
        scale = np.max(np.abs(residual), axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        return self.inverse_times(residual / scale).astype(np.float64) * scale


class Factoring(Solver):
    """What Cholesky solvers share: settings, the ladder of jitters, refined solutions."""

    one_ridge = True

    block: int
    max_jitter: float | None
    refine: Literal["auto"] | bool | int

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InvalidInputError(f"expected block >= 1, found {self.block}")
        if self.max_jitter is not None and not 0 <= self.max_jitter < np.inf:
            raise InvalidInputError(f"expected a finite max_jitter >= 0, found {self.max_jitter}")
        if isinstance(self.refine, str) and self.refine != "auto":
            raise InvalidInputError(f"expected refine='auto', bool or int, found {self.refine!r}")
        if not isinstance(self.refine, str) and self.refine < 0:
            raise InvalidInputError(f"expected refine >= 0, found {self.refine}")

    def products(self, dtype: Any) -> int:
        """Most products that refinement may take for a factor of ``dtype``; 0 if it is off."""
        if self.refine == "auto":
            return _DEFAULT_PRODUCTS if np.dtype(dtype) == np.float32 else 0
        return _DEFAULT_PRODUCTS if self.refine is True else int(self.refine)

    def panel_rows(self, n: int) -> int:
        """Rows of a panel."""
        return min(self.block, n)

    def operator_bytes(self, problem: Problem) -> int:
        """Rows, in float64 too where products refine, and entries that an operator holds."""
        n, size = problem.n, problem.dtype.itemsize
        return n * problem.d * (size + 8 * self._refines(problem.dtype)) + n * TILE_ROWS * size

    def _refines(self, dtype: Any) -> bool:
        return bool(self.products(dtype))

    def work(self, problem: Problem) -> dict[str, float]:
        """A factorisation for each ridge, and as much again for leave-one-out."""
        n, t, dtype = problem.n, problem.n_outputs, problem.dtype
        half, refines = n * n / 2, self._refines(dtype)
        products = _REFINING * refines
        total: dict[str, float] = defaultdict(float)
        total[entry(dtype)] = half
        total[flop(dtype)] = (1 + problem.leave_one_out) * n**3 / 3 + 4 * half * t * (products + 1)
        total[square(dtype)] = (1.0 + problem.leave_one_out) * n * n
        total[product("float64")] = _IN_FLOAT64 * refines * half
        total[product(dtype)] += (_REFINING - _IN_FLOAT64) * refines * half
        total[flop("float64")] += products * 4 * half * t
        # A solve reads the factor twice.
        total[READ] += 2 * (products + 1) * dtype.itemsize * half
        return {unit: problem.n_ridges * count for unit, count in total.items()}

    def _solving_bytes(self, n: int, n_outputs: int, dtype: Any) -> int:
        """Bytes of vectors and of the tile of the refinement."""
        size = int(np.dtype(dtype).itemsize)
        count = n * n_outputs * (size + 2 * 8)
        if self._refines(dtype):
            rows, columns = self._product_tile(n, n_outputs)
            rough = size if size < 8 else 0  # entries of coarse products
            count += rows * columns * (8 + rough) + 8 * n * n_outputs * 8
        return count

    def _product_tile(self, n: int, n_outputs: int) -> tuple[int, int]:
        """Rows and columns of a tile of the refinement."""
        return product_tile(n)

    def _factored(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        attempt: Callable[[NDArray[np.float64], float], Staircase],
        eps: float,
    ) -> CholeskyState:
        """The first factor on the ladder of jitters; ``attempt`` gets the ridge and a jitter."""
        started = time.perf_counter()
        shift = checked_ridge(ridge, symmetric_order(operator))
        warn_of_rounding(operator, shift)
        diagonal = np.asarray(operator.diagonal(), dtype=np.float64)
        ladder = Ladder(
            float(np.mean(diagonal + shift)), eps, np.dtype(operator.dtype), self.max_jitter
        )
        factor, jitter = ladder.climb(lambda extra: attempt(shift, extra))
        return CholeskyState(operator, factor, shift, jitter, time.perf_counter() - started)

    def solve(self, state: CholeskyState, Y: NDArray[Any], *, callback: Any = None) -> Solution:
        """Solve ``(K + diag(ridge)) x = y`` for each column of Y.

        Parameters
        ----------
        state : CholeskyState
            From :meth:`init`.
        Y : ndarray of shape (n,) or (n, t)
            Right-hand sides.
        callback : object, optional
            Not called: nothing iterates.

        Returns
        -------
        Solution
            ``value`` is float64 if it was refined, otherwise of the operator's dtype. If a jitter
            was needed, refinement first aims at the matrix without it, and keeps the jitter only
            where that fails (status ``JITTERED``).

        Warns
        -----
        ConvergenceWarning
            If refinement did not reach the residual of a float64 solve.
        """
        started = time.perf_counter()
        n = state.factor.n
        values = finite_right_hand_side(Y, n)
        size = mean_diagonal(state.operator)
        rhs, exponents = scaled(values.reshape(n, -1), size + float(np.mean(state.ridge)))
        limit = self.products(state.factor.dtype)
        residuals: tuple[float, ...] = ()
        status = Status.JITTERED if state.jitter else Status.OK
        count = 0
        if limit:
            refined, count, status = self._refine(state, rhs, limit)
            found, residuals = refined.value, refined.residuals
        else:
            found = state.inverse_times(rhs)
        kind = np.dtype(found.dtype)
        share = entries_share(size, found, rhs, float(np.finfo(kind).eps))
        # What had to be scaled may not fit float32.
        value = unscaled(found.astype(np.float64), exponents) if exponents.any() else found
        value = unscaled(value, np.zeros_like(exponents)).reshape(values.shape)
        narrow = np.dtype(state.factor.dtype) == np.float32
        if status is Status.NOT_CONVERGED:
            warnings.warn(
                f"refinement stopped at a relative residual of {residuals[-1]:.1e} after {count} "
                "products: raise alpha" + " or use dtype float64" * narrow,
                ConvergenceWarning,
                stacklevel=2,
            )
        n_outputs = values.size // n
        stats = Stats(
            seconds=state.seconds + time.perf_counter() - started,
            peak_bytes=self.peak_bytes(Problem(n, n_outputs=n_outputs, dtype=state.factor.dtype)),
            residuals=residuals,
            iterations=count,
            jitter=state.jitter,
            log_determinant=state.log_determinant(),
            rounding=share,
        )
        if status is Status.OK and not state.jitter:
            warn_of_ridge(share, float(state.ridge.min()), size, n, kind)
        return Solution(value, status, stats)

    def variance_explained(
        self, state: CholeskyState, columns: NDArray[np.float64], *, full: bool = False
    ) -> NDArray[np.float64]:
        """From a half solve: n^2 operations for each column, in the factor's dtype."""
        return from_features(state.half_solve(columns), full)

    def _refine(
        self, state: CholeskyState, rhs: NDArray[np.float64], limit: int
    ) -> tuple[Refined, int, Status]:
        operator = state.operator.astype("float64")
        tile = self._product_tile(*rhs.shape)
        with full_precision():
            product = SymmetricProduct(operator, state.ridge, tile, state.operator)
            refined = refine(
                product,
                state.precondition,
                rhs,
                max_products=limit,
                strict=state.jitter > 0,
                coarse=_coarse(product),
            )
            if refined.converged.all():
                return refined, product.count, Status.OK
            if not state.jitter:
                return refined, product.count, Status.NOT_CONVERGED
            spent = product.count
            product = SymmetricProduct(operator, state.ridge + state.jitter, tile)
            refined = refine(product, state.precondition, rhs, max_products=limit)
            status = Status.JITTERED if refined.converged.all() else Status.NOT_CONVERGED
            return refined, spent + product.count, status


def _coarse(product: SymmetricProduct) -> Coarse | None:
    """Products with float32 entries, where they cost less.

    The matrix units of a GPU may round them by more than their type does.
    """
    rough = product.rough
    if rough is None or not rough.reevaluates or rough.device.type != "cpu":
        return None
    error = smallest_ridge(rough)
    return Coarse(product.roughly, error) if error else None
