"""Filters, poolings and readouts as instructions for planes."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.planes.stages import in_lines, offsets
from kernreg.backends.planes.translate import (
    SUMS,
    Filtered,
    Numbers,
    Readout,
    Spatial,
    Translator,
    Vector,
)
from kernreg.backends.windows import pooling
from kernreg.ir import operations as ir
from kernreg.ir.taps import Taps

__all__ = ["filter_planes", "join", "land", "read_out"]

Offsets = tuple[list[int], list[int]]


def filter_planes(
    t: Translator,
    op: ir.Op,
    x: Spatial,
    around: Offsets,
    scale: float,
    own: tuple[float, float],
    row: R.Row | None = None,
) -> Spatial:
    """A filter, with what its weights add to the tangent kernel.

    Parameters
    ----------
    t : Translator
        Takes instructions and tables.
    op : Op
        The operation.
    x : Spatial
        What it reads.
    around : tuple of list of int
        What it reads around a position, along lines and within them.
    scale : float
        Factor on the sums.
    own : tuple of float
        ``(g, h)`` of ``t' = g k' + h + scale sum t``.
    row : Row, optional
        What is behind, if it is known.
    """
    x = t.clean(x) if _wide(around) else x
    unit = t.unit_near(op, scale * x.unit)
    numbers = t.numbers(scale * x.unit / unit, own[0], 2.0 * own[1] / unit)
    dst = t.place(x.stage)
    stage = t.block.stages[x.stage]
    begin = len(stage.code)
    local = isinstance(op, ir.Mix) and op.local
    _sums(t, x, around, dst, numbers, local)
    # A bias has no place in dead cells, which have no variance.
    clean = x.clean and not _wide(around) and getattr(op, "b", None) is None
    out = t.behind(op, dst, unit, x, clean=clean, row=row)
    t.both(x.stage, t.scaled(out)[0])
    if local or (not (three := _three(t, x, around) if _wide(around) else 0) and _wide(around)):
        return out
    return replace(out, filtered=Filtered(begin, len(stage.code), x.slot, numbers, three))


def _wide(around: Offsets) -> bool:
    return around != ([0], [0])


def _sums(
    t: Translator,
    x: Spatial,
    around: Offsets,
    dst: int,
    numbers: Numbers,
    local: bool = False,
) -> None:
    """Sums over both axes."""
    lines, places = around
    source = x.slot
    if _wide(around):
        grid = t.block.stages[x.stage].grid
        margin = max(abs(p) for p in places)
        steps = [grid.offset(line, 0) for line in lines]
        t.emit(x.stage, "box", SUMS, x.slot, n=t.integers([margin, len(steps), *steps]))
        source = SUMS
    within = t.integers([len(places), *places])
    t.emit(x.stage, "mix", dst, source, within, t.constants(list(numbers)), int(local))


def _three(t: Translator, x: Spatial, around: Offsets) -> int:
    """Where the offsets of a filter of three by three stand; 0 if it is another one."""
    (a, b), grid = around, t.block.stages[x.stage].grid
    if len(a) != 3 or len(b) != 3 or a[1] != 0 or b[1] != 0 or a[0] != -a[2] or b[0] != -b[2]:
        return 0
    return t.integers([grid.offset(a[2], 0), b[2]])


def join(t: Translator, x: Spatial) -> tuple[int, int, int, Numbers]:
    """Where a nonlinearity writes and reads, with the filter before it in the same pass.

    Returns
    -------
    tuple
        Both places, where the filter's offsets stand, and how it scales.
    """
    stage, f = t.block.stages[x.stage], x.filtered
    alone = t.last(x)
    if f is None or not alone or len(stage.code) != (f.end if t.writing else len(stage.code)):
        return (x.slot if alone else t.place(x.stage)), x.slot, 0, (1.0, 0.0, 0.0, 0.0)
    if t.writing:
        del stage.code[f.begin :]
    for side in stage.tables:  # that of the filter alone
        side.pop()
    return x.slot, f.slot, f.offsets, f.numbers


def land(t: Translator, op: ir.Mix, x: Spatial, row: R.Row | None) -> Spatial:
    """A filter with strides, or a pooling: what is behind belongs to the next stage.

    ``row`` is what is behind a filter.
    """
    stage, after = x.stage, t.block.stages[x.stage + 1]
    lines = in_lines(x.sizes)
    behind = op.taps.out(x.sizes, op.label)
    at, slot = after.landed, x.slot
    after.landed += 1
    geometry = [*lines, 1, 1, *in_lines(op.taps.strides), *in_lines(behind), 0, 0]
    if op.shared is None:
        around = offsets(op.taps, x.sizes)
        if _wide(around):
            x = t.clean(x)
            _sums(t, x, around, slot := t.place(stage), (1.0, 0.0, 0.0, 0.0))
            t.both(stage, t.scaled(x)[0])
            t.block.stages[stage].used.discard(slot)
    else:
        low = [op.taps.low(axis, size) for axis, size in enumerate(x.sizes)]
        geometry[2:4] = in_lines(op.taps.shape or ())
        geometry[8:10] = [0, *low] if len(low) == 1 else low
    t.emit(stage, "land", at, slot, n=t.integers(geometry))
    return _pooled(t, op, x, at) if row is None else _filtered(t, op, x, at, row)


def _filtered(t: Translator, op: ir.Mix, x: Spatial, at: int, row: R.Row) -> Spatial:
    W, _ = op.numbers(t.params)
    scale, (g, h) = W * W / op.taps.count(x.sizes), op.own(t.params)
    unit = t.unit_near(op, scale * x.unit)
    slot, stage = t.place(x.stage + 1), x.stage + 1
    numbers = t.constants(list(t.numbers(scale * x.unit / unit, g, 2.0 * h / unit)))
    t.emit(stage, "landed", slot, at, c=numbers)
    out = replace(t.behind(op, slot, unit, x, clean=False, row=row), stage=stage)
    t.both(stage, t.scaled(out)[0])
    return out


def _pooled(t: Translator, op: ir.Mix, x: Spatial, at: int) -> Spatial:
    stage, behind = x.stage + 1, op.taps.out(x.sizes, op.label)
    weights = [_axis(op.taps, str(op.shared), k, size) for k, size in enumerate(x.sizes)]
    each = [torch.from_numpy(A.max(axis=1)) for A in weights]  # all that are there weigh alike
    weight = _outer(each)
    share = _outer([torch.from_numpy(A.sum(axis=1)) for A in weights])
    size = x.row.s**2
    for axis, A in enumerate(weights):
        size = torch.movedim(
            torch.movedim(size, 1 + axis, -1) @ torch.from_numpy(A).T, -1, 1 + axis
        )
    raw = _positions(t, t.within(t.block, stage, at), stage, behind)
    within = raw * x.unit * weight**2
    square = torch.clamp(share * size - 0.5 * within, min=0.0)
    row = R.Row(torch.sqrt(square), torch.zeros_like(square))
    unit = t.unit_near(op, x.unit)
    slot = t.place(stage)
    t.emit(stage, "landed", slot, at, n=1)
    all_of = torch.ones_like(square)
    t.both(stage, 0.5 * raw, share * all_of, size / unit)
    t.both(stage, weight * (x.unit / unit) ** 0.5 * all_of)
    return Spatial(stage, slot, unit, row, False, x.positive)


def _positions(
    t: Translator, cells: NDArray[np.float64], stage: int, sizes: tuple[int, ...]
) -> Tensor:
    grid = t.block.stages[stage].grid
    lines = cells.reshape(len(cells), grid.lines, grid.line)
    high, wide = in_lines(sizes)
    found = lines[:, :high, grid.origin : grid.origin + wide]
    return torch.from_numpy(np.ascontiguousarray(found)).reshape(len(cells), *sizes)


def _outer(vectors: list[Tensor]) -> Tensor:
    out = vectors[0]
    for v in vectors[1:]:
        out = out[..., None] * v
    return out


def _axis(taps: Taps, shared: str, axis: int, size: int) -> NDArray[np.float64]:
    """The matrix of a pooling along one axis."""
    assert taps.shape is not None
    one = Taps((taps.shape[axis],), (taps.strides[axis],), (1,), taps.padding)
    return pooling(one, (size,), shared).numpy()


@functools.lru_cache(maxsize=64)
def _of_pairs(
    taps: Taps, shared: str | None, sizes: tuple[int, ...], pool: tuple[Taps, str] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What pairs of positions along lines, and pairs within them, weigh in a readout."""
    found = []
    for axis, size in enumerate(sizes):
        A = np.eye(size) if pool is None else _axis(*pool, axis, size)
        if shared is None:
            found.append(A.T @ A / len(A))
        else:
            total = A.sum(axis=0) / (len(A) if shared == "mean" else 1)
            found.append(np.outer(total, total))
    if len(found) == 1:
        found.insert(0, np.ones((1, 1)))
    for weights in found:
        weights.setflags(write=False)
    return found[0], found[1]


