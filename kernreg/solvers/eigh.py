"""Direct solver for many ridges and for spectra: one eigendecomposition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.solvers.all_ridges import AllRidges, Decomposed, Shifted
from kernreg.solvers.base import Problem
from kernreg.solvers.work import EIGH, entry, flop

__all__ = ["Eigh", "EighState"]

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)
# LAPACK's eigenvalues are off by a few eps of the largest one: below this, a shifted eigenvalue
# has no correct digit.
_FLOOR = 10.0
_ROWS = 512


@dataclass(eq=False)
class EighState(Decomposed):
    """Eigendecomposition ``S K S = U diag(values) U^T`` with ``S = diag(root_weights)``.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Eigenvalues, ascending; those below zero by rounding are kept as they are.
    vectors : ndarray of shape (n, n)
        Eigenvectors in columns, float64.
    ridge, root_weights, seconds
        As of :class:`~kernreg.solvers.all_ridges.Decomposed`, by name.

    Examples
    --------
    >>> from kernreg.operators import MatrixOperator
    >>> state = Eigh().init(MatrixOperator(np.array([[2.0, 1.0], [1.0, 2.0]])))
    >>> state.values.round(6)
    array([1., 3.])
    """

    values: Floats
    vectors: Floats

    @property
    def basis(self) -> Floats:
        """The eigenvectors."""
        return self.vectors

    @property
    def size(self) -> float:
        """Mean of its diagonal."""
        return float(np.mean(self.values))

    def at(self, ridge: float) -> Shifted:
        """Eigenvalues plus ridge, with the jitter that keeps them above rounding."""
        floor = _FLOOR * _EPS * max(float(np.max(np.abs(self.values))), ridge)
        jitter = max(0.0, floor - float(self.values[0]) - ridge)
        if floor == 0.0:
            raise InvalidInputError("the kernel matrix is zero and so is the ridge: raise alpha")
        return _Modes(self.values, self.vectors, self.values + (ridge + jitter), jitter)


@dataclass(frozen=True, eq=False)
class _Modes(Shifted):
    values: Floats
    vectors: Floats
    shifted: Floats
    jitter: float

    def solve(self, V: Floats) -> Floats:
        return V / self.shifted[:, None]

    def half_solve(self, V: Floats) -> Floats:
        return V / np.sqrt(self.shifted)[:, None]

    def inverse_diagonal(self) -> Floats:
        inverse, result = 1.0 / self.shifted, np.empty(len(self.shifted))
        for start in range(0, len(result), _ROWS):
            rows = self.vectors[start : start + _ROWS]
            result[start : start + _ROWS] = (rows * rows) @ inverse
        return result

    def log_determinant(self) -> float:
        return float(np.sum(np.log(self.shifted)))

    def effective_dof(self) -> float:
        return float(np.sum(np.maximum(self.values, 0.0) / self.shifted))


@dataclass(frozen=True)
class Eigh(AllRidges):
    """Symmetric eigendecomposition, for the spectrum, a ridge path and closed-form leave-one-out.

    Notes
    -----
    Always in float64 and on the CPU, whatever the dtype and device of the operator, and full:
    ``init`` costs a Gram matrix and some 9 n^3 operations; memory 2 n^2 float64 numbers (matrix
    and eigenvectors) at the peak and n^2 in the state. Each ridge then costs 2 n^2 (2 t + 1)
    operations. LAPACK's ``syevr`` is used: as fast as ``syevd`` and without its n^2 workspace.
    Where the spectrum is not wanted, ``Banded`` takes a fraction of the time.

    Examples
    --------
    >>> Eigh()
    Eigh()
    """

    name = "eigh"
    reason = "one decomposition serves all ridges ({n})"
    drawback = "pays from 8 ridges on"
    from_ridges = 8

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

    def work(self, problem: Problem) -> dict[str, float]:
        """The decomposition, and products for each ridge."""
        n = problem.n
        products = 2 * problem.n_ridges * n * n * (2 * problem.n_outputs + 1)
        return {entry("float64"): n * n / 2, EIGH: float(n) ** 3, flop("float64"): float(products)}

    def decompose(
        self,
        matrix: Floats,
        ridge: float,
        root_weights: Floats | None,
        callback: Callable[[int, int], None] | None,
    ) -> EighState:
        """Eigenvalues and eigenvectors; ``callback`` hears of matrix and decomposition."""
        if callback is not None:
            callback(1, 2)
        # The transpose of a symmetric C-ordered matrix is what Fortran expects: no copy.
        values, vectors = scipy.linalg.eigh(
            matrix.T, driver="evr", overwrite_a=True, check_finite=False
        )
        if callback is not None:
            callback(2, 2)
        return EighState(values, vectors, ridge=ridge, root_weights=root_weights)
