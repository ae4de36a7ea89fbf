"""The description of a torch module: which infinite network it is the finite one of."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F
from torch.nn.parameter import is_lazy

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.finite.build import branches_of
from kernreg.finite.network import FiniteNetwork
from kernreg.finite.torch_layers import (
    FUNCTIONS,
    METHODS,
    described,
    numbers_of,
    unreadable,
)
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
from kernreg.finite.weighted import Weighted
from kernreg.nn.combinators import Parallel, Repeat, Residual, Serial

__all__ = ["read"]

_OWN = Nonlinear, Normalized, DropUnits, Pooled, Flattened, Unflattened
_OUT = "out_features", "out_channels", "outputs"
_ADDED = {operator.add, operator.iadd, torch.add}
_MULTIPLIED = {operator.mul, operator.imul, torch.mul}
_POOLS = {F.avg_pool1d: 1, F.avg_pool2d: 2, F.avg_pool3d: 3}
_MERGED_METHODS = {"add": "sum", "add_": "sum", "mul": "product", "mul_": "product"}


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
            return self.layer(module.body, _inside(name, "body"))
        if isinstance(module, Weighted):
            return _weighted(module)
        if isinstance(module, _OWN):
            return module.layer
        if isinstance(module, Repeated):
            blocks = [
                self.layer(b, _inside(name, f"blocks.{k}")) for k, b in enumerate(module.blocks)
            ]
            same = all(block == blocks[0] for block in blocks)
            return nn.repeat(blocks[0], len(blocks)) if same and blocks else nn.serial(*blocks)
        if isinstance(module, Branches):
            return self._branches(module, name)
        if isinstance(module, Flipped):
            return nn.flip_augmented(self.layer(module.body, _inside(name, "body")))
        if _is_sequence(module):
            # named_children would leave out a layer that is there twice.
            parts = [
                self.layer(m, _inside(name, k)) for k, m in module._modules.items() if m is not None
            ]
            return nn.serial(*_without_lost_positions(parts))
        if _is_leaf(module):
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
        return self._followed(module, name)

    def check(self, found: nn.Layer, axes: int | None) -> None:
        """Raise NetworkError where axes of torch are other ones than those of the description."""
        if self.averaged - {axes}:
            raise unreadable("mean", f"it is not over all {axes} axes of positions")
        if self.linear:
            _channels_last(found, False)

    def _branches(self, module: Branches, name: str) -> nn.Layer:
        parts = [
            self.layer(b, _inside(name, f"branches.{k}")) for k, b in enumerate(module.branches)
        ]
        if isinstance(module.layer, Residual):
            return Residual(*parts)
        assert isinstance(module.layer, Parallel)
        assert len(parts) == len(branches_of(module.layer))
        return replace(module.layer, layers=tuple(parts))

    def _followed(self, module: torch.nn.Module, name: str) -> nn.Layer:
        """By the graph of what ``forward`` does."""
        try:
            graph = _Tracer().trace(module)
        except Exception as error:
            raise unreadable(
                f"{name or 'the module'} ({type(module).__name__})",
                f"torch.fx cannot follow its forward ({error})",
            ) from error
        return _Graph(self, module, graph, name).network()


class _Tracer(fx.Tracer):
    """Follows modules that are not read as one layer."""

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        own = FiniteNetwork, Weighted, Repeated, Branches, Flipped, *_OWN
        return isinstance(m, own) or _is_sequence(m) or _is_leaf(m)


def _is_sequence(module: torch.nn.Module) -> bool:
    """Whether a module runs its children one after another, and does nothing else."""
    plain = type(module).forward is torch.nn.Sequential.forward
    return isinstance(module, torch.nn.Sequential) and plain


def _is_leaf(module: torch.nn.Module) -> bool:
    """Whether a module is one layer of torch."""
    return type(module).__module__.startswith("torch.nn.modules.")


class _Graph:
    """A graph of calls as a network: in series, with branches between a value and its merge."""

    def __init__(
        self, reading: _Reading, module: torch.nn.Module, graph: fx.Graph, name: str
    ) -> None:
        self.reading, self.module, self.name = reading, module, name
        self.modules = dict(module.named_modules())
        self.nodes = [n for n in graph.nodes if n.op != "output"]
        self.order = {n: k for k, n in enumerate(self.nodes)}
        inputs = [n for n in self.nodes if n.op == "placeholder" and n.users]
        if len(inputs) != 1:
            raise self._no(type(module).__name__, f"its forward uses {len(inputs)} inputs, not one")
        (self.start,) = inputs
        (out,) = (n for n in graph.nodes if n.op == "output")
        if not isinstance(out.args[0], fx.Node):
            raise self._no(type(module).__name__, "it returns more than one tensor")
        self.end = out.args[0]
        self.dominators = self._dominators()
        for node in self.nodes:
            if self._in_place(node) and any(len(x.users) > 1 for x in node.all_input_nodes[:1]):
                raise self._no(node.name, "it changes a value in place that is used elsewhere")
        called = [str(n.target) for n in self.nodes if n.op == "call_module"]
        for inside in called:
            has = next(self.modules[inside].parameters(), None) is not None
            if has and called.count(inside) > 1:
                raise self._no(inside, "it is called twice, and one network has independent layers")

    def _in_place(self, node: fx.Node) -> bool:
        """Whether a node changes its first input."""
        if node.op == "call_module":
            return bool(getattr(self.modules[str(node.target)], "inplace", False))
        if node.op == "call_method":
            return str(node.target).endswith("_")
        return bool(node.kwargs.get("inplace")) or node.target in (operator.iadd, operator.imul)

    def _channels(self, node: fx.Node) -> int | None:
        """How many channels a value has, if that can be seen."""
        while node is not self.start:
            how = self._merge(node)
            if how == "concat":
                given = node.args[0]
                parts = [self._channels(v) for v in given if isinstance(v, fx.Node)]  # type: ignore[union-attr]
                return None if None in parts else sum(p for p in parts if p)
            if node.op == "call_module":
                module = self.modules[str(node.target)]
                for layer in [module] if _is_leaf(module) else reversed(list(module.modules())):
                    if isinstance(layer, torch.nn.Flatten | Flattened):
                        return None
                    found = next(
                        (getattr(layer, n) for n in _OUT if getattr(layer, n, None) is not None),
                        None,
                    )
                    if found is not None:
                        return int(found)
            elif how is None and self._single(node) == nn.Flatten():
                return None
            node = node.all_input_nodes[0]
        return None

    def network(self) -> nn.Layer:
        """The whole."""
        return nn.serial(*_without_lost_positions(self._path(self.end, self.start)))

    def _no(self, what: str, why: str) -> NetworkError:
        return unreadable(_inside(self.name, what), why)

    def _dominators(self) -> dict[fx.Node, set[fx.Node]]:
        """For each node those that every way from the input goes through."""
        found: dict[fx.Node, set[fx.Node]] = {}
        for node in self.nodes:
            before = [found[x] for x in node.all_input_nodes]
            found[node] = {node, *(set.intersection(*before) if before else ())}
        return found

    def _path(self, node: fx.Node, start: fx.Node) -> list[nn.Layer]:
        """Layers from behind ``start`` to ``node``."""
        layers: list[nn.Layer] = []
        while node is not start:
            how = self._merge(node)
            if how is not None:
                if self.start not in self.dominators[node]:
                    raise self._no(node.name, "it is made of something else than the input")
                fork = max(self.dominators[node] - {node}, key=lambda n: self.order[n])
                layers.append(self._merged(node, how, fork))
                node = fork
            else:
                layers.append(self._single(node))
                node = self._only_input(node)
        return layers[::-1]

    def _only_input(self, node: fx.Node) -> fx.Node:
        if len(node.all_input_nodes) != 1:
            raise self._no(node.name, f"{node.target} of several tensors is not known")
        return node.all_input_nodes[0]

    def _merge(self, node: fx.Node) -> str | None:
        """How a node joins branches; None if it has one input."""
        if node.op == "call_function":
            if node.target in _ADDED:
                return "sum"
            if node.target in _MULTIPLIED:
                return "product"
            if node.target in (torch.cat, torch.concat):
                return "concat"
        if node.op == "call_method":
            return _MERGED_METHODS.get(str(node.target))
        return None

    def _merged(self, node: fx.Node, how: str, fork: fx.Node) -> nn.Layer:
        given = node.args[0] if how == "concat" else node.args[:2]
        others = node.kwargs or (node.args[1:] if how == "concat" else node.args[2:])
        axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
        if how == "concat" and axis != 1:
            raise self._no(node.name, "only channels, on axis 1, are concatenated")
        values = list(given) if isinstance(given, list | tuple) else [given]
        if (how != "concat" and others) or not all(isinstance(v, fx.Node) for v in values):
            raise self._no(
                node.name, f"{how} with a number: scale the weights of the layer before it instead"
            )
        parts = [self._path(v, fork) for v in values if isinstance(v, fx.Node)]
        branches = [nn.serial(*p) if len(p) != 1 else p[0] for p in parts]
        branches = [b if p else nn.Identity() for b, p in zip(branches, parts, strict=True)]
        if how == "sum" and len(branches) == 2:
            block, shortcut = branches
            if isinstance(block, nn.Identity):
                block, shortcut = shortcut, block
            return nn.residual(block, shortcut)
        if how != "concat":
            return nn.parallel(*branches, merge=how)
        widths = [self._channels(v) for v in values if isinstance(v, fx.Node)]
        if None in widths:
            raise self._no(node.name, "how many channels are concatenated cannot be seen")
        weights = tuple(float(w) for w in widths if w is not None)
        return nn.parallel(*branches, merge=how, weights=weights if len(set(widths)) > 1 else None)

    def _single(self, node: fx.Node) -> nn.Layer:
        if node.op == "call_module":
            inside = str(node.target)
            return self.reading.layer(self.modules[inside], _inside(self.name, inside))
        if node.op == "get_attr":
            raise self._no(node.name, "a parameter is used outside of a layer")
        target: Any = node.target
        rest, options = node.args[1:], node.kwargs
        if node.op == "call_method":
            if target == "flatten" and _is_whole(rest, options):
                return nn.Flatten()
            if target == "mean":
                return self._mean(node, rest, options)
            target = METHODS.get(target, target)
        if target is torch.flatten and _is_whole(rest, options):
            return nn.Flatten()
        if target is torch.mean:
            return self._mean(node, rest, options)
        if target in _POOLS and len(rest) == 1 and not options:
            return nn.AvgPool(numbers_of(rest[0], _POOLS[target]))
        if target in FUNCTIONS and not rest and set(options) <= {"inplace"}:
            return FUNCTIONS[target]
        what = getattr(target, "__name__", target)
        raise self._no(node.name, f"the function {what} with these arguments is not known")

    def _mean(self, node: fx.Node, rest: Any, options: Any) -> nn.Layer:
        axes = options.get("dim", rest[0] if rest else None)
        axes = sorted(axes) if isinstance(axes, list | tuple) else [axes]
        if axes not in ([2], [2, 3], [2, 3, 4], [-1], [-2, -1], [-3, -2, -1]):
            raise self._no(node.name, "a mean over something else than all positions is not known")
        self.reading.averaged.add(len(axes))
        return nn.GlobalAvgPool()


def _is_whole(rest: Any, options: Any) -> bool:
    """Whether arguments of flatten leave one vector for each row."""
    return (rest == (1,) and not options) or (not rest and options == {"start_dim": 1})


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


def _without_lost_positions(layers: list[nn.Layer]) -> list[nn.Layer]:
    """Without a Flatten of what a global pooling has left, which has no positions any more."""
    out: list[nn.Layer] = []
    for layer in layers:
        before = [x for x in out if not isinstance(x, nn.Identity)]
        pooled = any(isinstance(x, nn.GlobalAvgPool) for x in before[-1:])
        if not (pooled and isinstance(layer, nn.Flatten)):
            out.append(layer)
    return out


def _inside(name: str, part: str) -> str:
    return f"{name}.{part}" if name else part
