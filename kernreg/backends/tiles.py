"""Translate a program and two sets of rows for the virtual machine of the cpu backend.

The instructions depend on the structure of the program only; what depends on data and
hyperparameters goes into tables (one number per row) and constants.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.analysis import Analysis
from kernreg.backends.distinct import Distinct
from kernreg.backends.liveness import dense_behind, last_uses
from kernreg.backends.primitives import write_primitives
from kernreg.backends.signs import nonnegative
from kernreg.exceptions import BackendError
from kernreg.ir import program as ir
from kernreg.ir.pair import Dual
from kernreg.ir.trace import DualCode, evaluate, trace_dual
from kernreg.numerics.angle import AngleSeries
from kernreg.numerics.hermite import hermite_coefficients, parity
from kernreg.numerics.torchmath import TorchMath

__all__ = ["NONNEGATIVE", "POSITIVE", "Machine", "TileProgram", "translate"]

T = TypeVar("T")
U = TypeVar("U")

NONNEGATIVE, POSITIVE = 1, 2
"""Flags of a dual's instruction: no correlation behind it, or before it, is negative."""

_LOOPS = 8
"""Loops inside loops that the virtual machine has room for."""

_LARGE = 1e9
"""Standard deviations whose inverse squares leave too little room in float32."""

_STATES = 8
"""States of pairs that may be alive at once; the other registers hold temporaries."""


@dataclass(frozen=True)
class Machine:
    """What a backend offers: operation codes, and duals that it has compiled.

    ``number`` is that of a nonlinearity with the given code, or None. With ``peels`` the first turn
    of a loop is written on its own where it alone meets negative correlations.
    """

    ops: dict[str, int]
    number: Callable[[Dual, DualCode], int | None]
    registers: int
    peels: bool = False


@dataclass(frozen=True)
class TileProgram:
    """Everything the tile engine needs besides the data."""

    code: NDArray[np.int32]
    consts: NDArray[np.float64]
    tables: tuple[NDArray[np.floating], NDArray[np.floating]]
    rows: tuple[R.Row, R.Row]


@dataclass
class _State:
    """A value of the program: its state number in the machine, and its rows on both sides."""

    slot: int
    rows: tuple[R.Row, R.Row]


