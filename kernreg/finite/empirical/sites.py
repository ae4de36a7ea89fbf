"""What derivatives by weights are made of: the inputs of layers, and gradients by their outputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from kernreg.finite.empirical.readers import Reader, reader

__all__ = ["Recording"]


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
        for copies in (False, True):  # the second time if values were changed in place
            if self._run(module, X, wanted, copies):
                break

    def _run(self, module: torch.nn.Module, X: Tensor, wanted: set[int], copies: bool) -> bool:
        calls: list[tuple[Reader, Tensor, Tensor, tuple[int, int]]] = []
        handles = []
        for layer in module.modules():
            found = _partial(layer, wanted)
            if found is None:
                continue

            def keep(layer: Any, inputs: Any, output: Tensor, found: Reader = found) -> Any:
                x = inputs[0].detach().clone() if copies else inputs[0].detach()
                calls.append((found, x, output, (x._version, output._version)))
                return output.clone() if copies else None

            handles.append(layer.register_forward_hook(keep))
        try:
            with torch.enable_grad():
                self.outputs = module(X).reshape(len(X), -1)
        finally:
            for handle in handles:
                handle.remove()
        self._calls = [(r, x, y) for r, x, y, _ in calls]
        return all((x._version, y._version) == v for _, x, y, v in calls)

    def __len__(self) -> int:
        return len(self._calls)

    def pulled(self, cotangents: Iterable[Tensor]) -> list[Tensor]:
        """Gradients by the outputs of all layers, shape (n, t, groups, positions, outputs)."""
        values = [y for _, _, y in self._calls]
        if not values:
            return []
        found: list[list[Tensor]] = [[] for _ in values]
        for v in cotangents:
            grads = torch.autograd.grad(
                self.outputs, values, v, retain_graph=True, allow_unused=True
            )
            for k, (grad, y) in enumerate(zip(grads, values, strict=True)):
                part = torch.zeros_like(y) if grad is None else grad
                found[k].append(self._calls[k][0].outputs(part))
        return [torch.stack(parts, 1) for parts in found]

    def operands(self, call: int) -> Tensor:
        """What the weights of a layer multiply, (n, groups, positions, inputs)."""
        read, x, _ = self._calls[call]
        return read.operands(x)

    def sizes(self) -> list[int]:
        """Numbers in the outputs of the layers."""
        return [y.numel() for _, _, y in self._calls]

    def readers(self) -> list[Reader]:
        """Those of the calls."""
        return [read for read, _, _ in self._calls]


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
