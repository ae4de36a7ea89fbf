"""The reference: the rules of every operation on torch tensors in float64, slow and clear.

A pair is kept as correlation, gap and normalised tangent kernel (:mod:`kernreg.ir.pair`), so that
also nearly parallel rows have all their digits.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.distinct import Distinct
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.graph import Value
from kernreg.numerics.torchmath import TorchMath

__all__ = [
    "NEAR",
    "PAIRS",
    "Evaluated",
    "Evaluation",
    "Matrix",
    "PairState",
    "evaluate",
    "input_pairs",
]

NEAR = 1e-3
"""Pairs with a smaller gap are taken from the difference of their rows."""


@dataclass(frozen=True)
class PairState:
    """Correlation, gap and normalised tangent kernel of pairs, each of shape (n1, n2).

    They may be values of a graph as well, of which code is made.
    """

    rho: Any
    gap: Any
    tau: Any

    def opposite_gaps(self) -> tuple[Any, Any]:
        """``1 - rho`` and ``1 + rho``."""
        xp, positive, far = _functions(self.rho), self.rho > 0, 2.0 - self.gap
        return xp.where(positive, self.gap, far), xp.where(positive, far, self.gap)

    @staticmethod
    def from_gaps(below: Any, above: Any, tau: Any) -> PairState:
        """From ``1 - rho`` and ``1 + rho``, of which the smaller one is exact."""
        xp = _functions(below)
        rho = xp.where(below < above, 1.0 - below, above - 1.0)
        return PairState(rho, xp.minimum(below, above), tau)


def _functions(value: Any) -> Any:
    return value.graph if isinstance(value, Value) else TorchMath


def input_pairs(unit1: Tensor, unit2: Tensor) -> PairState:
    """Correlations of rows of unit length, those near +-1 from differences."""
    rho = unit1 @ unit2.T
    gap = torch.clamp(1.0 - rho.abs(), min=0.0)
    close = torch.nonzero(gap < NEAR)
    for part in close.split(max(1, 2**22 // max(1, unit1.shape[1]))):
        i, j = part[:, 0], part[:, 1]
        sign = torch.where(rho[i, j] > 0, 1.0, -1.0)
        apart = unit1[i] - sign[:, None] * unit2[j]
        near = 0.5 * (apart * apart).sum(dim=1)
        gap = gap.index_put((i, j), near)
        rho = rho.index_put((i, j), sign * (1.0 - near))
    return PairState(rho, gap, torch.zeros_like(rho))


PAIRS = Rules("pairs of rows")
"""Rules ``(evaluation, operation, *values) -> value``: the specification of the engine."""


@dataclass(frozen=True)
class Evaluated:
    """A value of the program: pairs, and the different rows among those of both sides."""

    pair: PairState
    row: R.Row


@dataclass(frozen=True)
class Evaluation(Pass[Evaluated], ABC):
    """A program on pairs of rows."""

    params: tuple[float, ...]
    rules = PAIRS

    @abstractmethod
    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers of rows, for the first and for the second row of every pair."""

    def behind(self, op: ir.Op, pair: PairState, *xs: Evaluated) -> Evaluated:
        """The value behind an operation, of which the pairs are known."""
        return Evaluated(pair, R.row_behind(op, self.params, *(x.row for x in xs)))

    def cross(self, values: Tensor) -> Tensor:
        """Products of the values of two rows."""
        a, b = self.sides(values)
        return a * b

    def half_square(self, values: Tensor, sign: float = 1.0) -> Tensor:
        """Half the square of the difference of two rows, or of their sum if ``sign`` is -1."""
        a, b = self.sides(values)
        return 0.5 * (a - sign * b) ** 2


@dataclass(frozen=True)
class Matrix(Evaluation):
    """Every row of one side with every row of the other."""

    distinct: Distinct

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return self.distinct.all(values, 0)[:, None], self.distinct.all(values, 1)[None, :]


def evaluate(
    ops: tuple[ir.Op, ...],
    params: tuple[float, ...],
    pair: PairState,
    row1: R.Row,
    row2: R.Row,
    first: int = 0,
) -> tuple[PairState, R.Row, R.Row]:
    """Run a program, or a loop body, on pairs.

    Parameters
    ----------
    ops : tuple of Op
        What to run.
    params : tuple of float
        Run-time parameters.
    pair : PairState
        Pairs at operation ``first``, shape (n1, n2).
    row1, row2 : Row
        Rows there, shapes (n1,) and (n2,); shape (1,) stands for rows that are alike.
    first : int
        Where to begin; nothing behind it may refer to what comes before.

    Returns
    -------
    tuple of PairState, Row, Row
        The same behind the last operation.
    """
    distinct = Distinct.of(row1, row2)
    last = Matrix(params, distinct).run(ops, Evaluated(pair, distinct.row), first)
    return last.pair, distinct.rows(last.row, 0), distinct.rows(last.row, 1)
