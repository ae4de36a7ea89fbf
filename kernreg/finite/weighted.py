"""Layers with weights; the channels are on axis 1, positions behind it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from kernreg import nn
from kernreg.backends.windows import windows
from kernreg.finite.initial import Draw, drawn
from kernreg.ir.taps import Taps

__all__ = [
    "Convolution",
    "FullyConnected",
    "LocallyConnected",
    "Weighted",
    "by_taps",
    "gathered",
    "padded",
]

# Inputs that a product of matrices has at least: taps of few channels go together.
_CHANNELS = 64
_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def padded(x: Tensor, taps: Taps) -> Tensor | None:
    """Values of shape (n, channels, *sizes) with the edges that windows need.

    None where torch has none: more than three axes, or windows that go around more than once.
    """
    assert taps.shape is not None
    sizes = tuple(x.shape[2:])
    if len(sizes) > 3 or taps.transposed:
        return None
    edges: list[int] = []
    for axis, (size, count) in enumerate(zip(sizes, taps.out(sizes, "windows"), strict=True)):
        low = taps.low(axis, size)
        reach = (taps.shape[axis] - 1) * taps.dilation[axis] + 1
        high = max(0, (count - 1) * taps.strides[axis] + reach - low - size)
        edges = [low, high, *edges]
        if taps.padding == "CIRCULAR" and max(low, high) > size:
            return None
    if not any(edges):
        return x
    return F.pad(x, edges, mode="circular" if taps.padding == "CIRCULAR" else "constant")


def gathered(x: Tensor, taps: Taps) -> Tensor:
    """What each window reads, of shape (n, channels * taps, positions behind)."""
    source = windows(taps, tuple(x.shape[2:])).to(x.device)
    # Number -1, where nothing is, is the zero at the end.
    return F.pad(x.flatten(2), (0, 1))[:, :, source].flatten(1, 2)


def by_taps(x: Tensor, taps: Taps) -> Iterator[Tensor]:
    """What taps of the windows read, of shape (n, channels of some taps, *sizes behind)."""
    whole = padded(x, taps)
    assert taps.shape is not None
    if whole is None:
        yield gathered(x, taps)
        return
    counts = taps.out(tuple(x.shape[2:]), "windows")
    steps = list(zip(taps.strides, taps.dilation, counts, strict=True))
    some: list[Tensor] = []
    for tap in itertools.product(*map(range, taps.shape)):
        cut = [
            slice(a * d, a * d + (count - 1) * s + 1, s)
            for a, (s, d, count) in zip(tap, steps, strict=True)
        ]
        some.append(whole[(slice(None), slice(None), *cut)])
        if len(some) * x.shape[1] >= _CHANNELS:
            yield torch.cat(some, 1)
            some = []
    if some:
        yield torch.cat(some, 1)


class Weighted(torch.nn.Module):
    """``scale * weight @ operands + bias_scale * bias``.

    In the "ntk" parameterization all parameters have variance 1 at first, and ``scale`` is
    ``W_std / sqrt(fan_in)``; in the "standard" one the scales are 1.

    Parameters
    ----------
    layer : Dense or Conv
        The description.
    inputs, outputs : int
        Channels.
    filter_shape : tuple of int
        Positions of a filter, none for a dense layer.
    standard : bool
        Whether the parameterization is "standard".
    places : int, optional
        Positions that have weights of their own each.
    """

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None

    def __init__(
        self,
        layer: nn.Dense | nn.Conv,
        inputs: int,
        outputs: int,
        filter_shape: tuple[int, ...] = (),
        standard: bool = False,
        places: int = 0,
    ) -> None:
        super().__init__()
        self.layer, self.standard = layer, standard
        self.inputs, self.outputs = inputs, outputs
        self.fan_in = inputs * math.prod(filter_shape)
        spread, b_std = layer.W_std / math.sqrt(self.fan_in), layer.b_std
        self.scale, self.spread = (1.0, spread) if standard else (spread, 1.0)
        shape = (outputs, inputs, *filter_shape)
        own = (places,) if places else ()
        self.weight = torch.nn.Parameter(torch.empty(*own, *shape), layer.trainable)
        self.bias, self.bias_scale, self.bias_spread = None, 1.0, 1.0
        if b_std is not None and (standard or b_std > 0):
            self.bias = torch.nn.Parameter(torch.empty(outputs, *own), layer.trainable)
            self.bias_scale, self.bias_spread = (1.0, b_std) if standard else (b_std, 1.0)

    def reset(self, init: str, draw: Draw) -> None:
        """Draw the parameters anew."""
        with torch.no_grad():
            for weight in self._filters():
                weight.copy_(self.spread * drawn(init, tuple(weight.shape), self._middle(), draw))
            if self.bias is not None:
                self.bias.copy_(self.bias_spread * draw(tuple(self.bias.shape)))

    def _filters(self) -> list[Tensor]:
        """The weights of each place that has its own."""
        return [self.weight.detach()]

    def _middle(self) -> tuple[int, ...]:
        """The position of a filter that reads its own place."""
        return ()

    def operands(self, x: Tensor) -> Iterator[Tensor]:
        """What weights multiply, in parts of shape (n, some inputs, *sizes behind)."""
        raise NotImplementedError

    def _with_bias(self, y: Tensor) -> Tensor:
        """``scale * y + bias_scale * bias``, the channels on axis 1."""
        y = y if self.scale == 1.0 else self.scale * y
        if self.bias is None:
            return y
        return y + self.bias_scale * self.bias.reshape(-1, *(1,) * (y.ndim - 2))

    def extra_repr(self) -> str:
        """The description, and the channels."""
        return f"{self.layer!r}, {self.inputs} -> {self.outputs}"


class FullyConnected(Weighted):
    """A dense layer, on every position alike."""

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, *sizes) to (n, outputs, *sizes)."""
        if x.ndim == 2:
            return self._with_bias(F.linear(x, self.weight))
        return self._with_bias((self.weight @ x.flatten(2)).unflatten(2, x.shape[2:]))

    def operands(self, x: Tensor) -> Iterator[Tensor]:
        """The values themselves."""
        yield x if x.ndim > 2 else x[:, :, None]


