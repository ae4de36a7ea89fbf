"""What layers of stax are made of, and how a series of them becomes a network of kernreg."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kernreg import nn
from kernreg.exceptions import NetworkError

__all__ = ["Branches", "FanIn", "Fork", "One", "Part", "Parts", "Place", "network"]


@dataclass(frozen=True)
class Place:
    """What a layer is given: its channels, and positions along each axis; None where unknown.

    The widths that stax layers have count in the "standard" parameterization, and as weights of
    branches that are put side by side.
    """

    channels: int | None = None
    sizes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class One:
    """A layer; ``build`` gives it for a place, with the place behind it."""

    build: Callable[[Place], tuple[nn.Layer, Place]]


@dataclass(frozen=True)
class Fork:
    """Copies of what comes in."""

    count: int


@dataclass(frozen=True)
class Branches:
    """A series of parts for each copy."""

    series: tuple[Parts, ...]


@dataclass(frozen=True)
class FanIn:
    """The branches become one: "sum", "product" or "concat" along an axis of the data."""

    merge: str
    axis: int = -1


Part = One | Fork | Branches | FanIn
Parts = tuple[Part, ...]


def network(parts: Parts, place: Place = Place()) -> tuple[nn.Layer, Place]:
    """The network that parts make up, and the place behind it.

    Raises
    ------
    NetworkError
        If branches do not begin, fit and end.
    """
    built: list[nn.Layer] = []
    branches: list[list[Part]] | None = None
    for part in parts:
        if isinstance(part, Fork):
            if branches is not None:
                raise NetworkError("FanOut: merge the branches before they are copied again.")
            branches = [[] for _ in range(part.count)]
        elif isinstance(part, Branches):
            if branches is None or len(branches) != len(part.series):
                found = "no" if branches is None else len(branches)
                raise NetworkError(
                    f"parallel: {len(part.series)} branches need FanOut({len(part.series)}) before "
                    f"them, found {found} copies."
                )
            for branch, series in zip(branches, part.series, strict=True):
                branch += series
        elif isinstance(part, FanIn):
            if branches is None:
                raise NetworkError("FanIn: there are no branches; begin them with FanOut.")
            layer, place = _merged(branches, part, place)
            built.append(layer)
            branches = None
        elif branches is not None:
            raise NetworkError("a layer stands on several branches: put it into parallel.")
        else:
            layer, place = part.build(place)
            built.append(layer)
    if branches is not None:
        raise NetworkError(
            "the network ends in branches: end them with FanInSum, FanInProd or FanInConcat."
        )
    return nn.serial(*built), place


def _merged(branches: Sequence[Sequence[Part]], end: FanIn, place: Place) -> tuple[nn.Layer, Place]:
    found = [network(tuple(branch), place) for branch in branches]
    layers = [layer for layer, _ in found]
    behind = [place for _, place in found]
    if end.merge != "concat":
        return nn.parallel(*layers, merge=end.merge), behind[0]
    sizes = behind[0].sizes
    last = -1 if sizes is None else len(sizes) + 1
    axis = end.axis if sizes is None else end.axis % (len(sizes) + 2)
    if axis in (-1, last):
        widths = [p.channels for p in behind]
        if None in widths:
            raise NetworkError(
                "FanInConcat: a branch has the channels of the data; ask for the kernel of data "
                "first, or use nn.parallel(..., merge='concat', weights=...)."
            )
        total = sum(width or 0 for width in widths)
        weights = tuple(float(width or 0) for width in widths)
        return nn.parallel(*layers, merge="concat", weights=weights), Place(total, sizes)
    if axis < 1:
        raise NetworkError(f"FanInConcat: axis {end.axis} is not one of positions or channels.")
    joined = None
    if all(p.sizes is not None for p in behind):
        along = sum((p.sizes or ())[axis - 1] for p in behind)
        joined = tuple(along if k == axis - 1 else s for k, s in enumerate(sizes or ()))
    merged = nn.parallel(*layers, merge="concat", axis=axis - 1)
    return merged, Place(behind[0].channels, joined)
