"""How the weights of a layer meet its inputs, for layers whose derivatives are products."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kernreg.finite.weighted import LocallyConnected, Weighted, by_taps
from kernreg.ir.taps import Taps

__all__ = ["Reader", "reader"]


@dataclass(frozen=True)
class Reader:
    """A layer ``y = scale * weight @ operands + bias_scale * bias``, group by group.

    Parameters
    ----------
    weight, bias : Parameter or None
        Those that take part; None for one that is not differentiated.
    scale, bias_scale : float
        What they are multiplied with.
    parts : callable
        From the layer's input to what weights multiply, (n, groups, positions, inputs), in parts
        along the inputs.
    outputs : callable
        From something like the layer's output to (n, groups, positions, outputs).
    """

    weight: Tensor | None
    bias: Tensor | None
    scale: float
    bias_scale: float
    parts: Callable[[Tensor], Iterator[Tensor]]
    outputs: Callable[[Tensor], Tensor]


@functools.singledispatch
def _read(layer: torch.nn.Module) -> Reader | None:
    return None


def reader(layer: torch.nn.Module) -> Reader | None:
    """The reader of a layer; None for layers whose derivatives are found in another way."""
    plain = type(layer) in (
        torch.nn.Linear,
        torch.nn.Conv1d,
        torch.nn.Conv2d,
        torch.nn.Conv3d,
    )
    # What is derived from these may do something else with its weights.
    return _read(layer) if plain or isinstance(layer, Weighted) else None


@_read.register
def _(layer: torch.nn.Linear) -> Reader:
    def positions(x: Tensor) -> Tensor:
        return x.reshape(len(x), 1, -1, x.shape[-1])

    def parts(x: Tensor) -> Iterator[Tensor]:
        yield positions(x)

    return Reader(layer.weight, layer.bias, 1.0, 1.0, parts, positions)


@_read.register(torch.nn.Conv1d)
@_read.register(torch.nn.Conv2d)
@_read.register(torch.nn.Conv3d)
def _(layer: torch.nn.Conv2d) -> Reader | None:
    if layer.padding_mode != "zeros":
        return None
    taps = Taps(tuple(layer.kernel_size), tuple(layer.stride), tuple(layer.dilation), "VALID")
    edges: list[int] = []
    for axis, (k, d) in enumerate(zip(layer.kernel_size, layer.dilation, strict=True)):
        if isinstance(layer.padding, str):
            both = d * (k - 1) if layer.padding == "same" else 0
            edges = [both // 2, both - both // 2, *edges]
        else:
            edges = [layer.padding[axis], layer.padding[axis], *edges]
    groups = layer.groups

    def grouped(y: Tensor) -> Tensor:
        return y.flatten(2).unflatten(1, (groups, -1)).transpose(2, 3)

    def parts(x: Tensor) -> Iterator[Tensor]:
        for part in by_taps(F.pad(x, edges), taps):
            each = part.unflatten(1, (-1, groups, x.shape[1] // groups))  # taps come first
            yield grouped(each.transpose(1, 2).flatten(1, 3))

    return Reader(layer.weight, layer.bias, 1.0, 1.0, parts, grouped)


@_read.register
def _(layer: Weighted) -> Reader:
    def parts(x: Tensor) -> Iterator[Tensor]:
        yield from (part.flatten(2).transpose(1, 2)[:, None] for part in layer.operands(x))

    def outputs(y: Tensor) -> Tensor:
        return y.reshape(len(y), 1, y.shape[1], -1).transpose(2, 3)

    return Reader(layer.weight, layer.bias, layer.scale, layer.bias_scale, parts, outputs)


@_read.register
def _(layer: LocallyConnected) -> Reader:
    def parts(x: Tensor) -> Iterator[Tensor]:
        yield from (part.flatten(2).transpose(1, 2)[:, :, None] for part in layer.operands(x))

    def outputs(y: Tensor) -> Tensor:
        return y.reshape(len(y), y.shape[1], math.prod(y.shape[2:]), 1).permute(0, 2, 3, 1)

    return Reader(layer.weight, layer.bias, layer.scale, layer.bias_scale, parts, outputs)
