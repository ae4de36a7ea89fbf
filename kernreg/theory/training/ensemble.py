"""Mean and covariance of an infinite ensemble of networks at any time of its training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kernreg.solvers.eigh import EighState
from kernreg.theory.training.dynamics import Dynamics, above_rounding

__all__ = ["Ensemble", "along_modes"]

Floats = NDArray[np.float64]

_ROWS = 512


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Networks that start from a Gaussian process and are trained on the same n rows.

    A member ``f0`` drawn from the process with kernel K ends as ``f0(x) + A (y - f0(X))`` with
    ``A = T(x, X) h(T)``, T being the kernel that training follows. So the mean is ``A y`` and the
    covariance ``K - A K - K A^T + A K A^T``.

    Parameters
    ----------
    modes : EighState
        Of the training kernel T on the training rows; its ridge is the penalty on the distance
        from the initial weights, and its weights are those of the rows in the loss.
    dynamics : Dynamics
        Of training.
    initial : ndarray of shape (n, n), optional
        K on the training rows along the modes, of :func:`along_modes`; T if left out.
    target_noise : float, default=0.0
        Variance of the noise that each member has in its targets, for rows of weight 1.

    Notes
    -----
    Once the modes are there, a time costs ``2 n^2 t`` operations for t targets; variances of m
    rows cost ``2 m n^2`` more, for each time if ``initial`` is given. Memory ``2 n^2``.

    References
    ----------
    Lee et al., "Wide neural networks of any depth evolve as linear models under gradient descent"
    (2019), equations 13 to 16.
    He, Lakshminarayanan, Teh, "Bayesian deep ensembles via the neural tangent kernel" (2020).

    Examples
    --------
    >>> from kernreg import KernelOperator, nn
    >>> from kernreg.solvers import Eigh
    >>> rows = np.linspace(-1, 1, 5)[:, None]
    >>> modes = Eigh().init(KernelOperator(nn.mlp(depth=1), rows))
    >>> ensemble = Ensemble(modes, Dynamics())
    >>> start, end = ensemble.coefficients(rows, (0.0, np.inf))
    >>> kernel = KernelOperator(nn.mlp(depth=1), rows).to_dense()
    >>> bool((start == 0).all()), bool(np.allclose(kernel @ end, rows))
    (True, True)
    """

    modes: EighState
    dynamics: Dynamics
    initial: Floats | None = None
    target_noise: float = 0.0

    @cached_property
    def largest(self) -> float:
        """Largest eigenvalue that training sees, ridge included."""
        return float(self.modes.values[-1]) + self.modes.ridge

    def gained(self, time: float) -> Floats:
        """:meth:`Dynamics.gained` of each mode; 0 of those that rounding makes.

        Directions that the kernel does not have are not learned, however long training lasts.
        """
        return above_rounding(self.dynamics, self.modes.values, self.modes.ridge, time)

    def coefficients(self, targets: Floats, times: Sequence[float]) -> Floats:
        """Coefficients c of the mean ``T(x, X) c`` at some times.

        Parameters
        ----------
        targets : ndarray of shape (n, t)
            Targets, less the initial outputs if a member is meant.
        times : sequence of float
            Of :meth:`Dynamics.gained`.

        Returns
        -------
        ndarray of shape (len(times), n, t)
        """
        n, t = targets.shape
        projected = self.modes.vectors.T @ self.modes.weighted(targets)
        filtered = np.hstack([self.gained(time)[:, None] * projected for time in times])
        found = self.modes.weighted(self.modes.vectors @ filtered)
        return np.asarray(found.reshape(n, len(times), t).transpose(1, 0, 2))

    @cached_property
    def _spread(self) -> Floats:
        """Covariance of what training removes, along the modes; a vector where it is diagonal."""
        if self.initial is None:
            return np.maximum(self.modes.values, 0.0) + self.target_noise
        if not self.target_noise:
            return self.initial
        return np.asarray(self.initial + self.target_noise * np.eye(len(self.initial)))

    def variance(
        self, between: Floats, prior: Floats, own: Floats, times: Sequence[float]
    ) -> Floats:
        """Variances of the outputs for some rows.

        Parameters
        ----------
        between : ndarray of shape (m, n)
            Training kernel T of these rows with the training rows.
        prior : ndarray of shape (m, n)
            Kernel K of the same; the same array if T is K.
        own : ndarray of shape (m,)
            K of each row with itself.
        times : sequence of float
            Of :meth:`Dynamics.gained`.

        Returns
        -------
        ndarray of shape (len(times), m)
            Not negative.
        """
        moved, start = self._rows(between, prior)
        result = np.empty((len(times), len(own)))
        for index, time in enumerate(times):
            learned = moved * self.gained(time)
            result[index] = own - np.einsum(
                "ij,ij->i", learned, 2 * start - self._spread_of(learned)
            )
        return np.maximum(result, 0.0)

    def covariance(self, between: Floats, prior: Floats, own: Floats, time: float) -> Floats:
        """Covariance of the outputs for some rows; arguments as for :meth:`variance`.

        Parameters
        ----------
        between, prior : ndarray of shape (m, n)
            Kernels T and K with the training rows.
        own : ndarray of shape (m, m)
            K among these rows.
        time : float
            Of :meth:`Dynamics.gained`.

        Returns
        -------
        ndarray of shape (m, m)
            Symmetric to the last digit.
        """
        moved, start = self._rows(between, prior)
        learned = moved * self.gained(time)
        crossed = learned @ start.T
        found = own - crossed - crossed.T + learned @ self._spread_of(learned).T
        return np.asarray((found + found.T) / 2)

    def _rows(self, between: Floats, prior: Floats) -> tuple[Floats, Floats]:
        moved = self._along(between)
        return moved, moved if prior is between else self._along(prior)

    def _along(self, rows: Floats) -> Floats:
        """Rows of a kernel along the modes."""
        root = self.modes.root_weights
        return np.asarray((rows if root is None else rows * root) @ self.modes.vectors)

    def _spread_of(self, learned: Floats) -> Floats:
        spread = self._spread
        return learned * spread if spread.ndim == 1 else learned @ spread


def along_modes(modes: EighState, matrix: Floats, *, overwrite: bool = False) -> Floats:
    """A kernel of the training rows along the modes of another, shape (n, n): 4 n^3 operations.

    With ``overwrite`` the matrix is lost, and two of its size stand beside the modes, not three.

    Examples
    --------
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import Eigh
    >>> K = np.array([[2.0, 1.0], [1.0, 2.0]])
    >>> along_modes(Eigh().init(MatrixOperator(K)), K).round(6) + 0.0
    array([[1., 0.],
           [0., 3.]])
    """
    work = matrix if overwrite else matrix.copy()
    if modes.root_weights is not None:
        work *= modes.root_weights
        work *= modes.root_weights[:, None]
    for start in range(0, len(work), _ROWS):
        work[start : start + _ROWS] = work[start : start + _ROWS] @ modes.vectors
    return np.asarray(modes.vectors.T @ work)
