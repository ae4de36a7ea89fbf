"""Dropout: the variance of one sample grows, pairs of samples do not change."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.derivatives import DERIVATIVES, Derivatives, Jet, Partials
from kernreg.backends.planes.tail import COVARIANCES, Covariance
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.reference import PAIRS, Evaluated, Evaluation, PairState
from kernreg.backends.rounding import ROUNDING, Tracked, Walker
from kernreg.backends.rows import ROWS, Row, row_behind
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import INSTRUCTIONS, State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.ir.operations import Dropout

SIGNS.of(Dropout)(all_nonnegative)


@ROWS.of(Dropout)
def _rows(params: tuple[float, ...], op: Dropout, x: Row) -> tuple[Row, tuple[Tensor, ...]]:
    return Row(x.s / params[op.keep] ** 0.5, x.tau), ()


def _between(p: PairState, keep: float) -> PairState:
    return PairState(keep * p.rho, (1.0 - keep) + keep * p.gap, keep * p.tau)


@PAIRS.of(Dropout)
def _pairs(run: Evaluation, op: Dropout, x: Evaluated) -> Evaluated:
    return run.behind(op, _between(x.pair, run.params[op.keep]), x)


@DERIVATIVES.of(Dropout)
def _derivatives(run: Derivatives, op: Dropout, x: Jet) -> Jet:
    keep = run.params[op.keep]
    pair, row = _between(x.pair, keep), row_behind(op, run.params, x.row)
    return run.chained(x, pair, row, x.growth, x.trained, Partials(keep, 0.0, keep))


@ROUNDING.of(Dropout)
def _rounding(walk: Walker, op: Dropout, x: Tracked) -> Tracked:
    keep, row = walk.params[op.keep], row_behind(op, walk.params, x.row)
    pair = _between(x.pair, keep)
    return walk.rounded(Tracked(row, pair, keep * x.gap, keep * x.split, keep * x.tau), pair.gap)


@INSTRUCTIONS.of(Dropout)
def _instructions(t: Translator, op: Dropout, x: State) -> State:
    dst = t.place()
    t.emit("dropout", dst, x.slot, c=t.constants([t.params[op.keep]]))
    return t.behind(op, dst, x)


@PLANES.of(Dropout)
def _planes(t: PlaneTranslator, op: Dropout, x: Spatial) -> Spatial:
    dst = x.slot if t.last(x) else t.place(x.stage)
    t.emit(x.stage, "dropout", dst, x.slot, c=t.constants([t.params[op.keep]]))
    t.both(x.stage, t.scaled(x)[0])
    return t.behind(op, dst, x.unit, x, clean=x.clean)


@COVARIANCES.of(Dropout)
def _covariances(walk: Any, op: Dropout, x: Covariance) -> Covariance:
    return x


@TRITON.of("dropout")
def _triton(w: TritonWriter, i: Instruction) -> None:
    w.comment("Dropout")
    w.call(i.dst, "dropout", f"{w.state(i.a)}, tl.load(consts + {i.c})")


@CUDA.of("dropout")
def _cuda(w: CudaWriter, i: Instruction) -> None:
    w.call(i.dst, "dropout_pair", f"{w.state(i.a)}, consts[{i.c}]")
