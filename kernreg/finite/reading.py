"""The description of a torch module: which infinite network it is the finite one of."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.finite.build import branches_of
from kernreg.finite.graph import (
    OWN,
    Graph,
    inside_of,
    is_leaf,
    is_sequence,
    without_lost_positions,
)
from kernreg.finite.network import FiniteNetwork
from kernreg.finite.torch_layers import described, unreadable
from kernreg.finite.unweighted import Branches, Flipped, Repeated
from kernreg.finite.weighted import Weighted
from kernreg.nn.combinators import Parallel, Repeat, Residual, Serial

__all__ = ["read"]


def read(module: torch.nn.Module, parameterization: str = "standard") -> nn.Layer:
    """Describe a torch module as a network whose kernels are known.

    So its infinite-width limit is ``KernelRegressor(read(module))``. Modules of
    :func:`~kernreg.finite.module` give their description back. Others are followed through
    ``Sequential`` and, by ``torch.fx``, through their ``forward``: layers, functions of one tensor,
    sums, products and concatenations of branches.

    Parameters
    ----------
    module : torch.nn.Module
        Made of Linear, Conv1d to Conv3d, activations, Flatten, AvgPool, AdaptiveAvgPool to one
        position, Dropout, LayerNorm without weights, Sequential, and sums, products and
        concatenations of such.
    parameterization : {"standard", "ntk"}
        Of torch's layers: as gradient descent on their weights has it, which depends on their
        width, or as in the "ntk" parameterization.

    Returns
    -------
    Layer
        ``W_std`` and ``b_std`` of torch's layers are the root mean squares of their weights (times
        the root of their inputs) and biases.

    Raises
    ------
    NetworkError
        If something has no description; the error names it and says why.

    Examples
    --------
    >>> from kernreg.finite import module
    >>> read(module("mlp(depth=1)", width=64, input_shape=3, random_state=0))
    serial(Dense(W_std=1.4142135623730951, b_std=0.1), repeat(serial(Relu(), \
Dense(W_std=1.4142135623730951, b_std=0.1)), 1))
    >>> shortcut = torch.nn.Sequential(torch.nn.Linear(4, 100), torch.nn.ReLU())
    >>> [type(layer).__name__ for layer in read(shortcut).layers]
    ['Dense', 'Relu']
    """
    if parameterization not in ("ntk", "standard"):
        raise InvalidInputError(
            f"parameterization must be 'ntk' or 'standard', found {parameterization!r}."
        )
    if not isinstance(module, torch.nn.Module):
        raise InvalidInputError(f"expected a torch.nn.Module, found {type(module).__name__}.")
    if any(is_lazy(p) for p in module.parameters()):
        raise unreadable(type(module).__name__, "it has parameters without a shape: run it once")
    reading = _Reading(parameterization)
    try:
        found = reading.layer(module, "")
        program = found.program()
        reading.check(found, program.axes)
    except NetworkError as error:
        if str(error).startswith("read: "):
            raise
        raise NetworkError(
            f"read: {type(module).__name__} is no network with a kernel: {error} "
            "kernreg.finite.EmpiricalOperator gives the kernels of any module."
        ) from error
    return found


@dataclass(frozen=True)
class _Reading:
    """Reads modules one inside the other.

    ``seen`` are those with weights, by their names; ``averaged`` numbers of axes that a mean was
    over; ``linear`` says that there is a Linear of torch, whose channels come last.
    """

    parameterization: str
    seen: dict[int, str] = field(default_factory=dict)
    averaged: set[int] = field(default_factory=set)
    linear: list[str] = field(default_factory=list)

    def layer(self, module: torch.nn.Module, name: str) -> nn.Layer:
        """The description of a module of any kind."""
        if isinstance(module, FiniteNetwork):
            return self.layer(module.body, inside_of(name, "body"))
        if isinstance(module, Weighted):
            return _weighted(module)
        if isinstance(module, OWN):
            return module.layer
        if isinstance(module, Repeated):
            blocks = [
                self.layer(b, inside_of(name, f"blocks.{k}")) for k, b in enumerate(module.blocks)
            ]
            same = all(block == blocks[0] for block in blocks)
            return nn.repeat(blocks[0], len(blocks)) if same and blocks else nn.serial(*blocks)
        if isinstance(module, Branches):
            return self._branches(module, name)
        if isinstance(module, Flipped):
            return nn.flip_augmented(self.layer(module.body, inside_of(name, "body")))
        if is_sequence(module):
            # named_children would leave out a layer that is there twice.
            parts = [
                self.layer(m, inside_of(name, k))
                for k, m in module._modules.items()
                if m is not None
            ]
            return nn.serial(*without_lost_positions(parts))
        if is_leaf(module):
            if next(module.parameters(), None) is not None:
                before = self.seen.setdefault(id(module), name)
                if before != name:
                    raise unreadable(
                        f"{name} ({module})",
                        f"it is the same layer as {before}, and one network has independent layers",
                    )
            if isinstance(module, torch.nn.Linear | torch.nn.LayerNorm):
                self.linear.append(name)
            return described(module, name, self.parameterization)
        return Graph(module, name, self.layer, self.averaged).network()

    def check(self, found: nn.Layer, axes: int | None) -> None:
        """Raise NetworkError where axes of torch are other ones than those of the description."""
        if self.averaged - {axes}:
            raise unreadable("mean", f"it is not over all {axes} axes of positions")
        if self.linear:
            _channels_last(found, False)

    def _branches(self, module: Branches, name: str) -> nn.Layer:
        parts = [
            self.layer(b, inside_of(name, f"branches.{k}")) for k, b in enumerate(module.branches)
        ]
        if isinstance(module.layer, Residual):
            return Residual(*parts)
        assert isinstance(module.layer, Parallel)
        assert len(parts) == len(branches_of(module.layer))
        return replace(module.layer, layers=tuple(parts))


def _channels_last(layer: nn.Layer, positions: bool) -> bool:
    """Whether positions are left, which torch has behind the channels where convolutions are."""
    if isinstance(layer, nn.Dense | nn.LayerNorm) and positions:
        raise unreadable(
            repr(layer), "it stands behind a convolution, where the last axis is no channels"
        )
    if isinstance(layer, nn.Flatten | nn.GlobalAvgPool | nn.GlobalSumPool):
        return False
    if isinstance(layer, nn.Conv):
        return True
    inside = branches_of(layer) or ((layer.block,) if isinstance(layer, Repeat) else ())
    if isinstance(layer, Serial):
        for part in layer.layers:
            positions = _channels_last(part, positions)
        return positions
    left = [_channels_last(part, positions) for part in inside]
    return any(left) if left else positions


def _weighted(module: Weighted) -> nn.Layer:
    """The description, in the parameterization that the module really has."""
    layer: Any = module.layer
    if module.standard == (layer.parameterization == "standard"):
        return layer
    if module.standard:
        return replace(layer, parameterization="standard", fan_in=module.inputs)
    return replace(layer, parameterization="ntk", fan_in=None)
