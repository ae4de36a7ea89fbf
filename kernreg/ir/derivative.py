"""Derivatives of a traced dual, made from its graph node by node.

By Price's theorem the derivative of ``kappa`` by the covariance is ``kappa_dot``, which every dual
has; what is made here are those of ``kappa_dot`` by the correlation, and of both by the standard
deviations.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from kernreg.ir.graph import PAIR, ROW1, ROW2, Value, reachable
from kernreg.ir.pair import Dual
from kernreg.ir.trace import Code, DualCode, slots, trace_dual

__all__ = ["Slopes", "SlopesCode", "slopes", "tangents"]


@dataclass(frozen=True)
class Slopes:
    """A dual and its derivatives, as values of one graph.

    Parameters
    ----------
    code : DualCode
        The dual.
    dot_rho : Value
        Derivative of ``dot`` by ``rho``. Where two rows are equal a kink's own part is left out:
        it has no derivative there.
    rho_log, dot_log : tuple of Value
        Derivatives of ``rho`` and ``dot`` by the logarithms of both standard deviations; empty
        where the dual is homogeneous and does not depend on them. The leaf ``growth`` is the
        derivative of the logarithm of the standard deviation behind by that before.
    """

    code: DualCode
    dot_rho: Value
    rho_log: tuple[Value, ...]
    dot_log: tuple[Value, ...]

    @functools.cached_property
    def straight(self) -> SlopesCode:
        """All of it as straight-line code."""
        c = self.code
        values = (c.rho, c.gap, c.dot, self.dot_rho, *self.rho_log, *self.dot_log)
        return SlopesCode(*slots(values), values)


@dataclass(frozen=True)
class SlopesCode(Code):
    """A dual and its derivatives as straight-line code.

    Parameters
    ----------
    values : tuple of Value
        Correlation, gap and factor behind; the derivative of the factor by the correlation; where
        there are any, those of correlation and factor by both standard deviations' logarithms.
    """

    values: tuple[Value, ...]

    def outputs(self) -> list[Value]:
        """The same as a list."""
        return list(self.values)


@functools.lru_cache(maxsize=256)
def slopes(fn: Dual) -> Slopes:
    """Derivatives of the dual of a nonlinearity with a closed form.

    Examples
    --------
    >>> from kernreg import nn
    >>> slopes(nn.Relu()).rho_log, len(slopes(nn.Erf()).rho_log)
    ((), 2)
    """
    code = trace_dual(fn)
    graph = code.rho.graph
    rho, gap = graph.leaf("rho", PAIR), graph.leaf("gap", PAIR)
    turned = graph.where(rho > 0.0, -1.0, 1.0)  # what a correlation does to its gap
    (dot_rho,) = tangents((code.dot,), {id(rho): graph.const(1.0), id(gap): turned})
    rho_log, dot_log = [], []
    for level in (ROW1, ROW2) if fn.homogeneous is None else ():
        s, u, growth = (graph.leaf(name, level) for name in ("s", "u", "growth"))
        seeds = {id(s): s, id(u): -1.0 * growth * u}
        by_rho, by_dot = tangents((code.plain, code.dot), seeds)
        rho_log.append(by_rho)
        dot_log.append(by_dot)
    return Slopes(code, dot_rho, tuple(rho_log), tuple(dot_log))


def tangents(values: tuple[Value, ...], seeds: dict[int, Value]) -> list[Value]:
    """Derivatives of ``values`` in the direction in which leaves change by ``seeds``.

    Parameters
    ----------
    values : tuple of Value
        Of one graph.
    seeds : dict
        Derivatives of leaves, by ``id``; others do not change.

    Returns
    -------
    list of Value
    """
    graph = values[0].graph
    zero = graph.const(0.0)
    found: dict[int, Value] = {}
    for v in reachable(values):
        if id(v) in seeds:
            found[id(v)] = seeds[id(v)]
            continue
        changes = [found[id(a)] for a in v.args]
        still = all(c is zero for c in changes)
        found[id(v)] = zero if still or v.op in ("gt", "ge") else _RULES[v.op](graph, v, *changes)
    return [found[id(v)] for v in values]


def _quotient(g: Any, v: Value, da: Value, db: Value) -> Value:
    return g.div(g.sub(da, g.mul(v, db)), v.args[1])


def _root(g: Any, v: Value, da: Value) -> Value:
    """Where nothing is under the root, nothing changes it."""
    return g.mul(da, g.where(v > 0.0, g.div(0.5, g.maximum(v, 1e-300)), 0.0))


def _arc(g: Any, v: Value, da: Value) -> Value:
    """``1 / sin`` of the angle; left out at angle 0, where the angle has a kink."""
    gap = v.args[0]
    sine = g.sqrt(gap * (2.0 - gap))
    return g.mul(da, g.where(sine > 0.0, g.div(1.0, g.maximum(sine, 1e-300)), 0.0))


_RULES: dict[str, Any] = {
    "add": lambda g, v, da, db: g.add(da, db),
    "sub": lambda g, v, da, db: g.sub(da, db),
    "mul": lambda g, v, da, db: g.add(g.mul(da, v.args[1]), g.mul(v.args[0], db)),
    "div": _quotient,
    "neg": lambda g, v, da: g.mul(da, -1.0),
    "sqrt": _root,
    "exp": lambda g, v, da: g.mul(v, da),
    "expm1": lambda g, v, da: g.mul(g.add(v, 1.0), da),
    "abs": lambda g, v, da: g.where(v.args[0] > 0.0, da, g.mul(da, -1.0)),
    "min": lambda g, v, da, db: g.where(v.args[1] > v.args[0], da, db),
    "max": lambda g, v, da, db: g.where(v.args[0] > v.args[1], da, db),
    "where": lambda g, v, dc, da, db: g.where(v.args[0], da, db),
    "arc": _arc,
    "lune": lambda g, v, da: g.mul(da, g.mul(g.arc(v.args[0]), 1.0 / math.pi)),
    "asin": lambda g, v, da: g.div(da, g.sqrt(1.0 - v.args[0] * v.args[0])),
}
