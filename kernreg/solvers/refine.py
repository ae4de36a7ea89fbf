"""Iterative refinement: float64 accuracy from a float32 factor.

The residual is computed with float64 tiles that are evaluated again for every product, so no
second matrix exists; the low-precision factor is the preconditioner of conjugate gradients. Where
``eps32 * cond < 1`` that converges like classical refinement, in three products, of which the last
moves so little that entries in float32 serve; where it is not, conjugate gradients still converge
although the fixed-point iteration would not.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.numerics.columns import norms
from kernreg.operators.base import Operator
from kernreg.operators.mirrored import Tile, add_half
from kernreg.operators.panels import panel_bounds

__all__ = [
    "MEANINGFUL",
    "Coarse",
    "Product",
    "Refined",
    "SymmetricProduct",
    "backward_target",
    "refine",
    "step_length",
]

logger = logging.getLogger(__name__)

_EPS = float(np.finfo(np.float64).eps)
# Backward error, in eps, at which a column is done: what a float64 Cholesky solve reaches.
_BACKWARD = 16.0
# Share of the residual aimed at that coarse products may make wrong.
_COARSE = 0.25
MEANINGFUL = 1e-6
"""Relative residual above which a solution of a nearly singular system is not called one."""


def product_tile(n: int) -> tuple[int, int]:
    """Rows and columns of a float64 tile: about n^2/160 numbers, and tall, which costs less."""
    rows = min(n, max(64, min(480, n // 8)))
    return rows, min(n, max(rows, n * n // (160 * rows)))


class Product(Protocol):
    """A symmetric matrix that counts its products, and knows a lower bound of its norm."""

    count: int
    norm: float

    def __call__(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """Its product with columns V."""


@dataclass(frozen=True)
class Coarse:
    """A cheaper product with the same matrix, wrong by about ``error`` times the length of V."""

    times: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    error: float


class SymmetricProduct:
    """``V -> (K + diag(shift)) V`` in float64, from the lower half of K alone.

    Parameters
    ----------
    operator : Operator of dtype float64
        Symmetric; its tiles are evaluated anew in every product.
    shift : float or ndarray of shape (n,)
        Added to the diagonal.
    tile : (int, int), optional
        Rows and columns of a tile; :func:`product_tile` if left out.
    rough : Operator, optional
        The same matrix in another type, for :meth:`roughly`.

    Notes
    -----
    Cost of a product: half a Gram matrix and 2 n^2 t operations. Memory: one tile of
    about n^2/160 numbers. The first product also sets ``norm``, a lower bound of
    ||A||_2 that is sharp where few eigenvalues dominate: sum(lambda^2) / sum(lambda), or
    ||A 1|| / ||1|| where the operator multiplies without tiles.
    """

    def __init__(
        self,
        operator: Operator,
        shift: float | NDArray[np.float64],
        tile: tuple[int, int] | None = None,
        rough: Operator | None = None,
    ) -> None:
        self.operator = operator
        self.rough = rough
        self.n = int(operator.shape[0])
        self.shift = np.broadcast_to(np.asarray(shift, dtype=np.float64), (self.n,))
        self.count = 0
        self.norm = 0.0
        rows, self._columns = tile or product_tile(self.n)
        self._rows = min(rows, self._columns)  # corners of a panel take the tile, too
        self._buffer = np.empty(self._rows * self._columns)

    def __call__(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.operator.fused:
            return self._fused(V)
        result = self._times(V, self._tiles() if self.count else self._measured())
        self.count += 1
        return result

    def roughly(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same from the entries of ``rough``; it does not count."""
        assert self.rough is not None
        return self._times(V, self._tiles(self.rough))

    def _times(self, V: NDArray[np.float64], tiles: Iterator[Tile]) -> NDArray[np.float64]:
        source = torch.from_numpy(V).T.contiguous()
        target = source * torch.from_numpy(self.shift.copy())
        return add_half(tiles, source, target).T.numpy().copy()

    def _tiles(self, other: Operator | None = None) -> Iterator[Tile]:
        """The lower half by tiles in float64, of the operator or of another one."""
        operator = other or self.operator
        room = self._buffer if other is None else np.empty(len(self._buffer), dtype=other.dtype)
        for i0, i1 in panel_bounds(self.n, self._rows):
            for j0 in [*range(0, i0, self._columns), i0]:
                j1 = min(j0 + self._columns, i0) if j0 < i0 else i1
                shape = i1 - i0, j1 - j0
                tile, made = (a[: math.prod(shape)].reshape(shape) for a in (self._buffer, room))
                operator.tile(slice(i0, i1), slice(j0, j1), made)
                if room is not self._buffer:
                    tile[...] = made
                yield i0, j0, torch.from_numpy(tile)

    def _measured(self) -> Iterator[Tile]:
        """The tiles, which tell the norm of the matrix on their way."""
        squares = trace = 0.0
        for i0, j0, tile in self._tiles():
            yield i0, j0, tile
            if j0 < i0:
                squares += 2.0 * float(torch.linalg.vector_norm(tile)) ** 2
            else:
                corner = tile + torch.diag(torch.from_numpy(self.shift[i0 : i0 + len(tile)].copy()))
                squares += float(torch.linalg.vector_norm(corner)) ** 2
                trace += float(corner.trace())
        if trace > 0:
            self.norm = squares / trace

    def _fused(self, V: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product by an operator that stores no tiles."""
        if not self.count:
            # A vector of ones beside V: its Rayleigh quotient bounds ||A|| from below.
            V = np.column_stack([V, np.ones(self.n)])
        result = np.asarray(self.operator @ V) + self.shift[:, None] * V
        if not self.count:
            self.norm = float(np.linalg.norm(result[:, -1])) / self.n**0.5
            result = result[:, :-1]
        self.count += 1
        return result


@dataclass(frozen=True, eq=False)
class Refined:
    """Outcome of :func:`refine`: the solution, relative residuals, and which columns are done."""

    value: NDArray[np.float64]
    residuals: tuple[float, ...]
    converged: NDArray[np.bool_]


def refine(
    product: Product,
    precondition: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    rhs: NDArray[np.float64],
    *,
    max_products: int,
    strict: bool = False,
    coarse: Coarse | None = None,
) -> Refined:
    """Solve to the residual of a float64 solve by preconditioned conjugate gradients.

    Parameters
    ----------
    product : Product
        The matrix in float64.
    precondition : callable
        Approximate inverse, symmetric up to rounding.
    rhs : ndarray of shape (n, t)
        Right-hand sides, each its own recurrence; the products are shared.
    max_products : int
        Limit on products with the matrix, at least 1, and on the coarse ones of a cycle.
    strict : bool, default=False
        Ask also for a residual of 1e-6 relative to ``rhs``. For a matrix that may be singular,
        where a huge solution has a small backward error and no meaning.
    coarse : Coarse, optional
        Taken for steps so short that its error does not matter.

    Returns
    -------
    Refined
        Best solution found, its residual history, and the columns that reached the target.

    Notes
    -----
    A column is done when ``||r|| <= 16 eps (||A|| ||x|| + ||b||)``, with a lower estimate of
    ||A||. Every cycle starts from a residual computed from its definition. The recurrence adds
    an error of ``eps ||A||`` times the path of the iterates, so it decides only if that path is
    no longer than ``||x||`` (the error of the definition too), and is reported with that error
    added, and that of coarse products; otherwise the residual is computed anew.

    References
    ----------
    Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 12.
    Notay, Flexible Conjugate Gradients, SIAM J. Sci. Comput. 22 (2000).
    """
    norm_b = norms(rhs)
    safe_b = np.where(norm_b > 0, norm_b, 1.0)
    value = precondition(rhs)
    residual = rhs - product(value)
    sizes = norms(residual)
    history = [float(np.max(sizes / safe_b))]
    while True:
        rounding = _EPS * (product.norm * norms(value) + norm_b)
        target = backward_target(rounding, norm_b, strict)
        done = sizes <= target
        logger.debug("refinement: relative residual %.2e", history[-1])
        if done.all() or product.count + 1 >= max_products:
            break
        step, recurred, travel = _cycle(
            product, coarse, precondition, residual, target, max_products - 1
        )
        trial = value + step
        length = norms(trial)
        rounding = _EPS * (product.norm * length + norm_b)
        bound = recurred + rounding
        if np.all((travel <= length) & (bound <= backward_target(rounding, norm_b, strict))):
            history.append(float(np.max(bound / safe_b)))
            return Refined(trial, tuple(history), np.ones(len(norm_b), dtype=bool))
        fresh = rhs - product(trial)
        fresh_sizes = norms(fresh)
        better = fresh_sizes < sizes
        stalled = not np.any(fresh_sizes[~done] < 0.5 * sizes[~done])
        value = np.where(better, trial, value)
        residual = np.where(better, fresh, residual)
        sizes = np.where(better, fresh_sizes, sizes)
        history.append(float(np.max(sizes / safe_b)))
        if stalled:
            rounding = _EPS * (product.norm * norms(value) + norm_b)
            done = sizes <= backward_target(rounding, norm_b, strict)
            break
    return Refined(value, tuple(history), done)


def backward_target(
    rounding: NDArray[np.float64], norm_b: NDArray[np.float64], strict: bool
) -> NDArray[np.float64]:
    """Residual of each column that counts as solved, shape (t,).

    Parameters
    ----------
    rounding : ndarray of shape (t,)
        ``eps (||A|| ||x|| + ||b||)``.
    norm_b : ndarray of shape (t,)
        ``||b||``.
    strict : bool
        Ask also for 1e-6 of ``||b||``: the matrix may be singular, see :func:`refine`.
    """
    target = _BACKWARD * rounding
    return np.minimum(target, MEANINGFUL * norm_b) if strict else target


def step_length(
    curvature: NDArray[np.float64], energy: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """How far each column goes along its direction, and whether that is a way down."""
    usable = (curvature > 0) & (energy > 0)
    return np.where(usable, energy / np.where(usable, curvature, 1.0), 0.0), usable


def _cycle(
    product: Product,
    coarse: Coarse | None,
    precondition: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    residual: NDArray[np.float64],
    target: NDArray[np.float64],
    limit: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """One run of flexible conjugate gradients on ``A step = residual``.

    Returns the step, a bound on the recurred residual after it, and the length of the path to it.
    """
    step = np.zeros_like(residual)
    travel, lost = np.zeros((2, residual.shape[1]))
    residual = residual.copy()
    z = precondition(residual)
    direction = z.copy()
    energy = np.sum(residual * z, axis=0)
    count = 0
    while product.count + count < limit:
        length = norms(direction)
        # A step is about as long as its direction.
        if coarse and np.all(lost + 2.0 * coarse.error * length <= _COARSE * target):
            image, error = coarse.times(direction), coarse.error * length
            count += 1
        else:
            image, error = product(direction), np.zeros_like(length)
        curvature = np.sum(direction * image, axis=0)
        rate, usable = step_length(curvature, energy)
        step += rate * direction
        travel += rate * length
        lost += rate * error
        image *= rate
        residual -= image
        if not usable.any() or np.all(~usable | (norms(residual) <= 0.5 * target)):
            break
        z = precondition(residual)
        # Polak-Ribiere form: tolerates a preconditioner that rounding makes slightly unsymmetric.
        mixed = -np.sum(image * z, axis=0)
        direction = z + np.where(usable, mixed / np.where(usable, energy, 1.0), 0.0) * direction
        energy = np.sum(residual * z, axis=0)
    return step, norms(residual) + lost, travel
