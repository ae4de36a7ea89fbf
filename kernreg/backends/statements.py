"""Instructions as statements of a language that is compiled for one program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from kernreg.backends.tiles import TileProgram
from kernreg.codegen.instructions import CODES, DUAL
from kernreg.ir.fold import Rules
from kernreg.ir.trace import DualCode

__all__ = ["CUDA", "TRITON", "Instruction", "Writer", "used_duals"]

_NAMES = {number: name for name, number in CODES.items()}


class Instruction(NamedTuple):
    """The fields of an instruction; tables of rows and columns begin at slots ``x`` and ``y``."""

    dst: int
    a: int
    b: int
    c: int
    x: int
    y: int
    n: int


TRITON, CUDA = Rules("Triton"), Rules("CUDA")
"""Rules ``(writer, instruction)`` by the name of the instruction, with a dual's number between."""


def used_duals(tiles: TileProgram) -> list[int]:
    """Numbers of the duals that a program runs."""
    return sorted({int(row[0]) - DUAL for row in tiles.code if row[0] >= DUAL})


class Writer(ABC):
    """Writes instructions as statements of some language; knows the loops it is in.

    Parameters
    ----------
    duals : mapping
        Title and code of every dual by its number.
    """

    indent: str
    statements: Rules

    def __init__(self, duals: Mapping[int, tuple[str, DualCode]]) -> None:
        self.duals = duals
        self.lines: list[str] = []
        # Slots by which the tables of rows and columns move on in every turn.
        self.steps: list[tuple[int, int]] = []

    def write(self, tiles: TileProgram) -> None:
        """Append the statements of a program."""
        for op, *fields in tiles.code.tolist():
            instruction = Instruction(*fields)
            if op >= DUAL:
                self.statements["dual"](self, op - DUAL, instruction)
            elif _NAMES[op] == "copy":
                self.copy(instruction.dst, instruction.a)
            else:
                self.statements[_NAMES[op]](self, instruction)

    def line(self, text: str) -> None:
        """Append a statement."""
        self.lines.append(self.indent * (1 + len(self.steps)) + text)

    def slot(self, first: int, side: int) -> str:
        """Number of a slot of rows (side 0) or columns (1), in a loop depending on the turn."""
        moves = [f" + {s[side]} * turn{k}" for k, s in enumerate(self.steps) if s[side]]
        return str(first) + "".join(moves)

    @abstractmethod
    def copy(self, dst: int, source: int) -> None:
        """Write a copy of a register."""

    @abstractmethod
    def call(self, dst: int, function: str, *args: str) -> None:
        """Write that a state is what a function gives."""

    @abstractmethod
    def state(self, number: int) -> str:
        """A state as arguments."""

    @abstractmethod
    def tables(self, x: int, y: int) -> str:
        """Arguments of functions that read as many slots as they need."""
