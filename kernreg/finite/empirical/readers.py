"""How the weights of a layer meet its inputs, for layers whose derivatives are products."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from kernreg.finite.weighted import (
    Convolution,
    LocallyConnected,
    Weighted,
    by_taps,
    gathered,
    padded,
)
from kernreg.ir.taps import Sizes, Taps

__all__ = ["Reader", "reader"]

# Channels of a tap from which a product of matrices on its own is as fast as one of several taps.
_CHANNELS = 32
# Positions on the lines of padded images, for each that a filter has.
_MORE = 1.2


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

    return _convolved(layer, taps, layer.groups, lambda x: F.pad(x, edges))


@_read.register
def _(layer: Convolution) -> Reader:
    return _convolved(layer, layer.taps, 1, lambda x: padded(x, layer.taps))


def _convolved(
    layer: torch.nn.Conv2d | Convolution,
    taps: Taps,
    groups: int,
    pad: Callable[[Tensor], Tensor | None],
) -> Reader:
    """A convolution, whose windows lie inside what ``pad`` makes; None where it makes nothing."""
    inside = replace(taps, padding="VALID")

    def grouped(y: Tensor) -> Tensor:
        return y.unflatten(1, (groups, -1)).transpose(2, 3)

    def parts(x: Tensor) -> Iterator[Tensor]:
        channels, whole = x.shape[1] // groups, pad(x)
        if whole is None:
            yield grouped(gathered(x, taps))
            return
        counts = inside.out(tuple(whole.shape[2:]), "windows")
        if _on_lines(inside, counts, channels):
            yield from map(grouped, _read_on_lines(whole, inside, counts))
            return
        for part in by_taps(whole, inside):
            each = part.unflatten(1, (-1, groups, channels))  # taps come first
            yield grouped(each.transpose(1, 2).flatten(1, 3).flatten(2))

    def outputs(y: Tensor) -> Tensor:
        counts = tuple(y.shape[2:])
        on_lines = _on_lines(inside, counts, layer.weight.shape[1])
        return grouped(_laid(y, inside) if on_lines else y.flatten(2))

    made = Reader(layer.weight, layer.bias, 1.0, 1.0, parts, outputs)
    if isinstance(layer, Convolution):
        made = replace(made, scale=layer.scale, bias_scale=layer.bias_scale)
    return made


def _on_lines(taps: Taps, counts: Sizes, channels: int) -> bool:
    """Whether windows are read as views of padded images, with all positions of its lines.

    With steps of 1 a tap is the padded image from another position on: nothing is copied, for some
    positions that are in no window's place and have no gradient.
    """
    if taps.transposed or len(counts) > 3 or any(s > 1 for s in taps.strides):
        return False
    room = [w - count for w, count in zip(_padded(taps, counts), counts, strict=True)]
    fits = all(r <= count for r, count in zip(room, counts, strict=True))
    more = _length(taps, counts) / math.prod(counts)
    return fits and channels >= _CHANNELS and more <= _MORE


def _padded(taps: Taps, counts: Sizes) -> Sizes:
    """Sizes of the padded image."""
    assert taps.shape is not None
    reach = ((k - 1) * d for k, d in zip(taps.shape, taps.dilation, strict=True))
    return tuple(count + r for count, r in zip(counts, reach, strict=True))


def _number(sizes: Sizes, position: Sizes) -> int:
    """Of a position, line by line."""
    return functools.reduce(
        lambda n, axis: n * axis[0] + axis[1], zip(sizes, position, strict=True), 0
    )


def _length(taps: Taps, counts: Sizes) -> int:
    """Positions from the first window to the last."""
    return _number(_padded(taps, counts), tuple(count - 1 for count in counts)) + 1


def _read_on_lines(whole: Tensor, taps: Taps, counts: Sizes) -> Iterator[Tensor]:
    """What each tap reads, of shape (n, channels, positions)."""
    assert taps.shape is not None
    length, flat = _length(taps, counts), whole.flatten(2)
    for tap in itertools.product(*map(range, taps.shape)):
        at = tuple(a * d for a, d in zip(tap, taps.dilation, strict=True))
        start = _number(tuple(whole.shape[2:]), at)
        yield flat[:, :, start : start + length]


def _laid(y: Tensor, taps: Taps) -> Tensor:
    """Values of windows where those begin in the padded image, and zeros between."""
    counts = tuple(y.shape[2:])
    edges: list[int] = []
    for size, count in zip(_padded(taps, counts), counts, strict=True):
        edges = [0, size - count, *edges]
    return F.pad(y, edges).flatten(2)[:, :, : _length(taps, counts)]


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
