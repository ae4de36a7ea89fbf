"""Hermite series and networks of one hidden layer as torch modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernreg.exceptions import InvalidInputError

__all__ = ["HermiteActivation", "ShallowNetwork"]


class _Series(torch.autograd.Function):
    """``sum_k c_k h_k(x)``; its derivative is the series of ``sqrt(k + 1) c_(k + 1)``.

    Autograd through the recurrence would keep every step of it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, coef: tuple[float, ...]) -> Tensor:
        previous, current = torch.zeros_like(x), torch.ones_like(x)
        total = coef[0] * current
        for k, c in enumerate(coef[1:]):
            step = (x * current).sub_(previous, alpha=math.sqrt(k)).mul_(1.0 / math.sqrt(k + 1))
            previous, current = current, step
            if c:
                total.add_(current, alpha=c)
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, tuple[float, ...]], output: Tensor) -> None:
        x, ctx.coef = inputs
        ctx.save_for_backward(x)
        ctx.save_for_forward(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * _Series.apply(x, _derivative(ctx.coef)), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        (x,) = ctx.saved_tensors
        return tangent * _Series.apply(x, _derivative(ctx.coef))


def _derivative(coef: tuple[float, ...]) -> tuple[float, ...]:
    """Coefficients of the derivative."""
    return tuple(math.sqrt(k) * c for k, c in enumerate(coef))[1:] or (0.0,)


class HermiteActivation(torch.nn.Module):
    """A series ``sum_k c_k h_k(x)`` of normalised Hermite polynomials, elementwise.

    Parameters
    ----------
    coef : sequence of float
        Coefficients, that of ``h_0`` first.

    Notes
    -----
    The three-term recurrence, forwards, in the type of ``x``: stable for every ``x``, as the
    polynomials are its dominant solution. Time O(degree) per number; memory for a few tensors like
    ``x``, of which one is kept for gradients of any order.

    Examples
    --------
    >>> HermiteActivation([0.0, 1.0])(torch.tensor([1.0, 2.0]))
    tensor([1., 2.])
    """

    def __init__(self, coef: Sequence[float]) -> None:
        super().__init__()
        self.coef = tuple(float(c) for c in coef)

    def forward(self, x: Tensor) -> Tensor:
        """The series at ``x``."""
        out: Tensor = _Series.apply(x, self.coef)
        return out

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"degree={len(self.coef) - 1}"


class ShallowNetwork(torch.nn.Module):
    """One hidden layer of finite width in the "ntk" parameterization.

    ``f(x) = W_2 w_2 phi(W_1 w_1 x / sqrt(d) + b_1 u_1) / sqrt(width) + b_2 u_2`` with standard
    normal parameters ``w_1, u_1, w_2, u_2``, so that as the width grows their gradients have the
    tangent kernel of ``serial(Dense(W_1, b_1), phi, Dense(W_2, b_2))``.

    Parameters
    ----------
    activation : Module
        The nonlinearity.
    n_features, width, n_outputs : int
        Sizes of the layers.
    first, second : tuple of float
        ``(W_std, b_std)`` of both layers; a bias of 0 has no parameters.
    seed : int
        Of the parameters.

    Raises
    ------
    InvalidInputError
        If a size is not a positive integer.

    Examples
    --------
    >>> net = ShallowNetwork(torch.nn.ReLU(), n_features=3, width=8)
    >>> net(torch.ones(5, 3)).shape
    torch.Size([5, 1])
    """

    def __init__(
        self,
        activation: torch.nn.Module,
        n_features: int,
        width: int,
        n_outputs: int = 1,
        *,
        first: tuple[float, float] = (1.0, 0.0),
        second: tuple[float, float] = (1.0, 0.0),
        seed: int = 0,
    ) -> None:
        super().__init__()
        for name, size in (
            ("n_features", n_features),
            ("width", width),
            ("n_outputs", n_outputs),
        ):
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise InvalidInputError(f"{name} must be a positive integer, found {size!r}.")
        self.activation = activation
        self.scales = (first, second)
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(shape, generator=generator))

        self.hidden = normal(width, n_features)
        self.hidden_bias = normal(width) if first[1] else None
        self.output = normal(n_outputs, width)
        self.output_bias = normal(n_outputs) if second[1] else None

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (n, n_outputs) for inputs of shape (n, n_features)."""
        (W1, b1), (W2, b2) = self.scales
        z = _affine(x, self.hidden, self.hidden_bias, W1, b1)
        return _affine(self.activation(z), self.output, self.output_bias, W2, b2)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None, W_std: float, b_std: float) -> Tensor:
    shift = None if bias is None else b_std * bias
    return torch.nn.functional.linear(x, W_std / math.sqrt(weight.shape[1]) * weight, shift)
