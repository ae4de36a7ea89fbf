"""Which values of a program have no negative correlation, whatever the data."""

from __future__ import annotations

from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules

__all__ = ["SIGNS", "all_nonnegative", "is_nonnegative", "nonnegative"]

SIGNS = Rules("signs of correlations")
"""Rules ``(walk, operation, *known) -> known``: whether no correlation behind it is negative."""


class _Signs(Pass[bool]):
    rules = SIGNS

    def repeat(self, op: ir.Repeat, x: bool) -> bool:
        # What is known after one turn either is true of every turn or hands on `x`.
        return self.run(op.body, x)


def all_nonnegative(walk: object, op: ir.Op, *known: bool) -> bool:
    """The rule of operations that add and multiply: signs stay."""
    return all(known)


def nonnegative(ops: tuple[ir.Op, ...], start: bool = False) -> bool:
    """Whether no correlation behind ``ops`` is negative; ``start`` says it of value 0.

    Examples
    --------
    >>> from kernreg import nn
    >>> ops = nn.serial(nn.Dense(), nn.Relu(), nn.Dense()).program().ops
    >>> nonnegative(ops[:2]), nonnegative(ops)
    (False, True)
    """
    return _Signs().run(ops, start)


def is_nonnegative(op: ir.Op, *known: bool) -> bool:
    """The same for one operation."""
    return _Signs().step(op, list(known), [])
