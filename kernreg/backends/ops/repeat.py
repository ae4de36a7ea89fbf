"""A loop: its body once as instructions, its tables for every turn."""

from __future__ import annotations

from dataclasses import replace

from kernreg.backends.cuda.source import CudaWriter
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
