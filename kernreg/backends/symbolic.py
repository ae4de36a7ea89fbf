"""The pass of derivatives on values of a graph, of which code is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kernreg.backends.derivatives import (
    Derivatives,
    Differentiable,
    Jet,
    OfPairs,
    Slope,
    diagonal_slope,
    differentiated,
    over_scale,
)
from kernreg.backends.distinct import Distinct
from kernreg.backends.graph_code import Jets
from kernreg.backends.reference import PairState
from kernreg.exceptions import BackendError
from kernreg.ir.derivative import SlopesCode
from kernreg.ir.graph import PAIR, ROW1, ROW2, Graph, Value, evaluate
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.numerics.torchmath import TorchMath

__all__ = ["Traced", "traced"]

# How the engine calls a dense layer, by how many numbers of rows it has.
_NO_BIAS, _WITH_BIAS, _OWN_SCALES = 0, 1, 2


@dataclass(frozen=True)
class Symbolic(Derivatives):
    """The pass on values of a graph; numbers of rows become its leaves.

    Where numbers of compiled duals are given, nonlinearities and dense layers are instructions that
    make several values at once.
    """

    tables: dict[str, Tensor] = field(default_factory=dict)
    compiled: Mapping[str, int] | None = None
    jets: Jets = field(default_factory=lambda: Jets(Graph()))

    def sides(self, values: Tensor) -> tuple[Any, Any]:
        name = f"t{len(self.tables)}"
        self.tables[name] = values
        return self.xp.leaf(name, ROW1), self.xp.leaf(name, ROW2)

    def full(self, *values: Any) -> tuple[Any, ...]:
        return tuple(self.xp.lift(v) for v in values)

    def of_torch(self, fn: Dual, value: Callable[[], PairState]) -> PairState:
        raise BackendError(f"{fn!r} has no closed form")

    def nonlinearity(
        self, x: Jet, code: SlopesCode, leaves: Mapping[str, Tensor]
    ) -> OfPairs | None:
        number = None if self.compiled is None else self.compiled.get(code.signature)
        if number is None:
            return None
        given = {k: float(v) for k, v in leaves.items() if v.ndim == 0}
        constants = tuple(float(v) for v in evaluate(code.scalars, given, TorchMath))
        whole: dict[str, Any] = dict(leaves)
        rows = (evaluate(slots, whole, TorchMath) for slots in (code.rows1, code.rows2))
        tables = tuple(self._of_sides([*values, x.growth], k) for k, values in enumerate(rows))
        return self._behind(x, tables, number=number, constants=constants)

    def dense(self, x: Jet, tables: tuple[Tensor, ...]) -> OfPairs | None:
        if self.compiled is None:
            return None
        kind = _NO_BIAS if len(tables) == 1 else _WITH_BIAS if len(tables) == 2 else _OWN_SCALES
        if len(tables) == 3:  # without a bias
            tables = (tables[0], torch.zeros_like(tables[0]), *tables[1:])
        both = [*tables, x.growth]
        return self._behind(x, (self._of_sides(both, 0), self._of_sides(both, 1)), kind=kind)

    def _of_sides(self, values: list[Any], side: int) -> tuple[Tensor, ...]:
        whole = torch.ones_like(self.distinct.row.s)
        return tuple(self.distinct.all(v * whole, side) for v in values)

    def _behind(self, x: Jet, tables: Any, **step: Any) -> OfPairs:
        inputs: tuple[Any, ...] = (x.pair.rho, x.pair.gap, x.pair.tau)
        for slope in x.slopes:
            inputs += (slope.rho, slope.tau)
        rho, gap, tau, *slopes = self.jets.add(self.full(*inputs), tables, **step)
        pairs = zip(slopes[::2], slopes[1::2], strict=True)
        return PairState(rho, gap, tau), tuple(Slope(*p) for p in pairs)


@dataclass(frozen=True)
class Traced:
    """Derivatives of a program as values of a graph.

    Parameters
    ----------
    ends : tuple of Value
        By the product, and by the squares of the sides, over the scales of both rows.
    leaves : tuple of dict
        Numbers of the rows of each side, by name.
    scales : tuple of Tensor
        Standard deviations behind over those before, of the rows of each side.
    jets : Jets
        Instructions among the nodes.
    own : Tensor
        Derivative of the kernel of every row of the first side with itself by its mean square.
    """

    ends: tuple[Value, ...]
    leaves: tuple[dict[str, Tensor], dict[str, Tensor]]
    scales: tuple[Tensor, Tensor]
    jets: Jets
    own: Tensor


def traced(
    program: Program,
    bound: Differentiable,
    kernel: str,
    sides: int,
    compiled: Mapping[str, int] | None = None,
) -> Traced:
    """Record the derivatives of a program on rows.

    Raises
    ------
    BackendError
        If a nonlinearity has no closed form.
    """
    distinct, graph = Distinct.of(*bound.rows), Graph()
    run = Symbolic(program.params, distinct, graph, {}, compiled, Jets(graph))
    zero = graph.const(0.0)
    pair = PairState(graph.leaf("rho", PAIR), graph.leaf("gap", PAIR), zero)
    out = differentiated(run, program, pair, distinct, graph.const(1.0), zero, sides)
    ends = tuple(graph.lift(v) for v in over_scale(run, pair, distinct, out, kernel))
    ratio = out.row.s / distinct.row.s

    def of_side(side: int) -> dict[str, Tensor]:
        return {name: distinct.all(values, side) for name, values in run.tables.items()}

    scales = distinct.all(ratio, 0), distinct.all(ratio, 1)
    own = diagonal_slope(out, distinct, kernel)
    return Traced(ends, (of_side(0), of_side(1)), scales, run.jets, own)
