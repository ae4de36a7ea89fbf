"""Gradients of weighted sums of the entries of a kernel matrix, tile by tile.

Nothing of the size of the matrix is kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kernreg.backends.derivatives import Differentiable, Tile, traced_diagonal, traced_tile
from kernreg.backends.differentiate import derivatives_of
from kernreg.exceptions import InvalidInputError
from kernreg.ir.operations import Apply, all_ops
from kernreg.ir.program import Program

__all__ = [
    "pull_back",
    "pull_back_diagonal_twice",
    "pull_back_twice",
    "require_closed_forms",
    "require_vectors",
    "weights_of",
    "weights_of_product",
]

# Rows and columns of a tile: low ones waste little above the diagonal of a symmetric matrix.
_LOW, _WIDE = 256, 2048
# Entries of a tile that is not worth float32, and of the sample that tells what is typical.
_FEW = 4096
# Torch keeps every step of a tile to go back through.
_TRACED = 128

Weights = Callable[[slice, slice], Tensor]
"""Weights of the entries of some rows and columns; of a symmetric matrix each has those of its
mirror image added."""


def weights_of(G: Tensor, symmetric: bool) -> Weights:
    """The entries of a matrix."""
    if symmetric:
        return lambda rows, columns: G[rows, columns] + G[columns, rows].T
    return lambda rows, columns: G[rows, columns]


def weights_of_product(left: Tensor, right: Tensor, symmetric: bool) -> Weights:
    """The entries of ``left @ right.T``, which is not stored."""
    if symmetric:
        left, right = torch.cat([left, right], dim=1), torch.cat([right, left], dim=1)
    return lambda rows, columns: left[rows] @ right[columns].T


def require_vectors(program: Program) -> None:
    """Refuse gradients of networks on images."""
    if program.axes != 0 or program.shape is not None:
        raise InvalidInputError(
            "Gradients by the inputs of networks on images are not available: pass X.detach(), or "
            "use differences of kernels."
        )


def _cuts(n: int, step: int) -> Iterator[slice]:
    return (slice(i, min(n, i + step)) for i in range(0, n, step))


def _tiles(n1: int, n2: int | None) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of tiles; without ``n2`` those on and below the diagonal."""
    for rows in _cuts(n1, _LOW):
        for columns in _cuts(rows.start if n2 is None else n2, _WIDE):
            yield rows, columns
        if n2 is None:
            yield rows, rows


