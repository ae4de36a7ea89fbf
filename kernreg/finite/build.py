"""From the description of a network to a torch module, layer by layer."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.finite.unweighted import (
    Branches,
    DropUnits,
    Flattened,
    Flipped,
    Nonlinear,
    Normalized,
    Pooled,
    Repeated,
    Unflattened,
)
from kernreg.finite.weighted import Convolution, FullyConnected, LocallyConnected, Weighted
from kernreg.ir.operations import Mix
from kernreg.ir.taps import Sizes, Taps
from kernreg.nn.base import Nonlinearity
from kernreg.nn.combinators import Parallel, Repeat, Residual, Serial
from kernreg.nn.flips import FlipAugmented
from kernreg.nn.presets import Preset

__all__ = ["Building", "Shape", "branches_of", "built", "channels_alike", "free_width"]


@dataclass(frozen=True)
class Shape:
    """What a value has: channels, and positions along each axis."""

    channels: int
    sizes: Sizes = ()


@dataclass
class Building:
    """What modules are made with.

    Parameters
    ----------
    widths : iterator of int
        Of hidden layers, in the order in which they are met.
    parameterization : str or None
        Instead of the one that each layer has.
    checkpoint : bool
        As in :class:`Repeated`.
    """

    widths: Iterator[int]
    parameterization: str | None = None
    checkpoint: bool = False
    made: list[Weighted] = field(default_factory=list)

    def width(self, wanted: int | None) -> int:
        """The width of a layer: the one that is wanted, or the next one."""
        if wanted is not None:
            return wanted
        width = next(self.widths, None)
        if width is None:
            raise NetworkError(
                f"module: the network has more hidden layers than the {len(self.made)} widths that "
                "were given: give one number for all, or one for each in their order."
            )
        return width

    def standard(self, layer: Any, inputs: int) -> bool:
        """Whether a layer is in the "standard" parameterization, checked against its width."""
        if self.parameterization is not None:
            return self.parameterization == "standard"
        if layer.parameterization == "standard" and layer.fan_in != inputs:
            raise NetworkError(
                f"{layer!r}: fan_in is {layer.fan_in}, but {inputs} channels are before it: give "
                "the module other widths, or the layer another fan_in."
            )
        return bool(layer.parameterization == "standard")

    def add(self, made: Weighted) -> Weighted:
        """Remember a module with weights."""
        self.made.append(made)
        return made


Built = tuple[torch.nn.Module, Shape]


def free_width(layer: nn.Layer) -> bool:
    """Whether a network's output can have any number of channels, whatever is inside."""
    if isinstance(layer, Preset):
        return free_width(layer.layers())
    if isinstance(layer, Serial):
        last = _last(layer)
        return last is not None and free_width(last)
    return _sets_width(layer)


def _last(layer: Serial) -> nn.Layer | None:
    """The last part that does not work on each channel by itself."""
    return next((p for p in reversed(layer.layers) if not _by_channels(p)), None)


def channels_alike(layer: nn.Layer) -> bool:
    """Whether some of the channels that leave a network stand for all."""
    if isinstance(layer, Preset):
        return channels_alike(layer.layers())
    if isinstance(layer, Serial):
        mixed = [p for p in layer.layers if not _by_channels(p) and not isinstance(p, nn.LayerNorm)]
        return not mixed or channels_alike(mixed[-1])
    if isinstance(layer, Repeat):
        return layer.n == 0 or channels_alike(layer.block)
    if isinstance(layer, Parallel) and layer.merge == "concat" and layer.axis is None:
        return False
    return not isinstance(layer, nn.Flatten) and all(map(channels_alike, branches_of(layer)))


def _sets_width(layer: nn.Layer) -> bool:
    """Whether a layer's output can have any number of channels, whatever its input has."""
    if isinstance(layer, Preset):
        return _sets_width(layer.layers())
    if isinstance(layer, Serial):
        last = next((p for p in reversed(layer.layers) if not _keeps_width(p)), None)
        return last is not None and _sets_width(last)
    if isinstance(layer, Repeat):
        return layer.n > 0 and _sets_width(layer.block)
    return all(map(_sets_width, branches_of(layer))) if branches_of(layer) else _is_weighted(layer)


