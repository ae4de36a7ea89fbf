"""Kernel matrices as functions of their rows, for all transforms of ``torch.func``.

Entries and diagonals have first and second derivatives, forwards and backwards; each is a function
of its own, which ``vmap`` takes one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kernreg.backends.derivatives import Differentiable
from kernreg.exceptions import InvalidInputError
from kernreg.ir.program import Program
from kernreg.operators.pull_back import (
    pull_back,
    pull_back_diagonal_twice,
    pull_back_twice,
    push_diagonal_forward,
    push_forward,
    require_vectors,
    weights_of,
)

__all__ = ["carry_diagonal", "carry_entries"]

_FORWARD = (
    "This is the limit of forward differentiation of kernels: for second derivatives use "
    "torch.func.hessian or jacfwd(jacrev(f)); there are no third ones."
)
_THIRD = "Kernels have first and second derivatives by their rows, and no third."


def _one_by_one(function: Any, info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
    """What ``torch.func.vmap`` does to a function: its batch in turns."""
    if info.batch_size == 0:
        raise InvalidInputError("torch.func.vmap over an empty batch: expected rows.")
    outs = []
    for k in range(info.batch_size):
        one = [a if dim is None else a.select(dim, k) for a, dim in zip(args, in_dims, strict=True)]
        outs.append(function.apply(*one))
    if isinstance(outs[0], tuple):
        stacked = tuple(torch.stack(parts) for parts in zip(*outs, strict=True))
        return stacked, (0,) * len(stacked)
    return torch.stack(outs), 0


class _Transformable(torch.autograd.Function):
    """A function of tensors that all transforms of ``torch.func`` take."""

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise InvalidInputError(_FORWARD)

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, *args: Any) -> Any:
        return _one_by_one(cls, info, in_dims, *args)


class _Second(_Transformable):
    """Part of a second derivative, which is where they end."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise InvalidInputError(_THIRD)


