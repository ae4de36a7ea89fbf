"""The functions that nonlinearities and their duals are written with, on torch tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["TorchMath"]

# sin a - a cos a = sum_k (-1)^(k+1) 2k a^(2k+1) / (2k+1)!; twelve terms reach 1e-17 at pi/2.
_LUNE = tuple((-1) ** (k + 1) * 2 * k / math.factorial(2 * k + 1) / math.pi for k in range(1, 13))


def _as_tensor(value: Any, like: Tensor) -> Tensor:
    if isinstance(value, Tensor):
        return value
    return torch.as_tensor(value, dtype=like.dtype, device=like.device)


def _extreme(torch_op: Any, plain_op: Any, a: Any, b: Any) -> Any:
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return plain_op(a, b)
    like = a if isinstance(a, Tensor) else b
    return torch_op(_as_tensor(a, like), _as_tensor(b, like))


class TorchMath:
    """The primitives on torch tensors of any device and floating type.

    Plain numbers are accepted beside tensors, so that run-time parameters may be either.

    Examples
    --------
    >>> import torch
    >>> xp = TorchMath()
    >>> round(float(xp.arc(torch.tensor(1.0, dtype=torch.float64))), 12)
    1.570796326795
    """

    @staticmethod
    def sqrt(x: Any) -> Any:
        """Square root."""
        return torch.sqrt(x) if isinstance(x, Tensor) else math.sqrt(x)

    @staticmethod
    def exp(x: Any) -> Any:
        """Exponential."""
        return torch.exp(x) if isinstance(x, Tensor) else math.exp(x)

    @staticmethod
    def expm1(x: Any) -> Any:
        """``exp(x) - 1`` without cancellation."""
        return torch.expm1(x) if isinstance(x, Tensor) else math.expm1(x)

    @staticmethod
    def abs(x: Any) -> Any:
        """Absolute value."""
        return abs(x)

    @staticmethod
    def minimum(a: Any, b: Any) -> Any:
        """Smaller of two values."""
        return _extreme(torch.minimum, min, a, b)

    @staticmethod
    def maximum(a: Any, b: Any) -> Any:
        """Larger of two values; the derivative at a tie is the mean of both sides."""
        return _extreme(torch.maximum, max, a, b)

    @staticmethod
    def where(condition: Any, a: Any, b: Any) -> Any:
        """``a`` where ``condition`` holds, else ``b``."""
        if isinstance(condition, bool):
            return a if condition else b
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            a = torch.tensor(a, dtype=torch.float64, device=condition.device)
        return torch.where(condition, a, b)

    @staticmethod
    def arc(gap: Tensor) -> Tensor:
        """The angle in [0, pi/2] whose cosine is ``1 - gap``."""
        return 2.0 * torch.asin(torch.sqrt(0.5 * gap))

    @staticmethod
    def lune(gap: Tensor) -> Tensor:
        """``(sin a - a cos a) / pi`` with ``a = arc(gap)``, to a few units in the last place."""
        angle = TorchMath.arc(gap)
        square = angle * angle
        total = torch.full_like(square, _LUNE[-1])
        for coefficient in reversed(_LUNE[:-1]):
            total = total * square + coefficient
        return angle * square * total

    @staticmethod
    def asin(x: Tensor) -> Tensor:
        """The angle whose sine is ``x``, for ``x`` in [0, sqrt(1/2)]."""
        return torch.asin(x)

    @staticmethod
    def erf(x: Tensor) -> Tensor:
        """Error function."""
        return torch.erf(x)

    @staticmethod
    def tanh(x: Tensor) -> Tensor:
        """Hyperbolic tangent."""
        return torch.tanh(x)

    @staticmethod
    def sin(x: Tensor) -> Tensor:
        """Sine."""
        return torch.sin(x)

    @staticmethod
    def cos(x: Tensor) -> Tensor:
        """Cosine."""
        return torch.cos(x)

    @staticmethod
    def log1p(x: Tensor) -> Tensor:
        """``log(1 + x)`` without cancellation."""
        return torch.log1p(x)

    @staticmethod
    def sigmoid(x: Tensor) -> Tensor:
        """Logistic function."""
        return torch.sigmoid(x)