class Convolution(Weighted):
    """A convolution, transposed ones included."""

    def __init__(
        self, layer: nn.Conv, inputs: int, outputs: int, taps: Taps, standard: bool, places: int = 0
    ) -> None:
        assert taps.shape is not None
        super().__init__(layer, inputs, outputs, taps.shape, standard, places)
        self.taps = taps

    def _middle(self) -> tuple[int, ...]:
        assert self.taps.shape is not None
        return tuple((k - 1) // 2 for k in self.taps.shape)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, *sizes) to (n, outputs, *sizes behind)."""
        assert self.taps.shape is not None
        whole = padded(x, self.taps)
        if whole is None:
            y = self.weight.flatten(1) @ gathered(x, self.taps)
            return self._with_bias(y.unflatten(2, self.taps.out(tuple(x.shape[2:]), "")))
        convolve = _CONVOLUTIONS[len(self.taps.shape)]
        y = convolve(whole, self.weight, stride=self.taps.strides, dilation=self.taps.dilation)
        return self._with_bias(y)

    def operands(self, x: Tensor) -> Iterator[Tensor]:
        """What each position of the filter covers."""
        yield from by_taps(x, self.taps)


class LocallyConnected(Convolution):
    """A convolution with weights of its own at each position."""

    def _filters(self) -> list[Tensor]:
        return list(self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """From (n, inputs, *sizes) to (n, outputs, *sizes behind)."""
        y = torch.einsum("pok,nkp->nop", self.weight.flatten(2), gathered(x, self.taps))
        y = y.unflatten(2, self.taps.out(tuple(x.shape[2:]), ""))
        y = y if self.scale == 1.0 else self.scale * y
        if self.bias is None:
            return y
        return y + self.bias_scale * self.bias.reshape(y.shape[1:])
