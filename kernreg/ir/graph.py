"""Expressions as graphs, in which every node knows what it depends on: constants and run-time
parameters only, one row, the other row, or the pair."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

__all__ = [
    "PAIR",
    "PARAM",
    "ROW1",
    "ROW2",
    "Graph",
    "Value",
    "evaluate",
    "reachable",
]

PARAM, ROW1, ROW2, PAIR = 0, 1, 2, 4

_FOLD: dict[str, Callable[..., float]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "sqrt": math.sqrt,
    "exp": math.exp,
    "expm1": math.expm1,
    "abs": abs,
    "min": min,
    "max": max,
}


@dataclass(frozen=True, eq=False)
class Value:
    """A node of a traced expression."""

    graph: Graph
    op: str
    args: tuple[Value, ...]
    level: int
    number: float | str | None = None

    # Arithmetic builds new nodes; comparisons build conditions for ``where``.
    def __add__(self, other: Any) -> Value:
        return self.graph.add(self, other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Value:
        return self.graph.sub(self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.graph.sub(other, self)

    def __mul__(self, other: Any) -> Value:
        return self.graph.mul(self, other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Value:
        return self.graph.div(self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.graph.div(other, self)

    def __neg__(self) -> Value:
        return self.graph.mul(self, -1.0)

    def __pow__(self, power: int) -> Value:
        if not isinstance(power, int) or power < 0:
            raise TypeError(f"a traced value takes whole powers only, found {power!r}")
        out: Value = self.graph.const(1.0)
        for _ in range(power):
            out = out * self
        return out

    def __gt__(self, other: Any) -> Value:
        return self.graph.node("gt", self, other)

    def __lt__(self, other: Any) -> Value:
        return self.graph.node("gt", other, self)

    def __ge__(self, other: Any) -> Value:
        return self.graph.node("ge", self, other)

    def __le__(self, other: Any) -> Value:
        return self.graph.node("ge", other, self)

    def __bool__(self) -> bool:
        raise TypeError("a dual must not branch on values: use xp.where(condition, a, b)")


class Graph:
    """Nodes, each made once; doubles as the ``xp`` that a dual is traced with."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[Any, ...], Value] = {}
        self._order: dict[int, int] = {}

    def _make(self, op: str, args: tuple[Value, ...], level: int, number: Any = None) -> Value:
        key = (op, tuple(id(a) for a in args), level, number)
        if key not in self._nodes:
            value = Value(self, op, args, level, number)
            self._nodes[key] = value
            self._order[id(value)] = len(self._order)
        return self._nodes[key]

    def in_order(self, values: Iterable[Value]) -> list[Value]:
        """Nodes as they were made, each after its arguments."""
        return sorted(values, key=lambda v: self._order[id(v)])

    def leaf(self, name: str, level: int) -> Value:
        """A named input."""
        return self._make("leaf", (), level, name)

    def many(self, op: str, args: tuple[Value, ...], count: int, number: int) -> tuple[Value, ...]:
        """An operation per entry that has several results."""
        whole = self._make(op, args, PAIR, number)
        return tuple(self._make("part", (whole,), PAIR, k) for k in range(count))

    def const(self, number: float) -> Value:
        """A literal number."""
        return self._make("const", (), PARAM, float(number))

    def lift(self, x: Any) -> Value:
        """``x`` itself, or a literal."""
        return x if isinstance(x, Value) else self.const(x)

    def node(self, op: str, *args: Any) -> Value:
        """An operation, folded if all of it is literal."""
        values = tuple(self.lift(a) for a in args)
        if op in _FOLD and all(v.op == "const" for v in values):
            return self.const(_FOLD[op](*(v.number for v in values)))
        level = 0
        for v in values:
            level |= v.level
        return self._make(op, values, PAIR if level not in (PARAM, ROW1, ROW2) else level)

    def add(self, a: Any, b: Any) -> Value:
        a, b = self.lift(a), self.lift(b)
        if a.number == 0.0:
            return b
        if b.number == 0.0:
            return a
        return self.node("add", a, b)

    def sub(self, a: Any, b: Any) -> Value:
        a, b = self.lift(a), self.lift(b)
        return a if b.number == 0.0 else self.node("sub", a, b)

    def mul(self, a: Any, b: Any) -> Value:
        """A product, its factors sorted by what they depend on so that rows can be hoisted."""
        factors = sorted(
            self._factors(self.lift(a)) + self._factors(self.lift(b)),
            key=lambda v: (v.level, self._order[id(v)]),
        )
        numbers = [f.number for f in factors if f.op == "const"]
        literal = math.prod(n for n in numbers if isinstance(n, float))
        if literal == 0.0:
            return self.const(0.0)
        groups: list[Value] = [] if literal == 1.0 else [self.const(literal)]
        for level in (PARAM, ROW1, ROW2, PAIR):
            group = [f for f in factors if f.level == level and f.op != "const"]
            if not group:
                continue
            product = group[0]
            for f in group[1:]:
                product = self.node("mul", product, f)
            groups.append(product)
        if not groups:
            return self.const(1.0)
        out = groups[0]
        for g in groups[1:]:
            out = self.node("mul", out, g)
        return out

    def _factors(self, v: Value) -> list[Value]:
        """Factors by level; a product within one level stays as it was written, for its range."""
        if v.op == "mul" and _mixed(v):
            return self._factors(v.args[0]) + self._factors(v.args[1])
        return [v]

    def div(self, a: Any, b: Any) -> Value:
        a, b = self.lift(a), self.lift(b)
        if b.level == PAIR:
            return self.node("div", a, b)
        return self.mul(a, self.node("div", 1.0, b))

    def sqrt(self, x: Any) -> Value:
        return self.node("sqrt", x)

    def exp(self, x: Any) -> Value:
        return self.node("exp", x)

    def expm1(self, x: Any) -> Value:
        return self.node("expm1", x)

    def abs(self, x: Any) -> Value:
        return self.node("abs", x)

    def minimum(self, a: Any, b: Any) -> Value:
        return self.node("min", a, b)

    def maximum(self, a: Any, b: Any) -> Value:
        return self.node("max", a, b)

    def where(self, condition: Value, a: Any, b: Any) -> Value:
        return self.node("where", condition, a, b)

    def arc(self, gap: Any) -> Value:
        return self.node("arc", gap)

    def lune(self, gap: Any) -> Value:
        return self.node("lune", gap)

    def asin(self, x: Any) -> Value:
        return self.node("asin", x)


