"""Positions of independent branches side by side: kernels become blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernreg.backends.blocks import Blocks
from kernreg.backends.reference import PAIRS, Evaluated, PairState
from kernreg.backends.rows import ROWS, Row
from kernreg.backends.signs import SIGNS, all_nonnegative
from kernreg.ir.operations import Join

__all__: list[str] = []

SIGNS.of(Join)(all_nonnegative)


@ROWS.of(Join)
def _rows(params: tuple[float, ...], op: Join, *xs: Row) -> tuple[Row, tuple[Tensor, ...]]:
    return _joined(op, xs), ()


def _joined(op: Join, rows: tuple[Row, ...]) -> Row:
    return Row(
        torch.cat([r.s for r in rows], 1 + op.axis), torch.cat([r.tau for r in rows], 1 + op.axis)
    )


@PAIRS.of(Join)
def _pairs(run: Blocks, op: Join, *xs: Evaluated) -> Evaluated:
    row = _joined(op, tuple(x.row for x in xs))
    sizes = row.s.shape[1:]
    numbers = torch.arange(math.prod(sizes)).reshape(sizes)
    count = (len(run.first), numbers.numel(), numbers.numel())
    parts = [row.s.new_full(count, apart) for apart in (0.0, 1.0, 0.0)]
    along = [x.row.s.shape[1 + op.axis] for x in xs]
    for x, at in zip(xs, numbers.split(along, op.axis), strict=True):
        p, q = at.reshape(-1, 1), at.reshape(1, -1)
        for whole, part in zip(parts, (x.pair.rho, x.pair.gap, x.pair.tau), strict=True):
            whole[:, p, q] = part
    return Evaluated(PairState(*parts), row)
