"""The systems that conjugate gradients solve together: one kernel matrix, a ridge for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.operators.base import Operator, as_array
from kernreg.operators.storage import Storage

__all__ = ["Columns", "PCGState"]


@dataclass(eq=False)
class PCGState:
    """A system ``K + diag(ridge)`` ready to be solved.

    Parameters
    ----------
    fast : Operator or None
        Products of the recurrences in float32; None where they are in float64.
    exact : Operator
        Products in float64.
    level : float
        Mean ridge.
    profile : ndarray of shape (n,)
        ``ridge = level * profile``.
    preconditioner : object or None
        What ``build`` of the preconditioner gave.
    storage : Storage
        Keeps the tiles of an operator where they fit.
    kept_bytes : int
        Of tiles, at most so far.
    noise : float
        Smallest ridge for products in float32.
    size : float
        Mean diagonal of the kernel.
    seconds : float
        Time of :meth:`PCG.init`.

    Examples
    --------
    >>> from kernreg import KernelOperator
    >>> from kernreg.solvers import PCG
    >>> X = np.random.default_rng(0).normal(size=(30, 3))
    >>> state = PCG().init(KernelOperator("mlp(depth=1)", X), 0.01)
    >>> state.n, round(state.level, 6), type(state.preconditioner).__name__
    (30, 0.01, 'LowRank')
    """

    fast: Operator | None
    exact: Operator
    level: float
    profile: NDArray[np.float64]
    preconditioner: Any
    storage: Storage
    kept_bytes: int
    noise: float
    size: float
    seconds: float

    @property
    def n(self) -> int:
        """Order of the system."""
        return len(self.profile)

    def raise_precision(self) -> None:
        """Take float64 products from now on."""
        if self.fast is not None:
            self.fast = None
            self.exact, count = self.storage.keep(self.exact)
            self.kept_bytes = max(self.kept_bytes, count)


class Columns:
    """The matrices ``K + level_j diag(profile)``, one for each right-hand side.

    Parameters
    ----------
    state : PCGState
        What they have in common.
    levels : ndarray of shape (t,)
        Mean ridge of each.

    Attributes
    ----------
    ridges : ndarray of shape (t,)
        Largest ridge of a row in each.
    """

    def __init__(self, state: PCGState, levels: NDArray[np.float64]) -> None:
        self.state = state
        self.levels = levels
        self.ridges = levels * float(state.profile.max())

    @property
    def low(self) -> bool:
        """Whether products that need not be exact are in float32."""
        return self.state.fast is not None

    def product(
        self, V: NDArray[np.float64], columns: NDArray[np.intp], exact: bool
    ) -> NDArray[np.float64]:
        """Products with V, whose columns belong to the systems ``columns``."""
        state = self.state
        if exact or state.fast is None:
            image = as_array(state.exact @ V)
        else:
            # Scaled, so that float32 neither overflows nor underflows.
            scale = np.max(np.abs(V), axis=0)
            scale = np.where(scale > 0, scale, 1.0)
            image = as_array(state.fast @ (V / scale).astype(np.float32)) * scale
        return image + self.ridge(columns) * V

    def ridge(self, columns: NDArray[np.intp]) -> NDArray[np.float64]:
        """What the systems ``columns`` have on the diagonal beside K, a column each."""
        return self.state.profile[:, None] * self.levels[columns]

    def precondition(
        self, R: NDArray[np.float64], columns: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """The preconditioner on R, for the same."""
        if self.state.preconditioner is None:
            return R.copy()
        return np.asarray(self.state.preconditioner.apply(R, self.levels[columns]))

    def raise_precision(self) -> None:
        """Take float64 products from now on."""
        self.state.raise_precision()
