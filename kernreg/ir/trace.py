"""Record a dual as straight-line code.

A dual written with the primitives of ``xp`` is run once on values of a graph
(:mod:`kernreg.ir.graph`). Nodes of one row become tables that are computed per row; only the rest
is worked out per matrix entry.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

from kernreg.ir.graph import PAIR, PARAM, ROW1, ROW2, Graph, Value, reachable
from kernreg.ir.pair import Dual, Pair, normalised

__all__ = ["Code", "DualCode", "slots", "trace_dual"]

Values = tuple[Value, ...]


@dataclass(frozen=True)
class Code(ABC):
    """Straight-line code per matrix entry, with slots filled per row.

    Inputs are the leaves of level ``PAIR``.

    Parameters
    ----------
    scalars, rows1, rows2 : tuple of Value
        Slots: expressions of run-time parameters, of row 1 and of row 2.
    pairs : tuple of Value
        The operations per entry, each after its arguments.
    """

    scalars: Values
    rows1: Values
    rows2: Values
    pairs: Values

    @abstractmethod
    def outputs(self) -> list[Value]:
        """What the code works out."""

    def names(self) -> dict[int, str]:
        """Name of every operand by identity: slots, inputs, temporaries, literals."""
        names: dict[int, str] = {}
        for prefix, values in (("c", self.scalars), ("x", self.rows1), ("y", self.rows2)):
            names |= {id(v): f"{prefix}{i}" for i, v in enumerate(values)}
        names |= {id(v): f"v{i}" for i, v in enumerate(self.pairs)}
        for v in reachable(self.outputs()):
            if v.op == "const":
                names[id(v)] = repr(v.number)
            elif v.op == "leaf" and v.level == PAIR:
                names[id(v)] = str(v.number)
        return names

    @functools.cached_property
    def signature(self) -> str:
        """Text that is equal where the same code runs per entry."""
        names = self.names()
        lines = [
            f"{names[id(v)]}={v.op}({','.join(names[id(a)] for a in v.args)})" for v in self.pairs
        ]
        ends = [names[id(v)] for v in self.outputs()]
        slots = f"{len(self.scalars)},{len(self.rows1)},{len(self.rows2)}"
        return ";".join([*lines, *ends, slots])


@dataclass(frozen=True)
class DualCode(Code):
    """A dual as straight-line code.

    Inputs are the leaves ``rho`` and ``gap``; outputs are the correlation, gap and NTK factor of
    the normalised state behind the nonlinearity.

    Parameters
    ----------
    rho, gap, dot : Value
        Outputs.
    plain : Value
        ``rho`` without the formula of the gap, which is all that rows need that are not close.
    """

    rho: Value
    gap: Value
    dot: Value
    plain: Value

    @property
    def two_ways(self) -> bool:
        """Whether the formula of the gap is worth leaving out where it is not needed."""
        # Powers and kinks, which see no standard deviations, have it almost for nothing.
        return bool(self.rows1)

    def outputs(self) -> list[Value]:
        """Correlation, gap, factor, and the correlation without the formula of the gap."""
        return [self.rho, self.gap, self.dot, self.plain]


def slots(outputs: Iterable[Value]) -> tuple[Values, Values, Values, Values]:
    """The slots of code for ``outputs``, and its operations per entry: parts of a :class:`Code`."""
    outputs = list(outputs)
    nodes = reachable(outputs)
    pairs = tuple(v for v in nodes if v.level == PAIR and v.op != "leaf")
    used = {id(a) for v in pairs for a in v.args} | {id(v) for v in outputs}

    def level(wanted: int) -> Values:
        return tuple(v for v in nodes if v.level == wanted and id(v) in used and v.op != "const")

    return level(PARAM), level(ROW1), level(ROW2), pairs


def trace_dual(fn: Dual) -> DualCode:
    """Trace the dual of a nonlinearity.

    The result is normalised: with ``u_i = 1 / sqrt(kappa_ii)`` the outputs are ``kappa u_1 u_2``
    and ``kappa_dot s1 s2 u_1 u_2``. A homogeneous dual is taken at unit variance, where ``u_i`` is
    one number, the leaf ``norm = 1 / kappa(1)``.

    Parameters
    ----------
    fn : Dual
        A nonlinearity with a closed form.

    Returns
    -------
    DualCode

    Examples
    --------
    >>> from kernreg import nn
    >>> code = trace_dual(nn.Relu())
    >>> len(code.rows1), [v.op for v in code.pairs][:2]
    (0, ['gt', 'where'])
    """
    g = Graph()
    bound = fn.bind(tuple(g.leaf(f"p{i}", PARAM) for i in range(len(fn.parameters))))
    rho, gap_in = g.leaf("rho", PAIR), g.leaf("gap", PAIR)
    if fn.homogeneous is None:
        s1, s2 = g.leaf("s", ROW1), g.leaf("s", ROW2)
        scale = g.leaf("u", ROW1) * g.leaf("u", ROW2)
        pair = Pair(rho, gap_in, s1, s2)
        m = bound.dual(g, pair)
        dot = g.mul(m.kappa_dot, s1 * s2 * scale)
    else:
        scale = g.leaf("norm", PARAM)
        pair = Pair(rho, gap_in, g.const(1.0), g.const(1.0))
        m = bound.dual(g, pair)
        dot = g.mul(m.kappa_dot, scale)
    plain = g.mul(m.kappa, scale)
    out, gap = normalised(g, pair, m, plain)
    outputs = [out, dot, plain, g.lift(gap)]
    out, dot, plain, gap = outputs
    return DualCode(*slots(outputs), out, gap, dot, plain)
