"""Gradients of kernels by rows, by columns of products and by numbers of a network.

Functions of ``torch.autograd``; how gradients come about is in :mod:`kernreg.operators.pull_back`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
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
)

__all__ = [
    "NOT_AGAIN",
    "carry_diagonal",
    "carry_entries",
    "carry_numbers",
    "carry_product",
    "detached",
    "once",
    "wants_gradient",
]


def wants_gradient(*values: Any) -> bool:
    """Whether one of some values is a tensor whose gradient is asked for."""
    asked = any(isinstance(v, Tensor) and v.requires_grad for v in values)
    return asked and torch.is_grad_enabled()


def detached(X: Any) -> Any:
    """Data without the history of a tensor whose gradient is asked for."""
    return X.detach() if isinstance(X, Tensor) and X.requires_grad else X


def _like(gradient: Tensor | None, X: Tensor | None) -> Tensor | None:
    return None if gradient is None or X is None else gradient.to(X.dtype)


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


class _Last(torch.autograd.Function):
    """A gradient that is a function of tensors, by which it cannot be differentiated."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, message: str, *depends: Tensor) -> Tensor:
        ctx.message = message
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise InvalidInputError(ctx.message)


def once(message: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A backward pass that says so if it is differentiated itself: torch would take 0."""

    def decorated(backward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(backward)
        def passed(ctx: Any, *grads: Any) -> Any:
            with torch.no_grad():
                found = backward(ctx, *grads)
            if not torch.is_grad_enabled():
                return found
            held = [t for t in (*ctx.saved_tensors, *grads) if isinstance(t, Tensor)]
            held = [t for t in held if t.requires_grad]
            return tuple(
                _Last.apply(v, message, *held) if isinstance(v, Tensor) and held else v
                for v in found
            )

        return passed

    return decorated


_FORWARD = (
    "This is the limit of forward differentiation of kernels: for second derivatives use "
    "torch.func.hessian or jacfwd(jacrev(f)); there are no third ones."
)
_THIRD = "Kernels have first and second derivatives by their rows, and no third."
NOT_AGAIN = (
    "The gradients of products, of solutions and by numbers of a network cannot be differentiated "
    "again: write gram(net, X) @ V, with numbers that are no tensors, which can."
)


class _Transformable(torch.autograd.Function):
    """A function of tensors that all transforms of ``torch.func`` take."""

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise InvalidInputError(_FORWARD)

    @classmethod
    def vmap(cls, info: Any, in_dims: Any, *args: Any) -> Any:
        return _one_by_one(cls, info, in_dims, *args)


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
        found = pull_back(program, X1, X2, kernel, lambda i, j: G[i, j], wanted, kind)
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


class _PulledTwice(_Transformable):
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

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise InvalidInputError(_THIRD)


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


class _DiagonalTwice(_Transformable):
    @staticmethod
    def forward(X: Tensor, g: Tensor, move: Tensor, program: Program, kernel: str) -> Tensor:
        return pull_back_diagonal_twice(program, X, kernel, g, move).to(X.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise InvalidInputError(_THIRD)


def _keep(ctx: Any, *values: Tensor | None) -> None:
    """Save tensors for passes in both directions."""
    ctx.save_for_backward(*values)
    ctx.save_for_forward(*values)


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
            require_vectors(program)
        ctx.program, ctx.kernel, ctx.times, ctx.symmetric = program, kernel, times, X2 is None
        ctx.save_for_backward(X1, X1 if X2 is None else X2, V)
        return times(V, False)

    @staticmethod
    @once(NOT_AGAIN)
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
        # All that comes out depends on them, by which it cannot be differentiated again.
        ctx.save_for_backward(*values)
        return K.clone()

    @staticmethod
    @once(NOT_AGAIN)
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
            found.append(ctx.saved_tensors[k].new_tensor(total / (12.0 * step)))
        return G, None, None, *found


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
