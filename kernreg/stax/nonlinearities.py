"""Nonlinearities of stax; kernels in closed form, but for functions that are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.stax.kernel import Triple, layer

__all__ = [
    "ABRelu",
    "Abs",
    "Cos",
    "Elementwise",
    "ElementwiseNumerical",
    "Erf",
    "Exp",
    "ExpNormalized",
    "Gabor",
    "Gaussian",
    "Gelu",
    "Hermite",
    "LeakyRelu",
    "Monomial",
    "Polynomial",
    "Rbf",
    "RectifiedMonomial",
    "Relu",
    "Sigmoid_like",
    "Sign",
    "Sin",
]


def ABRelu(a: float, b: float, do_stabilize: bool = False) -> Triple:
    """``a min(x, 0) + b max(x, 0)``; ``do_stabilize`` is not needed."""
    return layer(nn.ABRelu(a, b))


def Abs(do_stabilize: bool = False) -> Triple:
    """``|x|``; ``do_stabilize`` is not needed."""
    return layer(nn.Abs())


def Cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """``a cos(b x + c)``."""
    return layer(nn.Cos(a, b, c))


def Elementwise(
    fn: Callable[[Any], Any] | None = None,
    nngp_fn: Callable[..., Any] | None = None,
    d_nngp_fn: Callable[..., Any] | None = None,
) -> Triple:
    """A function of torch tensors; its kernel is integrated, to all digits."""
    if fn is None or nngp_fn is not None or d_nngp_fn is not None:
        raise NetworkError(
            "Elementwise: formulas of kernels (nngp_fn, d_nngp_fn) are not taken; give fn, a "
            "function of torch tensors, whose kernel is integrated."
        )
    return layer(nn.Elementwise(fn))


def ElementwiseNumerical(
    fn: Callable[[Any], Any], deg: int = 0, df: Callable[[Any], Any] | None = None
) -> Triple:
    """As :func:`Elementwise`; nodes (``deg``) and the derivative (``df``) are not needed."""
    return layer(nn.Elementwise(fn))


def Erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """``a erf(b x) + c``."""
    return layer(nn.Erf(a, b, c))


def Exp(a: float = 1.0, b: float = 1.0) -> Triple:
    """``a exp(b x)``."""
    return layer(nn.Exp(a, b))


def ExpNormalized(gamma: float = 1.0, shift: float = -1.0, do_clip: bool = False) -> Triple:
    """The kernel ``s exp(gamma (q / s + shift))`` of Shankar et al. (2020).

    ``do_clip`` is not needed: correlations are never above 1.
    """
    return layer(nn.ExpNormalized(gamma, shift))


def Gabor() -> Triple:
    """``exp(-x^2) sin x``."""
    return layer(nn.Gabor())


def Gaussian(a: float = 1.0, b: float = -1.0) -> Triple:
    """``a exp(b x^2)``."""
    return layer(nn.Gaussian(a, b))


def Gelu(approximate: bool = False) -> Triple:
    """``x Phi(x)``, also where ``approximate`` asks for less."""
    return layer(nn.Gelu())


def Hermite(degree: int) -> Triple:
    """The Hermite polynomial of some degree, normalised; exact at every variance."""
    return layer(nn.Hermite((0.0,) * int(degree) + (1.0,)))


def LeakyRelu(alpha: float, do_stabilize: bool = False) -> Triple:
    """``max(alpha x, x)``; ``do_stabilize`` is not needed."""
    return layer(nn.LeakyRelu(alpha))


def Monomial(degree: int) -> Triple:
    """``x^degree``."""
    return layer(nn.Monomial(degree))


def Polynomial(coef: Sequence[float]) -> Triple:
    """``sum_k coef[k] x^k``."""
    return layer(nn.Polynomial(tuple(float(c) for c in coef)))


def Rbf(gamma: float = 1.0) -> Triple:
    """Features of the Gaussian kernel ``exp(-gamma |x - x'|^2)``."""
    return layer(nn.Rbf(gamma))


def RectifiedMonomial(degree: int) -> Triple:
    """``max(x, 0)^degree``."""
    return layer(nn.RectifiedMonomial(degree))


def Relu(do_stabilize: bool = False) -> Triple:
    """``max(x, 0)``; ``do_stabilize`` is not needed."""
    return layer(nn.Relu())


def Sigmoid_like() -> Triple:
    """A shifted error function that is close to the logistic one."""
    return layer(nn.SigmoidLike())


def Sign() -> Triple:
    """The sign."""
    return layer(nn.Sign())


def Sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """``a sin(b x + c)``."""
    return layer(nn.Sin(a, b, c))
