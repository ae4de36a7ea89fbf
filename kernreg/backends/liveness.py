"""How long values are needed: of a program, and of the traced dual that is run step by step."""

from __future__ import annotations

from kernreg.exceptions import BackendError
from kernreg.ir import program as ir
from kernreg.ir.trace import DualCode, Value

__all__ = ["Temporaries", "dense_behind", "last_uses"]


def last_uses(ops: tuple[ir.Op, ...]) -> dict[int, int]:
    """For each value the last operation that reads it; the result is read after the end."""
    last = dict.fromkeys(range(len(ops)), -1)
    for i, op in enumerate(ops):
        for x in ir.inputs(op):
            last[x] = i
    last[len(ops) - 1] = len(ops)
    return last


def dense_behind(ops: tuple[ir.Op, ...], i: int) -> ir.Dense | None:
    """The dense layer that is the only one to read value ``i`` and comes right behind it."""
    if i + 1 >= len(ops) or not isinstance(ops[i], ir.Apply):
        return None
    op = ops[i + 1]
    users = [j for j, other in enumerate(ops) if i in ir.inputs(other)]
    if isinstance(op, ir.Dense) and op.x == i and op.plain and users == [i + 1]:
        return op
    return None


class Temporaries:
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
