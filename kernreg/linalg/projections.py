"""Accelerated random block projections for ``A x = b``, with the residual of every row at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Blocks", "Projected", "run_pass", "start"]

# Share of the extrapolated sequence's contraction that a pass is trusted with at first, and how
# it changes when the objective rises.
_FIRST = 0.25


class Blocks(Protocol):
    """A positive definite matrix in blocks of rows."""

    def solve(self, rows: NDArray[np.int64], R: NDArray[np.float64]) -> NDArray[np.float64]:
        """``A[rows][:, rows]^-1 R``."""

    def columns_times(
        self, rows: NDArray[np.int64], D: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """``A[:, rows] D``."""


@dataclass(eq=False)
class Projected:
    """Everything that the projections go on from.

    Parameters
    ----------
    x, ahead : ndarray of shape (n, t)
        Current solution, and the sequence that it is extrapolated with.
    residual, residual_ahead : ndarray of shape (n, t)
        ``b - A x`` of both, recurred.
    objective : ndarray of shape (t,)
        ``x^T A x / 2 - b^T x``.
    reference : ndarray of shape (t,)
        Norm of the last true residual.
    step : int
        Blocks done in this pass.
    passes : int
        Passes done, and products to check the residual.
    rounds : int
        Passes done; number of the permutation.
    low : bool
        Whether entries have the low precision.
    solved, stuck : bool
        Whether the true residual met the target; whether it stopped to fall.
    history : list of float
        Largest relative residual over all columns: before the first and after each pass.
    """

    x: NDArray[np.float64]
    ahead: NDArray[np.float64]
    residual: NDArray[np.float64]
    residual_ahead: NDArray[np.float64]
    objective: NDArray[np.float64]
    reference: NDArray[np.float64]
    step: int
    passes: int
    rounds: int
    low: bool
    solved: bool
    stuck: bool
    history: list[float]


def start(rhs: NDArray[np.float64], low: bool) -> Projected:
    """Iterates of the solution zero, whose residual is the right-hand side."""
    sizes = np.linalg.norm(rhs, axis=0)
    return Projected(
        x=np.zeros_like(rhs),
        ahead=np.zeros_like(rhs),
        residual=rhs.copy(),
        residual_ahead=rhs.copy(),
        objective=np.zeros(rhs.shape[1]),
        reference=sizes,
        step=0,
        passes=0,
        rounds=0,
        low=low,
        solved=not sizes.any(),
        stuck=False,
        history=[float(sizes.any())],
    )


def replace_residual(
    at: Projected, rhs: NDArray[np.float64], true: NDArray[np.float64]
) -> None:
    """Go on from a residual that was computed anew, without extrapolation."""
    at.residual[...] = true
    at.residual_ahead[...] = true
    at.ahead[...] = at.x
    at.reference = np.linalg.norm(true, axis=0)
    at.objective = -0.5 * np.einsum("nt,nt->t", at.x, rhs + true)


def run_pass(
    blocks: Blocks,
    rhs: NDArray[np.float64],
    at: Projected,
    *,
    size: int,
    seed: int,
    mu: float,
    after: Callable[[Projected], Any],
) -> None:
    """One pass over all rows in random order, or the rest of one.

    Parameters
    ----------
    blocks : Blocks
        The matrix.
    rhs : ndarray of shape (n, t)
        Right-hand sides.
    at : Projected
        Where to go on from; overwritten.
    size : int
        Rows of a block.
    seed : int
        Of the order, together with the number of the pass.
    mu : float
        Assumed smallest eigenvalue of the mean projection, at most ``size / n``.
    after : callable
        Called with ``at`` after each block.

    Notes
    -----
    A step projects the error of ``y = x + (ahead - x) / (1 + gamma nu)`` on the complement of a
    block: ``d = A_BB^-1 r_B``, exact. The one product ``A[:, B] d`` keeps the residuals of all
    sequences, so that the objective is known after every step. A column whose objective rises is
    extrapolated no further: its sequences are joined, as in adaptive restart. Without a rise the
    steps are those of algorithm 1 of the paper.

    References
    ----------
    Rathore, Frangella, Yang, Derezinski, Udell, Have ASkotch (arXiv 2407.10070), algorithm 3.
    Gower, Hanzely, Richtarik, Stich, Accelerated stochastic matrix inversion (arXiv 1802.04079).
    O'Donoghue and Candes, Adaptive restart for accelerated gradient schemes (2015).
    """
    n = len(rhs)
    order = np.random.default_rng([seed, at.rounds]).permutation(n)
    nu = n / size
    beta, gamma = 1.0 - (mu / nu) ** 0.5, 1.0 / (mu * nu) ** 0.5
    mix = 1.0 / (1.0 + gamma * nu)
    for begin in range(at.step * size, n, size):
        rows = np.sort(order[begin : begin + size])
        # y takes the place of x, and its residual that of the residual of x.
        at.x += mix * (at.ahead - at.x)
        at.residual += mix * (at.residual_ahead - at.residual)
        d = blocks.solve(rows, at.residual[rows])
        image = blocks.columns_times(rows, d)
        for sequence, other in ((at.ahead, at.x), (at.residual_ahead, at.residual)):
            sequence *= beta
            sequence += (1.0 - beta) * other
        at.ahead[rows] += gamma * d
        at.residual_ahead -= gamma * image
        at.x[rows] += d
        at.residual -= image
        objective = -0.5 * np.einsum("nt,nt->t", at.x, rhs + at.residual)
        risen = objective > at.objective
        at.ahead[:, risen] = at.x[:, risen]
        at.residual_ahead[:, risen] = at.residual[:, risen]
        at.objective = objective
        at.step += 1
        if at.step * size >= n:
            at.step, at.rounds, at.passes = 0, at.rounds + 1, at.passes + 1
        after(at)
