"""Nonlinearities without a dual in closed form: their kernels are integrated numerically."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from kernreg.exceptions import NetworkError
from kernreg.nn.base import Nonlinearity, check_number

__all__ = ["Elementwise", "Elu", "Selu", "Softplus", "Swish", "Tanh"]

_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@dataclass(frozen=True, repr=False)
class Tanh(Nonlinearity):
    r"""Hyperbolic tangent :math:`\phi(x) = \tanh x`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Tanh().closed_form
    False
    """

    def phi(self, xp: Any, x: Any) -> Any:
        """Hyperbolic tangent."""
        return xp.tanh(x)


@dataclass(frozen=True, repr=False)
class Swish(Nonlinearity):
    r"""Swish, also SiLU: :math:`\phi(x) = x / (1 + e^{-x})`.

    References
    ----------
    P. Ramachandran, B. Zoph, Q. Le, Searching for activation functions, 2017.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Swish()
    Swish()
    """

    def phi(self, xp: Any, x: Any) -> Any:
        """Linear function under a logistic gate."""
        return x * xp.sigmoid(x)


@dataclass(frozen=True, repr=False)
class Softplus(Nonlinearity):
    r"""Softplus :math:`\phi(x) = \log(1 + e^x)`.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Softplus()
    Softplus()
    """

    nonnegative: ClassVar[bool] = True

    def phi(self, xp: Any, x: Any) -> Any:
        """Smooth ramp, without overflow."""
        return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-xp.abs(x)))


@dataclass(frozen=True, repr=False)
class Elu(Nonlinearity):
    r"""Exponential linear unit: :math:`x` for :math:`x > 0`, :math:`\alpha (e^x - 1)` below.

    Parameters
    ----------
    alpha : float
        Minus the limit at minus infinity.

    Raises
    ------
    NetworkError
        If ``alpha`` is not a finite number.

    References
    ----------
    D. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by
    exponential linear units, ICLR 2016.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Elu(alpha=0.5)
    Elu(alpha=0.5)
    """

    alpha: float = 1.0

    smooth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_number("Elu", "alpha", self.alpha)

    def phi(self, xp: Any, x: Any) -> Any:
        """Line and exponential."""
        return xp.maximum(x, 0.0) + self.alpha * xp.expm1(xp.minimum(x, 0.0))


@dataclass(frozen=True, repr=False)
class Selu(Nonlinearity):
    r"""Scaled exponential linear unit, which keeps unit variance at ``W_std=1``.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, Self-normalizing neural networks,
    NeurIPS 2017.

    Examples
    --------
    >>> from kernreg import nn
    >>> nn.Selu()
    Selu()
    """

    smooth: ClassVar[bool] = False

    def phi(self, xp: Any, x: Any) -> Any:
        """Scaled line and exponential."""
        bend = _SELU_ALPHA * xp.expm1(xp.minimum(x, 0.0))
        return _SELU_SCALE * (xp.maximum(x, 0.0) + bend)


@dataclass(frozen=True, repr=False)
class Elementwise(Nonlinearity):
    r"""Any function of one variable.

    Parameters
    ----------
    fn : callable
        Elementwise function from a float64 torch tensor to one of the same shape, written with
        torch functions (its derivative comes from autograd). Two layers are equal if they hold
        the same function object; only a function that can be imported by name can be saved.
    smooth : bool
        False if ``fn`` has a kink at 0. It must be smooth everywhere else.

    Raises
    ------
    NetworkError
        If ``fn`` is not such a function, is not elementwise (it mixes the numbers of a tensor, or
        is random), jumps at 0, or has a kink there with ``smooth=True``.

    Examples
    --------
    >>> import torch
    >>> from kernreg import nn
    >>> nn.Elementwise(torch.arctan).smooth
    True
    """

    fn: Callable[[Any], Any]
    smooth: bool = True  # type: ignore[misc]

    def __post_init__(self) -> None:
        _check_function(self.fn, self.smooth)

    def phi(self, xp: Any, x: Any) -> Any:
        """The function."""
        return self.fn(x)


def _check_function(fn: Any, smooth: bool) -> None:
    """Raise unless ``fn`` maps tensors elementwise and is at 0 what ``smooth`` says."""
    import torch

    step = 1e-8
    x = torch.tensor([-1.0, -step, step, 1.0], dtype=torch.float64, requires_grad=True)
    if not callable(fn):
        raise NetworkError(f"Elementwise: fn must be a callable, found {fn!r}.")
    try:
        y = fn(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    except (Exception, SystemExit) as error:
        raise NetworkError(
            f"Elementwise: {fn!r} must map a torch tensor to a tensor through differentiable "
            f"torch functions; it failed with: {error}"
        ) from error
    if y.shape != x.shape or y.dtype != x.dtype:
        raise NetworkError(
            f"Elementwise: {fn!r} must return a float64 tensor of shape (4,) for one of shape "
            f"(4,), found {y.dtype} of shape {tuple(y.shape)}."
        )
    if not bool(torch.isfinite(y).all()) or not bool(torch.isfinite(slope).all()):
        raise NetworkError(f"Elementwise: {fn!r} or its derivative is not finite on {x.tolist()}.")
    _check_elementwise(fn)
    values, slopes = y.tolist(), slope.tolist()
    if abs(values[2] - values[1]) > 1e-4 * (1.0 + abs(values[1])):
        raise NetworkError(
            f"Elementwise: {fn!r} jumps at 0, which has no tangent kernel; nn.Sign and "
            "nn.RectifiedMonomial(0) are the jumps with a closed form."
        )
    if smooth and abs(slopes[2] - slopes[1]) > 1e-4 * (1.0 + abs(slopes[1])):
        raise NetworkError(
            f"Elementwise: {fn!r} has a kink at 0; pass smooth=False so that it is integrated "
            "on both sides of it."
        )


def _check_elementwise(fn: Any) -> None:
    """Raise unless each number of ``fn(x)`` is a function of that number of ``x`` alone."""
    import torch

    # In no order and without symmetry, so that sorting and centring change them.
    x = 3.0 * torch.sin(torch.arange(1, 34, dtype=torch.float64) ** 2)
    try:
        with torch.no_grad():
            together = fn(x.clone())
            alone = torch.cat([fn(part.clone()) for part in x.split(1)])
            again = fn(x.reshape(3, 11).clone()).reshape(-1)
        same = all(
            torch.allclose(together, other, rtol=1e-9, atol=1e-12, equal_nan=True)
            for other in (alone, again)
        )
    except Exception as error:
        raise NetworkError(
            f"Elementwise: {fn!r} must take a torch tensor of any shape; it failed with: {error}"
        ) from error
    if not same:
        raise NetworkError(
            f"Elementwise: {fn!r} is not elementwise: what it returns for a number depends on the "
            "other numbers of the tensor, or on chance. Expected a function of one number."
        )
