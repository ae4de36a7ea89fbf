"""Tangent kernels layer by layer, without Jacobians: products of inputs and of gradients.

References
----------
Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent kernel" (2022), section 3.4.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernreg.finite.empirical.jacobian import dots
from kernreg.finite.empirical.readers import Reader
from kernreg.finite.empirical.sites import Recording

__all__ = ["Layer", "between", "layers_of", "within"]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer on some rows, all its calls together.

    Parameters
    ----------
    reader : Reader
        How its weights meet its inputs.
    parts : callable
        Makes what the weights multiply, of shape (n, groups, positions, inputs), in parts.
    pulled : Tensor of shape (n, t, groups, positions, outputs)
        The gradients of ``t`` numbers by the layer's output.
    """

    reader: Reader
    parts: Callable[[], Iterator[Tensor]]
    pulled: Tensor

    @functools.cached_property
    def together(self) -> Tensor:
        """Gradients of shape (n, groups, t * outputs, positions): one product for all numbers."""
        return self.pulled.permute(0, 2, 1, 4, 3).flatten(2, 3)

    @property
    def inputs(self) -> int:
        """Numbers that a weight of one output multiplies."""
        assert self.reader.weight is not None
        _, _, groups, _, outputs = self.pulled.shape
        return self.reader.weight.numel() // (groups * outputs)


def layers_of(recording: Recording, cotangents: list[Tensor]) -> Iterator[Layer]:
    """The layers of a run, calls with the same weights as one with more positions."""
    pulled = recording.pulled(cotangents)
    readers = recording.readers()
    weights: dict[int, list[int]] = {}
    biases: dict[int, list[int]] = {}
    for k, read in enumerate(readers):
        if read.weight is not None:
            weights.setdefault(id(read.weight), []).append(k)
        if read.bias is not None:
            biases.setdefault(id(read.bias), []).append(k)

    def joined(calls: list[int], read: Reader, last: bool) -> Layer:
        gradients = []
        for k in calls:
            each = [readers[k].outputs(grad) for grad in pulled[k]]
            gradients.append(each[0][:, None] if len(each) == 1 else torch.stack(each, 1))
        if last:  # gradients are as large as the run: none is kept that was handed on
            for k in calls:
                pulled[k] = []
        whole = gradients[0] if len(calls) == 1 else torch.cat(gradients, 3)
        return Layer(read, lambda: recording.parts(calls), whole)

    for calls in weights.values():
        read = readers[calls[0]]
        if read.bias is not None and biases[id(read.bias)] == calls:
            del biases[id(read.bias)]
            yield joined(calls, read, True)
        else:
            yield joined(
                calls, replace(read, bias=None), all(readers[k].bias is None for k in calls)
            )
    for calls in biases.values():
        yield joined(calls, replace(readers[calls[0]], weight=None), True)


def between(a: Layer, b: Layer, full: bool) -> Tensor:
    """What a layer adds to the tangent kernel between two sets of rows.

    Returns
    -------
    Tensor of shape (n1, n2), or (n1 t, n2 t) if ``full``
        Summed over the ``t`` numbers, or each with each.
    """
    n1, t, groups, places, outputs = a.pulled.shape
    n2, total = len(b.pulled), None
    if a.reader.weight is not None:
        inputs, pairs = a.inputs, n1 * n2 * groups
        rows, times = n1 if a is b else n1 + n2, t * b.pulled.shape[1] if full else t
        expanded = (pairs * times + rows * t * groups * places) * outputs * inputs
        squares = pairs * places**2 * (inputs + times * (outputs + 1))
        found = _expanded(a, b, full) if expanded < squares else _by_places(a, b, full)
        total = a.reader.scale**2 * found
    if a.reader.bias is not None:
        left, right = a.pulled.sum(3), b.pulled.sum(3)
        found = a.reader.bias_scale**2 * dots(_flat(left, full), _flat(right, full))
        total = found if total is None else total + found
    assert total is not None
    return total


def within(a: Layer) -> Tensor:
    """What a layer adds to the tangent kernel of each number of each row, of shape (n, t)."""
    total = a.pulled.new_zeros(a.pulled.shape[:2])
    if a.reader.weight is not None:
        square = a.reader.scale**2
        outer = (a.pulled**2).sum((3, 4)) if a.pulled.shape[3] == 1 else None
        for part in a.parts():
            if outer is None:
                total += square * (_derivatives(a, part) ** 2).sum((2, 3, 4))
            else:
                total += square * ((part**2).sum((2, 3))[:, None] * outer).sum(2)
    if a.reader.bias is not None:
        total += a.reader.bias_scale**2 * (a.pulled.sum(3) ** 2).sum((2, 3))
    return total


def _flat(values: Tensor, full: bool) -> Tensor:
    """Rows of a matrix: one for each row, or for each number of each row."""
    return values.flatten(0, 1).flatten(1) if full else values.flatten(1)


def _summed(terms: Iterator[Tensor]) -> Tensor:
    total = next(terms)
    for term in terms:
        total = total + term
    return total


def _expanded(a: Layer, b: Layer, full: bool) -> Tensor:
    """By the derivatives of each row."""

    def terms() -> Iterator[Tensor]:
        if a is b:
            for part in a.parts():
                own = _flat(_derivatives(a, part), full)
                yield dots(own, own)
            return
        for first, second in zip(a.parts(), b.parts(), strict=True):
            left, right = _derivatives(a, first), _derivatives(b, second)
            yield dots(_flat(left, full), _flat(right, full))

    return _summed(terms())


def _derivatives(a: Layer, part: Tensor) -> Tensor:
    """By the weights, of shape (n, t, groups, outputs, inputs)."""
    t, outputs = a.pulled.shape[1], a.pulled.shape[4]
    return (a.together @ part).unflatten(2, (t, outputs)).transpose(1, 2)


def _by_places(a: Layer, b: Layer, full: bool) -> Tensor:
    """By the products of inputs and those of gradients, position with position."""
    pairs = zip(a.parts(), a.parts() if a is b else b.parts(), strict=True)
    if a.pulled.shape[2:4] == b.pulled.shape[2:4] == (1, 1):
        inner = _summed(p[:, 0, 0] @ q[:, 0, 0].T for p, q in pairs)
        outer = _flat(a.pulled, full) @ _flat(b.pulled, full).T
        if not full:
            return inner * outer
        t, u = a.pulled.shape[1], b.pulled.shape[1]
        return inner.repeat_interleave(t, 0).repeat_interleave(u, 1) * outer
    inner = _summed(torch.einsum("igpk,jgqk->ijgpq", p, q) for p, q in pairs)
    if not full:
        outer = torch.einsum("itgpo,jtgqo->ijgpq", a.pulled, b.pulled)
        return (inner * outer).sum((2, 3, 4))
    outer = torch.einsum("itgpo,jugqo->itjugpq", a.pulled, b.pulled)
    found = (inner[:, None, :, None] * outer).sum((4, 5, 6))
    return found.flatten(0, 1).flatten(1)
