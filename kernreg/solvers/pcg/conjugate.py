"""Block conjugate gradients that believe no residual but one computed from its definition."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import NotPositiveDefiniteError
from kernreg.numerics.columns import dots, norms, relative
from kernreg.solvers.refine import MEANINGFUL, step_length

__all__ = ["Iterates", "System", "iterate", "reopen", "start"]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)
# Share of its tolerance at which a recurred residual is checked.
_MARGIN = 0.5
# With low-precision products the recurrence is believed for this much reduction at a time.
_STRIDE = 1e-3
# Share of an image that is not rounding: where the ridge dwarfs K, what is left without it may be.
_SHARP = 1 - 1e-6
# Recurred and true residual may differ by this share before the directions start anew.
_AGREE = 0.1
# Residual, in eps (||A|| ||x|| + ||b||), of a float64 Cholesky solve: 0.1 to 0.3 were measured.
_DIRECT = 0.5
# Products that make a lower bound of ||K|| sharp.
_POWER_STEPS = 4


class System(Protocol):
    """``K + diag(profile) level_j``, the matrix of column j, in two precisions."""

    @property
    def low(self) -> bool:
        """Whether products that need not be exact have the low precision."""

    @property
    def ridges(self) -> NDArray[np.float64]:
        """Largest ridge of a row in each system, shape (t,)."""

    def product(
        self, V: NDArray[np.float64], columns: NDArray[np.intp], exact: bool
    ) -> NDArray[np.float64]:
        """Its product with columns V; in float64 if ``exact`` or not ``low``."""

    def ridge(self, columns: NDArray[np.intp]) -> NDArray[np.float64]:
        """``diag(profile) level_j`` of these, as columns of shape (n, len(columns))."""

    def precondition(
        self, R: NDArray[np.float64], columns: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """An approximate inverse times columns R."""

    def raise_precision(self) -> None:
        """Take float64 products from now on: ``low`` becomes False."""


@dataclass(eq=False)
class Iterates:
    """Everything that the recurrences go on from.

    Parameters
    ----------
    x, residual, direction : ndarray of shape (n, t)
        Current solution, recurred residual, search direction.
    anchor : ndarray of shape (n, t)
        Solution with the smallest true residual so far.
    energy : ndarray of shape (t,)
        ``residual . preconditioned residual``.
    sizes, reference, least : ndarray of shape (t,)
        Norm of the recurred residual, of the last true one, and of that of ``anchor``.
    open : ndarray of bool, shape (t,)
        Columns that are neither solved nor given up.
    active : ndarray of bool, shape (t,)
        Open columns that take part in products; the others wait for a true residual.
    solved : ndarray of bool, shape (t,)
        Columns whose true residual met the target.
    finished : ndarray of int64, shape (t,)
        Iteration in which a column last took part.
    norm : float
        Lower bound of ||K||, without any ridge, from the products so far.
    iteration, unchecked : int
        Products, and those since the last true residual.
    low : bool
        Whether products still have the low precision.
    history : list of list of float
        Relative residual of each column: before the first and after each iteration; true ones
        replace recurred ones.
    """

    x: NDArray[np.float64]
    residual: NDArray[np.float64]
    direction: NDArray[np.float64]
    anchor: NDArray[np.float64]
    energy: NDArray[np.float64]
    sizes: NDArray[np.float64]
    reference: NDArray[np.float64]
    least: NDArray[np.float64]
    open: NDArray[np.bool_]
    active: NDArray[np.bool_]
    solved: NDArray[np.bool_]
    finished: NDArray[np.int64]
    norm: float
    iteration: int
    unchecked: int
    low: bool
    history: list[list[float]]


def start(system: System, rhs: NDArray[np.float64]) -> Iterates:
    """Iterates of the solution zero, whose residual is the right-hand side."""
    sizes = norms(rhs)
    direction = system.precondition(rhs, np.arange(rhs.shape[1]))
    live = sizes > 0
    return Iterates(
        x=np.zeros_like(rhs),
        residual=rhs.copy(),
        direction=direction,
        anchor=np.zeros_like(rhs),
        energy=dots(rhs, direction),
        sizes=sizes,
        reference=sizes.copy(),
        least=sizes.copy(),
        open=live.copy(),
        active=live.copy(),
        solved=~live,
        finished=np.zeros(len(sizes), dtype=np.int64),
        norm=0.0,
        iteration=0,
        unchecked=0,
        low=system.low,
        history=[live.astype(np.float64).tolist()],
    )


def reopen(
    system: System, rhs: NDArray[np.float64], at: Iterates, *, tol: float, strict: bool
) -> None:
    """Take up all columns again, with residuals from their definition and new directions.

    For iterates whose tolerance or preconditioner was another, or that had come to an end.
    """
    norm_b = norms(rhs)
    at.open, at.active, at.solved = norm_b > 0, norm_b > 0, norm_b == 0
    _check(system, rhs, norm_b, at, tol, strict)
    c = np.flatnonzero(at.open)
    if len(c):
        at.direction[:, c] = system.precondition(at.residual[:, c], c)
        at.energy[c] = dots(at.residual[:, c], at.direction[:, c])


def iterate(
    system: System,
    rhs: NDArray[np.float64],
    at: Iterates,
    *,
    tol: float,
    max_iter: int,
    recompute_every: int,
    strict: bool,
    after: Callable[[Iterates], Any],
) -> None:
    """Run conjugate gradients on every column until each is solved or given up.

    Parameters
    ----------
    system : System
        The matrices and the preconditioner.
    rhs : ndarray of shape (n, t)
        Right-hand sides.
    at : Iterates
        Where to go on from; overwritten.
    tol : float
        Residual, relative to that of the solution zero, at which a column is solved.
    max_iter : int
        Limit on ``at.iteration``.
    recompute_every : int
        Iterations after which the residual is computed from its definition at the latest.
    strict : bool
        The matrix may be singular: a column must also have a residual of 1e-6 ``||b||``.
    after : callable
        Called with ``at`` after each iteration.

    Raises
    ------
    NotPositiveDefiniteError
        If float64 products show a direction of negative curvature.

    Notes
    -----
    A column is solved when its true residual, in float64, is at most ``tol ||b||``. Its recurrence
    only decides when to look. Where the true residual agrees with the recurred one, it takes its
    place and the directions go on; where not, they start anew, and if low-precision products are to
    blame they are given up for float64 ones. A column whose true residual no longer halves ends
    with its best iterate where the recurrence has lost it, or where that one leaves no more than a
    float64 direct solve, ``0.5 eps (||A|| ||x|| + ||b||)``; the latter counts as solved. ||A|| is
    what products showed of ||K||, plus the column's own ridge.

    References
    ----------
    Van der Vorst and Ye, Residual replacement strategies for Krylov subspace iterative methods,
    SIAM J. Sci. Comput. 22 (2000).
    Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22 (2000).
    """
    norm_b = norms(rhs)
    while at.open.any():
        if at.iteration >= max_iter:
            _check(system, rhs, norm_b, at, tol, strict, last=True)
            return
        c = np.flatnonzero(at.active)
        direction, energy = at.direction[:, c], at.energy[c]
        if at.iteration:
            image = system.product(direction, c, exact=False)
        else:
            image = _first_product(system, direction, c, at)
        curvature, length = dots(direction, image), norms(direction)
        stretch = norms(image) / np.where(length > 0, length, 1.0)
        at.norm = max(at.norm, float(np.max(_SHARP * stretch - system.ridges[c])))
        if not system.low:
            _require_positive(curvature, length, at.norm + system.ridges[c], len(rhs))
        rate, usable = step_length(curvature, energy)
        at.x[:, c] += rate * direction
        image *= rate
        at.residual[:, c] -= image
        at.sizes[c] = norms(at.residual[:, c])
        at.iteration += 1
        at.finished[c] = at.iteration
        at.unchecked += 1
        at.history.append(relative(at.sizes, norm_b).tolist())
        floor = _floor(at.norm + system.ridges, norms(at.x), norm_b, strict)
        goal = _MARGIN * np.maximum(tol * norm_b, floor)
        if system.low:
            goal = np.maximum(goal, _STRIDE * at.reference)
        at.active[c] = usable & (at.sizes[c] > goal[c])
        broken = np.zeros(len(norm_b), dtype=bool)
        broken[c] = ~usable
        restart = broken
        if not at.active.any() or at.unchecked >= recompute_every:
            restart = _check(system, rhs, norm_b, at, tol, strict, broken)
        _turn(system, at, c, image, energy, restart)
        after(at)


def _first_product(
    system: System, direction: NDArray[np.float64], columns: NDArray[np.intp], at: Iterates
) -> NDArray[np.float64]:
    """A product with a vector of ones beside it, whose image bounds ||K|| from below.

    Preconditioned directions alone may have almost no part in the large eigenvalues.
    """
    ones = np.ones((len(direction), 1))
    # Of the smallest ridge, which is subtracted again.
    own = columns[[np.argmin(system.ridges[columns])]]
    beside = np.append(columns, own)
    image = system.product(np.hstack([direction, ones]), beside, exact=False)
    bare = image[:, -1:] - system.ridge(own)
    at.norm = float(np.linalg.norm(bare)) / len(direction) ** 0.5
    return np.ascontiguousarray(image[:, :-1])


def _turn(
    system: System,
    at: Iterates,
    moved: NDArray[np.intp],
    image: NDArray[np.float64],
    energy: NDArray[np.float64],
    restart: NDArray[np.bool_],
) -> None:
    """New search directions of the active columns.

    A column that did not move in this iteration, as it waited for its true residual, starts anew.
    """
    a = np.flatnonzero(at.active)
    if not len(a):
        return
    z = system.precondition(at.residual[:, a], a)
    going = np.isin(a, moved) & ~restart[a]
    place = np.searchsorted(moved, a[going])
    mix = np.zeros(len(a))
    # Polak-Ribiere form: tolerates replaced residuals and rounding in the preconditioner.
    mix[going] = -dots(image[:, place], z[:, going]) / energy[place]
    at.direction[:, a] = z + mix * at.direction[:, a]
    at.energy[a] = dots(at.residual[:, a], z)


def _require_positive(
    curvature: NDArray[np.float64],
    length: NDArray[np.float64],
    norm: NDArray[np.float64],
    n: int,
) -> None:
    noise = n * _EPS * norm * length**2
    if (curvature < -noise).any():
        worst = float(np.min(curvature / np.where(length > 0, length, 1.0) ** 2))
        raise NotPositiveDefiniteError(
            f"the kernel matrix plus ridge is not positive definite: a direction has curvature "
            f"{worst:.3g}, the largest found is {norm.max():.3g}. Raise alpha by at least "
            f"{-worst:.3g} (absolute), or check data and network."
        )


def _sharp_norm(system: System, n: int) -> float:
    """A lower bound of ||K|| that is sharp, for the columns that would be given up: power steps."""
    own = np.array([np.argmin(system.ridges)])
    vector = np.random.default_rng(0).standard_normal((n, 1))
    bound = 0.0
    for _ in range(_POWER_STEPS):
        image = system.product(vector, own, exact=True) - system.ridge(own) * vector
        size = float(norms(image)[0])
        if not 0 < size < np.inf:
            return 0.0
        bound, vector = size / float(norms(vector)[0]), image / size
    return _SHARP * bound


def _floor(
    norm: NDArray[np.float64],
    length: NDArray[np.float64],
    norm_b: NDArray[np.float64],
    strict: bool,
) -> NDArray[np.float64]:
    """Residual that a float64 direct solve leaves, for each column; see :func:`iterate`."""
    floor = _DIRECT * _EPS * (norm * length + norm_b)
    if strict:
        floor = np.minimum(floor, MEANINGFUL * norm_b)
    return np.where(np.isfinite(floor), floor, 0.0)


def _check(
    system: System,
    rhs: NDArray[np.float64],
    norm_b: NDArray[np.float64],
    at: Iterates,
    tol: float,
    strict: bool,
    broken: NDArray[np.bool_] | None = None,
    last: bool = False,
) -> NDArray[np.bool_]:
    """Compute the residual of open columns anew; decide which are solved, go on or start anew.

    ``broken`` are columns whose direction had no positive curvature; ``last`` says that no
    iteration will follow. Returns the columns whose directions must start anew.
    """
    c = np.flatnonzero(at.open)
    true = rhs[:, c] - system.product(at.x[:, c], c, exact=True)
    sizes, before = norms(true), at.reference[c]
    apart = norms(true - at.residual[:, c])
    halted = np.zeros(len(c), dtype=bool) if broken is None else broken[c]
    # Written so that a residual that is not a number is lost, and no better than another one.
    lost = ~(apart <= 0.5 * sizes) | halted
    restart = ~(apart <= _AGREE * sizes) | halted
    better, stalled = sizes < at.least[c], ~(sizes <= 0.5 * before)
    at.anchor[:, c[better]] = at.x[:, c[better]]
    at.least[c[better]] = sizes[better]
    met = sizes <= tol * norm_b[c]
    length, least = norms(at.anchor[:, c]), at.least[c]
    floor = _floor(at.norm + system.ridges[c], length, norm_b[c], strict)
    ended = stalled & (lost | (least <= floor))
    if system.low:
        if (~met & (halted | (lost & ~(sizes <= _AGREE * before)))).any():
            logger.debug("low-precision products no longer help: float64 from here")
            system.raise_precision()
            at.low = False
            restart[:] = True
        ended[:] = False
    closing = (ended | last) & ~met
    if (closing & (least > floor)).any():
        at.norm = max(at.norm, _sharp_norm(system, len(rhs)))
        floor = _floor(at.norm + system.ridges[c], length, norm_b[c], strict)
    solved = met | (closing & (least <= floor))
    back = ~met & ~better & (closing | (lost & ~(sizes <= before)))
    if back.any():
        r = c[back]
        at.x[:, r] = at.anchor[:, r]
        true[:, back] = rhs[:, r] - system.product(at.x[:, r], r, exact=True)
        sizes = norms(true)
        restart |= back
    at.residual[:, c] = true
    at.sizes[c] = at.reference[c] = sizes
    at.solved[c] = solved
    at.open[c] = at.active[c] = ~solved & ~ended
    at.unchecked = 0
    at.history[-1] = relative(at.sizes, norm_b).tolist()
    fresh = np.zeros(len(norm_b), dtype=bool)
    fresh[c] = restart
    logger.debug("iteration %d: true residual %.2e", at.iteration, max(at.history[-1]))
    return fresh
