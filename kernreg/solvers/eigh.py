"""Direct solver for many ridges: one eigendecomposition, then each ridge costs two products."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError, JitterWarning
from kernreg.operators.base import Operator, as_array, symmetric_order
from kernreg.operators.budget import TILE_ROWS
from kernreg.solvers.base import Problem, Solver, checked_ridge, checked_ridges
from kernreg.solvers.precision import entries_share, warn_of_ridge, warn_of_rounding
from kernreg.solvers.scaling import scaled, unscaled
from kernreg.solvers.solution import Solution, Stats, Status, finite_right_hand_side
from kernreg.solvers.variance import from_features
from kernreg.solvers.work import EIGH, entry, flop

__all__ = ["Eigh", "EighState", "RidgePath"]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)
# LAPACK's eigenvalues are off by a few eps of the largest one: below this, a shifted eigenvalue
# has no correct digit.
_FLOOR = 10.0
_ROWS = 512


@dataclass(eq=False)
class EighState:
    """Eigendecomposition ``S K S = U diag(values) U^T`` with ``S = diag(root_weights)``.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Eigenvalues, ascending; those below zero by rounding are kept as they are.
    vectors : ndarray of shape (n, n)
        Eigenvectors in columns, float64.
    ridge : float
        The ridge that ``solve`` uses.
    root_weights : ndarray of shape (n,) or None
        Square roots of the weights; None if all are one.
    seconds : float
        Time of the decomposition, kernel evaluation included.
    """

    values: NDArray[np.float64]
    vectors: NDArray[np.float64]
    ridge: float
    root_weights: NDArray[np.float64] | None
    seconds: float

    def shifted(self, ridge: float) -> tuple[NDArray[np.float64], float]:
        """Eigenvalues plus ridge, and the jitter that keeps them above rounding."""
        floor = _FLOOR * _EPS * max(float(np.max(np.abs(self.values))), ridge)
        jitter = max(0.0, floor - float(self.values[0]) - ridge)
        if floor == 0.0:
            raise InvalidInputError("the kernel matrix is zero and so is the ridge: raise alpha")
        return np.asarray(self.values + (ridge + jitter)), jitter

    def log_determinant(self, ridge: float | None = None) -> float:
        """``log det(K + ridge / weights)``, O(n); default: the ridge of ``init``."""
        return self._log_determinant(self.shifted(self.ridge if ridge is None else ridge)[0])

    def _log_determinant(self, shifted: NDArray[np.float64]) -> float:
        result = float(np.sum(np.log(shifted)))
        if self.root_weights is not None:
            result -= 2.0 * float(np.sum(np.log(self.root_weights)))
        return result

    def effective_dof(self, ridge: float | None = None) -> float:
        """Trace of the smoother, ``tr K (K + ridge / weights)^-1``, O(n)."""
        shifted = self.shifted(self.ridge if ridge is None else ridge)[0]
        return float(np.sum(np.maximum(self.values, 0.0) / shifted))

    def inverse_diagonals(self, ridges: NDArray[np.float64]) -> NDArray[np.float64]:
        """Diagonals of ``(K + ridge / weights)^-1``, shape (r, n), n^2 r operations."""
        inverse = np.stack([1.0 / self.shifted(float(ridge))[0] for ridge in ridges], axis=1)
        result = np.empty((len(ridges), len(self.values)))
        for start in range(0, len(self.values), _ROWS):
            rows = self.vectors[start : start + _ROWS]
            result[:, start : start + _ROWS] = ((rows * rows) @ inverse).T
        if self.root_weights is not None:
            result *= self.root_weights**2
        return result

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Diagonal of ``(K + ridge / weights)^-1`` for the ridge of ``init``, shape (n,)."""
        return self.inverse_diagonals(np.array([self.ridge]))[0]

    def weighted(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Root weights times the rows of V."""
        return V if self.root_weights is None else self.root_weights[:, None] * V


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
    """

    ridges: NDArray[np.float64]
    dual: NDArray[np.float64]
    loo_residuals: NDArray[np.float64]
    loo_predictions: NDArray[np.float64]
    log_determinant: NDArray[np.float64]
    effective_dof: NDArray[np.float64]
    jitter: NDArray[np.float64]


@dataclass(frozen=True)
class Eigh(Solver):
    """Symmetric eigendecomposition, for a whole ridge path and closed-form leave-one-out.

    Notes
    -----
    Always in float64 and on the CPU, whatever the dtype and device of the operator, and full:
    ``init`` costs a Gram matrix and some 9 n^3 operations; memory 2 n^2 float64 numbers (matrix
    and eigenvectors) at the peak and n^2 in the state. Each ridge then costs 2 n^2 (t + 1)
    operations. LAPACK's ``syevr`` is used: as fast as ``syevd`` and without its n^2 workspace.

    With sample weights w the matrix is ``K + ridge diag(1/w)``, the dual form of
    ``min sum_i w_i (y_i - f(x_i))^2 + ridge ||f||^2``, decomposed as W^1/2 K W^1/2.

    References
    ----------
    Rifkin and Lippert, Notes on Regularized Least Squares, MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> Eigh()
    Eigh()
    """

    name = "eigh"
    one_ridge = False
    leave_one_out = True
    on_host = True
    reason = "one decomposition serves all ridges ({n})"
    drawback = "pays from 8 ridges on"

    def peak_bytes(self, problem: Problem) -> int:
        """Bytes held at once, from exact counts.

        Examples
        --------
        >>> Eigh().peak_bytes(Problem(1000)) >= 2 * 8 * 1000**2
        True
        """
        n, n_outputs, n_alphas = problem.n, problem.n_outputs, problem.n_ridges
        path = 3 * n_alphas * n * n_outputs + 3 * n * n_outputs + (n_alphas + _ROWS) * n
        return 8 * (n * n + max(n * n + 40 * n, path))

    def operator_bytes(self, problem: Problem) -> int:
        """Rows and entries in float64."""
        return 8 * problem.n * (problem.d + TILE_ROWS)

    def stored(self, problem: Problem) -> str:
        """All of the matrix."""
        return "dense"

    def work(self, problem: Problem) -> dict[str, float]:
        """The decomposition, and products for each ridge."""
        n = problem.n
        products = 2 * problem.n_ridges * n * n * (problem.n_outputs + 1)
        return {entry("float64"): n * n / 2, EIGH: float(n) ** 3, flop("float64"): float(products)}

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any] = 0.0,
        callback: Callable[[int, int], None] | None = None,
        *,
        sample_weight: NDArray[Any] | None = None,
    ) -> EighState:
        """Evaluate and decompose the kernel matrix.

        Parameters
        ----------
        operator : Operator
            Symmetric; evaluated in float64.
        ridge : float or ndarray of shape (n,)
            What ``solve`` adds to the diagonal. An array v is taken as weights ``mean(v) / v``
            with ridge ``mean(v)``; then the ridges of a path multiply ``v / mean(v)``.
        callback : callable, optional
            Called as ``callback(step, 2)`` after the kernel and after the decomposition.
        sample_weight : ndarray of shape (n,), optional
            Positive weights; drop rows of weight zero before.

        Returns
        -------
        EighState
            Eigenvalues and eigenvectors.

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
        weights = np.ones(n)
        if np.ndim(ridge):
            if not (shift > 0).all():
                raise InvalidInputError(
                    "expected a vector of ridges > 0 for Eigh; use Cholesky where some are zero"
                )
            weights = mean / shift
        if sample_weight is not None:
            given = np.asarray(sample_weight, dtype=np.float64)
            if given.shape != (n,) or not np.isfinite(given).all() or not (given > 0).all():
                raise InvalidInputError(
                    f"expected sample_weight of shape ({n},), finite and > 0; drop rows of weight 0"
                )
            weights = weights * given
        root = None if np.ndim(ridge) == 0 and sample_weight is None else np.sqrt(weights)
        matrix = np.empty((n, n))
        operator.astype("float64").to_dense(out=matrix)
        as_array(matrix)  # finite
        if callback is not None:
            callback(1, 2)
        if root is not None:
            matrix *= root
            matrix *= root[:, None]
        # The transpose of a symmetric C-ordered matrix is what Fortran expects: no copy.
        values, vectors = scipy.linalg.eigh(
            matrix.T, driver="evr", overwrite_a=True, check_finite=False
        )
        if callback is not None:
            callback(2, 2)
        seconds = time.perf_counter() - started
        logger.info("decomposed n=%d in %.2f s", n, seconds)
        return EighState(values, vectors, mean, root, seconds)

    def init_weighted(
        self, operator: Operator, ridge: float, weights: NDArray[np.float64], callback: Any = None
    ) -> EighState:
        """:meth:`init` with weights, which all ridges of the state then have."""
        return self.init(operator, ridge, callback, sample_weight=weights)

    def solve(self, state: EighState, Y: NDArray[Any], *, callback: Any = None) -> Solution:
        """Solve ``(K + ridge / weights) x = y`` for each column of Y, with the ridge of ``init``.

        Parameters
        ----------
        state : EighState
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
        n = len(state.values)
        values = finite_right_hand_side(Y, n)
        shifted, jitter = state.shifted(state.ridge)
        _warn_jitter(jitter)
        size = float(np.mean(state.values))
        rhs, exponents = scaled(values.reshape(n, -1), size + state.ridge)
        projected = state.vectors.T @ state.weighted(rhs)
        found = state.weighted(state.vectors @ (projected / shifted[:, None]))
        dual = unscaled(found, exponents)
        share = entries_share(size, found, rhs, _EPS)
        if not jitter:
            warn_of_ridge(share, state.ridge, size, n, np.float64)
        stats = Stats(
            seconds=state.seconds + time.perf_counter() - started,
            peak_bytes=self.peak_bytes(Problem(n, n_outputs=values.size // n)),
            jitter=jitter,
            log_determinant=state._log_determinant(shifted),
            rounding=share,
        )
        status = Status.JITTERED if jitter else Status.OK
        return Solution(dual.reshape(values.shape), status, stats)

    def variance_explained(
        self, state: EighState, columns: NDArray[np.float64], *, full: bool = False
    ) -> NDArray[np.float64]:
        """From the modes: 2 n^2 operations for each column."""
        shifted, _ = state.shifted(state.ridge)
        features = state.vectors.T @ state.weighted(columns)
        features /= np.sqrt(shifted)[:, None]
        return from_features(features, full)

    def path(self, state: EighState, Y: NDArray[Any], ridges: Any) -> RidgePath:
        """Solve for a sequence of ridges, with leave-one-out, log-determinants and dof.

        Parameters
        ----------
        state : EighState
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
        n = len(state.values)
        values = finite_right_hand_side(Y, n)
        sequence = checked_ridges(ridges)
        spectra = [state.shifted(float(ridge)) for ridge in sequence]
        jitter = np.array([found for _, found in spectra])
        _warn_jitter(float(jitter.max(initial=0.0)))
        targets = values.reshape(n, -1)
        projected = state.vectors.T @ state.weighted(targets)
        dual = np.empty((len(sequence), *targets.shape))
        for index, (shifted, _) in enumerate(spectra):
            dual[index] = state.weighted(state.vectors @ (projected / shifted[:, None]))
        residuals = dual / state.inverse_diagonals(sequence)[:, :, None]
        shape = (len(sequence), *values.shape)
        return RidgePath(
            ridges=sequence,
            dual=dual.reshape(shape),
            loo_residuals=residuals.reshape(shape),
            loo_predictions=(targets - residuals).reshape(shape),
            log_determinant=np.array([state._log_determinant(s) for s, _ in spectra]),
            effective_dof=np.array([state.effective_dof(float(r)) for r in sequence]),
            jitter=jitter,
        )


def _warn_jitter(jitter: float) -> None:
    if jitter:
        warnings.warn(
            f"the kernel matrix is not positive definite in float64: raised the ridge by "
            f"{jitter:.3g}; raise alpha or remove duplicate rows",
            JitterWarning,
            stacklevel=3,
        )