def _mixed(v: Value) -> bool:
    """Whether a number per entry is a product with numbers per row, or with numbers alone."""
    return v.op == "mul" and v.level == PAIR and any(a.level != PAIR or _mixed(a) for a in v.args)


def reachable(values: Iterable[Value]) -> list[Value]:
    """All nodes below ``values``, arguments first."""
    seen: dict[int, Value] = {}
    waiting = list(reversed(list(values)))
    while waiting:
        v = waiting[-1]
        later = [a for a in v.args if id(a) not in seen]
        if id(v) in seen or not later:
            seen.setdefault(id(v), v)
            waiting.pop()
        else:
            waiting += reversed(later)
    return list(seen.values())


def evaluate(values: tuple[Value, ...], leaves: dict[str, Any], xp: Any) -> list[Any]:
    """Work out slots with the numbers or tensors of ``leaves``.

    Parameters
    ----------
    values : tuple of Value
        Slots of a :class:`DualCode`.
    leaves : dict
        Value of every leaf by name, of those of the second row by name and a prime if that differs.
    xp : module
        Functions for the primitives, see :class:`kernreg.numerics.torchmath.TorchMath`.

    Returns
    -------
    list
        One entry per slot.
    """
    done: dict[int, Any] = {}
    for v in reachable(values):
        args = [done[id(a)] for a in v.args]
        match v.op:
            case "const":
                done[id(v)] = v.number
            case "leaf":
                name = str(v.number)
                done[id(v)] = leaves.get(f"{name}'" if v.level == ROW2 else name, leaves[name])
            case "add":
                done[id(v)] = args[0] + args[1]
            case "sub":
                done[id(v)] = args[0] - args[1]
            case "mul":
                done[id(v)] = args[0] * args[1]
            case "div":
                done[id(v)] = args[0] / args[1]
            case "gt":
                done[id(v)] = args[0] > args[1]
            case "ge":
                done[id(v)] = args[0] >= args[1]
            case "min":
                done[id(v)] = xp.minimum(*args)
            case "max":
                done[id(v)] = xp.maximum(*args)
            case _:
                done[id(v)] = getattr(xp, v.op)(*args)
    return [done[id(v)] for v in values]
