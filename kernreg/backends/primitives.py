"""Duals that no backend has compiled, as primitive instructions of the virtual machine."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from kernreg.backends.liveness import Temporaries
from kernreg.ir.trace import PAIR, DualCode, Value, evaluate
from kernreg.numerics.torchmath import TorchMath

__all__ = ["write_primitives"]


class _Writer(Protocol):
    """What takes the instructions: the translator of :mod:`kernreg.backends.tiles`."""

    def emit(
        self, op: str | int, dst: int = 0, a: int = 0, b: int = 0, c: int = 0, n: int = 0
    ) -> Any:
        """Append an instruction."""
        ...

    def constants(self, values: list[float]) -> int:
        """Append constants and say where they begin."""
        ...

    def table(self, side: int, values: Tensor) -> None:
        """Append a table of one side."""
        ...


def write_primitives(
    writer: _Writer,
    code: DualCode,
    scalars: list[Tensor],
    leaves: list[dict[str, Tensor]],
    source: int,
    dst: int,
    spare: range,
) -> None:
    """Write a dual that is not compiled in, one primitive at a time.

    Parameters
    ----------
    writer : translator
        Takes instructions, constants and tables.
    code : DualCode
        The dual.
    scalars : list of Tensor
        Values of its scalar slots.
    leaves : list of dict
        Values of the leaves on both sides.
    source, dst : int
        States before and behind it.
    spare : range
        Registers for temporaries.
    """
    temporaries = Temporaries(spare, code)
    where: dict[int, int] = {}
    slots = {id(v): k for k, v in enumerate(code.scalars)}
    sides: dict[int, tuple[int, Tensor]] = {}
    for side, rows in enumerate((code.rows1, code.rows2)):
        # All at once: they share most of their work.
        found = evaluate(rows, leaves[side], TorchMath)
        sides |= {id(v): (side, t) for v, t in zip(rows, found, strict=True)}

    def operand(v: Value) -> int:
        if v.op == "leaf" and v.level == PAIR:
            return 3 * source + (0 if v.number == "rho" else 1)
        if id(v) in where:
            return where[id(v)]
        register = where[id(v)] = temporaries.take()
        if id(v) in sides:
            side, table = sides[id(v)]
            writer.emit("rowx" if side == 0 else "rowy", register)
            writer.table(side, table)
        else:
            value = v.number if v.op == "const" else scalars[slots[id(v)]]
            writer.emit("scalar", register, n=writer.constants([float(value)]))  # type: ignore[arg-type]
        return register

    for v in code.pairs:
        inputs = [operand(a) for a in v.args]
        temporaries.release(v, where)
        register = where[id(v)] = temporaries.take()
        writer.emit(v.op, register, *[*inputs, 0, 0][:3])
    rho, dot, gap = operand(code.rho), operand(code.dot), operand(code.gap)
    writer.emit("mul", 3 * dst + 2, 3 * source + 2, dot)
    if rho != (moved := 3 * dst):
        # The gap may still be needed from the input's place, so it goes first.
        writer.emit("copy", kept := temporaries.take(), gap)
        writer.emit("copy", moved, rho)
        gap = kept
    writer.emit("copy", 3 * dst + 1, gap)
