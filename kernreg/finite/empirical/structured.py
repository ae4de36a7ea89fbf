"""Tangent kernels layer by layer, without Jacobians: products of inputs and of gradients.

References
----------
Novak, Sohl-Dickstein, Schoenholz, "Fast finite width neural tangent kernel" (2022), section 3.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernreg.finite.empirical.readers import Reader
from kernreg.finite.empirical.sites import Recording

__all__ = ["Layer", "between", "layers_of", "within"]


@dataclass(frozen=True)
class Layer:
    """A layer on some rows, all its calls together.

    Parameters
    ----------
    reader : Reader
        How its weights meet its inputs.
    operands : Tensor of shape (n, groups, positions, inputs)
        What the weights multiply.
    pulled : Tensor of shape (n, t, groups, positions, outputs)
        The gradients of ``t`` numbers by the layer's output.
    """

    reader: Reader
    operands: Tensor
    pulled: Tensor


def layers_of(recording: Recording, cotangents: list[Tensor]) -> Iterator[Layer]:
    """The layers of a run, calls with the same weights as one with more positions.

    What their weights multiply is made when a layer's turn comes: it is larger than all else.
    """
    pulled, readers = recording.pulled(cotangents), recording.readers()
    weights: dict[int, list[int]] = {}
    biases: dict[int, list[int]] = {}
    for k, read in enumerate(readers):
        if read.weight is not None:
            weights.setdefault(id(read.weight), []).append(k)
        if read.bias is not None:
            biases.setdefault(id(read.bias), []).append(k)

    def joined(calls: list[int], read: Reader) -> Layer:
        parts = [recording.operands(k) for k in calls]
        gradients = [pulled[k] for k in calls]
        if len(calls) == 1:
            return Layer(read, parts[0], gradients[0])
        return Layer(read, torch.cat(parts, 2), torch.cat(gradients, 3))

    for calls in weights.values():
        read = readers[calls[0]]
        if read.bias is not None and biases[id(read.bias)] == calls:
            del biases[id(read.bias)]
            yield joined(calls, read)
        else:
            yield joined(calls, replace(read, bias=None))
    for calls in biases.values():
        yield joined(calls, replace(readers[calls[0]], weight=None))


def between(a: Layer, b: Layer, full: bool) -> Tensor:
    """What a layer adds to the tangent kernel between two sets of rows.

    Returns
    -------
    Tensor of shape (n1, n2), or (n1 t, n2 t) if ``full``
        Summed over the ``t`` numbers, or each with each.
    """
    n1, t, groups, places, outputs = a.pulled.shape
    n2, inputs = len(b.pulled), a.operands.shape[3]
    total = None
    if a.reader.weight is not None:
        pairs = n1 * n2 * (t * t if full else t) * groups
        expanded = pairs * outputs * inputs
        expanded += (n1 + n2) * t * groups * places * outputs * inputs
        squares = n1 * n2 * groups * places**2 * (inputs + (t * t if full else t) * (outputs + 1))
        if a is b:
            expanded -= n2 * t * groups * places * outputs * inputs
        found = _expanded(a, b, full) if expanded < squares else _by_places(a, b, full)
        total = a.reader.scale**2 * found
    if a.reader.bias is not None:
        left, right = a.pulled.sum(3), b.pulled.sum(3)
        found = _flat(left, full) @ _flat(right, full).T
        found = a.reader.bias_scale**2 * found
        total = found if total is None else total + found
    assert total is not None
    return total


def within(a: Layer) -> Tensor:
    """What a layer adds to the tangent kernel of each number of each row, of shape (n, t)."""
    total = a.pulled.new_zeros(a.pulled.shape[:2])
    if a.reader.weight is not None:
        if a.operands.shape[2] == 1:
            inner = (a.operands**2).sum((2, 3))[:, None]
            own = (inner * (a.pulled**2).sum((3, 4))).sum(2)
        else:
            own = (_derivatives(a) ** 2).sum((2, 3, 4))
        total += a.reader.scale**2 * own
    if a.reader.bias is not None:
        total += a.reader.bias_scale**2 * (a.pulled.sum(3) ** 2).sum((2, 3))
    return total


def _flat(values: Tensor, full: bool) -> Tensor:
    """Rows of a matrix: one for each row, or for each number of each row."""
    return values.flatten(0, 1).flatten(1) if full else values.flatten(1)


def _expanded(a: Layer, b: Layer, full: bool) -> Tensor:
    """By the derivatives of each row."""
    left = _flat(_derivatives(a), full)
    right = left if a is b else _flat(_derivatives(b), full)
    return left @ right.T


def _derivatives(a: Layer) -> Tensor:
    """By the weights, of shape (n, t, groups, outputs, inputs)."""
    return a.pulled.transpose(3, 4) @ a.operands[:, None]


def _by_places(a: Layer, b: Layer, full: bool) -> Tensor:
    """By the products of inputs and those of gradients, position with position."""
    if a.operands.shape[1:3] == (1, 1):
        inner = a.operands[:, 0, 0] @ b.operands[:, 0, 0].T
        outer = _flat(a.pulled, full) @ _flat(b.pulled, full).T
        if not full:
            return inner * outer
        t, u = a.pulled.shape[1], b.pulled.shape[1]
        return inner.repeat_interleave(t, 0).repeat_interleave(u, 1) * outer
    inner = torch.einsum("igpk,jgqk->ijgpq", a.operands, b.operands)
    if not full:
        outer = torch.einsum("itgpo,jtgqo->ijgpq", a.pulled, b.pulled)
        return (inner * outer).sum((2, 3, 4))
    outer = torch.einsum("itgpo,jugqo->itjugpq", a.pulled, b.pulled)
    found = (inner[:, None, :, None] * outer).sum((4, 5, 6))
    return found.flatten(0, 1).flatten(1)
