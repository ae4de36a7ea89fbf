"""A loop: its body once as instructions, its tables for every turn."""

from __future__ import annotations

from dataclasses import replace

from kernreg.backends.cuda.source import CudaWriter
from kernreg.backends.planes.translate import PLANES, Spatial
from kernreg.backends.planes.translate import Translator as PlaneTranslator
from kernreg.backends.signs import nonnegative
from kernreg.backends.statements import CUDA, TRITON, Instruction
from kernreg.backends.tiles import INSTRUCTIONS, State, Translator
from kernreg.backends.triton.source import TritonWriter
from kernreg.exceptions import BackendError
from kernreg.ir.operations import Repeat

_LOOPS = 8
"""Loops inside loops that the virtual machine has room for."""


@INSTRUCTIONS.of(Repeat)
def _instructions(t: Translator, op: Repeat, x: State) -> State:
    slot, positive = x.slot, x.positive
    if slot not in t.done:
        t.copy(x.slot, slot := t.new_slot())
    state, count = State(slot, x.row, positive), op.count
    later = nonnegative(op.body, positive)
    if t.machine.peels and later and not positive:
        state, count, positive = _turn(t, op, state, False), count - 1, True
        if count == 0:
            return state
    t.loops += 1
    if t.loops > _LOOPS:
        raise BackendError(
            f"the network has loops more than {_LOOPS} deep; use backend='reference'"
        )
    head = t.emit("loop", n=count)
    before = [len(tables) for tables in t.tables]
    writing = t.writing
    for turn in range(count):
        state = _turn(t, op, state, positive and later)
        if turn == 0:
            head[5:7] = [len(tables) - k for tables, k in zip(t.tables, before, strict=True)]
            t.emit("next")
        t.writing = False
    t.writing = writing
    t.loops -= 1
    return state


def _turn(t: Translator, op: Repeat, x: State, positive: bool) -> State:
    """The body of a loop once; its result takes the place of its input."""
    state = t.run(op.body, replace(x, positive=positive))
    if state.slot != x.slot:
        t.copy(state.slot, x.slot)
        t.used.discard(state.slot)
        t.used.add(x.slot)
    return replace(state, slot=x.slot, dual=None)


@PLANES.of(Repeat)
def _planes(t: PlaneTranslator, op: Repeat, x: Spatial) -> Spatial:
    slot = x.slot if t.last(x) else t.place(x.stage)
    if slot != x.slot:
        t.emit(x.stage, "copy", slot, x.slot)
    unit = max(t.size_of(op), t.size_of(op.body[-1]))
    state = t.in_unit(replace(t.clean(replace(x, slot=slot)), filtered=None), unit)
    positive = x.positive and nonnegative(op.body, True)
    stage = t.block.stages[x.stage]
    head, writing, looping = len(stage.code), t.writing, t.looping
    t.emit(x.stage, "loop", n=op.count)
    before = [len(side) for side in stage.tables]
    t.looping = True
    for turn in range(op.count):
        out = t.run(op.body, replace(state, positive=positive))
        assert isinstance(out, Spatial)
        out = t.in_unit(t.clean(out), unit)
        if out.slot != slot:
            t.emit(x.stage, "copy", slot, out.slot)
            stage.used.discard(out.slot)
            stage.used.add(slot)
        state = replace(out, slot=slot, filtered=None)
        if turn == 0 and writing:
            steps = [len(side) - k for side, k in zip(stage.tables, before, strict=True)]
            stage.code[head][5:7] = steps
            t.emit(x.stage, "next")
        t.writing = False
    t.writing, t.looping = writing, looping
    return state


@TRITON.of("loop")
def _triton_loop(w: TritonWriter, i: Instruction) -> None:
    w.line(f"for turn{len(w.steps)} in range({i.n}):")
    w.steps.append((i.x, i.y))


@TRITON.of("next")
def _triton_next(w: TritonWriter, i: Instruction) -> None:
    w.steps.pop()


@CUDA.of("loop")
def _cuda_loop(w: CudaWriter, i: Instruction) -> None:
    turn = f"turn{len(w.steps)}"
    w.line("#pragma unroll 1")
    w.line(f"for (int64_t {turn} = 0; {turn} < {i.n}; ++{turn}) {{")
    w.steps.append((i.x, i.y))


@CUDA.of("next")
def _cuda_next(w: CudaWriter, i: Instruction) -> None:
    w.steps.pop()
    w.line("}")
