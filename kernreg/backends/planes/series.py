"""Nonlinearities without a compiled dual, by Hermite coefficients of each position."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.planes.translate import Spatial, Translator
from kernreg.exceptions import BackendError
from kernreg.ir import operations as ir
from kernreg.ir.pair import Dual
from kernreg.numerics.hermite import parity
from kernreg.numerics.octaves import coefficients_at, length_between

__all__ = ["plane_series"]


def plane_series(
    t: Translator, op: ir.Apply, fn: Dual, x: Spatial, after: R.Row, dot: Tensor
) -> Spatial:
    """The instruction and tables of a nonlinearity; raises BackendError if no series serves."""
    low, high = (float(v) for v in torch.aminmax(x.row.s))
    tol = 1e-8 if t.dtype == np.float32 else 1e-13
    length = length_between(fn, low, high, tol, 1) if fn.smooth else None
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
    columns = coefficients_at(fn, s, terms) * gone[:, None]
    slope = (columns * columns) @ torch.arange(terms, dtype=torch.float64)
    share = torch.where(slope > 0, torch.sqrt(dot.reshape(-1) / slope), 1.0)
    for values in (*columns.T, share):
        t.both(x.stage, values.reshape(x.row.s.shape))
    return out
