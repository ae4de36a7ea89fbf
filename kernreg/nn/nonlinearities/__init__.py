"""Elementwise nonlinearities: each is one class with ``phi`` and, where known, its dual."""

from kernreg.nn.nonlinearities.exponential import Exp, ExpNormalized, Gaussian, Rbf
from kernreg.nn.nonlinearities.gelu import Gelu
from kernreg.nn.nonlinearities.numerical import Elementwise, Elu, Selu, Softplus, Swish, Tanh
from kernreg.nn.nonlinearities.piecewise import (
    ABRelu,
    Abs,
    LeakyRelu,
    RectifiedMonomial,
    Relu,
    Sign,
)
from kernreg.nn.nonlinearities.polynomial import Hermite, Monomial, Polynomial
from kernreg.nn.nonlinearities.sigmoidal import Erf, SigmoidLike
from kernreg.nn.nonlinearities.trigonometric import Cos, Gabor, Sin

__all__ = [
    "ABRelu",
    "Abs",
    "Cos",
    "Elementwise",
    "Elu",
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
    "Selu",
    "SigmoidLike",
    "Sign",
    "Sin",
    "Softplus",
    "Swish",
    "Tanh",
]
