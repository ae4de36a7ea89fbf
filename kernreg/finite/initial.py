"""How weights are drawn: matrices whose entries have a mean square of 1 over all draws."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["INITS", "Draw", "drawn"]

Shape = tuple[int, ...]
Draw = Callable[[Shape], Tensor]
"""Standard normal numbers of a shape."""


def _gaussian(shape: Shape, middle: Shape, draw: Draw) -> Tensor:
    return draw(shape)


def _orthogonal(shape: Shape, middle: Shape, draw: Draw) -> Tensor:
    """Orthonormal rows, or columns where there are fewer of them, uniformly distributed."""
    rows, columns = shape[0], math.prod(shape[1:])
    tall = draw((max(rows, columns), min(rows, columns)))
    q, r = torch.linalg.qr(tall)
    q = q * torch.where(torch.diagonal(r) < 0, -1.0, 1.0)  # else QR prefers some
    return (math.sqrt(max(rows, columns)) * (q if rows >= columns else q.T)).reshape(shape)


def _delta_orthogonal(shape: Shape, middle: Shape, draw: Draw) -> Tensor:
    """Filters that hold an orthogonal matrix at their middle and nothing elsewhere.

    An image is as long behind them as before; its covariances between positions stay apart, which
    is the infinite kernel of a filter of one position.
    """
    out = draw((0,)).new_zeros(shape)
    taps = math.prod(shape[2:])
    at: tuple[Any, ...] = (slice(None), slice(None), *middle)
    out[at] = math.sqrt(taps) * _orthogonal(shape[:2], (), draw)
    return out


INITS: dict[str, Callable[[Shape, Shape, Draw], Tensor]] = {
    "gaussian": _gaussian,
    "orthogonal": _orthogonal,
    "delta_orthogonal": _delta_orthogonal,
}


def drawn(init: str, shape: Shape, middle: Shape, draw: Draw) -> Tensor:
    """Weights of shape (outputs, inputs, *filter).

    Parameters
    ----------
    init : {"gaussian", "orthogonal", "delta_orthogonal"}
        Independent entries; orthogonal matrices (Saxe et al. 2013); filters that are one at their
        middle (Xiao et al. 2018, algorithm 1).
    shape, middle : tuple of int
        Of the weights, and of the filter the position that reads its own place.
    draw : callable
        Normal numbers.
    """
    return INITS[init](shape, middle, draw)
