"""Derivatives by the C++ tile engine: the pass on values of a graph, written as primitives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    Jet,
    OfPairs,
    Slope,
    Tile,
    differentiated,
    over_scale,
)
from kernreg.backends.distinct import Distinct
from kernreg.backends.graph_code import Jets, Writer
from kernreg.backends.reference import NEAR, PairState
from kernreg.exceptions import BackendError
from kernreg.ir.derivative import SlopesCode
from kernreg.ir.graph import PAIR, ROW1, ROW2, Graph, evaluate
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.numerics.torchmath import TorchMath

__all__ = ["FusedDerivatives", "derivatives_of"]

# How the engine calls a dense layer, by how many numbers of rows it has.
_NO_BIAS, _WITH_BIAS, _OWN_SCALES = 0, 1, 2


@dataclass(frozen=True)
class _Symbolic(Derivatives):
    """The pass on values of a graph; numbers of rows become its leaves."""

    tables: dict[str, Tensor] = field(default_factory=dict)
    compiled: Mapping[str, int] = field(default_factory=dict)
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
        number = self.compiled.get(code.signature)
        if number is None:
            return None
        given = {k: float(v) for k, v in leaves.items() if v.ndim == 0}
        constants = tuple(float(v) for v in evaluate(code.scalars, given, TorchMath))
        whole: dict[str, Any] = dict(leaves)
        rows = (evaluate(slots, whole, TorchMath) for slots in (code.rows1, code.rows2))
        tables = tuple(self._of_sides([*values, x.growth], k) for k, values in enumerate(rows))
        return self._behind(x, tables, number=number, constants=constants)

    def dense(self, x: Jet, tables: tuple[Tensor, ...]) -> OfPairs | None:
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
        compiled = {signature: k for k, signature in enumerate(core.slopes())}
        run = _Symbolic(program.params, distinct, graph, {}, compiled, Jets(graph))
        zero = graph.const(0.0)
        pair = PairState(graph.leaf("rho", PAIR), graph.leaf("gap", PAIR), zero)
        out = differentiated(run, program, pair, distinct, graph.const(1.0), zero, sides)
        ends = [graph.lift(v) for v in over_scale(run, pair, distinct, out, kernel)]
        leaves = {side: _of_side(run.tables, distinct, side) for side in (0, 1)}
        writer = Writer(core.REGISTERS, leaves, run.jets, [len(X1), len(X2)])
        code, consts, tables = writer.write(*ends)
        self._code, self._consts = code, consts
        self._tables = [self._as_dtype(t) for t in tables]
        ratio = out.row.s / distinct.row.s
        self._scales = [np.ascontiguousarray(distinct.all(ratio, k).numpy()) for k in (0, 1)]
        self._arrays = [self._as_dtype(unit.numpy()) for unit in self.units]

    def _as_dtype(self, values: NDArray[np.float64]) -> NDArray[Any]:
        return np.ascontiguousarray(values, dtype=self._dtype)

    def tile(self, rows: slice, columns: slice) -> Tile:
        """Derivatives of the entries of some rows and columns."""
        i0, i1, _ = rows.indices(len(self._arrays[0]))
        j0, j1, _ = columns.indices(len(self._arrays[1]))
        shape = (i1 - i0, j1 - j0)
        found = [np.empty(shape, self._dtype) for _ in range(1 + self._sides)]
        self._fill(
            instruction_set(),
            self._arrays[0],
            self._tables[0],
            self._scales[0],
            self._arrays[1],
            self._tables[1],
            self._scales[1],
            False,
            NEAR,
            self._code,
            self._consts,
            found,
            self._scales[0],
            self._scales[0],
            [i0, i1, j0, j1],
            config.num_threads(),
        )
        product, *squares = (torch.from_numpy(values) for values in found)
        return Tile(product, squares)


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
