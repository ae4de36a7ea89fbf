"""Gradients of products with kernels, and of kernels by numbers of a network.

Functions of ``torch.autograd``; how gradients come about is in :mod:`kernreg.operators.pull_back`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.ir.program import Program
from kernreg.numerics.differences import STENCIL, STENCIL_UNIT
from kernreg.operators.pull_back import pull_back, require_vectors, weights_of_product

__all__ = [
    "NOT_AGAIN",
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


NOT_AGAIN = (
    "The gradients of products, of solutions and by numbers of a network cannot be differentiated "
    "again: write gram(net, X) @ V, with numbers that are no tensors, which can."
)


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
                weights_of_product(left, right, ctx.symmetric),
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
            for times, weight in STENCIL:
                K = ctx.at(given | {name: value + times * step})
                total += weight * float((wide * torch.as_tensor(K)).sum())
            found.append(ctx.saved_tensors[k].new_tensor(total / (STENCIL_UNIT * step)))
        return G, None, None, *found


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
