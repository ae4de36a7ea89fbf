"""Instructions of the virtual machine for values of a graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kernreg.codegen.instructions import CODES
from kernreg.exceptions import BackendError
from kernreg.ir.graph import PAIR, ROW1, ROW2, Graph, Value, evaluate, reachable
from kernreg.numerics.torchmath import TorchMath

__all__ = ["PLACES", "Jets", "Writer"]

PLACES = (0, 2, 1)
"""Registers that the results are read from."""

_MOST = 50_000
"""Instructions; a network with more of them is left to torch."""


@dataclass(frozen=True)
class _Step:
    """What one instruction of jets reads besides registers."""

    op: str
    number: int
    kind: int
    constants: tuple[float, ...]
    tables: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


class Jets:
    """Instructions that make several values at once, as nodes of a graph.

    Parameters
    ----------
    graph : Graph
        Where the nodes go.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.steps: dict[int, _Step] = {}

    def add(
        self,
        inputs: tuple[Value, ...],
        tables: tuple[tuple[Tensor, ...], tuple[Tensor, ...]],
        kind: int | None = None,
        number: int = 0,
        constants: tuple[float, ...] = (),
    ) -> tuple[Value, ...]:
        """A dense layer of some kind, or the compiled dual of a number; its results.

        ``tables`` are numbers of the rows of each side.
        """
        op = "jet" if kind is None else "jet_dense"
        made = self._graph.many(op, inputs, len(inputs), len(self.steps))
        self.steps[id(made[0].args[0])] = _Step(op, number, kind or 0, constants, tables)
        return made