def _keeps_width(layer: nn.Layer) -> bool:
    """Whether a layer has as many channels behind it as before."""
    if isinstance(layer, Preset):
        return _keeps_width(layer.layers())
    if isinstance(layer, Serial):
        return all(map(_keeps_width, layer.layers))
    if isinstance(layer, Repeat):
        return layer.n == 0 or _keeps_width(layer.block)
    if isinstance(layer, Parallel) and layer.merge == "concat" and layer.axis is None:
        return False
    if branches_of(layer):  # they have the width of one that keeps it
        return any(map(_keeps_width, branches_of(layer)))
    return _by_channels(layer) or isinstance(layer, nn.LayerNorm)


def branches_of(layer: nn.Layer) -> tuple[nn.Layer, ...]:
    """The branches of a layer that has some."""
    if isinstance(layer, Residual):
        return layer.block, layer.shortcut
    return layer.layers if isinstance(layer, Parallel) else ()


def _is_weighted(layer: nn.Layer) -> bool:
    return isinstance(layer, nn.Dense | nn.Conv)


def _by_channels(layer: nn.Layer) -> bool:
    """Whether a layer works on each channel by itself."""
    kept = Nonlinearity, nn.Dropout, nn.Identity, nn.Unflatten
    return isinstance(layer, kept) or _pooling(layer) is not None


@functools.singledispatch
def built(layer: Any, at: Building, x: Shape, wanted: int | None) -> Built:
    """The module of a layer, and the shape behind it.

    Parameters
    ----------
    layer : Layer
        The description.
    at : Building
        How modules are made.
    x : Shape
        What enters.
    wanted : int or None
        Channels that must leave, where weights decide that.

    Raises
    ------
    NetworkError
        If the layer does not fit.
    """
    raise NetworkError(
        f"{layer!r} has no finite network: kernreg.finite.module knows the layers of kernreg.nn."
    )


@built.register
def _(layer: nn.Identity, at: Building, x: Shape, wanted: int | None) -> Built:
    return torch.nn.Identity(), x


@built.register
def _(layer: Nonlinearity, at: Building, x: Shape, wanted: int | None) -> Built:
    return Nonlinear(layer), x


@built.register
def _(layer: nn.LayerNorm, at: Building, x: Shape, wanted: int | None) -> Built:
    return Normalized(layer), x


@built.register
def _(layer: nn.Dropout, at: Building, x: Shape, wanted: int | None) -> Built:
    return DropUnits(layer), x


@built.register
def _(layer: nn.Dense, at: Building, x: Shape, wanted: int | None) -> Built:
    outputs = at.width(wanted)
    standard = at.standard(layer, x.channels)
    made = FullyConnected(layer, x.channels, outputs, standard=standard)
    return at.add(made), Shape(outputs, x.sizes)


@built.register
def _(layer: nn.Conv, at: Building, x: Shape, wanted: int | None) -> Built:
    outputs, taps = at.width(wanted), layer.taps()
    sizes = taps.out(x.sizes, repr(layer))
    standard = at.standard(layer, x.channels)
    made: Weighted
    if isinstance(layer, nn.ConvLocal):
        places = math.prod(sizes)
        made = LocallyConnected(layer, x.channels, outputs, taps, standard, places)
    else:
        made = Convolution(layer, x.channels, outputs, taps, standard)
    return at.add(made), Shape(outputs, sizes)


@built.register
def _(layer: nn.Flatten, at: Building, x: Shape, wanted: int | None) -> Built:
    return Flattened(layer), Shape(x.channels * math.prod(x.sizes))


@built.register(nn.AvgPool)
@built.register(nn.SumPool)
@built.register(nn.LocalAvgPool)
@built.register(nn.GlobalAvgPool)
@built.register(nn.GlobalSumPool)
def _(layer: nn.Layer, at: Building, x: Shape, wanted: int | None) -> Built:
    op = _pooling(layer)
    assert op is not None
    taps, how = op
    return Pooled(layer, taps, how), Shape(x.channels, taps.out(x.sizes, repr(layer)))


def _pooling(layer: nn.Layer) -> tuple[Taps, str] | None:
    """Windows of a pooling and how it scales, from the operation that the layer writes."""
    pools = nn.AvgPool, nn.SumPool, nn.LocalAvgPool, nn.GlobalAvgPool, nn.GlobalSumPool
    if not isinstance(layer, pools):
        return None
    op = layer.program().ops[-1]
    assert isinstance(op, Mix)
    return op.taps, str(op.shared)


