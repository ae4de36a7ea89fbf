"""What derivatives by weights are made of: the inputs of layers, and gradients by their outputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kernreg.finite.empirical.readers import Reader, reader

__all__ = ["Recording", "values_of"]


class Recording:
    """The run of a module on some rows, of which gradients by the outputs of layers are taken.

    Parameters
    ----------
    module : Module
        In the mode in which it is wanted.
    X : Tensor
        Its rows.
    wanted : set of int
        The parameters that take part, by their ``id``.

    Attributes
    ----------
    outputs : Tensor of shape (n, t)
        What leaves the module, flattened.
    """

    def __init__(self, module: torch.nn.Module, X: Tensor, wanted: set[int]) -> None:
        self.outputs = torch.empty(0)
        for copies in (False, True):  # the second time if inputs were changed in place
            if self._run(module, X, wanted, copies):
                break

    def _run(self, module: torch.nn.Module, X: Tensor, wanted: set[int], copies: bool) -> bool:
        calls: list[_Call] = []
        handles = []
        for layer in module.modules():
            found = _partial(layer, wanted)
            if found is None:
                continue

            def keep(
                layer: Any, inputs: Any, named: Any, output: Tensor, read: Reader = found
            ) -> None:
                x = (inputs[0] if inputs else named["input"]).detach()
                # A layer that sees other rows than the module is none of these.
                edge = _edge(output) if len(x) == len(X) == len(output) else None
                calls.append(_Call(read, x.clone() if copies else x, edge, output.shape))

            handles.append(layer.register_forward_hook(keep, with_kwargs=True))
        try:
            with torch.enable_grad():
                # A copy: a module may change what it is given.
                self.outputs = module(X.clone()).reshape(len(X), -1)
        finally:
            for handle in handles:
                handle.remove()
        self._calls = calls
        return all(c.x._version == c.version for c in calls)

    def __len__(self) -> int:
        return len(self._calls)

    def pulled(self, cotangents: Iterable[Tensor]) -> list[list[Tensor]]:
        """Gradients by the outputs of all layers, for each of the cotangents.

        Raises
        ------
        RuntimeError
            If the outputs of some layer are part of no graph.
        """
        edges = [c.edge for c in self._calls if c.edge is not None]
        if len(edges) < len(self._calls):
            raise RuntimeError("the outputs of a layer are part of no graph")
        if not edges:
            return []
        found: list[list[Tensor]] = [[] for _ in edges]
        for v in cotangents:
            grads = torch.autograd.grad(
                self.outputs, edges, v, retain_graph=True, allow_unused=True
            )
            for into, grad, call in zip(found, grads, self._calls, strict=True):
                into.append(v.new_zeros(call.shape) if grad is None else grad)
        return found

    def parts(self, calls: list[int]) -> Iterator[Tensor]:
        """What the weights of some calls multiply, (n, groups, positions, inputs), in parts."""
        each = [self._calls[k].reader.parts(self._calls[k].x) for k in calls]
        for parts in zip(*each, strict=True):
            yield parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def sizes(self) -> list[int]:
        """Numbers in the outputs of the layers."""
        return [math.prod(c.shape) for c in self._calls]

    def places(self) -> list[int]:
        """Positions at which the weights of each layer are used, for one row."""
        return [
            int(c.reader.outputs(torch.empty(c.shape, device="meta")).shape[2]) for c in self._calls
        ]

    def readers(self) -> list[Reader]:
        """Those of the calls."""
        return [c.reader for c in self._calls]


def values_of(module: torch.nn.Module, X: Tensor) -> int:
    """Numbers that the innermost modules hand on for some rows."""
    count = 0

    def add(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal count
        count += output.numel() if isinstance(output, Tensor) else 0

    leaves = [m for m in module.modules() if not any(m.children())]
    handles = [m.register_forward_hook(add) for m in leaves]
    try:
        with torch.no_grad():
            module(X.clone())
    finally:
        for handle in handles:
            handle.remove()
    return count


@dataclass
class _Call:
    """A layer, its input, and where its output is in the graph: its values may be forgotten."""

    reader: Reader
    x: Tensor
    edge: GradientEdge | None
    shape: torch.Size
    version: int = field(init=False)

    def __post_init__(self) -> None:
        self.version = self.x._version


def _edge(output: Tensor) -> GradientEdge | None:
    return get_gradient_edge(output) if output.requires_grad else None


def _partial(layer: torch.nn.Module, wanted: set[int]) -> Reader | None:
    """The reader of a layer with the parameters that take part; None if there is nothing to do."""
    found = reader(layer)
    if found is None:
        return None
    weight = found.weight if id(found.weight) in wanted else None
    bias = found.bias if id(found.bias) in wanted else None
    if weight is None and bias is None:
        return None
    return replace(found, weight=weight, bias=bias)