@dataclass
class _Translator:
    """Walks the program once per loop turn; instructions are written in the first turn only."""

    params: tuple[float, ...]
    machine: Machine
    analysis: Analysis
    dtype: np.dtype
    distinct: Distinct
    code: list[list[int]] = field(default_factory=list)
    consts: list[float] = field(default_factory=list)
    tables: tuple[list[NDArray], list[NDArray]] = field(default_factory=lambda: ([], []))
    used: set[int] = field(default_factory=set)
    writing: bool = True
    loops: int = 0
    outside: bool = False

    def emit(
        self, op: str | int, dst: int = 0, a: int = 0, b: int = 0, c: int = 0, n: int = 0
    ) -> list[int]:
        """Append an instruction; tables that are added next belong to it."""
        number = op if isinstance(op, int) else self.machine.ops[op]
        instruction = [number, dst, a, b, c, len(self.tables[0]), len(self.tables[1]), n]
        if self.writing:
            self.code.append(instruction)
        return instruction

    def constants(self, values: list[float]) -> int:
        """Append constants and say where they begin."""
        if self.writing:
            self.consts += [float(v) for v in values]
        return len(self.consts) - len(values)

    def table(self, side: int, values: Tensor) -> None:
        """Append a table of one side."""
        with np.errstate(over="ignore"):
            found = self.distinct.all(values, side).numpy().astype(self.dtype)
        self.outside = self.outside or not bool(np.isfinite(found).all())
        self.tables[side].append(found)

    def new_state(self) -> int:
        """A free state number."""
        for slot in range(_STATES):
            if slot not in self.used:
                self.used.add(slot)
                return slot
        raise BackendError(
            f"the network has more than {_STATES} branches alive at once; use backend='reference'"
        )

    def run(
        self, ops: tuple[ir.Op, ...], start: _State, first: int = 0, positive: bool = False
    ) -> _State:
        """Translate ``ops`` from operation ``first`` on; ``start`` is the value before it.

        ``positive`` says that no correlation of value 0 is negative.
        """
        signs = nonnegative(ops, positive)
        values: dict[int, _State] = {first: start}
        last = last_uses(ops)
        i = first + 1
        while i < len(ops):
            op = ops[i]
            follower = dense_behind(ops, i)
            done = [x for x in ir.inputs(op) if last[x] <= i]
            if isinstance(op, ir.Repeat):
                result = self.repeat(op, values[op.x], last[op.x] > i, signs[op.x])
            else:
                args = [values[x] for x in ir.inputs(op)]
                free = [values[x].slot for x in done]
                result = self.step(op, args, free, follower, signs[ir.inputs(op)[0]])
            for x in done:
                if values[x].slot != result.slot:
                    self.used.discard(values[x].slot)
            i += 2 if follower is not None and self._fuses(op) else 1
            values[i - 1] = result
        return values[len(ops) - 1]

    def step(
        self,
        op: ir.Op,
        args: list[_State],
        free: list[int],
        follower: ir.Dense | None,
        positive: bool,
    ) -> _State:
        """Translate one operation."""
        match op:
            case ir.Normalize():
                eps = self.params[op.eps]
                slot = free[0] if free else self.new_state()
                if slot != args[0].slot:
                    self.copy(args[0].slot, slot)
                return _State(slot, _both(lambda r: R.normalize_row(r, eps), args[0].rows))
            case ir.Dense():
                return self.dense(op, args[0], free)
            case ir.Dropout():
                keep = self.params[op.keep]
                dst = free[0] if free else self.new_state()
                self.emit("dropout", dst, args[0].slot, c=self.constants([keep]))
                rows = _both(lambda r: R.Row(r.s / keep**0.5, r.tau), args[0].rows)
                return _State(dst, rows)
            case ir.Apply():
                fused = follower if self._fuses(op) else None
                return self.apply(op, args[0], free, fused, positive)
            case ir.Sum():
                return self.sum(args, R.sum_weights(op, self.params))
            case ir.Product():
                return self.product(args)
            case _:
                raise TypeError(f"unexpected operation {op!r}")

    def dense(self, op: ir.Dense, x: _State, free: list[int]) -> _State:
        """A dense layer on its own."""
        dst = free[0] if free else self.new_state()
        self.emit("dense", dst, x.slot, b=int(op.b is not None), n=int(not op.plain))
        rows = self._dense_tables(op, x.rows)
        return _State(dst, rows)

    def _dense_tables(self, op: ir.Dense, rows: tuple[R.Row, R.Row]) -> tuple[R.Row, R.Row]:
        done = _both(lambda r: R.dense_row(r, op, self.params), rows)
        for side, (_, coefficients) in enumerate(done):
            for t in coefficients.tables():
                self.table(side, t)
        return _both(_first, done)

    def _fuses(self, op: ir.Op) -> bool:
        return isinstance(op, ir.Apply) and op.fn.closed_form and self._number(op.fn) is not None

    def _number(self, fn: Dual) -> int | None:
        return self.machine.number(fn, _code(fn))

    def apply(
        self,
        op: ir.Apply,
        x: _State,
        free: list[int],
        follower: ir.Dense | None,
        positive: bool,
    ) -> _State:
        """A nonlinearity, with the dense layer behind it where one instruction does both."""
        fn = R.bound(op, self.params)
        if fn.homogeneous is None:
            self.outside = self.outside or any(float(r.s.max()) > _LARGE for r in x.rows)
        after = _both(lambda r: R.apply_row(r, fn)[0], x.rows)
        dst = free[0] if free else self.new_state()
        if not fn.closed_form:
            self.series(op, fn, x, after, dst)
            return _State(dst, after)
        code = _code(op.fn)
        leaves = self._leaves(op, fn, x.rows, after)
        scalars = evaluate(code.scalars, leaves[0], TorchMath)
        number = self._number(op.fn)
        if number is None:
            spare = range(3 * _STATES, self.machine.registers)
            write_primitives(self, code, scalars, leaves, x.slot, dst, spare)
            return _State(dst, after)
        dense = 0 if follower is None else 1 + int(follower.b is not None)
        signs = NONNEGATIVE * bool(getattr(fn, "nonnegative", False)) + POSITIVE * positive
        start = self.constants(scalars)
        kind = self.machine.ops["dual"] + number
        self.emit(kind, dst, x.slot, b=dense, c=start, n=signs)
        for side, slots in enumerate((code.rows1, code.rows2)):
            for t in evaluate(slots, leaves[side], TorchMath):
                self.table(side, t)
        rows = after if follower is None else self._dense_tables(follower, after)
        return _State(dst, rows)

    def _leaves(
        self, op: ir.Apply, fn: Dual, rows: tuple[R.Row, R.Row], after: tuple[R.Row, R.Row]
    ) -> list[dict[str, Tensor]]:
        """Values of the leaves of a traced dual, for both sides."""
        shared = {
            f"p{i}": torch.tensor(self.params[s], dtype=torch.float64)
            for i, s in enumerate(op.slots)
        }
        if fn.homogeneous is not None:
            shared["norm"] = torch.tensor(1.0 / R.unit_moments(fn)[0], dtype=torch.float64)
        sides = [(r, q) for r, q in zip(rows, after, strict=True)]
        return [shared | {"s": r.s, "u": _inverse(q.s)} for r, q in sides]

    def series(
        self, op: ir.Apply, fn: Dual, x: _State, after: tuple[R.Row, R.Row], dst: int
    ) -> None:
        """A nonlinearity without closed form, by Hermite coefficients per row or in the angle."""
        expansion = self.analysis.expansions[id(op)]
        if expansion is None:
            raise BackendError(self.analysis.reason or "no series")
        if isinstance(expansion, AngleSeries):
            self.angles(fn, expansion, x, after, dst)
            return
        terms = expansion
        self.emit("series", dst, x.slot, c=self.constants([parity(fn)]), n=terms)
        found = _both(lambda r: hermite_coefficients(fn, r.s, terms).coefficients, x.rows)
        orders = torch.arange(terms, dtype=torch.float64)
        for side, (coefficients, row, out) in enumerate(zip(found, x.rows, after, strict=True)):
            inverse = _inverse(out.s)
            columns = coefficients * inverse[:, None]
            slope = (columns * columns) @ orders
            for column in [*columns.T, _share(R.apply_row(row, fn)[1], slope)]:
                self.table(side, column)

    def angles(
        self, fn: Dual, series: AngleSeries, x: _State, after: tuple[R.Row, R.Row], dst: int
    ) -> None:
        """A nonlinearity without closed form, by a series in the angle."""
        _, terms, nodes, _ = series.coefficients.shape
        start = self.constants([parity(fn), *series.coefficients.ravel().tolist()])
        self.emit("angles", dst, x.slot, b=nodes, c=start, n=terms)
        parallel = series.coefficients[1].sum(axis=0)  # all T_m are 1 at angle 0
        for side, (row, out) in enumerate(zip(x.rows, after, strict=True)):
            s, at = np.unique(row.s.numpy(), return_inverse=True)
            weights = series.weights(s)
            slope = torch.from_numpy(((weights @ parallel) * weights).sum(axis=1)[at])
            columns = np.concatenate([weights, weights @ series.embedding.T], axis=1)[at].T
            for column in columns * (out.s > 0).numpy():
                self.table(side, torch.from_numpy(column))
            self.table(side, _share(R.apply_row(row, fn)[1], slope))

    def sum(self, args: list[_State], weights: list[float]) -> _State:
        """A weighted sum, two branches at a time."""
        total, weight = self._own(args), weights[0]
        for other, w in zip(args[1:], weights[1:], strict=True):
            self.emit("sum", dst := self.new_state(), total.slot, other.slot)
            merge = partial(R.sum_row, weights=[weight, w])
            done = _both(merge, _by_side(total, other))
            for side, (_, shares) in enumerate(done):
                for share in shares:
                    self.table(side, share)
            if total is not args[0]:
                self.used.discard(total.slot)
            total, weight = _State(dst, _both(_first, done)), 1.0
        # The rows of all branches at once, so that the diagonal is `diag` to the last bit.
        done = _both(partial(R.sum_row, weights=weights), _by_side(*args))
        return _State(total.slot, _both(_first, done))

    def _own(self, args: list[_State]) -> _State:
        """The first argument; a copy of an only one, as its state may be needed again."""
        if len(args) > 1:
            return args[0]
        self.copy(args[0].slot, slot := self.new_state())
        return _State(slot, args[0].rows)

    def product(self, args: list[_State]) -> _State:
        """A product, two branches at a time."""
        total = self._own(args)
        for other in args[1:]:
            self.emit("product", dst := self.new_state(), total.slot, other.slot)
            if total is not args[0]:
                self.used.discard(total.slot)
            total = _State(dst, _both(R.product_row, _by_side(total, other)))
        return total

    def repeat(self, op: ir.Repeat, x: _State, keep: bool, positive: bool) -> _State:
        """A loop: its body once as instructions, its tables for every turn."""
        slot = x.slot
        if keep:
            slot = self.new_state()
            self.copy(x.slot, slot)
        state, count = _State(slot, x.rows), op.count
        later = nonnegative(op.body, positive)[-1]
        if self.machine.peels and later and not positive:
            state, count, positive = self.turn(op, state, False), count - 1, True
            if count == 0:
                return state
        self.loops += 1
        if self.loops > _LOOPS:
            raise BackendError(
                f"the network has loops more than {_LOOPS} deep; use backend='reference'"
            )
        head = self.emit("loop", n=count)
        before = [len(t) for t in self.tables]
        writing = self.writing
        for turn in range(count):
            state = self.turn(op, state, positive and later)
            if turn == 0:
                head[5:7] = [len(t) - k for t, k in zip(self.tables, before, strict=True)]
                self.emit("next")
            self.writing = False
        self.writing = writing
        self.loops -= 1
        return state

    def turn(self, op: ir.Repeat, x: _State, positive: bool) -> _State:
        """The body of a loop once; its result takes the place of its input."""
        state = self.run(op.body, x, positive=positive)
        if state.slot != x.slot:
            self.copy(state.slot, x.slot)
            self.used.discard(state.slot)
            self.used.add(x.slot)
            state.slot = x.slot
        return state

    def copy(self, source: int, target: int) -> None:
        """Copy a state."""
        for k in range(3):
            self.emit("copy", 3 * target + k, 3 * source + k)


