"""Nonlinearities without a compiled dual, by Hermite coefficients of each position."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.planes.translate import Spatial, Translator
from kernreg.exceptions import BackendError
from kernreg.ir import operations as ir
from kernreg.ir.pair import Dual
from kernreg.numerics.hermite import hermite_coefficients, parity, series_length

__all__ = ["plane_series"]


def plane_series(
    t: Translator, op: ir.Apply, fn: Dual, x: Spatial, after: R.Row, dot: Tensor
) -> Spatial:
    """The instruction and tables of a nonlinearity; raises BackendError if no series serves."""
    low, high = (float(v) for v in torch.aminmax(x.row.s))
    tol = 1e-8 if t.dtype == np.float32 else 1e-13
    length = _length(fn, low, high, tol) if fn.smooth else None
    if length is None:
        kind = "needs too long a series" if fn.smooth else "has a kink and no closed form"
        raise BackendError(
            f"{fn!r} at standard deviations from {low:.3g} to {high:.3g} {kind} for planes of "
            "images"
        )
    t.terms[id(op)] = terms = max(length, t.terms.get(id(op), 0))
    dst = x.slot if t.last(x) else t.place(x.stage)
    out = t.behind(op, dst, t.unit_near(op, t.size_of(op)), x, clean=True, row=after)
    if t.survey:
        t.left_out += terms + 4
        return out
    t.emit(x.stage, "series", dst, x.slot, c=t.constants([parity(fn)]), n=terms)
    t.both(x.stage, *t.scaled(x), t.scaled(out)[0])
    s = x.row.s.reshape(-1)
    gone = torch.where(after.s < 1e-300, 0.0, 1.0 / after.s).reshape(-1)
    columns = _coefficients(fn, s, terms) * gone[:, None]
    slope = (columns * columns) @ torch.arange(terms, dtype=torch.float64)
    share = torch.where(slope > 0, torch.sqrt(dot.reshape(-1) / slope), 1.0)
    for values in (*columns.T, share):
        t.both(x.stage, values.reshape(x.row.s.shape))
    return out


def _coefficients(fn: Dual, s: Tensor, terms: int) -> Tensor:
    """Hermite coefficients at many standard deviations, shape (n, terms).

    Interpolated in the logarithm, of which they are analytic functions: the nearest singularity is
    2.3 octaves away for a function with poles on the imaginary axis, so that the error of 20 nodes
    an octave is below rounding.
    """
    values, at = torch.unique(s, return_inverse=True)
    out = torch.empty((len(values), terms), dtype=torch.float64)
    octaves = torch.floor(torch.log2(values.clamp(min=1e-300))).long()
    for k in torch.unique(octaves).tolist():
        mine = octaves == k
        if k < _LOWEST:
            out[mine] = hermite_coefficients(fn, values[mine], terms).coefficients
        else:
            nodes, table = _octave(fn, k, terms)
            out[mine] = _interpolated(torch.log2(values[mine]) - k, nodes) @ table
    return out[at]


_NODES = 20
# Octave below which a layer is as good as linear, and what is left of it counts absolutely.
_LOWEST = -40


@functools.lru_cache(maxsize=512)
def _octave(fn: Dual, k: int, terms: int) -> tuple[Tensor, Tensor]:
    """Chebyshev nodes in [0, 1] and the coefficients there, from ``2^k`` on."""
    angle = (2 * torch.arange(_NODES, dtype=torch.float64) + 1) * (math.pi / (2 * _NODES))
    nodes = 0.5 * (1.0 + torch.cos(angle))
    return nodes, hermite_coefficients(fn, torch.exp2(k + nodes), terms).coefficients


def _interpolated(x: Tensor, nodes: Tensor) -> Tensor:
    """What each node weighs at points of [0, 1], by the barycentric formula."""
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


def _length(fn: Dual, low: float, high: float, tol: float) -> int | None:
    """Terms that serve a range: that between powers of two if it has a series, or else itself."""
    wide = (
        2.0 ** math.floor(math.log2(max(low, 1e-6))),
        2.0 ** math.ceil(math.log2(max(high, 1e-6))),
    )
    found = _known_length(fn, *wide, tol)
    return _known_length(fn, low, high, tol) if found is None else found


@functools.lru_cache(maxsize=4096)
def _known_length(fn: Dual, low: float, high: float, tol: float) -> int | None:
    return series_length(fn, torch.tensor([low, high], dtype=torch.float64), tol)
