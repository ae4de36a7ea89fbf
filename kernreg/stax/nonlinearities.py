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
    """``a min(x, 0) + b max(x, 0)``; ``do_stabilize`` is not needed.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.ABRelu(-0.5, 1.0).kernel_fn.network
    serial(ABRelu(a=-0.5, b=1.0))
    """
    return layer(nn.ABRelu(a, b))


def Abs(do_stabilize: bool = False) -> Triple:
    """``|x|``; ``do_stabilize`` is not needed.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Abs())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[1.0, 1.137], [1.137, 2.0]]
    """
    return layer(nn.Abs())


def Cos(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """``a cos(b x + c)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Cos())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.568, 0.344], [0.344, 0.509]]
    """
    return layer(nn.Cos(a, b, c))


def Elementwise(
    fn: Callable[[Any], Any] | None = None,
    nngp_fn: Callable[..., Any] | None = None,
    d_nngp_fn: Callable[..., Any] | None = None,
    *,
    smooth: bool = True,
) -> Triple:
    """A function of torch tensors; its kernel is integrated, to all digits.

    ``smooth=False`` says that it has a kink at 0.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.Elementwise(lambda x: x / (1 + x**2)))
    >>> kernel_fn(np.ones((1, 2)), None, "nngp").round(6).tolist()
    [[0.15568]]
    """
    if fn is None or nngp_fn is not None or d_nngp_fn is not None:
        raise NetworkError(
            "Elementwise: formulas of kernels (nngp_fn, d_nngp_fn) are not taken; give fn, a "
            "function of torch tensors, whose kernel is integrated."
        )
    return layer(nn.Elementwise(fn, smooth=smooth))


def ElementwiseNumerical(
    fn: Callable[[Any], Any],
    deg: int = 0,
    df: Callable[[Any], Any] | None = None,
    *,
    smooth: bool = True,
) -> Triple:
    """As :func:`Elementwise`; nodes (``deg``) and the derivative (``df``) are not needed.

    Examples
    --------
    >>> import math, torch
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1), stax.ElementwiseNumerical(torch.sin, deg=25))
    >>> kernel_fn(np.ones((1, 2)), None, "nngp").round(6).item(), round((1 - math.exp(-2)) / 2, 6)
    (0.432332, 0.432332)
    """
    return layer(nn.Elementwise(fn, smooth=smooth))


def Erf(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """``a erf(b x) + c``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Erf())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.465, 0.345], [0.345, 0.59]]
    """
    return layer(nn.Erf(a, b, c))


def Exp(a: float = 1.0, b: float = 1.0) -> Triple:
    """``a exp(b x)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Exp())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[7.389, 12.182], [12.182, 54.598]]
    """
    return layer(nn.Exp(a, b))


def ExpNormalized(gamma: float = 1.0, shift: float = -1.0, do_clip: bool = False) -> Triple:
    """The kernel ``s exp(gamma (q / s + shift))`` of Shankar et al. (2020).

    ``do_clip`` is not needed: correlations are never above 1.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.ExpNormalized())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[1.0, 1.055], [1.055, 2.0]]
    """
    return layer(nn.ExpNormalized(gamma, shift))


def Gabor() -> Triple:
    """``exp(-x^2) sin x``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Gabor())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.074, 0.02], [0.02, 0.06]]
    """
    return layer(nn.Gabor())


def Gaussian(a: float = 1.0, b: float = -1.0) -> Triple:
    """``a exp(b x^2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Gaussian())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.447, 0.302], [0.302, 0.333]]
    """
    return layer(nn.Gaussian(a, b))


def Gelu(approximate: bool = False) -> Triple:
    """``x Phi(x)``, also where ``approximate`` asks for less.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Gelu())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.425, 0.447], [0.447, 0.922]]
    """
    return layer(nn.Gelu())


def Hermite(degree: int) -> Triple:
    """The Hermite polynomial of some degree, normalised; exact at every variance.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.Hermite(2).kernel_fn.network
    serial(Hermite(coef=(0.0, 0.0, 1.0)))
    """
    return layer(nn.Hermite((0.0,) * int(degree) + (1.0,)))


def LeakyRelu(alpha: float, do_stabilize: bool = False) -> Triple:
    """``max(alpha x, x)``; ``do_stabilize`` is not needed.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.LeakyRelu(0.2).kernel_fn.network
    serial(LeakyRelu(slope=0.2))
    """
    return layer(nn.LeakyRelu(alpha))


def Monomial(degree: int) -> Triple:
    """``x^degree``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Monomial(2))
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[3.0, 4.0], [4.0, 12.0]]
    """
    return layer(nn.Monomial(degree))


def Polynomial(coef: Sequence[float]) -> Triple:
    """``sum_k coef[k] x^k``.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.Polynomial([0, 1, 0.5]).kernel_fn.network
    serial(Polynomial(coef=(0.0, 1.0, 0.5)))
    """
    return layer(nn.Polynomial(tuple(float(c) for c in coef)))


def Rbf(gamma: float = 1.0) -> Triple:
    """Features of the Gaussian kernel ``exp(-gamma |x - x'|^2)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Rbf())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[1.0, 0.368], [0.368, 1.0]]
    """
    return layer(nn.Rbf(gamma))


def RectifiedMonomial(degree: int) -> Triple:
    """``max(x, 0)^degree``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.RectifiedMonomial(2))
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[1.5, 1.977], [1.977, 6.0]]
    """
    return layer(nn.RectifiedMonomial(degree))


def Relu(do_stabilize: bool = False) -> Triple:
    """``max(x, 0)``; ``do_stabilize`` is not needed.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Relu())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.5, 0.534], [0.534, 1.0]]
    """
    return layer(nn.Relu())


def Sigmoid_like() -> Triple:
    """A shifted error function that is close to the logistic one.

    Examples
    --------
    >>> from kernreg import stax
    >>> stax.Sigmoid_like().kernel_fn.network
    serial(SigmoidLike())
    """
    return layer(nn.SigmoidLike())


def Sign() -> Triple:
    """The sign.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Sign())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[1.0, 0.5], [0.5, 1.0]]
    """
    return layer(nn.Sign())


def Sin(a: float = 1.0, b: float = 1.0, c: float = 0.0) -> Triple:
    """``a sin(b x + c)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import stax
    >>> _, _, kernel_fn = stax.serial(stax.Dense(1, W_std=2**0.5), stax.Sin())
    >>> kernel_fn(np.array([[1.0, 0.0], [1.0, 1.0]]), None, "nngp").round(3).tolist()
    [[0.432, 0.262], [0.262, 0.491]]
    """
    return layer(nn.Sin(a, b, c))
