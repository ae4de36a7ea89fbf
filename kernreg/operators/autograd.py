"""Gradients of kernels by rows, by columns of products and by numbers of a network.

Backward passes go tile by tile: derivatives of the entries of a tile
(:mod:`kernreg.backends.derivatives`) meet the weights that come in, and nothing of the size of the
matrix is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernreg.backends.derivatives import Differentiable
from kernreg.backends.fused_derivatives import derivatives_of
from kernreg.exceptions import InvalidInputError
from kernreg.ir.program import Program

__all__ = [
    "carry_diagonal",
    "carry_entries",
    "carry_numbers",
    "carry_product",
    "detached",
    "pull_back",
    "wants_gradient",
]

_TILE = 512

Weights = Callable[[slice, slice], Tensor]
"""Weights of the entries of some rows and columns."""


def wants_gradient(*values: Any) -> bool:
    """Whether one of some values is a tensor whose gradient is asked for."""
    asked = any(isinstance(v, Tensor) and v.requires_grad for v in values)
    return asked and torch.is_grad_enabled()


def detached(X: Any) -> Any:
    """Data without the history of a tensor whose gradient is asked for."""
    return X.detach() if isinstance(X, Tensor) and X.requires_grad else X


def _require_vectors(program: Program) -> None:
    if program.axes != 0 or program.shape is not None:
        raise InvalidInputError(
            "Gradients by the inputs of networks on images are not available: pass X.detach(), or "
            "use differences of kernels."
        )


def _cuts(n: int) -> Iterator[slice]:
    return (slice(i, min(n, i + _TILE)) for i in range(0, n, _TILE))


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
    _require_vectors(program)
    A = X1.to(torch.float64)
    B = A if X2 is None else X2.to(torch.float64)
    symmetric = X2 is None
    sides = 2 if symmetric or wanted[1] else 1
    bound, d = derivatives_of(program, A, B, kernel, sides, dtype), A.shape[1]
    precise: Differentiable | None = None
    first = torch.zeros_like(A)
    second = first if symmetric else torch.zeros_like(B)
    for rows in _cuts(len(A)):
        for columns in _cuts(len(B)):
            if symmetric and columns.start > rows.start:  # the mirror image of another tile
                continue
            w = weights(rows, columns)
            if symmetric:
                w = w + weights(columns, rows).T
                if rows == columns:  # a row with itself follows below
                    w.fill_diagonal_(0.0)
            tile = bound.tile(rows, columns)
            if dtype == torch.float32 and _loses_digits(tile.by_product):
                precise = precise or derivatives_of(program, A, B, kernel, sides)
                tile = precise.tile(rows, columns)
            kind = tile.by_product.dtype
            w, left, right = w.to(kind), A[rows].to(kind), B[columns].to(kind)
            across = tile.by_product.mul_(w)
            if wanted[0]:
                own = tile.by_square[0].mul_(w).sum(1)
                first[rows] += across @ right + 2.0 * own[:, None] * left
            if sides == 2 and not (symmetric and rows == columns):
                own = tile.by_square[1].mul_(w).sum(0)
                second[columns] += across.T @ left + 2.0 * own[:, None] * right
    if symmetric:
        slope = bound.diagonal()
        own = torch.cat([torch.diagonal(weights(rows, rows)) for rows in _cuts(len(A))])
        first += 2.0 * (own * slope)[:, None] * A
        return first / d, None
    return first / d if wanted[0] else None, second / d if wanted[1] else None


def _loses_digits(by_product: Tensor) -> bool:
    """Whether some derivatives are so much larger than most that their parts cancel.

    Those of the tangent kernel of a kink grow as one over the angle, with opposite signs by the
    product and by the squares.
    """
    size = by_product.abs()
    return not float(size.max()) <= 100.0 * float(size.mean())


def _like(gradient: Tensor | None, X: Tensor | None) -> Tensor | None:
    return None if gradient is None or X is None else gradient.to(X.dtype)


class _Entries(torch.autograd.Function):
    """A kernel matrix that is known, and its gradient."""

    @staticmethod
    def forward(
        ctx: Any, X1: Tensor, X2: Tensor | None, K: Tensor, program: Program, kernel: str
    ) -> Tensor:
        _require_vectors(program)
        ctx.program, ctx.kernel, ctx.symmetric = program, kernel, X2 is None
        ctx.save_for_backward(X1, X1 if X2 is None else X2)
        return K.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> Any:
        X1, X2 = ctx.saved_tensors
        G = G.to(torch.float64)
        first, second = pull_back(
            ctx.program,
            X1,
            None if ctx.symmetric else X2,
            ctx.kernel,
            lambda rows, columns: G[rows, columns],
            (ctx.needs_input_grad[0], ctx.needs_input_grad[1]),
            torch.promote_types(X1.dtype, X2.dtype),
        )
        return _like(first, X1), _like(second, X2), None, None, None


class _Diagonal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, X: Tensor, values: Tensor, program: Program, kernel: str) -> Tensor:
        _require_vectors(program)
        ctx.program, ctx.kernel = program, kernel
        ctx.save_for_backward(X)
        return values.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        (X,) = ctx.saved_tensors
        wide = X.to(torch.float64)
        slope = Differentiable(ctx.program, wide, wide[:1], ctx.kernel).diagonal()
        change = 2.0 * (g.to(torch.float64) * slope)[:, None] * wide / X.shape[1]
        return change.to(X.dtype), None, None, None


class _Product(torch.autograd.Function):
    """``K @ V`` where ``K`` is not stored; ``times(V, turned)`` multiplies with it."""

    @staticmethod
    def forward(
        ctx: Any,
        X1: Tensor,
        X2: Tensor | None,
        V: Tensor,
        times: Callable[[Tensor, bool], Tensor],
        program: Program,
        kernel: str,
    ) -> Tensor:
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            _require_vectors(program)
        ctx.program, ctx.kernel, ctx.times, ctx.symmetric = program, kernel, times, X2 is None
        ctx.save_for_backward(X1, X1 if X2 is None else X2, V)
        return times(V, False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> Any:
        X1, X2, V = ctx.saved_tensors
        by_columns = ctx.times(G, True).to(V.dtype) if ctx.needs_input_grad[2] else None
        dtype = torch.promote_types(torch.promote_types(X1.dtype, X2.dtype), V.dtype)
        kind = torch.float32 if dtype == torch.float32 else torch.float64
        left, right = G.to(kind), V.to(kind)
        first = second = None
        if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            first, second = pull_back(
                ctx.program,
                X1,
                None if ctx.symmetric else X2,
                ctx.kernel,
                lambda rows, columns: left[rows] @ right[columns].T,
                (ctx.needs_input_grad[0], ctx.needs_input_grad[1]),
                dtype,
            )
        return _like(first, X1), _like(second, X2), by_columns, None, None, None


# Of the logarithm of a number of a network, or of the number itself where that is 0: the error of
# differences of order four is 3e-10 of the derivative, that of rounding 1e-11.
_STEP = 0.01


class _Numbers(torch.autograd.Function):
    """Adds the gradient by numbers of a network to a kernel matrix that is known."""

    @staticmethod
    def forward(
        ctx: Any, K: Tensor, at: Callable[[Mapping[str, float]], Tensor], names: Any, *values: Any
    ) -> Tensor:
        ctx.at, ctx.names, ctx.values = at, names, [float(v) for v in values]
        ctx.kinds = [(v.dtype, v.device) for v in values]
        return K.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, G: Tensor) -> Any:
        found: list[Tensor | None] = []
        given = dict(zip(ctx.names, ctx.values, strict=True))
        wide = G.to(torch.float64)
        for k, (name, value) in enumerate(given.items()):
            if not ctx.needs_input_grad[3 + k]:
                found.append(None)
                continue
            step, total = _STEP * abs(value) or _STEP, 0.0
            for times, weight in ((-2, 1.0), (-1, -8.0), (1, 8.0), (2, -1.0)):
                K = ctx.at(given | {name: value + times * step})
                total += weight * float((wide * K).sum())
            dtype, device = ctx.kinds[k]
            found.append(torch.tensor(total / (12.0 * step), dtype=dtype, device=device))
        return G, None, None, *found


def carry_entries(
    K: Tensor, X1: Tensor, X2: Tensor | None, program: Program, kernel: str
) -> Tensor:
    """A kernel matrix as a function of its rows."""
    out: Tensor = _Entries.apply(X1, X2, K, program, kernel)
    return out


def carry_diagonal(values: Tensor, X: Tensor, program: Program, kernel: str) -> Tensor:
    """The diagonal of a kernel matrix as a function of its rows."""
    out: Tensor = _Diagonal.apply(X, values, program, kernel)
    return out


def carry_product(
    X1: Tensor,
    X2: Tensor | None,
    V: Tensor,
    times: Callable[[Tensor, bool], Tensor],
    program: Program,
    kernel: str,
) -> Tensor:
    """The product of a kernel matrix with columns as a function of rows and columns."""
    out: Tensor = _Product.apply(X1, X2, V, times, program, kernel)
    return out


def carry_numbers(
    K: Tensor, numbers: Mapping[str, Tensor], at: Callable[[Mapping[str, float]], Tensor]
) -> Tensor:
    """A kernel matrix as a function of numbers of its network, by name.

    ``at`` gives the matrix in float64 at other numbers; it is asked four times for each gradient.
    """
    out: Tensor = _Numbers.apply(K, at, tuple(numbers), *numbers.values())
    return out
