"""Which values of a program have no negative correlation, whatever the data."""

from __future__ import annotations

from kernreg.ir import program as ir

__all__ = ["nonnegative"]


def nonnegative(ops: tuple[ir.Op, ...], start: bool = False) -> list[bool]:
    """For each value whether no correlation of it is negative; ``start`` says it of value 0.

    Examples
    --------
    >>> from kernreg import nn
    >>> nonnegative(nn.serial(nn.Dense(), nn.Relu(), nn.Dense()).program().ops)
    [False, False, True, True]
    """
    found = [start]
    for op in ops[1:]:
        known = [found[x] for x in ir.inputs(op)]
        match op:
            case ir.Apply():
                found.append(bool(getattr(op.fn, "nonnegative", False)))
            case ir.Repeat():
                # What is known after one turn either is true of every turn or hands on `start`.
                found.append(nonnegative(op.body, known[0])[-1])
            case _:
                found.append(all(known))
    return found