class Writer:
    """Instructions for some values of a graph.

    Parameters
    ----------
    registers : int
        How many there are; the leaves ``rho`` and ``gap`` lie in the first two.
    leaves : dict
        Numbers of the rows of each side, by name.
    steps : dict
        Instructions of jets, by node.
    """

    def __init__(
        self,
        registers: int,
        leaves: tuple[dict[str, Tensor], dict[str, Tensor]],
        jets: Jets,
        lengths: list[int],
    ) -> None:
        self._leaves, self._steps, self._lengths = leaves, jets.steps, lengths
        self._free = list(range(registers - 1, 2, -1))
        self._code: list[list[int]] = []
        self._consts: list[float] = []
        self._tables: tuple[list[NDArray[np.float64]], ...] = ([], [])
        self._where: dict[int, int] = {}
        # Numbers of rows and constants that are in registers, and where these stand for good.
        self._loaded: dict[int, None] = {}
        self._kept: dict[int, int] = {}

    def write(
        self, *ends: Value
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], list[NDArray[np.float64]]]:
        """Code, constants and tables that leave up to three values in ``PLACES``."""
        needed = [v for v in reachable(ends) if v.level == PAIR and v.op != "leaf"]
        # Layer by layer, so that few values are alive at once.
        steps = ends[0].graph.in_order(needed)
        if len(steps) > _MOST:
            raise BackendError("the network is too deep for derivatives in one pass")
        last = {id(a): k for k, v in enumerate(steps) for a in v.args}
        last |= {id(v): len(steps) for v in ends}
        parts: dict[int, dict[int, Value]] = {}
        for v in steps:
            if v.op == "part":
                parts.setdefault(id(v.args[0]), {})[int(str(v.number))] = v
        rows = self._rows([v for v in steps if v.op != "part"], ends)
        for k, v in enumerate(steps):
            if v.op == "part":
                continue
            held = {id(a) for a in v.args}
            inputs = [self._operand(a, rows, held) for a in v.args]
            for a in {id(a): a for a in v.args}.values():
                if last[id(a)] == k and id(a) in self._where:
                    self._free.append(self._where.pop(id(a)))
                    self._loaded.pop(id(a), None)
            if id(v) in self._steps:
                self._jet(self._steps[id(v)], inputs, parts[id(v)], held)
                continue
            self._where[id(v)] = self._take(held)
            self._emit(v.op, self._where[id(v)], *[*inputs, 0, 0][:3])
        held = {id(v) for v in ends}
        found = [self._operand(v, rows, held) for v in ends]
        # First to registers that no result lies in.
        spare = []
        for register in found:
            spare.append(self._take(held))
            self._emit("copy", spare[-1], register)
        for place, register in zip(PLACES, spare, strict=False):
            self._emit("copy", place, register)
        tables = [
            np.stack(t) if t else np.zeros((0, n))
            for t, n in zip(self._tables, self._lengths, strict=True)
        ]
        code = np.array(self._code, dtype=np.int32).reshape(-1, 8)
        return code, np.array(self._consts, dtype=np.float64), tables

    def _jet(self, step: _Step, inputs: list[int], parts: dict[int, Value], held: set[int]) -> None:
        at = [len(t) for t in self._tables]
        for side, values in enumerate(step.tables):
            self._tables[side].extend(np.ascontiguousarray(t.numpy()) for t in values)
        start = len(self._consts)
        self._consts.extend(step.constants)
        outputs, unread = [], None
        for m in range(len(inputs)):
            register = self._take(held) if m in parts or unread is None else unread
            if m in parts:
                self._where[id(parts[m])] = register
            else:
                unread = register
            outputs.append(register)
        if unread is not None:
            self._free.append(unread)
        self._code.append([CODES[step.op] + step.number, 0, 0, step.kind, start, at[0], at[1], 0])
        operands = [*inputs, *outputs]
        operands += [0] * (-len(operands) % 8)
        self._code += [operands[k : k + 8] for k in range(0, len(operands), 8)]

    def _rows(self, steps: list[Value], ends: tuple[Value, ...]) -> dict[int, Tensor]:
        """Numbers of rows that instructions read, each side's all at once."""
        found: dict[int, Tensor] = {}
        for side, level in ((0, ROW1), (1, ROW2)):
            wanted = {id(a): a for v in steps for a in v.args if a.level == level}
            wanted |= {id(v): v for v in ends if v.level == level}
            values = tuple(wanted.values())
            leaves: dict[str, Any] = dict(self._leaves[side])
            for v, value in zip(values, evaluate(values, leaves, TorchMath), strict=True):
                found[id(v)] = value
        return found

    def _operand(self, v: Value, rows: dict[int, Tensor], held: set[int]) -> int:
        if v.op == "leaf" and v.level == PAIR:
            return 0 if v.number == "rho" else 1
        if id(v) not in self._where:
            self._where[id(v)] = register = self._take(held)
            self._loaded[id(v)] = None
            side = {ROW1: 0, ROW2: 1}.get(v.level)
            if id(v) not in self._kept:
                place = self._consts if side is None else self._tables[side]
                self._kept[id(v)] = len(place)
                if side is None:
                    (value,) = evaluate((v,), {}, TorchMath)
                    self._consts.append(float(value))
                else:
                    self._tables[side].append(np.ascontiguousarray(rows[id(v)].numpy()))
            at = self._kept[id(v)]
            if side is None:
                self._emit("scalar", register, n=at)
            else:
                self._emit("rowy" if side else "rowx", register, x=at, y=at)
        return self._where[id(v)]

    def _take(self, held: set[int]) -> int:
        """A free register, perhaps that of a number that can be loaded again."""
        if not self._free:
            spare = next((k for k in self._loaded if k not in held), None)
            if spare is None:
                raise BackendError("derivatives need more registers than there are")
            del self._loaded[spare]
            return self._where.pop(spare)
        return self._free.pop()

    def _emit(
        self,
        op: str,
        dst: int,
        a: int = 0,
        b: int = 0,
        c: int = 0,
        n: int = 0,
        x: int = 0,
        y: int = 0,
    ) -> None:
        self._code.append([CODES[op], dst, a, b, c, x, y, n])
