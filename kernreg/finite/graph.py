"""What the forward of a torch module does, as a network."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from kernreg import nn
from kernreg.exceptions import NetworkError
from kernreg.finite.network import FiniteNetwork
from kernreg.finite.torch_layers import FUNCTIONS, METHODS, numbers_of, unreadable
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

__all__ = ["OWN", "Graph", "inside_of", "is_leaf", "is_sequence", "without_lost_positions"]

OWN = Nonlinear, Normalized, DropUnits, Pooled, Flattened, Unflattened
"""Layers without weights that have their description."""

_WHOLE = FiniteNetwork, Weighted, Repeated, Branches, Flipped, *OWN
_OUT = "out_features", "out_channels", "outputs"
_ADDED = {operator.add, operator.iadd, torch.add}
_MULTIPLIED = {operator.mul, operator.imul, torch.mul}
_POOLS = {F.avg_pool1d: 1, F.avg_pool2d: 2, F.avg_pool3d: 3}
_MERGED_METHODS = {"add": "sum", "add_": "sum", "mul": "product", "mul_": "product"}


class _Tracer(fx.Tracer):
    """Follows modules that are not read as one layer."""

    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, _WHOLE) or is_sequence(m) or is_leaf(m)


def is_sequence(module: torch.nn.Module) -> bool:
    """Whether a module runs its children one after another, and does nothing else."""
    plain = type(module).forward is torch.nn.Sequential.forward
    return isinstance(module, torch.nn.Sequential) and plain


def is_leaf(module: torch.nn.Module) -> bool:
    """Whether a module is one layer of torch."""
    return type(module).__module__.startswith("torch.nn.modules.")


class Graph:
    """A graph of calls as a network: in series, with branches between a value and its merge.

    Parameters
    ----------
    module : Module
        Whose ``forward`` is followed.
    name : str
        Its name, for errors.
    layer : callable
        Gives the description of a module inside, and of its name.
    averaged : set of int
        Takes the numbers of axes that means are over.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        name: str,
        layer: Callable[[torch.nn.Module, str], nn.Layer],
        averaged: set[int],
    ) -> None:
        self.layer, self.averaged, self.name = layer, averaged, name
        self.modules = dict(module.named_modules())
        try:
            graph = _Tracer().trace(module)
        except Exception as error:
            raise unreadable(
                f"{name or 'the module'} ({type(module).__name__})",
                f"torch.fx cannot follow its forward ({error})",
            ) from error
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
                for layer in [module] if is_leaf(module) else reversed(list(module.modules())):
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
        return nn.serial(*without_lost_positions(self._path(self.end, self.start)))

    def _no(self, what: str, why: str) -> NetworkError:
        return unreadable(inside_of(self.name, what), why)

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
            return self.layer(self.modules[inside], inside_of(self.name, inside))
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
        self.averaged.add(len(axes))
        return nn.GlobalAvgPool()


def _is_whole(rest: Any, options: Any) -> bool:
    """Whether arguments of flatten leave one vector for each row."""
    return (rest == (1,) and not options) or (not rest and options == {"start_dim": 1})


def without_lost_positions(layers: list[nn.Layer]) -> list[nn.Layer]:
    """Without a Flatten of what a global pooling has left, which has no positions any more."""
    out: list[nn.Layer] = []
    for layer in layers:
        before = [x for x in out if not isinstance(x, nn.Identity)]
        pooled = any(isinstance(x, nn.GlobalAvgPool) for x in before[-1:])
        if not (pooled and isinstance(layer, nn.Flatten)):
            out.append(layer)
    return out


def inside_of(name: str, part: str) -> str:
    """The full name of a part of the module of that name, which is empty for the whole."""
    return f"{name}.{part}" if name else part
