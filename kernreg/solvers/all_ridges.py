"""Direct solvers whose one decomposition of the kernel matrix serves all ridges."""

from __future__ import annotations

import logging
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError, JitterWarning
from kernreg.operators.base import Operator, as_array, symmetric_order
from kernreg.operators.budget import TILE_ROWS
from kernreg.solvers.base import Problem, Solver, checked_ridge, checked_ridges
from kernreg.solvers.precision import entries_share, warn_of_ridge, warn_of_rounding
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.solution import Solution, Stats, Status, finite_right_hand_side
from kernreg.solvers.variance import from_features

__all__ = ["AllRidges", "Decomposed", "ForOneRidge", "RidgePath", "Shifted"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


class Shifted(ABC):
    """``A = Q B Q^T`` plus one ridge, and the jitter that it needed beyond that."""

    jitter: float

    @abstractmethod
    def solve(self, V: Floats) -> Floats:
        """``B^-1 V`` for V of shape (n, t)."""

    @abstractmethod
    def half_solve(self, V: Floats) -> Floats:
        """F of shape (n, t) with ``F^T F = V^T B^-1 V``."""

    @abstractmethod
    def inverse_diagonal(self) -> Floats:
        """Diagonal of ``A^-1``, shape (n,)."""

    @abstractmethod
    def log_determinant(self) -> float:
        """``log det B``."""

    @abstractmethod
    def effective_dof(self) -> float:
        """Trace of the smoother."""


@dataclass(eq=False, kw_only=True)
class Decomposed(ABC):
    """``S K S = Q B Q^T`` with ``S = diag(root_weights)`` and a simple B.

    A subclass gives Q, which is orthogonal, as its ``basis``.

    Parameters
    ----------
    ridge : float
        The ridge that ``solve`` uses.
    root_weights : ndarray of shape (n,) or None
        Square roots of the weights; None if all are one.
    seconds : float
        Time of the decomposition, kernel evaluation included.
    """

    ridge: float = 0.0
    root_weights: Floats | None = None
    seconds: float = 0.0

    @property
    @abstractmethod
    def basis(self) -> Floats:
        """Q."""

    @property
    def n(self) -> int:
        """Order of the matrix."""
        return len(self.basis)

    @property
    @abstractmethod
    def size(self) -> float:
        """Mean of its diagonal."""

    @abstractmethod
    def at(self, ridge: float) -> Shifted:
        """The matrix plus a ridge."""

    def log_determinant(self, ridge: float | None = None) -> float:
        """``log det(K + ridge / weights)``; default: the ridge of ``init``."""
        return self._log_determinant(self.at(self.ridge if ridge is None else ridge))

    def _log_determinant(self, shifted: Shifted) -> float:
        result = shifted.log_determinant()
        if self.root_weights is not None:
            result -= 2.0 * float(np.sum(np.log(self.root_weights)))
        return result

    def effective_dof(self, ridge: float | None = None) -> float:
        """Trace of the smoother, ``tr K (K + ridge / weights)^-1``."""
        return self.at(self.ridge if ridge is None else ridge).effective_dof()

    def inverse_diagonal(self, ridge: float | None = None) -> Floats:
        """Diagonal of ``(K + ridge / weights)^-1``, shape (n,)."""
        return self._inverse_diagonal(self.at(self.ridge if ridge is None else ridge))

    def _inverse_diagonal(self, shifted: Shifted) -> Floats:
        found = shifted.inverse_diagonal()
        return found if self.root_weights is None else found * self.root_weights**2

    def inward(self, V: Floats) -> Floats:
        """``Q^T S V``."""
        return np.asarray(self.basis.T @ self.weighted(V))

    def outward(self, V: Floats) -> Floats:
        """``S Q V``."""
        return self.weighted(np.asarray(self.basis @ V))

    def weighted(self, V: Floats) -> Floats:
        """Root weights times the rows of V."""
        return V if self.root_weights is None else self.root_weights[:, None] * V


@dataclass(frozen=True, eq=False)
class ForOneRidge:
    """Coefficients of shape (n, t), diagonal of ``(K + ridge / weights)^-1``, and the matrix."""

    dual: Floats
    diagonal: Floats
    shifted: Shifted


@dataclass(frozen=True, eq=False)
class RidgePath:
    """Solutions of a sequence of r ridges; ``t`` is absent for one-dimensional targets.

    Parameters
    ----------
    ridges : ndarray of shape (r,)
        The ridges.
    dual : ndarray of shape (r, n, t)
        ``(K + ridge / weights)^-1 Y``.
    loo_residuals : ndarray of shape (r, n, t)
        ``y_i - f_{-i}(x_i)``, the fit without row i at row i.
    loo_predictions : ndarray of shape (r, n, t)
        ``f_{-i}(x_i)``.
    log_determinant : ndarray of shape (r,)
        Of ``K + ridge / weights``.
    effective_dof : ndarray of shape (r,)
        ``tr K (K + ridge / weights)^-1``.
    jitter : ndarray of shape (r,)
        What had to be added to a ridge; zero where the matrix was positive definite.

    Examples
    --------
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import Eigh
    >>> solver = Eigh()
    >>> state = solver.init(MatrixOperator(np.diag([1.0, 3.0])))
    >>> path = solver.path(state, np.array([1.0, 2.0]), [1.0, 0.25])
    >>> path.dual.round(3).tolist(), path.effective_dof.round(3).tolist()
    ([[0.5, 0.5], [0.8, 0.615]], [1.25, 1.723])
    """

    ridges: Floats
    dual: Floats
    loo_residuals: Floats
    loo_predictions: Floats
    log_determinant: Floats
    effective_dof: Floats
    jitter: Floats


class AllRidges(Solver):
    """What they share: the matrix in float64 on the host, weights, solutions and paths.

    With sample weights w the matrix is ``K + ridge diag(1/w)``, the dual form of
    ``min sum_i w_i (y_i - f(x_i))^2 + ridge ||f||^2``, decomposed as W^1/2 K W^1/2.

    References
    ----------
    Rifkin and Lippert, Notes on Regularized Least Squares, MIT-CSAIL-TR-2007-025.
    """

    one_ridge = False
    leave_one_out = True
    on_host = True

    @abstractmethod
    def decompose(
        self,
        matrix: Floats,
        ridge: float,
        root_weights: Floats | None,
        callback: Callable[[int, int], None] | None,
    ) -> Decomposed:
        """The state, without its time; the matrix is its own to overwrite."""

    def operator_bytes(self, problem: Problem) -> int:
        """Rows and entries in float64."""
        return 8 * problem.n * (problem.d + TILE_ROWS)

    def stored(self, problem: Problem) -> str:
        """All of the matrix."""
        return "dense"

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any] = 0.0,
        callback: Callable[[int, int], None] | None = None,
        *,
        sample_weight: NDArray[Any] | None = None,
    ) -> Any:
        """Evaluate and decompose the kernel matrix.

        Parameters
        ----------
        operator : Operator
            Symmetric; evaluated in float64.
        ridge : float or ndarray of shape (n,)
            What ``solve`` adds to the diagonal. An array v is taken as weights ``mean(v) / v``
            with ridge ``mean(v)``; then the ridges of a path multiply ``v / mean(v)``.
        callback : callable, optional
            Called as ``callback(step, total)``.
        sample_weight : ndarray of shape (n,), optional
            Positive weights; drop rows of weight zero before.

        Returns
        -------
        Decomposed
            The state.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, NaN or infinity in the kernel matrix, bad ridge or weights.
        """
        started = time.perf_counter()
        n = symmetric_order(operator)
        shift = checked_ridge(ridge, n)
        warn_of_rounding(operator, shift)
        mean = float(shift[0]) if np.ndim(ridge) == 0 else float(shift.mean())
        root = self._root_weights(ridge, shift, sample_weight)
        matrix = np.empty((n, n))
        operator.astype("float64").to_dense(out=matrix)
        as_array(matrix)  # finite
        if root is not None:
            matrix *= root
            matrix *= root[:, None]
        state = self.decompose(matrix, mean, root, callback)
        state.seconds = time.perf_counter() - started
        logger.info("decomposed n=%d in %.2f s", n, state.seconds)
        return state

    def _root_weights(self, ridge: Any, shift: Floats, given: Any) -> Floats | None:
        n = len(shift)
        weights = np.ones(n)
        if np.ndim(ridge):
            if not (shift > 0).all():
                raise InvalidInputError(
                    f"expected a vector of ridges > 0 for {type(self).__name__}; use Cholesky "
                    "where some are zero"
                )
            weights = float(shift.mean()) / shift
        if given is not None:
            sample_weight = np.asarray(given, dtype=np.float64)
            positive = np.isfinite(sample_weight).all() and (sample_weight > 0).all()
            if sample_weight.shape != (n,) or not positive:
                raise InvalidInputError(
                    f"expected sample_weight of shape ({n},), finite and > 0; drop rows of weight 0"
                )
            weights = weights * sample_weight
        return None if np.ndim(ridge) == 0 and given is None else np.sqrt(weights)

    def init_weighted(
        self, operator: Operator, ridge: float, weights: Floats, callback: Any = None
    ) -> Any:
        """:meth:`init` with weights, which all ridges of the state then have."""
        return self.init(operator, ridge, callback, sample_weight=weights)

    def solve(self, state: Decomposed, Y: NDArray[Any], *, callback: Any = None) -> Solution:
        """Solve ``(K + ridge / weights) x = y`` for each column of Y, with the ridge of ``init``.

        Parameters
        ----------
        state : Decomposed
            From :meth:`init`.
        Y : ndarray of shape (n,) or (n, t)
            Right-hand sides.
        callback : object, optional
            Not called: nothing iterates.

        Warns
        -----
        JitterWarning
            If the ridge had to be raised to keep the matrix positive definite.
        """
        started = time.perf_counter()
        n, size = state.n, state.size
        values = finite_right_hand_side(Y, n)
        shifted = state.at(state.ridge)
        _warn_jitter(shifted.jitter)
        rhs, exponents = scaled(values.reshape(n, -1), size + state.ridge)
        found = state.outward(shifted.solve(state.inward(rhs)))
        dual = unscaled(found, exponents)
        share = entries_share(size, found, rhs, _EPS)
        if not shifted.jitter:
            warn_of_ridge(share, state.ridge, size, n, np.float64)
        stats = Stats(
            seconds=state.seconds + time.perf_counter() - started,
            peak_bytes=self.peak_bytes(Problem(n, n_outputs=values.size // n)),
            jitter=shifted.jitter,
            log_determinant=state._log_determinant(shifted),
            rounding=share,
        )
        status = Status.JITTERED if shifted.jitter else Status.OK
        return Solution(dual.reshape(values.shape), status, stats)

    def variance_explained(
        self, state: Decomposed, columns: Floats, *, full: bool = False
    ) -> Floats:
        """From the state: 2 n^2 operations for each column."""
        return from_features(state.at(state.ridge).half_solve(state.inward(columns)), full)

    def path(self, state: Decomposed, Y: NDArray[Any], ridges: Any) -> RidgePath:
        """Solve for a sequence of ridges, with leave-one-out, log-determinants and dof.

        Parameters
        ----------
        state : Decomposed
            From :meth:`init`; its own ridge plays no role here.
        Y : ndarray of shape (n,) or (n, t)
            Targets.
        ridges : array-like of shape (r,)
            Ridges, not negative, in any order.

        Returns
        -------
        RidgePath
            Arrays with one leading entry per ridge, of shape ``(r, *Y.shape)`` where they hold
            one number per target.

        Warns
        -----
        JitterWarning
            If a ridge had to be raised to keep the matrix positive definite.
        """
        values = finite_right_hand_side(Y, state.n)
        sequence = checked_ridges(ridges)
        targets = values.reshape(state.n, -1)
        count = len(sequence)
        dual, residuals = np.empty((2, count, *targets.shape))
        diagonal = np.empty((count, state.n))
        logarithms, dof, jitter = np.empty((3, count))
        for k, found in enumerate(self.each(state, targets, sequence)):
            dual[k], diagonal[k], jitter[k] = found.dual, found.diagonal, found.shifted.jitter
            residuals[k] = found.dual / found.diagonal[:, None]
            logarithms[k] = state._log_determinant(found.shifted)
            dof[k] = found.shifted.effective_dof()
        _warn_jitter(float(jitter.max(initial=0.0)))
        shape = (count, *values.shape)
        return RidgePath(
            ridges=sequence,
            dual=dual.reshape(shape),
            loo_residuals=residuals.reshape(shape),
            loo_predictions=(targets - residuals).reshape(shape),
            log_determinant=logarithms,
            effective_dof=dof,
            jitter=jitter,
        )

    def each(self, state: Decomposed, targets: Floats, ridges: Floats) -> Iterator[ForOneRidge]:
        """Ridge by ridge what a choice among them needs, for targets of shape (n, t)."""
        rhs, exponents = scaled(targets, state.size + float(ridges.max()))
        projected = state.inward(rhs)
        for ridge in ridges:
            shifted = state.at(float(ridge))
            dual = state.outward(shifted.solve(projected))
            if exponents.any():
                with np.errstate(over="ignore", under="ignore"):
                    dual = np.ldexp(dual, exponents)
            yield ForOneRidge(dual, state._inverse_diagonal(shifted), shifted)


def _warn_jitter(jitter: float) -> None:
    if jitter:
        warnings.warn(
            f"the kernel matrix is not positive definite in float64: raised the ridge by "
            f"{jitter:.3g}; raise alpha or remove duplicate rows",
            JitterWarning,
            stacklevel=3,
        )