@functools.lru_cache(maxsize=64)
def _by_displacement(size: int, weights: bytes) -> NDArray[np.float64]:
    """Rows of weights by displacement, places across."""
    places = np.frombuffer(weights).reshape(size, size)
    turned = np.zeros((2 * size - 1, size))
    for d in range(1 - size, size):
        at = np.arange(max(0, -d), min(size, size - d))
        turned[d + size - 1, at] = places[at, at + d]
    turned.setflags(write=False)
    return turned


def read_out(t: Translator, op: ir.Mix, x: Spatial) -> Vector:
    """All positions, perhaps pooled before, as a vector."""
    pool = None if x.pool is None else (x.pool.taps, str(x.pool.shared))
    lines, places = _of_pairs(op.taps, op.shared, x.sizes, pool)
    sums = torch.from_numpy(np.outer(lines.sum(axis=1), places.sum(axis=1)))
    number = len(t.block.readouts)
    high, wide = len(lines), len(places)
    turned = _by_displacement(wide, places.tobytes())
    start = t.constants([*lines.ravel(), *turned.ravel()])
    t.emit(x.stage, "readout", number, x.slot, c=start, n=t.integers([high, wide]))
    square = (x.row.s**2).reshape(len(x.row.s), high, wide)
    t.block.readouts.append(
        Readout(
            op=t.plan.ops.index(op),
            stage=x.stage,
            unit=x.unit,
            weights=(lines, places),
            sums=(square * sums).sum((1, 2)),
            shared=op.shared is not None or pool is not None,
        )
    )
    return Vector()
