"""A Cholesky factor in float32 as the preconditioner of a float64 solve."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import JitterWarning
from kernreg.operators.base import Operator
from kernreg.solvers.base import Problem
from kernreg.solvers.cholesky.in_memory import Cholesky, CholeskyState
from kernreg.solvers.preconditioners.base import Preconditioner
from kernreg.solvers.work import READ

__all__ = ["Factored", "LowPrecisionCholesky"]


class Factored:
    """``P = L L^T`` for the ridge of the system and the jitter that the factor needed.

    Parameters
    ----------
    state : CholeskyState
        The factor.

    Notes
    -----
    Another ridge keeps the factor: the eigenvalues of ``P^-1 (K + r I)`` then lie between 1 and
    ``r / ridge``.
    """

    def __init__(self, state: CholeskyState) -> None:
        self._state = state
        self.rank = state.factor.n

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._state.factor.nbytes

    def apply(
        self, R: NDArray[np.float64], levels: float | NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """``P^-1 R`` for R of shape (n, t), whatever the ridge: 2 n^2 t operations."""
        return self._state.precondition(R)


@dataclass(frozen=True)
class LowPrecisionCholesky(Preconditioner):
    """Cholesky factor of ``K + ridge`` in float32.

    Parameters
    ----------
    block : int, default=512
        Rows of a panel.

    Notes
    -----
    Few iterations, whatever the kernel, for half a float32 Gram matrix of memory and n^3/3
    operations. A ridge below float32 rounding makes the factor need a jitter, and the iterations
    grow with the square root of jitter over ridge.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).normal(size=(40, 3))
    >>> K = KernelOperator(nn.mlp(depth=1, b_std=0.1), X)
    >>> LowPrecisionCholesky().build(K, 1e-3).rank
    40
    """

    block: int = 512

    def peak_bytes(self, n: int) -> int:
        """Most bytes held while it is built.

        Examples
        --------
        >>> LowPrecisionCholesky().peak_bytes(1000) > 4 * 1000 * 1000 / 2
        True
        """
        return self._solver.peak_bytes(Problem(n, dtype="float32"))

    @property
    def factors(self) -> bool:
        """It does."""
        return True

    def work(self, problem: Problem) -> dict[str, float]:
        """The factorisation, which each iteration reads twice."""
        total = self._solver.work(Problem(problem.n, dtype="float32"))
        total[READ] += problem.iterations * 4 * problem.n**2
        return total

    @property
    def _solver(self) -> Cholesky:
        return Cholesky(block=self.block, refine=False)

    def build(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> Factored:
        """Factor the matrix.

        Parameters
        ----------
        operator : Operator
            Symmetric; evaluated in float32.
        ridge : float or ndarray of shape (n,)
            Of the system.
        callback : callable, optional
            Called as ``callback(panel, panels)``.

        Returns
        -------
        Factored
            The preconditioner.

        Raises
        ------
        NotPositiveDefiniteError
            If the largest jitter did not help.
        """
        with warnings.catch_warnings():
            # A jitter costs iterations here, not accuracy.
            warnings.simplefilter("ignore", JitterWarning)
            return Factored(self._solver.init(operator.astype("float32"), ridge, callback))
