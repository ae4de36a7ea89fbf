"""One walk over programs for all passes.

A pass is a :class:`Pass` whose table of :class:`Rules` says what each kind of operation makes of
the values before it. The fold numbers the values, forgets those that nothing reads any more, and
turns loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from kernreg.exceptions import UnknownOperationError
from kernreg.ir.operations import Op, Repeat

__all__ = ["Pass", "Rules"]

V = TypeVar("V")
Rule = Callable[..., Any]


class Rules:
    """What a pass does with each kind of operation.

    Parameters
    ----------
    name : str
        What the pass finds out, for errors.

    Examples
    --------
    >>> from kernreg.ir.operations import Dense, Normalize
    >>> widths = Rules("the width")
    >>> @widths.of(Dense)
    ... def dense(walk, op, x):
    ...     return x + 1
    >>> widths.find(Dense(0, 0))(None, Dense(0, 0), 1)
    2
    >>> widths.find(Normalize(0, 0, label="LayerNorm()"))  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
        ...
    kernreg.exceptions.UnknownOperationError: LayerNorm(): there is no rule for what normalize does
    to the width; there are rules for Dense. Leave that layer out, or add a rule.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._rules: dict[Any, Rule] = {}

    def of(self, *kinds: Any) -> Callable[[Rule], Rule]:
        """Register a rule ``(pass, operation, *values before it) -> value``."""

        def register(rule: Rule) -> Rule:
            self._rules.update(dict.fromkeys(kinds, rule))
            return rule

        return register

    def find(self, op: Op) -> Rule:
        """The rule for an operation.

        Raises
        ------
        UnknownOperationError
            If there is none.
        """
        if type(op) not in self:
            kind = type(op).__name__.lower()
            known = sorted(k.__name__ for k in self._rules if isinstance(k, type))
            raise UnknownOperationError(
                f"{op.label or repr(op)}: there is no rule for what {kind} does to {self.name}; "
                f"there are rules for {', '.join(known)}. Leave that layer out, or add a rule."
            )
        return self[type(op)]

    def __getitem__(self, kind: Any) -> Rule:
        if kind not in self:
            raise UnknownOperationError(f"there is no rule of {self.name} for {kind!r}")
        return self._rules[kind]

    def __contains__(self, kind: Any) -> bool:
        return kind in self._rules


class Pass(Generic[V]):
    """A pass over programs; subclasses hold what it needs and what it finds."""

    rules: ClassVar[Rules]

    def run(
        self, ops: tuple[Op, ...], start: V, first: int = 0, last: dict[int, int] | None = None
    ) -> V:
        """The value behind ``ops``.

        Parameters
        ----------
        ops : tuple of Op
            A program or loop body.
        start : object
            Value of operation ``first``.
        first : int
            Where to begin; nothing behind it may read what comes before.
        last : dict, optional
            The last operation that reads each value, if it is known from an earlier turn.
        """
        last = _last_uses(ops) if last is None else last
        values = {first: start}
        for i in range(first + 1, len(ops)):
            op = ops[i]
            xs = [values[x] for x in op.inputs]
            done = [values.pop(x) for x in dict.fromkeys(op.inputs) if last[x] <= i]
            values[i] = self.step(op, xs, done)
        return values[len(ops) - 1]

    def step(self, op: Op, xs: list[V], done: list[V]) -> V:
        """One operation on ``xs``, of which nothing else will read those ``done``."""
        if isinstance(op, Repeat) and Repeat not in self.rules:
            return self.repeat(op, xs[0])
        value: V = self.rules.find(op)(self, op, *xs)
        return value

    def repeat(self, op: Repeat, x: V) -> V:
        """All turns of a loop."""
        last = _last_uses(op.body)
        for _ in range(op.count):
            x = self.run(op.body, x, last=last)
        return x


def _last_uses(ops: tuple[Op, ...]) -> dict[int, int]:
    """For each value the last operation that reads it; the result is read after the end."""
    last = dict.fromkeys(range(len(ops)), -1)
    for i, op in enumerate(ops):
        for x in op.inputs:
            last[x] = i
    last[len(ops) - 1] = len(ops)
    return last
