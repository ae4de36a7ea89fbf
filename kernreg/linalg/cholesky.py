"""Direct solver: Cholesky in place on half the kernel matrix, generated as it is first touched."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import (
    ConvergenceWarning,
    InvalidInputError,
    JitterWarning,
    NotPositiveDefiniteError,
)
from kernreg.linalg.panels import (
    Breakdown,
    Staircase,
    full_precision,
    new_panel,
    panel_bounds,
    require_finite,
)
from kernreg.linalg.refine import Refined, SymmetricProduct, product_tile, refine
from kernreg.linalg.solution import Solution, Stats, Status, finite_right_hand_side

__all__ = ["Cholesky", "CholeskyState"]

logger = logging.getLogger(__name__)

_DEFAULT_PRODUCTS = 40


def symmetric_order(operator: Any) -> int:
    """Order of a symmetric operator, or an error."""
    n, m = operator.shape
    if not operator.symmetric or n != m:
        raise InvalidInputError(
            f"expected a symmetric operator (no X2), found shape {tuple(operator.shape)}"
        )
    if n == 0:
        raise InvalidInputError("expected at least one row, found an empty operator")
    return int(n)


def checked_ridge(ridge: Any, n: int) -> NDArray[np.float64]:
    """``ridge`` as a float64 array of shape (n,), finite and not negative."""
    values = np.asarray(ridge, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise InvalidInputError(
            f"expected ridge to be a number or of shape ({n},), found shape {values.shape}"
        )
    if not np.isfinite(values).all() or (values < 0).any():
        raise InvalidInputError("expected a finite ridge >= 0")
    return np.ascontiguousarray(np.broadcast_to(values, (n,)))


@dataclass(eq=False)
class CholeskyState:
    """A factored matrix ``K + diag(ridge) + jitter I``.

    Parameters
    ----------
    operator : KernelOperator
        What was factored; refinement evaluates its tiles again in float64.
    factor : Staircase
        The factor, by row panels.
    ridge : ndarray of shape (n,)
        Added to the diagonal as asked for.
    jitter : float
        Added beyond that to make the factorisation succeed; 0 if all went well.
    seconds : float
        Time of the factorisation, kernel evaluation included.
    """

    operator: Any
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
            with full_precision():
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
        with full_precision():
            return self.factor.forward(self._work(V)).cpu().numpy().reshape(V.shape)

    def inverse_times(self, V: NDArray[Any]) -> NDArray[Any]:
        """``(L L^T)^-1 V`` in the factor's dtype, without refinement: 2 n^2 t operations."""
        with full_precision():
            work = self._work(V)
            return self.factor.backward(self.factor.forward(work)).cpu().numpy().reshape(V.shape)

    def _work(self, V: NDArray[Any]) -> torch.Tensor:
        columns = np.array(V.reshape(len(V), -1), dtype=self.factor.dtype, order="C")
        return torch.from_numpy(columns).to(self.factor.panels[0].device)

    def precondition(self, residual: NDArray[np.float64]) -> NDArray[np.float64]:
        """:meth:`inverse_times` on float64 columns, scaled so that float32 cannot underflow."""
        scale = np.max(np.abs(residual), axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        return self.inverse_times(residual / scale).astype(np.float64) * scale


@dataclass(frozen=True)
class Cholesky:
    """Cholesky factorisation of ``K + ridge`` in half the memory of K.

    Parameters
    ----------
    block : int, default=512
        Rows of a panel.
    max_jitter : float, optional
        Largest jitter, relative to the mean of the diagonal; default ``sqrt(eps)`` of the
        operator's dtype. 0 turns the ladder off.
    refine : "auto", bool or int, default="auto"
        Refine solutions to the residual of a float64 solve, with kernel tiles evaluated again in
        float64. ``"auto"``: if the operator is float32. An int limits the number of products.
    precision : {"full", "mixed"}, default="full"
        ``"mixed"`` rounds the products of a float32 factorisation to tf32, on a GPU that has
        matrix units for it; the factor then is a rougher preconditioner of the refinement.

    Notes
    -----
    Cost: half a Gram matrix, n^3/3 operations, 2 n^2 t for t right-hand sides; refinement adds
    half a float64 Gram matrix per product, usually three. Memory: ``n^2/2 + n*block/2`` numbers
    for the factor and, at n = 10,000, less than 0.05 n^2 numbers of workspace.

    A pivot below 16 eps times its diagonal entry counts as a breakdown: it is rounding noise even
    if it happens to be positive. Then the panels are generated again and the diagonal raised by
    eps times its mean, ten times more at each further attempt.

    Examples
    --------
    >>> Cholesky(block=256).refine
    'auto'
    """

    block: int = 512
    max_jitter: float | None = None
    refine: Literal["auto"] | bool | int = "auto"
    precision: Literal["full", "mixed"] = "full"

    def __post_init__(self) -> None:
        if self.block < 1:
            raise InvalidInputError(f"expected block >= 1, found {self.block}")
        if self.precision not in ("full", "mixed"):
            raise InvalidInputError(
                f"expected precision 'full' or 'mixed', found {self.precision!r}"
            )
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

    def peak_bytes(self, n: int, n_outputs: int, dtype: Any) -> int:
        """Bytes held at once by factor, workspace and vectors, from exact counts.

        Examples
        --------
        >>> Cholesky(block=1, refine=False).peak_bytes(4, 1, "float64") > 8 * 10
        True
        """
        size = int(np.dtype(dtype).itemsize)
        block = min(self.block, n)
        held = Staircase.numbers(n, block) * size + 3 * 8 * n
        factoring = 3 * block * block * size + block * n
        solving = 2 * block * block * size + n * n_outputs * (size + 2 * 8)
        if self.products(dtype):
            rows, columns = product_tile(n)
            solving += rows * columns * 8 + 8 * n * n_outputs * 8
        return held + max(factoring, solving)

    def init(
        self,
        operator: Any,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> CholeskyState:
        """Generate and factor ``K + diag(ridge)``.

        Parameters
        ----------
        operator : KernelOperator
            Symmetric, of dtype float32 or float64.
        ridge : float or ndarray of shape (n,)
            Added to the diagonal, not negative.
        callback : callable, optional
            Called as ``callback(step, total)`` after each panel; starts again with a new jitter.

        Returns
        -------
        CholeskyState
            The factor.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, bad ridge, or NaN or infinity among the kernel's entries.
        NotPositiveDefiniteError
            If the largest jitter did not help.

        Warns
        -----
        JitterWarning
            If a jitter was needed.
        """
        started = time.perf_counter()
        n = symmetric_order(operator)
        shift = checked_ridge(ridge, n)
        diagonal = np.asarray(operator.diagonal(), dtype=np.float64)
        mean = float(np.mean(diagonal + shift))
        row = 0
        for jitter in self._ladder(mean, self._eps(operator)):
            try:
                with full_precision(self.precision == "mixed"):
                    factor = self._attempt(operator, shift + jitter, callback)
            except Breakdown as failure:
                row = failure.row
                logger.info("breakdown at row %d with jitter %.3g", row, jitter)
                continue
            seconds = time.perf_counter() - started
            logger.info("factored n=%d in %.2f s (jitter %.3g)", n, seconds, jitter)
            if jitter:
                warnings.warn(
                    f"the kernel matrix is not positive definite in {factor.dtype}: added a jitter "
                    f"of {jitter:.3g} ({jitter / mean:.1e} of the mean diagonal); raise alpha, "
                    "use dtype float64 or remove duplicate rows",
                    JitterWarning,
                    stacklevel=2,
                )
            return CholeskyState(operator, factor, shift, jitter, seconds)
        raise NotPositiveDefiniteError(self._failure(row, mean, operator))

    def _eps(self, operator: Any) -> float:
        """Rounding of the factorisation."""
        dtype = np.dtype(operator.dtype)
        on_gpu = str(getattr(operator, "device", "cpu")) != "cpu"
        rough = self.precision == "mixed" and dtype == np.float32 and on_gpu
        return 2.0**-11 if rough else float(np.finfo(dtype).eps)

    def _limit(self, eps: float) -> float:
        return eps**0.5 if self.max_jitter is None else self.max_jitter

    def _ladder(self, mean: float, eps: float) -> Iterator[float]:
        yield 0.0
        relative = eps
        while mean > 0 and relative <= self._limit(eps):
            yield relative * mean
            relative *= 10

    def _failure(self, row: int, mean: float, operator: Any) -> str:
        eps, dtype = self._eps(operator), np.dtype(operator.dtype)
        limit = self._limit(eps) * max(mean, 0.0)
        text = (
            f"the kernel matrix has no Cholesky factor: no positive pivot in row {row}, even with "
            f"{limit:.3g} added to the diagonal. "
        )
        if mean <= 0:
            return text + (
                f"Its mean diagonal is {mean:.3g}, not positive: raise alpha, or check data and "
                "network."
            )
        ridge = 10 * max(limit, eps**0.5 * mean)
        remedies = [f"raise alpha so that the ridge is at least {ridge:.3g}"]
        if dtype == np.float32:
            remedies.append("use dtype float64")
        remedies.append("remove duplicate rows")
        return f"{text}Remedies: {', or '.join(remedies)}."

    def _attempt(
        self,
        operator: Any,
        shift: NDArray[np.float64],
        callback: Callable[[int, int], None] | None,
    ) -> Staircase:
        n = len(shift)
        block = min(self.block, n)
        factor = Staircase(n, block, operator.dtype)
        device = getattr(operator, "device", "cpu")
        bounds = panel_bounds(n, block)
        for step, (i0, i1) in enumerate(bounds, start=1):
            panel = new_panel((i1 - i0, i1), factor.dtype, device)
            operator.lower_panel(i0, i1, panel.numpy() if panel.is_cpu else panel)
            require_finite(panel, i0)
            diagonal = panel[:, i0:].diagonal()
            diagonal.copy_(diagonal.double() + torch.from_numpy(shift[i0:i1]).to(device))
            factor.append(panel)
            if callback is not None:
                callback(step, len(bounds))
        return factor

    def solve(self, state: CholeskyState, Y: NDArray[Any]) -> Solution:
        """Solve ``(K + diag(ridge)) x = y`` for each column of Y.

        Parameters
        ----------
        state : CholeskyState
            From :meth:`init`.
        Y : ndarray of shape (n,) or (n, t)
            Right-hand sides.

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
        limit = self.products(state.factor.dtype)
        residuals: tuple[float, ...] = ()
        status = Status.JITTERED if state.jitter else Status.OK
        count = 0
        if limit:
            refined, count, status = self._refine(state, values.reshape(n, -1), limit)
            value, residuals = refined.value.reshape(values.shape), refined.residuals
        else:
            value = state.inverse_times(values)
        if status is Status.NOT_CONVERGED:
            warnings.warn(
                f"refinement stopped at a relative residual of {residuals[-1]:.1e} after {count} "
                "products: raise alpha or use dtype float64",
                ConvergenceWarning,
                stacklevel=2,
            )
        n_outputs = values.size // n
        stats = Stats(
            seconds=state.seconds + time.perf_counter() - started,
            peak_bytes=self.peak_bytes(n, n_outputs, state.factor.dtype),
            residuals=residuals,
            iterations=count,
            jitter=state.jitter,
            log_determinant=state.log_determinant(),
        )
        return Solution(value, status, stats)

    def _refine(
        self, state: CholeskyState, rhs: NDArray[np.float64], limit: int
    ) -> tuple[Refined, int, Status]:
        operator = state.operator.astype("float64")
        with full_precision():
            product = SymmetricProduct(operator, state.ridge)
            refined = refine(
                product,
                state.precondition,
                rhs,
                max_products=limit,
                strict=state.jitter > 0,
            )
            if refined.converged.all():
                return refined, product.count, Status.OK
            if not state.jitter:
                return refined, product.count, Status.NOT_CONVERGED
            spent = product.count
            product = SymmetricProduct(operator, state.ridge + state.jitter)
            refined = refine(product, state.precondition, rhs, max_products=limit)
            status = Status.JITTERED if refined.converged.all() else Status.NOT_CONVERGED
            return refined, spent + product.count, status