_CODES: dict[tuple, DualCode] = {}


def _code(fn: Dual) -> DualCode:
    key = fn.structure()
    if key not in _CODES:
        _CODES[key] = trace_dual(fn)
    return _CODES[key]


def _both(rule: Callable[[T], U], sides: tuple[T, T]) -> tuple[U, U]:
    """``rule`` on both sides, only once where they are the same rows."""
    first = rule(sides[0])
    return first, (first if sides[1] is sides[0] else rule(sides[1]))


def _by_side(*states: _State) -> tuple[list[R.Row], list[R.Row]]:
    """The rows of several values; one list where both sides are the same rows."""
    first = [x.rows[0] for x in states]
    same = all(x.rows[0] is x.rows[1] for x in states)
    return first, first if same else [x.rows[1] for x in states]


def _inverse(s: Tensor) -> Tensor:
    """``1 / s``, and 0 where nothing is left of a row."""
    return torch.where(s < 1e-300, 0.0, 1.0 / s)


def _share(wanted: Tensor, found: Tensor) -> Tensor:
    """Root of the factor that makes the derivative of a row with itself what it is for rows."""
    return torch.where(found > 0, torch.sqrt(wanted / found), 1.0)


def _beyond_float32(row: R.Row) -> bool:
    """Whether products of standard deviations, or tangent kernels over them, are out of range."""
    s = row.s[row.s > 0]
    ends = [float(v) for v in torch.aminmax(s)] if len(s) else [1.0, 1.0]
    return ends[0] < 1e-17 or ends[1] > 1e17 or float(row.tau.max()) > 1e34