class _Entries(_Transformable):
    """A kernel matrix: ``compute(X1, X2)``."""

    @staticmethod
    def forward(
        X1: Tensor, X2: Tensor | None, compute: Callable[..., Tensor], program: Program, kernel: str
    ) -> Tensor:
        return compute(X1, X2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        X1, X2, _, ctx.program, ctx.kernel = inputs
        _keep(ctx, X1, X2)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        X1, X2 = ctx.saved_tensors
        if X2 is None:
            (first,) = _Pulled.apply(X1, None, G, ctx.program, ctx.kernel, 1)
            return first, None, None, None, None
        by_first, by_second = ctx.needs_input_grad[:2]
        by = by_first + 2 * by_second
        found = iter(_Pulled.apply(X1, X2, G, ctx.program, ctx.kernel, by))
        first = next(found) if by_first else None
        return first, next(found) if by_second else None, None, None, None

    @staticmethod
    def jvp(ctx: Any, left: Tensor | None, right: Tensor | None, *_: Any) -> Tensor:
        X1, X2 = ctx.saved_tensors
        left = torch.zeros_like(X1) if left is None else left
        out: Tensor = _Pushed.apply(X1, X2, left, right, ctx.program, ctx.kernel)
        return out


class _Pushed(_Transformable):
    """The change of a kernel matrix as its rows move."""

    @staticmethod
    def forward(
        X1: Tensor,
        X2: Tensor | None,
        left: Tensor,
        right: Tensor | None,
        program: Program,
        kernel: str,
    ) -> Tensor:
        kind = X1.dtype if X2 is None else torch.promote_types(X1.dtype, X2.dtype)
        return push_forward(program, X1, X2, kernel, (left, right)).to(kind)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        X1, X2, left, right, ctx.program, ctx.kernel = inputs
        ctx.save_for_backward(X1, X2, left, right)

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> Any:
        X1, X2, left, right = ctx.saved_tensors
        program, kernel = ctx.program, ctx.kernel
        first, *second = _PulledTwice.apply(X1, X2, G, left, right, program, kernel)
        by = 1 if X2 is None else 1 + 2 * (right is not None)
        by_left, *by_right = _Pulled.apply(X1, X2, G, program, kernel, by)
        rest = [next(iter(found), None) for found in (second, by_right)]
        return first, rest[0], by_left, rest[1], None, None


class _Pulled(_Transformable):
    """Gradient of ``sum_ij G_ij K_ij``: by X1 (``by`` is 1), by X2 (2) or by both (3)."""

    @staticmethod
    def forward(
        X1: Tensor, X2: Tensor | None, G: Tensor, program: Program, kernel: str, by: int
    ) -> tuple[Tensor, ...]:
        kind = X1.dtype if X2 is None else torch.promote_types(X1.dtype, X2.dtype)
        wanted = (bool(by & 1), bool(by & 2))
        found = pull_back(program, X1, X2, kernel, weights_of(G, X2 is None), wanted, kind)
        pairs = zip(found, (X1, X2), strict=True)
        return tuple(g.to(X.dtype) for g, X in pairs if g is not None and X is not None)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        X1, X2, G, ctx.program, ctx.kernel, ctx.by = inputs
        _keep(ctx, X1, X2, G)

    @staticmethod
    def backward(ctx: Any, *moves: Tensor) -> Any:
        X1, X2, G = ctx.saved_tensors
        left = moves[0] if ctx.by & 1 else torch.zeros_like(X1)
        right = moves[-1] if ctx.by & 2 else None
        first, *second = _PulledTwice.apply(X1, X2, G, left, right, ctx.program, ctx.kernel)
        change = _Pushed.apply(X1, X2, left, right, ctx.program, ctx.kernel).to(G.dtype)
        return first, next(iter(second), None), change, None, None, None

    @staticmethod
    def jvp(ctx: Any, left: Tensor | None, right: Tensor | None, dG: Tensor | None, *_: Any) -> Any:
        X1, X2, G = ctx.saved_tensors
        parts = [torch.zeros_like(X) for X in (X1, X2) if X is not None]
        if left is not None or right is not None:
            moved = torch.zeros_like(X1) if left is None else left
            parts = list(_PulledTwice.apply(X1, X2, G, moved, right, ctx.program, ctx.kernel))
        if X2 is not None and ctx.by != 3:
            parts = [parts[ctx.by - 1]]
        if dG is not None:
            more = _Pulled.apply(X1, X2, dG, ctx.program, ctx.kernel, ctx.by)
            parts = [a + b for a, b in zip(parts, more, strict=True)]
        return tuple(parts)


class _PulledTwice(_Second):
    """Gradient of ``sum_ij G_ij K'_ij`` by the rows, of the change ``K'`` as they move."""

    @staticmethod
    def forward(
        X1: Tensor,
        X2: Tensor | None,
        G: Tensor,
        left: Tensor,
        right: Tensor | None,
        program: Program,
        kernel: str,
    ) -> tuple[Tensor, ...]:
        found = pull_back_twice(program, X1, X2, kernel, G, (left, right))
        pairs = zip(found, (X1, X2), strict=True)
        return tuple(g.to(X.dtype) for g, X in pairs if g is not None and X is not None)


class _Diagonal(_Transformable):
    """The diagonal of a kernel matrix: ``compute(X)``."""

    @staticmethod
    def forward(X: Tensor, compute: Callable[..., Tensor], program: Program, kernel: str) -> Tensor:
        return compute(X)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        X, _, ctx.program, ctx.kernel = inputs
        _keep(ctx, X)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        (X,) = ctx.saved_tensors
        return _PulledDiagonal.apply(X, g, ctx.program, ctx.kernel), None, None, None

    @staticmethod
    def jvp(ctx: Any, move: Tensor, *_: Any) -> Tensor:
        (X,) = ctx.saved_tensors
        out: Tensor = _PushedDiagonal.apply(X, move, ctx.program, ctx.kernel)
        return out


class _PushedDiagonal(_Transformable):
    @staticmethod
    def forward(X: Tensor, move: Tensor, program: Program, kernel: str) -> Tensor:
        return push_diagonal_forward(program, X, kernel, move).to(X.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        X, move, ctx.program, ctx.kernel = inputs
        ctx.save_for_backward(X, move)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        X, move = ctx.saved_tensors
        first = _DiagonalTwice.apply(X, g, move, ctx.program, ctx.kernel)
        return first, _PulledDiagonal.apply(X, g, ctx.program, ctx.kernel), None, None


class _PulledDiagonal(_Transformable):
    @staticmethod
    def forward(X: Tensor, g: Tensor, program: Program, kernel: str) -> Tensor:
        wide = X.to(torch.float64)
        slope = Differentiable(program, wide, wide[:1], kernel).diagonal()
        return (2.0 * (g.to(torch.float64) * slope)[:, None] * wide / X.shape[1]).to(X.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        X, g, ctx.program, ctx.kernel = inputs
        _keep(ctx, X, g)

    @staticmethod
    def backward(ctx: Any, move: Tensor) -> Any:
        X, g = ctx.saved_tensors
        change = _PushedDiagonal.apply(X, move, ctx.program, ctx.kernel).to(g.dtype)
        return _DiagonalTwice.apply(X, g, move, ctx.program, ctx.kernel), change, None, None

    @staticmethod
    def jvp(ctx: Any, move: Tensor | None, dg: Tensor | None, *_: Any) -> Tensor:
        X, g = ctx.saved_tensors
        out = torch.zeros_like(X)
        if move is not None:
            out = out + _DiagonalTwice.apply(X, g, move, ctx.program, ctx.kernel)
        if dg is not None:
            out = out + _PulledDiagonal.apply(X, dg, ctx.program, ctx.kernel)
        return out


class _DiagonalTwice(_Second):
    @staticmethod
    def forward(X: Tensor, g: Tensor, move: Tensor, program: Program, kernel: str) -> Tensor:
        return pull_back_diagonal_twice(program, X, kernel, g, move).to(X.dtype)


def _keep(ctx: Any, *values: Tensor | None) -> None:
    """Save tensors for passes in both directions."""
    ctx.save_for_backward(*values)
    ctx.save_for_forward(*values)


def carry_entries(
    X1: Tensor, X2: Tensor | None, compute: Callable[..., Tensor], program: Program, kernel: str
) -> Tensor:
    """The kernel matrix ``compute(X1, X2)`` as a function of its rows."""
    require_vectors(program)
    out: Tensor = _Entries.apply(X1, X2, compute, program, kernel)
    return out


def carry_diagonal(
    X: Tensor, compute: Callable[..., Tensor], program: Program, kernel: str
) -> Tensor:
    """Its diagonal ``compute(X)`` as a function of its rows."""
    require_vectors(program)
    out: Tensor = _Diagonal.apply(X, compute, program, kernel)
    return out
