"""The layer of kernreg.nn that a layer of torch is."""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor

from kernreg import nn
from kernreg.exceptions import NetworkError

__all__ = ["FUNCTIONS", "METHODS", "described", "numbers_of", "unreadable"]


def unreadable(what: str, why: str) -> NetworkError:
    """An error that names what cannot be read."""
    return NetworkError(
        f"read: {what} has no description: {why}. kernreg.finite.EmpiricalOperator gives the "
        "kernels of any module."
    )


def _deviation(values: Tensor) -> float:
    return float(values.detach().double().square().mean().sqrt())


def _weights(name: str, layer: Any, fan_in: int, parameterization: str) -> dict[str, Any]:
    """Standard deviations of weights and biases, as arguments of a layer.

    Parameters
    ----------
    name : str
        Of the layer, for errors.
    layer : Linear or Conv
        The layer.
    fan_in : int
        Inputs of a weight.
    parameterization : {"ntk", "standard"}
        That of the description.
    """
    W_std = _deviation(layer.weight) * math.sqrt(fan_in)
    if W_std == 0 or not math.isfinite(W_std):
        raise unreadable(f"{name} ({layer})", f"its weights have the deviation {W_std:g}")
    found: dict[str, Any] = {"W_std": W_std, "trainable": bool(layer.weight.requires_grad)}
    found["b_std"] = None if layer.bias is None else _deviation(layer.bias)
    if parameterization == "standard":
        found["parameterization"] = "standard"
        found["fan_in"] = layer.weight.shape[1]
    return found


@functools.singledispatch
def described(layer: torch.nn.Module, name: str, parameterization: str) -> nn.Layer:
    """The description of one layer of torch."""
    if type(layer) in _PLAIN:
        return _PLAIN[type(layer)]
    raise unreadable(
        f"{name or 'the module'} ({type(layer).__name__})", "it is none of the layers known"
    )


@described.register
def _(layer: torch.nn.Linear, name: str, parameterization: str) -> nn.Layer:
    return nn.Dense(**_weights(name, layer, layer.in_features, parameterization))


@described.register(torch.nn.Conv1d)
@described.register(torch.nn.Conv2d)
@described.register(torch.nn.Conv3d)
def _(layer: torch.nn.Conv2d, name: str, parameterization: str) -> nn.Layer:
    if layer.groups != 1:
        raise unreadable(f"{name} ({layer})", "its channels are in groups")
    size, strides = tuple(layer.kernel_size), tuple(layer.stride)
    dilation = tuple(layer.dilation)
    padding = _padding(name, layer, size, strides, dilation)
    fan_in = layer.in_channels * math.prod(size)
    values = _weights(name, layer, fan_in, parameterization)
    return nn.Conv(size, strides, padding, dilation=dilation, **values)


def _padding(name: str, layer: Any, size: Any, strides: Any, dilation: Any) -> str:
    reach = [(k - 1) * d for k, d in zip(size, dilation, strict=True)]
    given = layer.padding
    if given == "valid" or (not isinstance(given, str) and not any(given)):
        return "VALID"
    same = given == "same" or all(2 * p == r for p, r in zip(given, reach, strict=True))
    if not same:
        raise unreadable(f"{name} ({layer})", "its padding is neither none nor that of equal sizes")
    if any(s != 1 for s in strides):
        raise unreadable(
            f"{name} ({layer})",
            "with strides torch pads both sides alike, kernreg's SAME as few positions as it can",
        )
    if layer.padding_mode not in ("zeros", "circular"):
        raise unreadable(f"{name} ({layer})", f"its padding is {layer.padding_mode!r}")
    return "SAME" if layer.padding_mode == "zeros" else "CIRCULAR"


@described.register(torch.nn.Dropout)
def _(layer: torch.nn.Dropout, name: str, parameterization: str) -> nn.Layer:
    # A module that does not train drops nothing.
    return nn.Dropout(1.0 - layer.p) if layer.training and layer.p else nn.Identity()