def _first(pair: tuple[T, Any]) -> T:
    return pair[0]


def _stack(tables: list[NDArray], n: int, dtype: np.dtype) -> NDArray:
    return np.stack(tables) if tables else np.zeros((0, n), dtype)


def translate(
    program: ir.Program,
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
    t = _Translator(program.params, machine, analysis, dtype, distinct)
    state, done = _State(t.new_state(), (distinct.row, distinct.row)), 0
    n1, n2 = (len(r.s) for r in rows)
    if (segment := analysis.segment) is not None:
        state = t.run(program.ops[: segment.start + 1], state)
        c, done = segment.profile.coefficients, segment.end
        behind = segment.rows
        if distinct.first is not None:
            behind = R.Row(behind.s[distinct.first], behind.tau[distinct.first])
        state = _State(state.slot, (behind, behind))
        t.emit("profile", state.slot, state.slot, c=t.constants([*c[0], *c[1]]), n=c.shape[1])
    state = t.run(program.ops, state, done)
    if state.slot != 0:
        t.copy(state.slot, 0)
    if dtype == np.float32 and (t.outside or _beyond_float32(state.rows[0])):
        return translate(program, rows, machine, analysis, np.dtype(np.float64))
    return TileProgram(
        code=np.array(t.code, dtype=np.int32).reshape(-1, 8),
        consts=np.array(t.consts, dtype=np.float64),
        tables=(_stack(t.tables[0], n1, dtype), _stack(t.tables[1], n2, dtype)),
        rows=(distinct.rows(state.rows[0], 0), distinct.rows(state.rows[1], 1)),
    )
