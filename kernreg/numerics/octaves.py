"""Hermite coefficients at many standard deviations, from nodes in each octave."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

from kernreg.ir.pair import Dual
from kernreg.numerics.hermite import hermite_coefficients, series_length

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["coefficients_at", "length_between"]

_NODES = 20
# Octave below which a layer is as good as linear, and what is left of it counts absolutely.
_LOWEST = -40
# Tables are as long as the next multiple, so that one serves series of several lengths.
_STEP = 64


def coefficients_at(fn: Dual, s: Any, terms: int) -> Tensor:
    """Hermite coefficients of a smooth nonlinearity, shape (n, terms).

    Interpolated in the logarithm of the standard deviation, of which they are analytic functions:
    the nearest singularity is 2.3 octaves away for a function with poles on the imaginary axis,
    so that the error of 20 nodes an octave is below rounding.

    Parameters
    ----------
    fn : Dual
        The nonlinearity.
    s : array_like of shape (n,)
        Standard deviations.
    terms : int
        Length of the series.

    Notes
    -----
    The first call for an octave evaluates its nodes, some 10 ms; then 20 operations for each
    coefficient.

    Examples
    --------
    >>> from kernreg import nn
    >>> table = coefficients_at(nn.Hermite((0, 0, 1)), [1.0], 4)
    >>> [round(abs(a), 12) for a in table[0].tolist()]
    [0.0, 0.0, 1.0, 0.0]
    """
    import torch

    given = torch.as_tensor(s, dtype=torch.float64)
    values, at = torch.unique(given, return_inverse=True)
    out = torch.empty((len(values), terms), dtype=torch.float64)
    octaves = torch.floor(torch.log2(values.clamp(min=1e-300))).long()
    for k in torch.unique(octaves).tolist():
        mine = octaves == k
        if k < _LOWEST:
            out[mine] = hermite_coefficients(fn, values[mine], terms).coefficients
        else:
            nodes, table = _octave(fn, k, -(-terms // _STEP) * _STEP)
            # All of the table, so that a longer series has the same first terms.
            out[mine] = (_shares(torch.log2(values[mine]) - k, nodes) @ table)[:, :terms]
    return out[at]


def length_between(fn: Dual, low: float, high: float, tol: float, parts: int = 8) -> int | None:
    """Length of the series for a range of standard deviations; None if it is too long.

    That of a range somewhat wider, so that it is known for similar rows: to the ends of ``parts``
    of an octave.

    Examples
    --------
    >>> from kernreg import nn
    >>> length_between(nn.Tanh(), 0.4, 0.5, 1e-6)
    14
    """
    wide = (
        2.0 ** (math.floor(parts * math.log2(max(low, 1e-6))) / parts),
        2.0 ** (math.ceil(parts * math.log2(max(high, 1e-6))) / parts),
    )
    found = _length(fn, *wide, tol)
    return _length(fn, low, high, tol) if found is None else found


@functools.lru_cache(maxsize=4096)
def _length(fn: Dual, low: float, high: float, tol: float) -> int | None:
    return series_length(fn, [low, high], tol)


@functools.lru_cache(maxsize=256)
def _octave(fn: Dual, k: int, terms: int) -> tuple[Tensor, Tensor]:
    """Chebyshev nodes in [0, 1] and the coefficients there, from ``2^k`` on."""
    import torch

    angle = (2 * torch.arange(_NODES, dtype=torch.float64) + 1) * (math.pi / (2 * _NODES))
    nodes = 0.5 * (1.0 + torch.cos(angle))
    return nodes, hermite_coefficients(fn, torch.exp2(k + nodes), terms).coefficients


def _shares(x: Tensor, nodes: Tensor) -> Tensor:
    """What each node weighs at points of [0, 1], by the barycentric formula."""
    import torch

    n = len(nodes)
    order = torch.arange(n, dtype=torch.float64)
    weights = torch.where(order % 2 == 0, 1.0, -1.0) * torch.sin(
        (2 * order + 1) * math.pi / (2 * n)
    )
    apart = x[:, None] - nodes
    hit = apart == 0
    parts = weights / torch.where(hit, 1.0, apart)
    shares = parts / parts.sum(1, keepdim=True)
    return torch.where(hit.any(1)[:, None], hit.to(torch.float64), shares)