@described.register
def _(layer: torch.nn.LayerNorm, name: str, parameterization: str) -> nn.Layer:
    if len(layer.normalized_shape) != 1:
        raise unreadable(f"{name} ({layer})", "it is not over the channels of rows")
    plain = layer.weight is None or bool((layer.weight == 1).all())
    if not plain or (layer.bias is not None and bool((layer.bias != 0).any())):
        raise unreadable(f"{name} ({layer})", "it has weights other than 1 and 0")
    return nn.LayerNorm(layer.eps)


@described.register
def _(layer: torch.nn.Flatten, name: str, parameterization: str) -> nn.Layer:
    if layer.start_dim != 1 or layer.end_dim not in (-1,):
        raise unreadable(f"{name} ({layer})", "it does not leave one vector for each row")
    return nn.Flatten()


def numbers_of(value: Any, axes: int) -> tuple[int, ...]:
    """One number for each axis, as torch's layers have them."""
    return tuple(value) if isinstance(value, tuple | list) else (int(value),) * axes


@described.register(torch.nn.AvgPool1d)
@described.register(torch.nn.AvgPool2d)
@described.register(torch.nn.AvgPool3d)
def _(layer: Any, name: str, parameterization: str) -> nn.Layer:
    axes = int(type(layer).__name__[-2])
    padded = any(numbers_of(layer.padding, axes))
    if padded or layer.ceil_mode or getattr(layer, "divisor_override", None):
        raise unreadable(f"{name} ({layer})", "its windows reach beyond the image")
    return nn.AvgPool(numbers_of(layer.kernel_size, axes), numbers_of(layer.stride, axes))


@described.register(torch.nn.AdaptiveAvgPool1d)
@described.register(torch.nn.AdaptiveAvgPool2d)
@described.register(torch.nn.AdaptiveAvgPool3d)
def _(layer: Any, name: str, parameterization: str) -> nn.Layer:
    axes = int(type(layer).__name__[-2])
    if numbers_of(layer.output_size, axes) != (1,) * axes:
        raise unreadable(f"{name} ({layer})", "it leaves more than one position")
    return nn.GlobalAvgPool()


@described.register
def _(layer: torch.nn.LeakyReLU, name: str, parameterization: str) -> nn.Layer:
    return nn.LeakyRelu(layer.negative_slope)


@described.register
def _(layer: torch.nn.ELU, name: str, parameterization: str) -> nn.Layer:
    return nn.Elu(layer.alpha)


@described.register
def _(layer: torch.nn.GELU, name: str, parameterization: str) -> nn.Layer:
    if layer.approximate != "none":
        raise unreadable(f"{name} ({layer})", "it is GELU's approximation")
    return nn.Gelu()


@described.register
def _(layer: torch.nn.Softplus, name: str, parameterization: str) -> nn.Layer:
    if layer.beta != 1:
        raise unreadable(f"{name} ({layer})", "its beta is not 1")
    return nn.Softplus()


# Layers without numbers of their own.
_PLAIN: dict[type[torch.nn.Module], nn.Layer] = {
    torch.nn.Identity: nn.Identity(),
    torch.nn.ReLU: nn.Relu(),
    torch.nn.SELU: nn.Selu(),
    torch.nn.SiLU: nn.Swish(),
    torch.nn.Tanh: nn.Tanh(),
    torch.nn.Sigmoid: nn.Elementwise(torch.sigmoid),
}

FUNCTIONS: dict[Any, nn.Layer] = {
    torch.relu: nn.Relu(),
    torch.nn.functional.relu: nn.Relu(),
    torch.tanh: nn.Tanh(),
    torch.nn.functional.tanh: nn.Tanh(),
    torch.sigmoid: nn.Elementwise(torch.sigmoid),
    torch.nn.functional.softplus: nn.Softplus(),
    torch.nn.functional.silu: nn.Swish(),
    torch.nn.functional.selu: nn.Selu(),
    torch.nn.functional.elu: nn.Elu(),
    torch.nn.functional.gelu: nn.Gelu(),
    torch.erf: nn.Erf(),
    torch.sin: nn.Sin(),
    torch.cos: nn.Cos(),
    torch.exp: nn.Exp(),
    torch.abs: nn.Abs(),
    torch.sign: nn.Sign(),
}
"""Functions of one tensor and no other argument."""

METHODS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "sin": torch.sin}
"""The same as methods of tensors."""
