"""What is to be solved, and what every solver is."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators.base import Operator
from kernreg.operators.budget import PANEL_BYTES
from kernreg.solvers.precision import product_dtype
from kernreg.solvers.solution import Solution

__all__ = ["HeldOut", "Problem", "Progress", "Solver", "checked_ridge", "checked_ridges"]

HeldOut = Callable[[slice, NDArray[np.float64]], None]
"""Told a range of rows and their leave-one-out residuals, of shape (r, rows, t)."""


@dataclass(frozen=True)
class Problem:
    """What is to be solved, as far as memory and time depend on it.

    Parameters
    ----------
    n, d, n_outputs : int
        Rows, numbers per row of the data, right-hand sides.
    dtype : float32 or float64
        Of the operator.
    n_ridges : int
        Ridges that are tried.
    leave_one_out : bool
        Whether errors of it are wanted.
    ridge : float or None
        Smallest one over the mean diagonal, if known.
    iterations : int
        That an iterative solver takes, if known.

    Examples
    --------
    >>> Problem(10_000, ridge=1e-6, dtype="float32").products
    dtype('float64')
    """

    n: int
    d: int = 1
    n_outputs: int = 1
    dtype: Any = "float64"
    n_ridges: int = 1
    leave_one_out: bool = False
    ridge: float | None = None
    iterations: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))

    @property
    def without_errors(self) -> bool:
        """Whether a solver without leave-one-out errors serves."""
        return self.n_ridges == 1 and not self.leave_one_out

    @property
    def products(self) -> np.dtype[Any]:
        """Type of the products that an iterative solver takes."""
        return product_dtype(self.dtype, self.n, self.ridge)


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each iteration.

    Parameters
    ----------
    iteration : int
        Products with the kernel matrix so far.
    residual : float
        Largest relative residual over all columns, recurred or true.
    score : float or None
        What the validation function returned.

    Examples
    --------
    >>> from kernreg.operators import MatrixOperator
    >>> from kernreg.solvers import PCG
    >>> solver, seen = PCG(preconditioner=None), []
    >>> state = solver.init(MatrixOperator(np.diag([1.0, 3.0])), 0.0)
    >>> solution = solver.solve(state, np.ones(2), callback=seen.append)
    >>> [(p.iteration, p.residual < 1e-8) for p in seen]
    [(1, False), (2, True)]
    """

    iteration: int
    residual: float
    score: float | None = None


