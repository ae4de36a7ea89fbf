"""Which operations of a spatial program run on which size of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from kernreg.backends.planes.grid import Grid, Sizes2
from kernreg.ir import operations as ir
from kernreg.ir.program import Program
from kernreg.ir.taps import Sizes, Taps

__all__ = ["Plan", "Unsupported", "in_lines", "lands", "offsets", "plan", "unrolled"]

Filter = tuple[ir.Mix, Sizes]

_LOOPED = 64
"""Turns from which a loop stays a loop, but for its first ones."""
_FIRST = 16
_MOST_OPERATIONS = 20_000
_MOST_REACH = 32


class Unsupported(Exception):
    """Why planes cannot run a program."""


@dataclass
class Plan:
    """Where the operations of a program run.

    Parameters
    ----------
    ops : tuple of Op
        The program, short loops unrolled.
    grids : list of Grid
        Of each stage.
    stage : list of int or None
        The stage of each operation; None for those on vectors.
    sizes : list of tuple of int
        Positions behind each operation along two axes, () for vectors.
    readouts : list of int
        Operations that make vectors of positions.
    lazy : set of int
        Poolings that only readouts read, by ``id``.
    """

    ops: tuple[ir.Op, ...]
    grids: list[Grid] = field(default_factory=list)
    stage: list[int | None] = field(default_factory=list)
    sizes: list[Sizes] = field(default_factory=list)
    readouts: list[int] = field(default_factory=list)
    lazy: set[int] = field(default_factory=set)


def unrolled(ops: tuple[ir.Op, ...]) -> tuple[ir.Op, ...]:
    """A program without its short loops, and those that change the number of positions."""
    out: list[ir.Op] = []

    def write(ops: tuple[ir.Op, ...], start: int | None) -> int:
        at: dict[int, int] = {}
        if start is not None:
            at[0] = start
        for i, op in enumerate(ops):
            if i == 0 and start is not None:
                continue
            op = _renumbered(op, at)
            if isinstance(op, ir.Repeat):
                value, left, first = op.x, op.count, _stays(op.body)
                while left and (not first or op.count < _LOOPED or left > op.count - _FIRST):
                    value, left = write(op.body, value), left - 1
                for count in _growing(left):
                    out.append(ir.Repeat(value, _fresh(op.body), count, label=op.label))
                    value = len(out) - 1
                at[i] = value
            else:
                out.append(op)
                at[i] = len(out) - 1
            if len(out) > _MOST_OPERATIONS:
                raise Unsupported("it has too many different layers for planes")
        return at[len(ops) - 1]

    write(ops, None)
    return tuple(out)


def _growing(count: int) -> list[int]:
    """Loops of growing length, as layers change less and less: each has series of its own."""
    found, size = [], 4 * _FIRST
    while count:
        found.append(min(size, count))
        count, size = count - found[-1], 4 * size
    return found


def _fresh(ops: tuple[ir.Op, ...]) -> tuple[ir.Op, ...]:
    """The same operations as objects of their own."""
    return tuple(
        replace(op, body=_fresh(op.body)) if isinstance(op, ir.Repeat) else replace(op)
        for op in ops
    )


def _renumbered(op: ir.Op, at: dict[int, int]) -> ir.Op:
    if isinstance(op, ir.Sum | ir.Product):
        return replace(op, xs=tuple(at[x] for x in op.xs))
    if not op.inputs:
        return op
    changed: Any = op  # all others read one value
    return replace(changed, x=at[changed.x])


def _stays(ops: tuple[ir.Op, ...]) -> bool:
    """Whether a loop leaves as many positions as there were."""
    return all(
        op.taps.shape is not None and not lands(op) and op.taps.padding != "VALID"
        for op in ir.all_ops(ops)
        if isinstance(op, ir.Mix)
    )


def lands(op: ir.Mix) -> bool:
    """Whether the positions behind are those of a stage of their own."""
    return op.shared is not None or any(s > 1 for s in op.taps.strides)


def in_lines(sizes: Sizes) -> Sizes2:
    """Positions along one or two axes as lines."""
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def plan(program: Program, sizes: Sizes) -> Plan:
    """Assign the operations of a program to stages.

    Raises
    ------
    Unsupported
        If planes cannot run it on images of these sizes.
    NetworkError
        If the images do not fit the network.
    """
    if len(sizes) > 2:
        raise Unsupported(f"images have {len(sizes)} axes of positions, planes work on 1 or 2")
    for op in ir.all_ops(program.ops):
        if isinstance(op, ir.Join):
            raise Unsupported(f"{op.label} joins positions of branches")
    found = Plan(unrolled(program.ops))
    filters: list[list[Filter]] = [[]]
    strides: list[list[Sizes2 | None]] = [[]]
    of_stage: list[Sizes] = [sizes]
    for i, op in enumerate(found.ops):
        before = [found.stage[x] for x in op.inputs]
        stage = before[0] if before else 0
        now = found.sizes[op.inputs[0]] if before else sizes
        if isinstance(op, ir.Mix):
            assert stage is not None
            out = op.taps.out(now, op.label)
            lazy = op.shared is not None and _only_read_out(found.ops, i)
            if op.taps.shape is None:
                found.readouts.append(i)
                strides[stage].append(None)
                stage = None
            elif lazy:
                _check_pool(op, now)
                found.lazy.add(id(op))
                strides[stage].append(None)
            elif lands(op):
                if op.local:
                    raise Unsupported(f"{op.label} has strides and weights at each position")
                if op.shared is not None:
                    _check_pool(op, now)
                    strides[stage].append(None)
                else:
                    filters[stage].append((op, now))
                    strides[stage].append(in_lines(op.taps.strides))
                stage += 1
                if stage == len(filters):
                    filters.append([])
                    strides.append([])
                    of_stage.append(out)
                elif of_stage[stage] != out:
                    raise Unsupported(
                        f"{op.label} leaves {out} positions where another branch leaves "
                        f"{of_stage[stage]}"
                    )
            else:
                filters[stage].append((op, now))
            now = out
        else:
            if len(set(before)) > 1:
                raise Unsupported("branches with different numbers of positions are merged")
            if isinstance(op, ir.Repeat) and stage is not None:
                inner = [o for o in ir.all_ops(op.body) if isinstance(o, ir.Mix)]
                filters[stage] += [(o, now) for o in inner]
        found.stage.append(stage)
        found.sizes.append(now)
    for now, mixes, steps in zip(of_stage, filters, strides, strict=True):
        found.grids.append(_grid(now, mixes, steps))
    return found


def _only_read_out(ops: tuple[ir.Op, ...], i: int) -> bool:
    readers = [op for op in ops if i in op.inputs]
    return all(isinstance(op, ir.Mix) and op.taps.shape is None for op in readers)


def _check_pool(op: ir.Mix, sizes: Sizes) -> None:
    taps = op.taps
    assert taps.shape is not None
    if taps.padding == "CIRCULAR":
        apart = all(
            n % s == 0 and k == s for n, s, k in zip(sizes, taps.strides, taps.shape, strict=True)
        )
        if not apart:
            raise Unsupported(f"{op.label} pools over windows that wrap around")


def _grid(sizes: Sizes, filters: list[Filter], strides: list[Sizes2 | None]) -> Grid:
    ring, span, paddings = [0, 0], [0, 0], set()
    for op, now in filters:
        if op.taps.transposed:
            raise Unsupported(f"{op.label} is a transposed convolution")
        if any(k > 1 for k in op.taps.shape or ()):
            paddings.add(op.taps.padding)
        for axis, at in enumerate(offsets(op.taps, now)):
            span[axis] = max(span[axis], at[-1], -at[0])
            if op.taps.padding != "VALID":
                ring[axis] = max(ring[axis], at[-1], -at[0])
    if "CIRCULAR" in paddings and len(paddings) > 1:
        raise Unsupported("paddings CIRCULAR and others meet at one size of images")
    align = (1, 1)
    if strides and strides[0] is not None and all(s == strides[0] for s in strides):
        align = strides[0]
    grid = Grid(
        in_lines(sizes), (ring[0], ring[1]), (span[0], span[1]), "CIRCULAR" in paddings, align
    )
    if max(span) > _MOST_REACH or grid.halo > grid.cells or ring[1] > grid.sizes[1]:
        raise Unsupported(f"a filter reaches too far for images of {sizes}")
    return grid


def offsets(taps: Taps, sizes: Sizes) -> tuple[list[int], list[int]]:
    """What a filter reads around a position, along lines and within them."""
    assert taps.shape is not None
    found = [
        [a * d - taps.low(axis, size) for a in range(k)]
        for axis, (k, d, size) in enumerate(zip(taps.shape, taps.dilation, sizes, strict=True))
    ]
    return (found[0], found[1]) if len(found) == 2 else ([0], found[0])
