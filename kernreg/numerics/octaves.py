"""Hermite coefficients at many standard deviations, from nodes in each octave."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kernreg.ir.pair import Dual
from kernreg.numerics.hermite import hermite_coefficients, series_length
from kernreg.numerics.quadrature import row_moments

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["coefficients_at", "length_between", "moments_at"]

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
    # Tables are longer, and so is the result at first: a longer series has the same first terms.
    most = -(-terms // _STEP) * _STEP

    def table(values: Tensor) -> Tensor:
        return hermite_coefficients(fn, values, most).coefficients

    return _interpolated(s, most, table, lambda k: _coefficients(fn, k, most))[:, :terms]


def moments_at(fn: Dual, s: Any) -> tuple[Tensor, Tensor]:
    """As :func:`~kernreg.numerics.quadrature.row_moments`, interpolated if that is exact.

    Examples
    --------
    >>> from kernreg import nn
    >>> square, slope = moments_at(nn.Softplus(), [0.5, 2.0])
    >>> (square - row_moments(nn.Softplus(), [0.5, 2.0])[0]).abs().max().item() < 1e-14
    True
    """
    import torch

    given = torch.as_tensor(s, dtype=torch.float64)
    if not fn.smooth:
        return row_moments(fn, given)

    def table(values: Tensor) -> Tensor:
        return torch.stack(row_moments(fn, values), 1)

    found = _interpolated(given, 2, table, lambda k: _moments(fn, k))
    return found[:, 0], found[:, 1]


def _interpolated(
    s: Any,
    columns: int,
    exact: Callable[[Tensor], Tensor],
    octave: Callable[[int], Tensor],
) -> Tensor:
    """Functions of standard deviations, of shape (n, columns), from their nodes in octaves."""
    import torch

    given = torch.as_tensor(s, dtype=torch.float64)
    values, at = torch.unique(given.cpu(), return_inverse=True)
    out = torch.empty((len(values), columns), dtype=torch.float64)
    octaves = torch.floor(torch.log2(values.clamp(min=1e-300))).long()
    for k in torch.unique(octaves).tolist():
        mine = octaves == k
        if k < _LOWEST:
            out[mine] = exact(values[mine])
        else:
            out[mine] = _shares(torch.log2(values[mine]) - k) @ octave(k)
    return out[at].to(given.device)


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
def _coefficients(fn: Dual, k: int, terms: int) -> Tensor:
    """At the nodes from ``2^k`` on."""
    import torch

    return hermite_coefficients(fn, torch.exp2(k + _nodes()[0]), terms).coefficients


@functools.lru_cache(maxsize=4096)
def _moments(fn: Dual, k: int) -> Tensor:
    import torch

    return torch.stack(row_moments(fn, torch.exp2(k + _nodes()[0])), 1)


@functools.cache
def _nodes() -> tuple[Tensor, Tensor]:
    """Chebyshev nodes in [0, 1], and the weights of the barycentric formula."""
    import torch

    order = torch.arange(_NODES, dtype=torch.float64)
    angle = (2 * order + 1) * (math.pi / (2 * _NODES))
    return 0.5 * (1.0 + torch.cos(angle)), torch.where(order % 2 == 0, 1.0, -1.0) * torch.sin(angle)


def _shares(x: Tensor) -> Tensor:
    """What each node weighs at points of [0, 1]."""
    import torch

    nodes, weights = _nodes()
    apart = x[:, None] - nodes
    hit = apart == 0
    parts = weights / torch.where(hit, 1.0, apart)
    shares = parts / parts.sum(1, keepdim=True)
    return torch.where(hit.any(1)[:, None], hit.to(torch.float64), shares)
