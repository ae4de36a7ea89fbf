"""Direct solver for several ridges: one reduction to a band, then each ridge is cheap."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kernreg.solvers.all_ridges import AllRidges, Decomposed
from kernreg.solvers.banded.factor import BandFactor, factored, row_sum
from kernreg.solvers.banded.reduction import WIDTH, reduced
from kernreg.solvers.base import Problem
from kernreg.solvers.work import entry, flop

__all__ = ["Banded", "BandedState"]

Floats = NDArray[np.float64]

# Products as narrow as the band are that much slower than large ones.
_NARROW = 1.5


@dataclass(eq=False)
class BandedState(Decomposed):
    """``S K S = Q B Q^T`` with a band B and ``S = diag(root_weights)``.

    Parameters
    ----------
    band : ndarray of shape (width + 1, n)
        B by diagonals, from the main one down.
    vectors : ndarray of shape (n, n)
        Q in columns.
    ridge, root_weights, seconds
        As of :class:`~kernreg.solvers.all_ridges.Decomposed`, by name.

    Examples
    --------
    >>> from kernreg.operators import MatrixOperator
    >>> state = Banded().init(MatrixOperator(np.diag([1.0, 2.0, 4.0])), 1.0)
    >>> state.band.shape, round(state.at(1.0).log_determinant(), 6)  # log 30
    ((3, 3), 3.401197)
    """

    band: Floats
    vectors: Floats
    _last: BandFactor | None = field(default=None, init=False)

    @property
    def basis(self) -> Floats:
        """Q."""
        return self.vectors

    @functools.cached_property
    def _norm(self) -> float:
        return row_sum(self.band)

    @property
    def size(self) -> float:
        """Mean of its diagonal, which the band keeps."""
        return float(np.mean(self.band[0]))

    def at(self, ridge: float) -> BandFactor:
        """The factor for a ridge; the last one is kept."""
        if self._last is None or self._last.ridge != ridge:
            self._last = factored(self.band, self.basis, ridge, self._norm)
        return self._last


@dataclass(frozen=True)
class Banded(AllRidges):
    """Reduction to a band, for a ridge path and closed-form leave-one-out.

    Notes
    -----
    Always in float64 and on the CPU, whatever the dtype and device of the operator. ``init`` costs
    a Gram matrix and 8/3 n^3 operations of matrix products, a third of an eigendecomposition's and
    several times as fast as those; Q takes the place of the matrix, so that memory is n^2 float64
    numbers and some 800 n beside. Each ridge then costs 4 n^2 t operations, and with
    leave-one-out 192 n^2: with many ridges ``Eigh`` is
    faster below some 2,000 rows.

    Examples
    --------
    >>> Banded()
    Banded()
    """

    name = "banded"
    reason = "one reduction to a band serves all ridges ({n})"
    drawback = "pays from 2,000 rows and 3 ridges on"
    from_rows = 2000
    from_ridges = 3

    def peak_bytes(self, problem: Problem) -> int:
        """Bytes held at once.

        Examples
        --------
        >>> 8 * 1000**2 < Banded().peak_bytes(Problem(1000)) < 2 * 8 * 1000**2
        True
        """
        n, n_outputs, n_alphas = problem.n, problem.n_outputs, problem.n_ridges
        path = 3 * n_alphas * n * n_outputs + 3 * n * n_outputs + n_alphas * n
        return 8 * (n * n + 6 * WIDTH * n + max(6 * WIDTH * n, path))

    def work(self, problem: Problem) -> dict[str, float]:
        """The reduction, and products for each ridge."""
        n = problem.n
        each = 4 * problem.n_outputs + 3 * WIDTH * problem.leave_one_out
        count = 8 / 3 * n**3 + problem.n_ridges * n * n * each
        return {entry("float64"): n * n / 2, flop("float64"): _NARROW * count}

    def decompose(
        self,
        matrix: Floats,
        ridge: float,
        root_weights: Floats | None,
        callback: Callable[[int, int], None] | None,
    ) -> BandedState:
        """Band and basis; ``callback`` hears of each panel."""
        band, vectors = reduced(matrix, callback)
        return BandedState(band, vectors, ridge=ridge, root_weights=root_weights)
