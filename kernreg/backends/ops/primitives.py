"""Duals that no backend has compiled, as primitive instructions of the virtual machine."""

from __future__ import annotations

from torch import Tensor

from kernreg.backends.tiles import Translator
from kernreg.exceptions import BackendError
from kernreg.ir.graph import PAIR, Value, evaluate
from kernreg.ir.trace import DualCode
from kernreg.numerics.torchmath import TorchMath

__all__ = ["write_primitives"]


def write_primitives(
    t: Translator,
    code: DualCode,
    scalars: list[Tensor],
    leaves: dict[str, Tensor],
    source: int,
    dst: int,
    spare: range,
) -> None:
    """Write a dual that is not compiled in, one primitive at a time.

    Parameters
    ----------
    t : Translator
        Takes instructions, constants and tables.
    code : DualCode
        The dual.
    scalars : list of Tensor
        Values of its scalar slots.
    leaves : dict
        Values of its leaves.
    source, dst : int
        States before and behind it.
    spare : range
        Registers for temporaries.
    """
    temporaries = _Temporaries(spare, code)
    where: dict[int, int] = {}
    slots = {id(v): k for k, v in enumerate(code.scalars)}
    sides: dict[int, tuple[int, Tensor]] = {}
    for side, rows in enumerate((code.rows1, code.rows2)):
        # All at once: they share most of their work.
        found = evaluate(rows, leaves, TorchMath)
        sides |= {id(v): (side, values) for v, values in zip(rows, found, strict=True)}

    def operand(v: Value) -> int:
        if v.op == "leaf" and v.level == PAIR:
            return 3 * source + (0 if v.number == "rho" else 1)
        if id(v) in where:
            return where[id(v)]
        register = where[id(v)] = temporaries.take()
        if id(v) in sides:
            side, table = sides[id(v)]
            t.emit("rowx" if side == 0 else "rowy", register)
            t.table(side, table)
        else:
            value = v.number if v.op == "const" else scalars[slots[id(v)]]
            t.emit("scalar", register, n=t.constants([float(value)]))  # type: ignore[arg-type]
        return register

    for v in code.pairs:
        inputs = [operand(a) for a in v.args]
        temporaries.release(v, where)
        register = where[id(v)] = temporaries.take()
        t.emit(v.op, register, *[*inputs, 0, 0][:3])
    rho, dot, gap = operand(code.rho), operand(code.dot), operand(code.gap)
    t.emit("mul", 3 * dst + 2, 3 * source + 2, dot)
    if rho != (moved := 3 * dst):
        # The gap may still be needed from the input's place, so it goes first.
        t.emit("copy", kept := temporaries.take(), gap)
        t.emit("copy", moved, rho)
        gap = kept
    t.emit("copy", 3 * dst + 1, gap)


class _Temporaries:
    """Registers for the values of one traced dual, freed after their last use."""

    def __init__(self, registers: range, code: DualCode) -> None:
        self.count = len(registers)
        self.free = list(reversed(registers))
        self.last: dict[int, int] = {}
        for k, v in enumerate(code.pairs):
            for a in v.args:
                self.last[id(a)] = k
        for v in code.outputs():
            self.last[id(v)] = len(code.pairs)
        self.step = {id(v): k for k, v in enumerate(code.pairs)}

    def take(self) -> int:
        """A register that is free."""
        if not self.free:
            raise BackendError(
                f"a dual needs more than the {self.count} registers there are; "
                "use backend='reference'"
            )
        return self.free.pop()

    def release(self, v: Value, where: dict[int, int]) -> None:
        """Free the registers of arguments that ``v`` is the last to use."""
        for a in {id(a): a for a in v.args}.values():
            if self.last[id(a)] == self.step[id(v)] and id(a) in where:
                self.free.append(where.pop(id(a)))
