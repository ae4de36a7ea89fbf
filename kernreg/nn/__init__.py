"""The network language: layers are values that are composed, compared, printed and stored."""

from kernreg.nn.base import Layer, Nonlinearity
from kernreg.nn.combinators import parallel, repeat, residual, serial
from kernreg.nn.flips import flip_augmented
from kernreg.nn.layers import Dense, Dropout, Identity, LayerNorm
from kernreg.nn.nonlinearities import *  # noqa: F403
from kernreg.nn.nonlinearities import __all__ as _nonlinearities
from kernreg.nn.presets import cnn, mlp, myrtle, wide_resnet
from kernreg.nn.serialize import from_json, to_json
from kernreg.nn.spatial import (
    AvgPool,
    Conv,
    ConvLocal,
    ConvTranspose,
    Flatten,
    GlobalAvgPool,
    GlobalSumPool,
    LocalAvgPool,
    SumPool,
    Unflatten,
)

__all__ = [
    "AvgPool",
    "Conv",
    "ConvLocal",
    "ConvTranspose",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GlobalSumPool",
    "Identity",
    "Layer",
    "LayerNorm",
    "LocalAvgPool",
    "Nonlinearity",
    "SumPool",
    "Unflatten",
    "cnn",
    "flip_augmented",
    "from_json",
    "mlp",
    "myrtle",
    "parallel",
    "repeat",
    "residual",
    "serial",
    "to_json",
    "wide_resnet",
]
__all__ += _nonlinearities
