"""Translate a program and two sets of rows for the virtual machine of the cpu backend.

The instructions depend on the structure of the program only; what depends on data and
hyperparameters goes into tables (one number per row) and constants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.analysis import Analysis
from kernreg.backends.distinct import Distinct
from kernreg.backends.signs import is_nonnegative, nonnegative
from kernreg.codegen.instructions import CODES
from kernreg.exceptions import BackendError
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.ir.trace import DualCode

__all__ = [
    "INSTRUCTIONS",
    "STATES",
    "Machine",
    "State",
    "TileProgram",
    "Translator",
    "translate",
]

INSTRUCTIONS = Rules("tiles")
"""Rules ``(translator, operation, *states) -> state``, which write instructions and tables."""

STATES = 8
"""States of pairs that may be alive at once; the other registers hold temporaries."""


@dataclass(frozen=True)
class Machine:
    """What a backend offers: registers, and duals that it has compiled.

    ``number`` is that of a nonlinearity with the given code, or None. With ``peels`` the first turn
    of a loop is written on its own where it alone meets negative correlations.
    """

    number: Callable[[Dual, DualCode], int | None]
    registers: int
    peels: bool = False


@dataclass(frozen=True)
class TileProgram:
    """Everything the tile engine needs besides the data; ``close`` is the same in float64, for
    pairs of rows that need it."""

    code: NDArray[np.int32]
    consts: NDArray[np.float64]
    tables: tuple[NDArray[np.floating], NDArray[np.floating]]
    rows: tuple[R.Row, R.Row]
    close: TileProgram | None = None


@dataclass(frozen=True)
class State:
    """A value of the program: its state number in the machine, and the different rows.

    ``positive`` says that no correlation of it is negative. ``dual`` is the instruction of a
    nonlinearity that made it, if a dense layer may join it.
    """

    slot: int
    row: R.Row
    positive: bool = False
    dual: list[int] | None = None


@dataclass
class Tables:
    """Numbers of the rows of one side, by slot: ``blocks`` are of one slot or of several."""

    blocks: list[Tensor] = field(default_factory=list)
    slots: int = 0

    def __len__(self) -> int:
        return self.slots

    def add(self, values: Tensor) -> None:
        """Append a table, or several of shape (tables, rows)."""
        self.blocks.append(values)
        self.slots += 1 if values.ndim == 1 else len(values)


@dataclass
class Translator(Pass[State]):
    """Walks the program once per loop turn; instructions are written in the first turn only.

    ``begins`` says for each operation, by its identity, which table comes first, on the first side.
    """

    params: tuple[float, ...]
    machine: Machine
    analysis: Analysis
    dtype: np.dtype
    distinct: Distinct
    code: list[list[int]] = field(default_factory=list)
    consts: list[float] = field(default_factory=list)
    tables: tuple[Tables, Tables] = field(default_factory=lambda: (Tables(), Tables()))
    begins: dict[int, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    done: list[int] = field(default_factory=list)
    latest: list[int] | None = None
    writing: bool = True
    loops: int = 0
    outside: bool = False
    rules = INSTRUCTIONS

    def step(self, op: ir.Op, xs: list[State], done: list[State]) -> State:
        """Translate one operation."""
        self.begins.setdefault(id(op), len(self.tables[0]))
        self.done = [x.slot for x in done]
        state: State = self.rules.find(op)(self, op, *xs)
        self.used -= {x.slot for x in done} - {state.slot}
        return state

    def emit(
        self, op: str, dst: int = 0, a: int = 0, b: int = 0, c: int = 0, n: int = 0, plus: int = 0
    ) -> list[int]:
        """Append an instruction; tables that are added next belong to it."""
        number = CODES[op] + plus
        self.latest = [number, dst, a, b, c, len(self.tables[0]), len(self.tables[1]), n]
        if self.writing:
            self.code.append(self.latest)
        return self.latest

    def constants(self, values: list[float]) -> int:
        """Append constants and say where they begin."""
        if self.writing:
            self.consts += [float(v) for v in values]
        return len(self.consts) - len(values)

    def table(self, side: int, values: Tensor) -> None:
        """Append a table of one side, or several of shape (tables, rows)."""
        self.tables[side].add(values)

    def both(self, *tables: Tensor) -> None:
        """Append tables to both sides."""
        for values in tables:
            self.table(0, values)
            self.table(1, values)

    def new_slot(self) -> int:
        """A free state number."""
        for slot in range(STATES):
            if slot not in self.used:
                self.used.add(slot)
                return slot
        raise BackendError(
            f"the network has more than {STATES} branches alive at once; use backend='reference'"
        )

    def place(self) -> int:
        """Where the result goes: over a state that nothing reads any more, if there is one."""
        return self.done[0] if self.done else self.new_slot()

    def copy(self, source: int, target: int) -> None:
        """Copy a state."""
        for k in range(3):
            self.emit("copy", 3 * target + k, 3 * source + k)

    def same_pairs(self, x: State) -> int:
        """Where the pairs of ``x`` are for a result that shares them."""
        slot = self.place()
        if slot != x.slot:
            self.copy(x.slot, slot)
        return slot

    def behind(
        self,
        op: ir.Op,
        slot: int,
        *xs: State,
        row: R.Row | None = None,
        dual: list[int] | None = None,
    ) -> State:
        """The state behind an operation, whose pairs are in ``slot``; ``row`` if it is known."""
        if row is None:
            row = R.row_behind(op, self.params, *(x.row for x in xs))
        return State(slot, row, is_nonnegative(op, *(x.positive for x in xs)), dual)

    def in_pairs(
        self,
        name: str,
        xs: Sequence[State],
        tables: Callable[[R.Row, int], tuple[R.Row, list[Tensor]]] | None = None,
    ) -> int:
        """Merge branches two at a time; the result's place.

        ``tables`` gives, for the rows merged so far and the number of the next branch, the merged
        rows and the tables of the instruction.
        """
        slot, row = xs[0].slot, xs[0].row
        if len(xs) == 1:  # its state may be needed again
            self.copy(slot, slot := self.new_slot())
        for k, other in enumerate(xs[1:], 1):
            self.emit(name, dst := self.new_slot(), slot, other.slot)
            if tables is not None:
                row, found = tables(row, k)
                self.both(*found)
            if slot != xs[0].slot:
                self.used.discard(slot)
            slot = dst
        return slot


def _beyond_float32(row: R.Row) -> bool:
    """Whether products of standard deviations, or tangent kernels over them, are out of range."""
    s = row.s[row.s > 0]
    ends = [float(v) for v in torch.aminmax(s)] if len(s) else [1.0, 1.0]
    return ends[0] < 1e-17 or ends[1] > 1e17 or float(row.tau.max()) > 1e34


def _written(t: Translator, side: int, rows: int, dtype: np.dtype) -> NDArray:
    """The tables of a side for all of its rows."""
    tables, done = t.tables[side], 0
    out = np.empty((len(tables), rows), dtype)
    with np.errstate(over="ignore"):
        for block in tables.blocks:
            several = block if block.ndim == 2 else block[None]
            end = done + len(several)
            out[done:end] = t.distinct.all(several.mT, side).mT.numpy()
            done = end
    t.outside = t.outside or not bool(np.isfinite(out).all())
    return out


def translate(
    program: Program,
    rows: tuple[R.Row, R.Row],
    machine: Machine,
    analysis: Analysis,
    dtype: np.dtype,
) -> TileProgram:
    """Instructions, constants and tables for a program on two sets of rows.

    Parameters
    ----------
    program : Program
        What to run.
    rows : tuple of Row
        Input rows of both sides.
    machine : Machine
        What the extension offers.
    analysis : Analysis
        Lengths of Hermite series, and the profile if there is one.
    dtype : dtype
        Of the tables, as far as they fit: numbers beyond float32 are kept in float64.

    Returns
    -------
    TileProgram

    Raises
    ------
    BackendError
        If the program does not fit the machine.
    """
    distinct = Distinct.of(*rows)
    t = Translator(program.params, machine, analysis, dtype, distinct)
    state, done = State(t.new_slot(), distinct.row), 0
    if (segment := analysis.segment) is not None:
        state = t.run(program.ops[: segment.start + 1], state)
        c, done = segment.profile.coefficients, segment.end
        behind = segment.rows
        if distinct.first is not None:
            behind = R.Row(behind.s[distinct.first], behind.tau[distinct.first])
        t.emit("profile", state.slot, state.slot, c=t.constants([*c[0], *c[1]]), n=c.shape[1])
        positive = nonnegative(program.ops[: segment.end + 1])
        state = State(state.slot, behind, positive)
    state = t.run(program.ops, state, done)
    if state.slot != 0:
        t.copy(state.slot, 0)

    def tables(dtype: np.dtype) -> tuple[NDArray, NDArray]:
        return _written(t, 0, len(rows[0].s), dtype), _written(t, 1, len(rows[1].s), dtype)

    made = TileProgram(
        code=np.array(t.code, dtype=np.int32).reshape(-1, 8),
        consts=np.array(t.consts, dtype=np.float64),
        tables=tables(dtype),
        rows=(distinct.rows(state.row, 0), distinct.rows(state.row, 1)),
    )
    wide = np.dtype(np.float64)
    if dtype == np.float32 and (t.outside or _beyond_float32(state.row)):
        return translate(program, rows, machine, analysis, wide)
    if dtype == wide or analysis.close is None:
        return made
    if analysis.expansions:  # of other lengths
        close = translate(program, rows, machine, analysis.close, wide)
    else:
        close = replace(made, tables=tables(wide))
    return replace(made, close=close)
