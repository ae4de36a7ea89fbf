"""Projections on random blocks for ``A x = b``, with the residual of every row at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kernreg.numerics.columns import dots, norms

__all__ = ["Blocks", "Projected", "replace_residual", "run_pass", "start"]


# Length of a sum of steps, over that of x, from which its digits are its own.
_SOUND = 1e3 * float(np.finfo(np.float64).eps)


class Blocks(Protocol):
    """A positive definite matrix in blocks of rows."""

    def solve(self, rows: NDArray[np.int64], R: NDArray[np.float64]) -> NDArray[np.float64]:
        """``A[rows][:, rows]^-1 R``."""

    def columns_times(self, rows: NDArray[np.int64], D: NDArray[np.float64]) -> NDArray[np.float64]:
        """``A[:, rows] D``."""


@dataclass(eq=False)
class Projected:
    """Everything that the projections go on from.

    Parameters
    ----------
    x, residual : ndarray of shape (n, t)
        Current solution, and ``b - A x``, recurred.
    anchor, anchor_residual : ndarray of shape (n, t)
        Both at the beginning of the pass.
    directions, images : ndarray of shape (k, n, t)
        Sums of the last passes, conjugate to each other, and A times these; zeros at first.
    reference : ndarray of shape (t,)
        Norm of the last true residual.
    step : int
        Blocks done in this pass.
    rounds : int
        Passes done.
    passes : int
        Passes done, and products to check the residual.
    low : bool
        Whether entries have the low precision.
    solved, stuck : bool
        Whether the true residual met the target; whether it stopped to fall.
    history : list of float
        Largest relative residual over all columns: before the first and after each pass.
    """

    x: NDArray[np.float64]
    residual: NDArray[np.float64]
    anchor: NDArray[np.float64]
    anchor_residual: NDArray[np.float64]
    directions: NDArray[np.float64]
    images: NDArray[np.float64]
    reference: NDArray[np.float64]
    step: int
    rounds: int
    passes: int
    low: bool
    solved: bool
    stuck: bool
    history: list[float]


def start(rhs: NDArray[np.float64], kept: int, low: bool) -> Projected:
    """Iterates of the solution zero, whose residual is the right-hand side."""
    sizes = norms(rhs)
    return Projected(
        x=np.zeros_like(rhs),
        residual=rhs.copy(),
        anchor=np.zeros_like(rhs),
        anchor_residual=rhs.copy(),
        directions=np.zeros((kept, *rhs.shape)),
        images=np.zeros((kept, *rhs.shape)),
        reference=sizes,
        step=0,
        rounds=0,
        passes=0,
        low=low,
        solved=not sizes.any(),
        stuck=False,
        history=[float(sizes.any())],
    )


def replace_residual(at: Projected, true: NDArray[np.float64]) -> None:
    """Go on from a residual that was computed anew, with no earlier direction."""
    at.residual[...] = true
    at.anchor[...] = at.x
    at.anchor_residual[...] = true
    at.directions[...] = 0.0
    at.images[...] = 0.0
    at.reference = norms(true)
    at.step = 0


def run_pass(
    blocks: Blocks,
    at: Projected,
    *,
    size: int,
    seed: int,
    after: Callable[[Projected], Any],
) -> None:
    """One pass over all rows in random order, or the rest of one.

    Parameters
    ----------
    blocks : Blocks
        The matrix.
    at : Projected
        Where to go on from; overwritten.
    size : int
        Rows of a block.
    seed : int
        Of the order, together with the number of the pass.
    after : callable
        Called with ``at`` after each block.

    Notes
    -----
    A step projects the error on the complement of a block: ``x_B += A_BB^-1 r_B``, exact. The one
    product with ``A[:, B]`` keeps the residual of all rows. The sum of a pass then is a search
    direction: made conjugate to the last ones, of whose span with it x takes the best in the norm
    of the energy. So a pass with this acceleration is never worse than one without, and there is
    no parameter to guess.

    References
    ----------
    Gower and Richtarik, Randomized iterative methods for linear systems (arXiv 1506.03296).
    Notay, Flexible conjugate gradients, SIAM J. Sci. Comput. 22 (2000).
    """
    n = len(at.x)
    order = np.random.default_rng([seed, at.rounds]).permutation(n)
    for begin in range(at.step * size, n, size):
        rows = np.sort(order[begin : begin + size])
        d = blocks.solve(rows, at.residual[rows])
        at.x[rows] += d
        at.residual -= blocks.columns_times(rows, d)
        at.step += 1
        if begin + size >= n:
            _combine(at)
            at.step, at.rounds, at.passes = 0, at.rounds + 1, at.passes + 1
        after(at)


def _combine(at: Projected) -> None:
    """Put the sum of a pass among the directions and minimise over all of them."""
    direction = at.x - at.anchor
    image = at.anchor_residual - at.residual
    # A sum near the rounding of x has another image than the residuals tell: no direction.
    sound = norms(direction) > _SOUND * norms(at.x)
    direction *= sound
    image *= sound
    for p, Ap in zip(at.directions, at.images, strict=True):
        factor = _ratio(dots(direction, Ap), dots(p, Ap))
        direction -= factor * p
        image -= factor * Ap
    if len(at.directions):
        at.directions[:-1], at.images[:-1] = at.directions[1:], at.images[1:]
        at.directions[-1], at.images[-1] = direction, image
    for p, Ap in [*zip(at.directions[:-1], at.images[:-1], strict=True), (direction, image)]:
        factor = _ratio(dots(p, at.anchor_residual), dots(p, Ap))
        at.anchor += factor * p
        at.anchor_residual -= factor * Ap
    at.x[:, sound] = at.anchor[:, sound]
    at.residual[:, sound] = at.anchor_residual[:, sound]
    at.anchor[...] = at.x
    at.anchor_residual[...] = at.residual


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """``a / b``, and 0 where no curvature is left."""
    return np.where(b > 0, a / np.where(b > 0, b, 1.0), 0.0)