class Solver(ABC):
    """A way to solve ``(K + diag(ridge)) X = Y``, with settings that do not change.

    A subclass is a frozen dataclass of its settings. It declares the attributes without a default
    and defines the abstract methods; plans, estimators and the command line read the others as
    well. ``register`` of :mod:`kernreg.solvers.registry` makes its name known.

    Attributes
    ----------
    name : str
        By which it is asked for.
    runs_on : tuple of str
        Devices whose operators it takes.
    one_ridge : bool
        Whether what :meth:`init` makes serves one ridge only, so that there is no :meth:`path`.
    leave_one_out : bool
        Whether it gives leave-one-out errors: what ``init`` makes has an ``inverse_diagonal``, and
        without ``one_ridge`` a field ``ridge``. If ``approximate``, by :meth:`held_out`.
    on_host : bool
        Whether what it holds is in host memory, wherever entries are made.
    approximate : bool
        Whether a solution has coefficients for the rows :meth:`rows_of` alone.
    needs_parts : bool
        Whether it takes only an operator that is ``streamed``.
    at_most : bool
        Whether :meth:`work` counts more than may be needed.
    from_rows, from_ridges : int
        Rows and ridges from which "auto" takes one that serves all ridges.
    reason, drawback : str
        Why "auto" takes it, with ``{n}`` for the number of ridges, empty if it does not; and what
        speaks against it where another one was taken.
    remedies : tuple of str
        What to do about a solution that did not converge.
    tol : float or None
        Relative residual at which it ends; None if it does not iterate.

    Examples
    --------
    >>> from kernreg.solvers import PCG, Cholesky, Solver
    >>> isinstance(PCG(), Solver), PCG.one_ridge, Cholesky.leave_one_out
    (True, False, True)
    >>> PCG().peak_bytes(Problem(100_000)) < Cholesky().peak_bytes(Problem(100_000)) / 10
    True
    """

    name: ClassVar[str]
    runs_on: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    one_ridge: ClassVar[bool]
    leave_one_out: ClassVar[bool]
    on_host: ClassVar[bool] = False
    approximate: ClassVar[bool] = False
    needs_parts: ClassVar[bool] = False
    at_most: ClassVar[bool] = False
    from_rows: ClassVar[int] = 0
    from_ridges: ClassVar[int] = 0
    reason: ClassVar[str] = ""
    drawback: ClassVar[str] = "ask for it"
    remedies: ClassVar[tuple[str, ...]] = ()

    tol: float | None = None

    @abstractmethod
    def peak_bytes(self, problem: Problem) -> int:
        """Most bytes that the solver holds at once, the operator's own apart."""

    @abstractmethod
    def work(self, problem: Problem) -> Mapping[str, float]:
        """What it computes, reads and writes, by the units of :mod:`kernreg.solvers.work`.

        Leading orders only.
        """

    @abstractmethod
    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> Any:
        """What is made once for all right-hand sides; ``callback(step, total)`` tells how far."""

    @abstractmethod
    def solve(self, state: Any, Y: NDArray[Any], *, callback: Any = None) -> Solution:
        """The solution for Y of shape (n,) or (n, t).

        ``callback`` is called with a :class:`Progress` after each iteration, if there are any.
        """

    def path(self, state: Any, Y: NDArray[Any], ridges: Any) -> Any:
        """Solutions for a sequence of ridges, each a number."""
        raise InvalidInputError(
            f"{type(self).__name__} serves one ridge at a time: init and solve for each"
        )

    def held_out(self, state: Any, Y: NDArray[Any], ridges: Any, listener: HeldOut) -> Any:
        """:meth:`path` of an ``approximate`` solver; ``listener`` gets leave-one-out residuals.

        What :meth:`init` made then has a method ``leave_one_out(Y, values, ridges, listener)``.
        """
        raise InvalidInputError(f"{type(self).__name__} gives no leave-one-out errors")

    def init_weighted(
        self, operator: Operator, ridge: float, weights: NDArray[np.float64], callback: Any = None
    ) -> Any:
        """:meth:`init` for a ridge that is divided by positive weights of the rows."""
        return self.init(operator, ridge / weights, callback)

    def variance_explained(
        self, state: Any, columns: NDArray[np.float64], *, full: bool = False
    ) -> NDArray[np.float64]:
        """``C^T (K + diag(ridge))^-1 C``: the part of their variance that other rows lose.

        Parameters
        ----------
        state : object
            From :meth:`init`.
        columns : ndarray of shape (n, m)
            C, the kernel of the n rows of the system (of :meth:`rows_of` if ``approximate``) with
            m others.
        full : bool
            The matrix of shape (m, m), and not only its diagonal.

        Returns
        -------
        ndarray of shape (m,) or (m, m)
        """
        raise InvalidInputError(f"{type(self).__name__} gives no posterior variances")

    def features(self, state: Any) -> NDArray[np.float64] | None:
        """F of shape (m, k): :meth:`variance_explained` of a column c is ``|F^T c|^2``.

        Of a solver that is ``approximate``: with it a model needs no row that is no centre.
        """
        return None

    def columns_at_once(self, n: int) -> int:
        """Columns that :meth:`variance_explained` is best given at once."""
        return max(1, PANEL_BYTES // (8 * n))

    def rows_of(self, state: Any) -> NDArray[np.int64] | None:
        """The rows that a solution has coefficients for, if not all."""
        return None

    @property
    def names_rows(self) -> bool:
        """Whether settings name rows by number, so that none may be dropped before."""
        return False

    @property
    def files(self) -> str | os.PathLike[str] | None:
        """Folder that it writes to, if any; an empty name if that is not known yet."""
        return None

    def operator_bytes(self, problem: Problem) -> int:
        """Bytes that the operator holds meanwhile: rows in both precisions, and prepared ones."""
        return problem.n * problem.d * (4 + 8 + 8)

    def stored(self, problem: Problem) -> str:
        """What is kept of the matrix, and where, in one word."""
        return "recomputed"

    def panel_rows(self, n: int) -> int:
        """Rows of a panel."""
        return n

    @classmethod
    def within(cls, problem: Problem, budget: int, **settings: Any) -> Self:
        """One whose other settings fit a budget of bytes, if any do."""
        return cls(**settings)

    def bounded(self, problem: Problem, budget: int) -> Self:
        """Itself, with a limit where it leaves memory open."""
        return self

    def leaner(self) -> tuple[str, Self] | None:
        """A setting that takes less memory, as text, and the solver with it, if there is one."""
        return None

    def sampled(self, n: int) -> tuple[int, Self] | None:
        """Rows of a sample that tell how many iterations n rows take, and the solver for it.

        None if the work does not depend on iterations.
        """
        return None


def checked_ridge(ridge: Any, n: int) -> NDArray[np.float64]:
    """``ridge`` as a float64 array of shape (n,), finite and not negative."""
    values = np.asarray(ridge, dtype=np.float64)
    if values.shape not in ((), (n,)):
        raise InvalidInputError(
            f"expected ridge to be a number or of shape ({n},), found shape {values.shape}"
        )
    usable = np.isfinite(values) & (values >= 0)
    if not usable.all():
        raise InvalidInputError(f"expected a finite ridge >= 0, found {values[~usable][0]:g}")
    return np.ascontiguousarray(np.broadcast_to(values, (n,)))


def checked_ridges(ridges: Any) -> NDArray[np.float64]:
    """A non-empty sequence of ridges as a float64 array, each finite and not negative."""
    values = np.atleast_1d(np.asarray(ridges, dtype=np.float64))
    if values.ndim != 1 or not len(values) or not (np.isfinite(values) & (values >= 0)).all():
        raise InvalidInputError(
            f"expected a non-empty one-dimensional sequence of finite ridges >= 0, found {ridges!r}"
        )
    return values
