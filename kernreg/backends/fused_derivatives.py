"""Derivatives by the C++ tile engine: the pass on values of a graph, written as primitives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg import config
from kernreg.backends.cpu import instruction_set, load_extension
from kernreg.backends.derivatives import (
    Derivatives,
    Differentiable,
    Tile,
    differentiated,
    over_scale,
)
from kernreg.backends.distinct import Distinct
from kernreg.backends.reference import NEAR, PairState
from kernreg.codegen.instructions import CODES
from kernreg.exceptions import BackendError
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.ir.trace import PAIR, ROW1, ROW2, Graph, Value, evaluate, reachable
from kernreg.numerics.torchmath import TorchMath

__all__ = ["FusedDerivatives", "derivatives_of"]

_MOST = 50_000
"""Instructions; a network with more of them is left to torch."""


@dataclass(frozen=True)
class _Symbolic(Derivatives):
    """The pass on values of a graph; numbers of rows become its leaves."""

    tables: dict[str, Tensor] = field(default_factory=dict)

    def sides(self, values: Tensor) -> tuple[Any, Any]:
        name = f"t{len(self.tables)}"
        self.tables[name] = values
        return self.xp.leaf(name, ROW1), self.xp.leaf(name, ROW2)

    def full(self, *values: Any) -> tuple[Any, ...]:
        return tuple(self.xp.lift(v) for v in values)

    def of_torch(self, fn: Dual, value: Callable[[], PairState]) -> PairState:
        raise BackendError(f"{fn!r} has no closed form")


class FusedDerivatives(Differentiable):
    """Derivatives of both sides' entries in one pass of the tile engine.

    Numbers of rows are worked out in float64, entries in the type that is asked for.

    Raises
    ------
    BackendError
        If the extension is not there, rows are on another device, or it cannot run the network.
    """

    def __init__(
        self,
        program: Program,
        X1: Tensor,
        X2: Tensor,
        kernel: str,
        sides: int = 1,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        core, missing = load_extension()
        if core is None or X1.device.type != "cpu":
            raise BackendError(missing or "the tile engine computes on the CPU only")
        super().__init__(program, X1, X2, kernel, sides)
        self._dtype = np.float32 if dtype == torch.float32 else np.float64
        self._fill = core.fill
        distinct = Distinct.of(*self.rows)
        graph = Graph()
        run = _Symbolic(program.params, distinct, graph)
        zero = graph.const(0.0)
        pair = PairState(graph.leaf("rho", PAIR), graph.leaf("gap", PAIR), zero)
        out = differentiated(run, program, pair, distinct, graph.const(1.0), zero, sides)
        product, *squares = (graph.lift(v) for v in over_scale(run, pair, distinct, out, kernel))
        leaves = {side: _of_side(run.tables, distinct, side) for side in (0, 1)}
        pairs = [(product, squares[0]), *((square, zero) for square in squares[1:])]
        self._code = [_Writer(core.REGISTERS, leaves).write(*both) for both in pairs]
        ratio = out.row.s / distinct.row.s
        self._scales = [self._as_dtype(distinct.all(ratio, k).numpy()) for k in (0, 1)]
        self._arrays = [self._as_dtype(unit.numpy()) for unit in self.units]
        self._code = [
            (code, consts, [self._as_dtype(t) for t in tables])
            for code, consts, tables in self._code
        ]

    def _as_dtype(self, values: NDArray[np.float64]) -> NDArray[Any]:
        return np.ascontiguousarray(values, dtype=self._dtype)

    def tile(self, rows: slice, columns: slice) -> Tile:
        """Derivatives of the entries of some rows and columns."""
        i0, i1, _ = rows.indices(len(self._arrays[0]))
        j0, j1, _ = columns.indices(len(self._arrays[1]))
        found: list[Tensor] = []
        for k, (code, consts, tables) in enumerate(self._code):
            first, second = (np.empty((i1 - i0, j1 - j0), self._dtype) for _ in range(2))
            self._fill(
                instruction_set(),
                self._arrays[0],
                tables[0],
                self._scales[0],
                self._arrays[1],
                tables[1],
                self._scales[1],
                False,
                NEAR,
                code,
                consts,
                first,
                second,
                self._scales[0],
                self._scales[0],
                [i0, i1, j0, j1],
                config.num_threads(),
            )
            found += [torch.from_numpy(first), torch.from_numpy(second)][: 2 - k]
        return Tile(found[0], found[1:])


def derivatives_of(
    program: Program,
    X1: Tensor,
    X2: Tensor,
    kernel: str,
    sides: int = 1,
    dtype: torch.dtype = torch.float64,
) -> Differentiable:
    """Derivatives by the tile engine where it can, else by torch, which takes float64."""
    try:
        return FusedDerivatives(program, X1, X2, kernel, sides, dtype)
    except BackendError:
        return Differentiable(program, X1, X2, kernel, sides)


def _of_side(tables: dict[str, Tensor], distinct: Distinct, side: int) -> dict[str, Tensor]:
    return {name: distinct.all(values, side) for name, values in tables.items()}


class _Writer:
    """Instructions of the virtual machine for two values of a graph."""

    def __init__(self, registers: int, leaves: dict[int, dict[str, Tensor]]) -> None:
        self._leaves = leaves
        self._free = list(range(registers - 1, 2, -1))
        self._code: list[list[int]] = []
        self._consts: list[float] = []
        self._tables: tuple[list[NDArray[np.float64]], ...] = ([], [])
        self._where: dict[int, int] = {}
        # Numbers of rows and constants that are in registers, and where these stand for good.
        self._loaded: dict[int, None] = {}
        self._kept: dict[int, int] = {}

    def write(
        self, first: Value, second: Value
    ) -> tuple[NDArray[np.int32], NDArray[np.float64], list[NDArray[np.float64]]]:
        """Code, constants and tables that leave the values where both kernels are read."""
        needed = [v for v in reachable((first, second)) if v.level == PAIR and v.op != "leaf"]
        # Layer by layer, so that few values are alive at once.
        steps = first.graph.in_order(needed)
        if len(steps) > _MOST:
            raise BackendError("the network is too deep for derivatives in one pass")
        last = {id(a): k for k, v in enumerate(steps) for a in v.args}
        last |= {id(first): len(steps), id(second): len(steps)}
        rows = self._rows(steps, (first, second))
        for k, v in enumerate(steps):
            held = {id(a) for a in v.args}
            inputs = [self._operand(a, rows, held) for a in v.args]
            for a in {id(a): a for a in v.args}.values():
                if last[id(a)] == k and id(a) in self._where:
                    self._free.append(self._where.pop(id(a)))
                    self._loaded.pop(id(a), None)
            self._where[id(v)] = self._take(held)
            self._emit(v.op, self._where[id(v)], *[*inputs, 0, 0][:3])
        held = {id(first), id(second)}
        ends = [self._operand(v, rows, held) for v in (first, second)]
        self._emit("copy", kept := self._take(held), ends[1])
        self._emit("copy", 0, ends[0])
        self._emit("copy", 2, kept)
        lengths = [len(next(iter(self._leaves[side].values()))) for side in (0, 1)]
        tables = [
            np.stack(t) if t else np.zeros((0, n))
            for t, n in zip(self._tables, lengths, strict=True)
        ]
        code = np.array(self._code, dtype=np.int32).reshape(-1, 8)
        return code, np.array(self._consts, dtype=np.float64), tables

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