@built.register
def _(layer: Serial, at: Building, x: Shape, wanted: int | None) -> Built:
    last = max((i for i, part in enumerate(layer.layers) if not _keeps_width(part)), default=-1)
    parts = []
    for i, part in enumerate(layer.layers):
        made, x = built(part, at, x, wanted if i == last else None)
        parts.append(made)
    return torch.nn.Sequential(*parts), x


@built.register
def _(layer: Preset, at: Building, x: Shape, wanted: int | None) -> Built:
    return built(layer.layers(), at, x, wanted)


@built.register
def _(layer: Repeat, at: Building, x: Shape, wanted: int | None) -> Built:
    blocks = []
    for turn in range(int(layer.n)):
        last = turn == layer.n - 1
        made, x = built(layer.block, at, x, wanted if last else None)
        blocks.append(made)
    return Repeated(layer, blocks, at.checkpoint), x


@built.register
def _(layer: Residual, at: Building, x: Shape, wanted: int | None) -> Built:
    return _merged(layer, (layer.block, layer.shortcut), "sum", None, at, x, wanted)


@built.register
def _(layer: Parallel, at: Building, x: Shape, wanted: int | None) -> Built:
    if layer.merge != "concat":
        return _merged(layer, layer.layers, layer.merge, None, at, x, wanted)
    if layer.axis is not None:
        return _merged(layer, layer.layers, "concat", int(layer.axis), at, x, wanted)
    return _concatenated(layer, at, x, wanted)


def _merged(
    layer: nn.Layer,
    branches: tuple[nn.Layer, ...],
    merge: str,
    axis: int | None,
    at: Building,
    x: Shape,
    wanted: int | None,
) -> Built:
    """Branches with as many channels each."""
    if not all(map(_sets_width, branches)):  # one has as many as come in
        wanted = x.channels
    elif wanted is None:
        wanted = at.width(None)
    parts, shapes = zip(*(built(branch, at, x, wanted) for branch in branches), strict=True)
    channels = [shape.channels for shape in shapes]
    if len(set(channels)) > 1:
        raise NetworkError(
            f"{layer!r}: the branches have {', '.join(map(str, channels))} channels: give all "
            "layers the same width, or the shortcut a Dense layer."
        )
    sizes = shapes[0].sizes
    if axis is not None:
        along = sum(shape.sizes[axis] for shape in shapes)
        sizes = (*sizes[:axis], along, *sizes[axis + 1 :])
        return Branches(layer, parts, merge, axis=2 + axis), Shape(channels[0], sizes)
    return Branches(layer, parts, merge), Shape(channels[0], sizes)


def _concatenated(layer: Parallel, at: Building, x: Shape, wanted: int | None) -> Built:
    """Channels side by side, so scaled that each branch has its share in the kernel."""
    weights = layer.weights or (1.0,) * len(layer.layers)
    free = [_sets_width(branch) for branch in layer.layers]
    left = None
    if wanted is not None:
        left = wanted - x.channels * free.count(False)
        if left < free.count(True):
            raise NetworkError(
                f"{layer!r}: {wanted} channels are wanted behind, which is too few for its "
                f"{len(free)} branches: give the layers a larger width."
            )
    parts, widths, sizes = [], [], x.sizes
    open_count = sum(free)
    open_weight = sum(w for w, is_free in zip(weights, free, strict=True) if is_free)
    for branch, weight, is_free in zip(layer.layers, weights, free, strict=True):
        share = None
        if is_free and left is not None:
            share = min(max(1, round(left * weight / open_weight)), left - (open_count - 1))
            left, open_weight, open_count = left - share, open_weight - weight, open_count - 1
        made, shape = built(branch, at, x, share)
        parts.append(made)
        widths.append(shape.channels)
        sizes = shape.sizes
    total = sum(widths)
    factors = [
        math.sqrt(w / sum(weights) * total / width)
        for w, width in zip(weights, widths, strict=True)
    ]
    factors = [] if all(abs(f - 1.0) < 1e-12 for f in factors) else factors
    return Branches(layer, parts, "concat", factors), Shape(total, sizes)


@built.register
def _(layer: FlipAugmented, at: Building, x: Shape, wanted: int | None) -> Built:
    made, x = built(layer.network, at, x, wanted)
    return Flipped(layer, made), x


@built.register
def _(layer: nn.Unflatten, at: Building, x: Shape, wanted: int | None) -> Built:
    return Unflattened(layer), x
