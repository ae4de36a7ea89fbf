"""Hermite coefficients at many standard deviations, from nodes in each octave."""

from __future__ import annotations

import functools
import math
from dataclasses import fields
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
# Where interpolation is tried, and what it may be off: some roundings.
_TESTED = (0.0, 0.03, 0.25, 0.51, 0.76, 0.97, 1.0)
_ROUNDING = 64 * 2.0**-52
# Tables are as long as the next multiple, so that one serves series of several lengths.
_STEP = 64


def coefficients_at(fn: Dual, s: Any, terms: int) -> Tensor:
    """Hermite coefficients of a smooth nonlinearity, shape (n, terms).

    Interpolated in the logarithm of the standard deviation: for a function with poles on the
    imaginary axis the nearest singularity is 2.3 octaves away, so that the error of 20 nodes an
    octave is below rounding. Where it is not, as a test of each octave tells, they are integrated.

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
    coefficient. Nothing is kept of a user's function, which may change.

    Examples
    --------
    >>> from kernreg import nn
    >>> table = coefficients_at(nn.Hermite((0, 0, 1)), [1.0], 4)
    >>> [round(abs(a), 12) for a in table[0].tolist()]
    [0.0, 0.0, 1.0, 0.0]
    """
    # Tables are longer, and so is the result at first: a longer series has the same first terms.
    most = -(-terms // _STEP) * _STEP
    return _interpolated(fn, s, most)[:, :terms]


def moments_at(fn: Dual, s: Any) -> tuple[Tensor, Tensor]:
    """As :func:`~kernreg.numerics.quadrature.row_moments`, interpolated where that is exact.

    Examples
    --------
    >>> from kernreg import nn
    >>> square, slope = moments_at(nn.Softplus(), [0.5, 2.0])
    >>> (square - row_moments(nn.Softplus(), [0.5, 2.0])[0]).abs().max().item() < 1e-14
    True
    """
    if not fn.smooth:
        return row_moments(fn, s)
    found = _interpolated(fn, s, 0)
    return found[:, 0], found[:, 1]


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
    if not _is_constant(fn):
        return series_length(fn, [low, high], tol)
    wide = (
        2.0 ** (math.floor(parts * math.log2(max(low, 1e-6))) / parts),
        2.0 ** (math.ceil(parts * math.log2(max(high, 1e-6))) / parts),
    )
    found = _length(fn, *wide, tol)
    return _length(fn, low, high, tol) if found is None else found


def _is_constant(fn: Dual) -> bool:
    """Whether a nonlinearity is told by its class and numbers: not a user's function."""
    values = [getattr(fn, f.name) for f in fields(fn)]  # type: ignore[arg-type]
    return all(isinstance(v, int | float | str | tuple) for v in values)


def _interpolated(fn: Dual, s: Any, terms: int) -> Tensor:
    """Coefficients, or for no terms both moments, each of one row for a standard deviation."""
    import torch

    given = torch.as_tensor(s, dtype=torch.float64)
    values, at = torch.unique(given.cpu(), return_inverse=True)
    out = torch.empty((len(values), terms or 2), dtype=torch.float64)
    octaves = torch.floor(torch.log2(values.clamp(min=1e-300))).long()
    kept = _is_constant(fn)
    for k in torch.unique(octaves).tolist():
        mine = octaves == k
        table = None
        if k >= _LOWEST and (kept or int(mine.sum()) > 2 * _NODES):
            table = (_kept_octave if kept else _octave)(fn, k, terms)
        if table is None:
            out[mine] = _exact(fn, values[mine], terms)
        else:
            out[mine] = _shares(torch.log2(values[mine]) - k) @ table
    return out[at].to(given.device)


def _exact(fn: Dual, s: Tensor, terms: int) -> Tensor:
    import torch

    if terms:
        return hermite_coefficients(fn, s, terms).coefficients
    return torch.stack(row_moments(fn, s), 1)


def _octave(fn: Dual, k: int, terms: int) -> Tensor | None:
    """Values at the nodes from ``2^k`` on; None if they do not tell those between."""
    import torch

    at = torch.cat([_nodes()[0], torch.tensor(_TESTED, dtype=torch.float64)])
    values = _exact(fn, torch.exp2(k + at), terms)
    table, wanted = values[:_NODES], values[_NODES:]
    apart = (_shares(at[_NODES:]) @ table - wanted).abs()
    if terms:  # of the root mean square, as errors of the sum are
        size = torch.linalg.vector_norm(wanted, dim=1, keepdim=True)
        size = torch.maximum(size, _exact(fn, torch.exp2(k + at[_NODES:]), 0)[:, :1].sqrt())
    else:
        size = wanted.abs()
    return table if bool((apart <= _ROUNDING * size).all()) else None


@functools.lru_cache(maxsize=1024)
def _kept_octave(fn: Dual, k: int, terms: int) -> Tensor | None:
    return _octave(fn, k, terms)


@functools.lru_cache(maxsize=4096)
def _length(fn: Dual, low: float, high: float, tol: float) -> int | None:
    return series_length(fn, [low, high], tol)


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
