"""Row passes of small problems: recorded once for a program, and run again without Python.

The rules of a row pass are written with torch. For a few rows nearly all of its time goes into
calls; so they are noted while they run, and what remains to be done for other rows is a list of
elementwise steps, which the C++ extension rounds as torch does; functions that it would not give
to the last bit are called from torch as before. What a rule asks of its rows (``bool(...)``)
becomes a guard: where it turns out otherwise, the recording does not apply.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from kernreg.backends.analysis import Analysis, near_gap
from kernreg.backends.distinct import Distinct
from kernreg.backends.rows import Row
from kernreg.backends.tiles import Machine, State, Translator
from kernreg.ir import operations as ir
from kernreg.ir.program import Program

__all__ = ["NotRecordable", "Recording", "record"]

_NAMES = {"__eq__": "eq", "__radd__": "add", "__rmul__": "mul", "true_divide": "div"}
_SAME = {"as_tensor", "expand_as", "to", "contiguous", "clone"}
_CALLED = {
    "asin",
    "erf",
    "exp",
    "expm1",
    "log",
    "log1p",
    "pow",
    "sigmoid",
    "sin",
    "cos",
    "sqrt",
    "tanh",
}
_LIKE = {"ones_like", "zeros_like", "full_like", "new_tensor", "new_zeros", "new_full"}


_Place = tuple[str, int]
"""A value by the step that made it, the start being step 0, or a number."""


class NotRecordable(Exception):
    """A rule asks more of its rows than a recording can hold."""


@dataclass(frozen=True)
class _Part:
    """Steps, and a function of torch on registers (whole numbers) and numbers behind them."""

    steps: NDArray[np.int32]
    function: Callable[..., Tensor]
    inputs: tuple[int | float, ...]
    to: int


_NO_GUARDS = np.empty((0, 3), dtype=np.int32)


@dataclass(frozen=True)
class Recording:
    """A row pass and the translation that belongs to it.

    ``outputs`` are the registers of the tables of each side, of ``s`` and ``tau`` behind the
    program. ``heads`` are the ranges of tables that the first two operations read, and ``flops``
    those of an entry.
    """

    code: NDArray[np.int32]
    constants: NDArray[np.float64]
    near: float
    flops: int
    tables: tuple[int, int]
    heads: tuple[tuple[int, int], ...]
    numbers: NDArray[np.float64]
    parts: tuple[_Part, ...]
    steps: NDArray[np.int32]
    guards: NDArray[np.int32]
    outputs: NDArray[np.int32]
    registers: int

    def run(self, s: NDArray[np.float64], core: ModuleType) -> NDArray[np.float64] | None:
        """All outputs on rows, or None where a guard does not hold."""
        file = np.empty((self.registers, len(s)))
        count = len(self.numbers)
        file[:count] = self.numbers[:, None]
        file[count] = s
        for part in self.parts:
            core.run_rows(file, part.steps, _NO_GUARDS)
            inputs = (torch.from_numpy(file[v]) if isinstance(v, int) else v for v in part.inputs)
            part.function(*inputs, out=torch.from_numpy(file[part.to]))
        return file[self.outputs] if core.run_rows(file, self.steps, self.guards) else None


class _Recorder(TorchFunctionMode):
    """Notes what is done to rows, from their standard deviations at the start."""

    def __init__(self, start: Row, names: list[str]) -> None:
        super().__init__()
        self.codes = {name: k for k, name in enumerate(names)}
        self.steps: dict[tuple[Any, ...], int] = {}
        self.numbers: dict[float, int] = {}
        self.guards: dict[tuple[int, int, int], None] = {}
        self.kept: list[Any] = [start]  # so that no identity is used twice
        self.at: dict[int, _Place] = {id(start.s): ("value", 0)}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(id(a) in self.at for a in args) or any(
            isinstance(a, list | tuple) and any(id(v) in self.at for v in a) for a in args
        ):
            self._note(func.__name__, args, kwargs or {}, result)
        return result

    def place(self, value: Any) -> _Place:
        """What makes a value: a step, or a number."""
        if id(value) in self.at:
            if self.at[id(value)][0] != "value":
                raise NotRecordable("a truth of all rows is used as a number")
            return self.at[id(value)]
        if isinstance(value, Tensor):
            flat = value.detach().reshape(-1)
            if not bool((flat == flat[0]).all()):
                raise NotRecordable("a constant differs from row to row")
            value = flat[0]
        return "number", self.numbers.setdefault(float(value), len(self.numbers))

    def _note(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        if name == "__bool__":
            kind, number = self.at[id(args[0])]
            if kind == "value":
                raise NotRecordable("the truth of a single row is asked for")
            self.guards[number, int(kind == "all"), int(result)] = None
            return
        if not isinstance(result, Tensor):
            if name in ("__get__", "__len__", "dim", "size", "numel"):
                return
            raise NotRecordable(f"{name} of rows")
        if name in _LIKE or (name in _SAME and id(args[0]) not in self.at):
            return  # numbers of the shape of rows
        self.kept.append(result)
        if name in _SAME:
            self.at[id(result)] = self.at[id(args[0])]
        elif name in ("all", "any") and len(args) == 1 and not kwargs:
            kind, number = self.place(args[0])
            self.at[id(result)] = (name, number)
        else:
            self.at[id(result)] = ("value", self._step(name, args, kwargs))

    def _step(self, name: str, args: Any, kwargs: Any) -> int:
        if kwargs:
            raise NotRecordable(f"{name} with {', '.join(kwargs)}")
        if name == "__rsub__":
            name, args = "sub", args[::-1]
        if name == "__rdiv__":  # which torch does in two steps
            inverse = self._made(self.codes["div"], self.place(1.0), self.place(args[0]))
            return self._made(self.codes["mul"], ("value", inverse), self.place(args[1]))
        name = _NAMES.get(name, name)
        if name == "pow" and args[1] in (1, 2):
            name, args = "mul", (args[0], args[0] if args[1] == 2 else 1.0)
        if name not in self.codes and name not in _CALLED:
            raise NotRecordable(f"there is no step for {name}")
        code = getattr(torch, name) if name in _CALLED else self.codes[name]
        return self._made(code, *(self.place(a) for a in args))

    def _made(self, *step: Any) -> int:
        """The number of a step, which is taken once."""
        return self.steps.setdefault(step, len(self.steps) + 1)


def record(program: Program, row: Row, machine: Machine, names: list[str]) -> Recording:
    """Translate a program on rows and note what becomes of them.

    Parameters
    ----------
    program : Program
        Without positions; of nonlinearities with closed forms.
    row : Row
        Rows at the input.
    machine : Machine
        What the extension offers.
    names : list of str
        The steps that it knows.

    Raises
    ------
    NotRecordable
        If a rule does what no step does.
    BackendError
        If the program does not fit the machine.
    """
    if not all(op.fn.closed_form for op in ir.all_ops(program.ops) if isinstance(op, ir.Apply)):
        raise NotRecordable("a series depends on the range of standard deviations")
    dtype = np.dtype(np.float64)
    analysis = Analysis(dtype, near_gap(program, dtype))
    t = Translator(program.params, machine, analysis, dtype, Distinct(row, None, (None, None)))
    recorder = _Recorder(row, names)
    with recorder:
        state = t.run(program.ops, State(t.new_slot(), row))
    if state.slot != 0:
        t.copy(state.slot, 0)
    wanted = [*t.tables[0].blocks, *t.tables[1].blocks, state.row.s, state.row.tau]
    begins = [*(t.begins[id(op)] for op in program.ops[1:4]), len(t.tables[0])][:3]
    return Recording(
        _rows_of(t.code, 8),
        np.array(t.consts, dtype=np.float64),
        analysis.near,
        program.flops(),
        (len(t.tables[0]), len(t.tables[1])),
        tuple(itertools.pairwise(begins)),
        *_allocated(recorder, [recorder.place(v) for v in wanted]),
    )


def _allocated(recorder: _Recorder, wanted: list[_Place]) -> tuple[Any, ...]:
    """What a recording ends with, from its numbers on: a register in place of every value.

    A register is used again once its value is read no more.
    """
    count = len(recorder.numbers)
    kept = {*wanted, *(("value", g[0]) for g in recorder.guards)}
    last = {p: k for k, step in enumerate(recorder.steps) for p in step[1:]}
    last |= dict.fromkeys(kept, len(recorder.steps))
    where = {("number", k): k for k in range(count)} | {("value", 0): count}
    free: list[int] = []
    total, steps, parts, numbers = count + 1, [], [], list(recorder.numbers)
    for k, (code, *inputs) in enumerate(recorder.steps):
        made = ("value", k + 1)
        if made not in last:
            continue
        registers = [where[p] for p in inputs]
        free += [where[p] for p in dict.fromkeys(inputs) if p[0] == "value" and last[p] == k]
        # The start stays, and a step reads an entry before it writes one.
        free = [r for r in free if r > count]
        where[made] = free.pop() if free else total
        total = max(total, where[made] + 1)
        if isinstance(code, int):
            steps.append([code, where[made], *[*registers, 0, 0][:3]])
            continue
        given = tuple(where[p] if p[0] == "value" else numbers[p[1]] for p in inputs)
        parts.append(_Part(_rows_of(steps, 5), code, given, where[made]))
        steps = []
    return (
        np.array(numbers, dtype=np.float64),
        tuple(parts),
        _rows_of(steps, 5),
        _rows_of([[where["value", at], *rest] for at, *rest in recorder.guards], 3),
        np.array([where[p] for p in wanted], dtype=np.int32),
        total,
    )


def _rows_of(lists: list[list[int]], width: int) -> NDArray[np.int32]:
    return np.array(lists, dtype=np.int32).reshape(-1, width)
