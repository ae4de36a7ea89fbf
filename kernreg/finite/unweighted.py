"""Layers without weights, and ways to compose layers, as torch modules."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from kernreg import nn
from kernreg.backends.windows import pooling
from kernreg.finite.weighted import padded
from kernreg.ir.taps import Taps
from kernreg.numerics.torchmath import TorchMath

__all__ = [
    "Branches",
    "DropUnits",
    "Flattened",
    "Flipped",
    "Nonlinear",
    "Normalized",
    "Pooled",
    "Repeated",
    "Unflattened",
]

_POOLS = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_MATH = TorchMath()
# Turns whose values are kept at once where the others are worked out again.
_SEGMENT = 100


class Nonlinear(torch.nn.Module):
    """A nonlinearity, by the same function as its kernel is made of."""

    def __init__(self, layer: nn.Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """The function of each number."""
        y: Tensor = self.layer.phi(_MATH, x)  # type: ignore[attr-defined]
        return y

    def extra_repr(self) -> str:
        """The description."""
        return repr(self.layer)


class Normalized(torch.nn.Module):
    """Layer normalisation over channels, and over some axes of positions."""

    def __init__(self, layer: nn.LayerNorm) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Values of mean 0 and variance 1."""
        axes = (1, *(2 + a for a in self.layer.axes))
        x = x - x.mean(axes, keepdim=True)
        return x * torch.rsqrt((x * x).mean(axes, keepdim=True) + self.layer.eps)


class DropUnits(torch.nn.Module):
    """Dropout while the module is training."""

    def __init__(self, layer: nn.Dropout) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Some values zero, the others larger."""
        return F.dropout(x, 1.0 - self.layer.keep_prob, self.training)


class Pooled(torch.nn.Module):
    """Sums or means over windows of positions; over all of them if ``taps`` has no shape."""

    def __init__(self, layer: nn.Layer, taps: Taps, how: str) -> None:
        super().__init__()
        self.layer, self.taps, self.how = layer, taps, how

    def forward(self, x: Tensor) -> Tensor:
        """From (n, channels, *sizes) to (n, channels, *sizes behind)."""
        shape = self.taps.shape
        if shape is None:
            flat = x.flatten(2)
            return flat.sum(2) if self.how == "sum" else flat.mean(2)
        whole = padded(x, self.taps)
        if whole is None:
            sizes = tuple(x.shape[2:])
            matrix = pooling(self.taps, sizes, self.how).to(x)
            return (x.flatten(2) @ matrix.T).unflatten(2, self.taps.out(sizes, ""))
        pool = _POOLS[len(shape)]
        y: Tensor = pool(whole, shape, self.taps.strides)
        if self.how == "sum":
            return math.prod(shape) * y
        if self.how == "present":
            ones = padded(torch.ones_like(x[:1, :1]), self.taps)
            assert ones is not None
            y = y / pool(ones, shape, self.taps.strides)
        return y

    def extra_repr(self) -> str:
        """The description."""
        return repr(self.layer)


class Flattened(torch.nn.Module):
    """All positions and channels as one vector."""

    def __init__(self, layer: nn.Flatten) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """From (n, channels, *sizes) to (n, channels * positions)."""
        return x.flatten(1)


class Unflattened(torch.nn.Identity):
    """Nothing: rows are made images where they enter the network."""

    def __init__(self, layer: nn.Unflatten) -> None:
        super().__init__()
        self.layer = layer


class Branches(torch.nn.Module):
    """The same input through several branches, which are merged.

    Parameters
    ----------
    layer : Layer
        The description.
    branches : sequence of Module
        In its order.
    merge : {"sum", "product", "concat"}
        How.
    factors : sequence of float
        What each branch is multiplied with before it is concatenated.
    axis : int
        Along which branches are concatenated.
    """

    def __init__(
        self,
        layer: nn.Layer,
        branches: Sequence[torch.nn.Module],
        merge: str,
        factors: Sequence[float] = (),
        axis: int = 1,
    ) -> None:
        super().__init__()
        self.layer, self.merge, self.axis = layer, merge, axis
        self.branches = torch.nn.ModuleList(branches)
        self.factors = tuple(factors)

    def forward(self, x: Tensor) -> Tensor:
        """Merged values."""
        outs = [branch(x) for branch in self.branches]
        if self.merge == "concat":
            if self.factors:
                outs = [f * y for f, y in zip(self.factors, outs, strict=True)]
            return torch.cat(outs, self.axis)
        total = outs[0]
        for y in outs[1:]:
            total = total + y if self.merge == "sum" else total * y
        return total


class Repeated(torch.nn.Module):
    """Blocks one after another, each with weights of its own.

    Parameters
    ----------
    layer : Repeat
        The description.
    blocks : sequence of Module
        One for each turn.
    checkpoint : bool
        Whether a gradient works values out again instead of keeping those of every turn.
    """

    def __init__(
        self, layer: nn.Layer, blocks: Sequence[torch.nn.Module], checkpoint: bool
    ) -> None:
        super().__init__()
        self.layer, self.checkpoint = layer, checkpoint
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """All turns."""
        if not (self.checkpoint and torch.is_grad_enabled()):
            return self._turns(x, 0, len(self.blocks))
        for start in range(0, len(self.blocks), _SEGMENT):
            stop = min(start + _SEGMENT, len(self.blocks))
            x = checkpoint(self._turns, x, start, stop, use_reentrant=False)
        return x

    def _turns(self, x: Tensor, start: int, stop: int) -> Tensor:
        for k in range(start, stop):
            x = self.blocks[k](x)
        return x


class Flipped(torch.nn.Module):
    """The mean of a network's outputs on images and on their mirror images."""

    def __init__(self, layer: nn.Layer, body: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.body = layer, body

    def forward(self, x: Tensor) -> Tensor:
        """Both, averaged."""
        return 0.5 * (self.body(x) + self.body(x.flip(-1)))
