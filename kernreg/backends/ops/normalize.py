"""Layer normalisation: rows get another size, correlations and ``tau`` do not change."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kernreg.backends.derivatives import DERIVATIVES, Derivatives, Jet
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.reference import PAIRS, Evaluated, Evaluation
from kernreg.backends.rounding import ROUNDING, Tracked, Walker
from kernreg.backends.rows import ROWS, Row, hypot, ratio, row_behind
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.tiles import INSTRUCTIONS, State, Translator
from kernreg.ir.operations import Normalize

SIGNS.of(Normalize)(all_nonnegative)


@ROWS.of(Normalize)
def _rows(params: tuple[float, ...], op: Normalize, x: Row) -> tuple[Row, tuple[Tensor, ...]]:
    size = x.s
    if op.axes:
        over = [1 + axis for axis in op.axes]
        top = torch.where((top := size.amax(over, keepdim=True)) == 0, 1.0, top)
        size = top * torch.sqrt(((size / top) ** 2).mean(over, keepdim=True))
        size = size.expand_as(x.s)
    norm = hypot(size, params[op.eps] ** 0.5)
    return Row(ratio(x.s, norm, 0.0), x.tau), ()


@PAIRS.of(Normalize)
def _pairs(run: Evaluation, op: Normalize, x: Evaluated) -> Evaluated:
    return run.behind(op, x.pair, x)


@DERIVATIVES.of(Normalize)
def _derivatives(run: Derivatives, op: Normalize, x: Jet) -> Jet:
    row, eps = row_behind(op, run.params, x.row), run.params[op.eps]
    growth = x.growth * eps / (x.row.s**2 + eps) if eps else torch.zeros_like(x.growth)
    return replace(x, row=row, growth=growth)


@ROUNDING.of(Normalize)
def _rounding(walk: Walker, op: Normalize, x: Tracked) -> Tracked:
    return replace(x, row=row_behind(op, walk.params, x.row))


@INSTRUCTIONS.of(Normalize)
def _instructions(t: Translator, op: Normalize, x: State) -> State:
    return t.behind(op, t.same_pairs(x), x)


@PLANES.of(Normalize)
def _planes(t: PlaneTranslator, op: Normalize, x: Spatial) -> Spatial:
    dst = x.slot if t.last(x) else t.place(x.stage)
    out = t.behind(op, dst, t.unit_near(op, t.size_of(op)), x, clean=True)
    t.emit(x.stage, "reset", dst, x.slot)
    t.both(x.stage, *t.scaled(x), t.scaled(out)[0])
    return out
