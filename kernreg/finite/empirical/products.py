"""Products of a module's tangent kernel with vectors, by derivatives along gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kernreg.finite.empirical.entries import Entries
from kernreg.finite.empirical.jacobian import pull, push

__all__ = ["along"]


def along(entries: Entries, left: Sequence[Tensor], right: Sequence[Tensor], v: Tensor) -> Tensor:
    """The product of the kernel with one vector, of which no entry is formed.

    Parameters
    ----------
    entries : Entries
        Whose kernel.
    left, right : sequence of Tensor
        Blocks of the rows and of the columns.
    v : Tensor of shape (n2,), or (n2 t,) for outputs="full"
        The vector.

    Returns
    -------
    Tensor of shape (n1,) or (n1 t,)
    """
    if entries.outputs == "full":
        return _moved(entries, left, right, v.reshape(-1, entries.n_outputs)).flatten()
    total = v.new_zeros(sum(map(len, left)))
    for s in entries.numbers:
        weights = v.new_zeros((len(v), entries.n_outputs))
        weights[:, s] = v
        total += _moved(entries, left, right, weights)[:, s]
    return total / entries.n_outputs if entries.outputs == "mean" else total


def _moved(
    entries: Entries, left: Sequence[Tensor], right: Sequence[Tensor], weights: Tensor
) -> Tensor:
    """``J_1 J_2^T weights``, of shape (n1, t)."""
    module, params = entries.module, entries.params
    direction = [torch.zeros_like(p) for p in params.values()]
    for X, w in zip(right, weights.split([len(X) for X in right]), strict=True):
        for total, part in zip(direction, pull(module, params, X, w), strict=True):
            total += part
    return torch.cat([push(module, params, X, direction) for X in left])