def pull_back(
    program: Program,
    X1: Tensor,
    X2: Tensor | None,
    kernel: str,
    weights: Weights,
    wanted: tuple[bool, bool] = (True, True),
    dtype: torch.dtype = torch.float64,
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of ``sum_ij w_ij K_ij`` by both sets of rows.

    Parameters
    ----------
    program : Program
        On vectors.
    X1, X2 : Tensor of shape (n, d)
        Rows; no ``X2`` stands for the symmetric matrix, whose gradient is by ``X1``.
    kernel : str
        "ntk" or "nngp".
    weights : callable
        Gives ``w`` for some rows and columns.
    wanted : tuple of bool
        Which gradients.
    dtype : torch.dtype
        Of the entries of the derivatives. Tiles with pairs so close that parts of the gradient
        cancel, or whose entries overflow, are float64 nevertheless.

    Returns
    -------
    tuple of Tensor or None
        In float64, of the shapes of the rows.

    Notes
    -----
    With the derivatives ``K_c`` by ``<x, x'> / d`` and ``K_q`` by ``|x|^2 / d`` the gradient by a
    row ``x`` is ``sum_j w_j (K_c x_j + 2 K_q x) / d``. Time O(n1 n2 (d + depth)), memory O(n d).
    """
    require_vectors(program)
    A = X1.to(torch.float64)
    B = A if X2 is None else X2.to(torch.float64)
    symmetric = X2 is None
    sides = 2 if symmetric or wanted[1] else 1
    bound, d = derivatives_of(program, A, B, kernel, sides, dtype), A.shape[1]
    precise: Differentiable | None = None
    first = torch.zeros_like(A)
    second = first if symmetric else torch.zeros_like(B)
    # Sums of weights times derivatives by the squares of rows, which belong to the rows themselves.
    stretch = A.new_zeros(len(A))
    other = stretch if symmetric else B.new_zeros(len(B))
    own = A.new_empty(len(A)) if symmetric else None
    slope = bound.diagonal()
    rounded = (A.to(dtype), B.to(dtype))
    for rows, columns in _tiles(len(A), None if symmetric else len(B)):
        w = weights(rows, columns)
        diagonal = symmetric and rows == columns
        if own is not None and diagonal:  # a row with itself follows below
            own[rows] = w.diagonal()
            w.fill_diagonal_(0.0)
        tile = bound.tile(rows, columns)
        if dtype == torch.float32 and _loses_digits(tile, slope[rows]):
            precise = precise or derivatives_of(program, A, B, kernel, sides)
            tile = precise.tile(rows, columns)
        kind = tile.by_product.dtype
        w, (left, right) = w.to(kind), rounded if kind == dtype else (A, B)
        left, right = left[rows], right[columns]
        across = tile.by_product.mul_(w)
        if wanted[0]:
            first[rows] += across @ right
            stretch[rows] += tile.by_square[0].mul_(w).sum(1)
        if sides == 2 and not diagonal:
            second[columns] += across.T @ left
            other[columns] += tile.by_square[1].mul_(w).sum(0)
    if own is not None:
        first += (2.0 * stretch + own * slope)[:, None] * A
        return first / d, None
    first += 2.0 * stretch[:, None] * A
    second += 2.0 * other[:, None] * B
    return first / d if wanted[0] else None, second / d if wanted[1] else None


def _loses_digits(tile: Tile, slope: Tensor) -> bool:
    """Whether some derivatives are so large that their parts cancel, or overflow.

    Those of the tangent kernel of a kink grow as one over the angle, with opposite signs by the
    product and by the squares; those by the square of a row of zeros are beyond float32. They are
    large beside those of most pairs, or beside ``slope``, that of the rows with themselves, which
    stays finite. Of few entries most may be close pairs.
    """
    entries = tile.by_product
    if entries.numel() < _FEW:
        return True
    step = math.isqrt(entries.numel() // _FEW)
    typical = float(entries[::step, ::step].abs().median())
    own = float(slope.abs().mean())
    if 0 < own < typical:
        typical = own
    least, most = torch.aminmax(entries)
    if not max(-float(least), float(most)) <= 100.0 * typical:
        return True
    return not all(bool(torch.isfinite(square.sum())) for square in tile.by_square)


def pull_back_twice(
    program: Program,
    X1: Tensor,
    X2: Tensor | None,
    kernel: str,
    G: Tensor,
    moves: tuple[Tensor, Tensor | None],
) -> tuple[Tensor, Tensor | None]:
    """Gradients of ``sum_ij G_ij K'_ij``, of the change ``K'`` of a matrix as its rows move.

    Parameters
    ----------
    program : Program
        On vectors, its nonlinearities with closed forms.
    X1, X2 : Tensor of shape (n, d)
        Rows; no ``X2`` stands for the symmetric matrix.
    kernel : str
        "ntk" or "nngp".
    G : Tensor of shape (n1, n2)
        Weights of the entries.
    moves : tuple of Tensor
        How fast the rows of each side move.

    Returns
    -------
    tuple of Tensor
        By ``X1`` and by ``X2``, in float64. That by ``G`` is ``K'``, see :func:`push_forward`.

    Notes
    -----
    Torch goes back through the reference. Time O(n1 n2 (d + depth)), some hundred times that of the
    matrix; memory O(n d) and for a tile. Pairs of equal rows that meet a kink are left out.
    """
    require_closed_forms(program)
    A, B, moved1, moved2 = _moving(X1, X2, moves)
    _require_lengths(A, B)
    symmetric, G = X2 is None, G.to(torch.float64)
    first = torch.zeros_like(A)
    second = first if symmetric else torch.zeros_like(B)
    for rows in _cuts(len(A), _TRACED):
        for columns in _cuts(len(B), _TRACED):
            a, b = (X.detach().clone().requires_grad_() for X in (A[rows], B[columns]))
            with torch.enable_grad():
                tile, lost = traced_tile(program, a, b, kernel)
                w = torch.where(lost, 0.0, G[rows, columns])
                if symmetric and rows == columns:  # a row with itself follows below
                    w.fill_diagonal_(0.0)
                total = (w * _change(tile, a, b, (moved1[rows], moved2[columns]))).sum()
            by_a, by_b = torch.autograd.grad(total, (a, b))
            first[rows] += by_a
            second[columns] += by_b
    if symmetric:
        return first + pull_back_diagonal_twice(program, A, kernel, torch.diagonal(G), moved1), None
    return first, second


def push_forward(
    program: Program,
    X1: Tensor,
    X2: Tensor | None,
    kernel: str,
    moves: tuple[Tensor, Tensor | None],
) -> Tensor:
    """How fast the entries of a kernel matrix change as its rows move, in float64.

    Parameters are those of :func:`pull_back_twice`.
    """
    A, B, moved1, moved2 = _moving(X1, X2, moves)
    bound = derivatives_of(program, A, B, kernel, 2)
    out = A.new_empty((len(A), len(B)))
    for rows in _cuts(len(A), _LOW):
        for columns in _cuts(len(B), _WIDE):
            movement = moved1[rows], moved2[columns]
            tile = bound.tile(rows, columns)
            out[rows, columns] = _change(tile, A[rows], B[columns], movement)
    if X2 is None:
        out.diagonal().copy_(push_diagonal_forward(program, A, kernel, moved1))
    return out


def push_diagonal_forward(program: Program, X: Tensor, kernel: str, moves: Tensor) -> Tensor:
    """The same of the kernel of each row with itself."""
    wide = X.to(torch.float64)
    slope = Differentiable(program, wide, wide[:1], kernel).diagonal()
    return 2.0 * slope * (wide * moves.to(wide)).sum(1) / wide.shape[1]


def pull_back_diagonal_twice(
    program: Program, X: Tensor, kernel: str, g: Tensor, moves: Tensor
) -> Tensor:
    """Gradient of ``sum_i g_i K'_ii``, as of :func:`pull_back_twice`."""
    require_closed_forms(program)
    _require_lengths(X)
    a = X.detach().to(torch.float64, copy=True).requires_grad_()
    with torch.enable_grad():
        change = 2.0 * traced_diagonal(program, a, kernel) * (a * moves.to(a)).sum(1) / a.shape[1]
        (found,) = torch.autograd.grad((g.to(a) * change).sum(), a)
    return found


def _require_lengths(*sides: Tensor) -> None:
    """Refuse second derivatives at rows of zeros, where they are quotients of nothing."""
    for X in sides:
        if not bool((X != 0).any(dim=1).all()):
            raise InvalidInputError(
                "Second derivatives are not available at rows of zeros: drop them, or shift the "
                "columns."
            )


def _moving(
    X1: Tensor, X2: Tensor | None, moves: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows of both sides, and how fast they move, in float64."""
    A = X1.to(torch.float64)
    B = A if X2 is None else X2.to(torch.float64)
    left = moves[0].to(A)
    if X2 is None:
        return A, B, left, left
    return A, B, left, torch.zeros_like(B) if moves[1] is None else moves[1].to(A)


def _change(tile: Tile, A: Tensor, B: Tensor, moves: tuple[Tensor, Tensor]) -> Tensor:
    """How fast the entries of a tile change."""
    left, right = moves
    across = tile.by_product * (left @ B.T + A @ right.T)
    own = [(V * X).sum(1) for V, X in ((left, A), (right, B))]
    squares = tile.by_square[0] * own[0][:, None] + tile.by_square[1] * own[1][None, :]
    return (across + 2.0 * squares) / A.shape[1]


def require_closed_forms(program: Program) -> None:
    """Refuse second derivatives of series."""
    for op in all_ops(program.ops):
        if isinstance(op, Apply) and not op.fn.closed_form:
            raise InvalidInputError(
                f"{op.label}: kernels of a nonlinearity without a closed form have first "
                "derivatives only. Use one that has it, such as Erf() for Tanh()."
            )
