"""How layers write a program."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from kernreg.exceptions import NetworkError
from kernreg.ir import operations as ir
from kernreg.ir.domain import AS_DATA, VECTOR, Domain
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.ir.taps import Taps

__all__ = ["Builder", "Kind", "NeedsInputError", "Ref"]


class NeedsInputError(NetworkError):
    """A layer that can only be the first one is not."""


class Kind(enum.Enum):
    """What is known of the distribution of a value over random networks."""

    INPUT = "the raw input"
    GAUSSIAN = "a Gaussian preactivation"
    OTHER = "not Gaussian"


@dataclass(frozen=True)
class Ref:
    """A value under construction: its number, kind and positions, and the layer that made it."""

    index: int
    kind: Kind
    made_by: str = "the input"
    domain: Domain = AS_DATA


@dataclass
class Builder:
    """Collects operations while layers lower themselves.

    ``found`` holds the layer that said how many axes of positions the data have, by that number;
    ``shape`` is that of the images that rows hold, channels last.
    """

    ops: list[ir.Op] = field(default_factory=list)
    params: list[float] = field(default_factory=list)
    found: dict[int, str] = field(default_factory=dict)
    shape: tuple[int, ...] | None = None
    flips: str | None = None

    def slot(self, value: float) -> int:
        """A new run-time parameter."""
        self.params.append(float(value))
        return len(self.params) - 1

    def emit(self, op: ir.Op, kind: Kind, label: str, domain: Domain = AS_DATA) -> Ref:
        """Append an operation that comes from the layer ``label``."""
        if self.flips is not None:
            raise NetworkError(f"{label} stands after {self.flips}, which is a whole network.")
        self.ops.append(replace(op, label=label))
        return Ref(len(self.ops) - 1, kind, label, domain)

    def input(self, kind: Kind = Kind.INPUT) -> Ref:
        """Start the program."""
        return self.emit(ir.Input(), kind, "the input")

    def dense(
        self,
        x: Ref,
        W_std: float,
        b_std: float | None,
        fan_in: int | None,
        label: str,
        trained: bool = True,
    ) -> Ref:
        """Append a dense layer."""
        W = self.slot(W_std)
        # Without the "standard" parameterization a bias of variance 0 is no bias.
        bias = None if b_std is None or (b_std == 0 and fan_in is None) else self.slot(b_std)
        op = ir.Dense(x.index, W, bias, fan_in, trained)
        return self.emit(op, Kind.GAUSSIAN, label, x.domain)

    def mix(
        self,
        x: Ref,
        taps: Taps,
        kind: Kind,
        label: str,
        W_std: float | None = None,
        b_std: float | None = None,
        fan_in: int | None = None,
        trained: bool = True,
        shared: str | None = None,
        local: bool = False,
    ) -> Ref:
        """Append a sum over positions; without ``W_std`` it has no weights."""
        domain = self.positions(x, None if taps.shape is None else len(taps.shape), label)
        W = None if W_std is None else self.slot(W_std)
        bias = None if b_std is None or (b_std == 0 and fan_in is None) else self.slot(b_std)
        op = ir.Mix(x.index, taps, W, bias, fan_in, trained, shared, local)
        return self.emit(op, kind, label, VECTOR if taps.shape is None else domain)

    def images(self, x: Ref, shape: tuple[int, ...], label: str) -> Ref:
        """Say that rows hold images of a shape, channels last."""
        if x.index != 0 or x.kind is not Kind.INPUT or self.shape is not None:
            raise NeedsInputError(
                f"{label} stands after {x.made_by}: expected it first of all layers."
            )
        domain = self.positions(x, len(shape) - 1, label)
        self.shape = shape
        return replace(x, made_by=label, domain=domain)

    def flip(self, x: Ref, lower: Callable[[Builder, Ref], Ref], label: str) -> Ref:
        """Append a network whose kernel is averaged over flips; it must be the whole program."""
        if x.index != 0 or x.kind is not Kind.INPUT or self.flips is not None:
            raise NeedsInputError(
                f"{label} stands after {x.made_by}: expected it around the whole network."
            )
        self.positions(x, None, label)
        out = lower(self, x)
        self.flips = label
        return out

    def positions(self, x: Ref, axes: int | None, label: str) -> Domain:
        """The positions of a value for a layer that works on them, along so many axes."""
        if x.domain.axes == 0:
            raise NetworkError(
                f"{label} stands after {x.made_by}, which leaves no positions: put it before."
            )
        found = next(iter(self.found), None) if x.domain.axes is None else x.domain.axes
        if axes is not None and found is not None and axes != found:
            by = f" from {self.found[found]}" if found in self.found else ""
            raise NetworkError(
                f"{label} works on {axes} axes of positions, but there are {found}{by}: expected "
                "layers of one network with the same number of axes."
            )
        if axes is None:
            return x.domain
        self.found.setdefault(axes, label)
        return Domain(axes)

    def apply(self, x: Ref, fn: Dual, values: tuple[float, ...], label: str) -> Ref:
        """Append a nonlinearity."""
        slots = tuple(self.slot(v) for v in values)
        return self.emit(ir.Apply(x.index, fn, slots), Kind.OTHER, label, x.domain)

    def sum(self, xs: list[Ref], weights: tuple[float, ...], kind: Kind, label: str) -> Ref:
        """Append a weighted sum of branches (no weights: all 1)."""
        slots = tuple(self.slot(w) for w in weights)
        op = ir.Sum(tuple(x.index for x in xs), slots)
        return self.emit(op, kind, label, self._common_domain(xs, label))

    def product(self, xs: list[Ref], label: str) -> Ref:
        """Append a product of branches."""
        op = ir.Product(tuple(x.index for x in xs))
        return self.emit(op, Kind.OTHER, label, self._common_domain(xs, label))

    def join(self, xs: list[Ref], axis: int, label: str) -> Ref:
        """Append branches whose positions stand side by side along an axis."""
        domain = self._common_domain(
            [replace(x, domain=self.positions(x, None, label)) for x in xs], label
        )
        if domain.axes is not None and axis >= domain.axes:
            raise NetworkError(
                f"{label}: axis must be below {domain.axes}, the number of axes of positions."
            )
        return self.emit(ir.Join(tuple(x.index for x in xs), axis), Kind.GAUSSIAN, label, domain)

    def repeat(self, x: Ref, body: Builder, out: Ref, count: int, label: str) -> Ref:
        """Append ``count`` turns of ``body``, which was built on its own :meth:`body`."""
        op = ir.Repeat(x.index, tuple(body.ops), count)
        return self.emit(op, out.kind, label, out.domain)

    def body(self, x: Ref) -> tuple[Builder, Ref]:
        """A builder for a loop body on values like ``x``; it shares the parameters."""
        inner = Builder(params=self.params, found=self.found)
        carry = inner.emit(ir.Carry(), x.kind, x.made_by, x.domain)
        return inner, carry

    def finish(self, out: Ref) -> Program:
        """The finished program."""
        if out.index != len(self.ops) - 1:
            raise ValueError("the output of a program must be its last value")
        mixes = any(isinstance(op, ir.Mix | ir.Join) for op in ir.all_ops(self.ops))
        mixes = mixes or self.shape is not None or self.flips is not None
        axes = next(iter(self.found), None) if mixes else 0
        return Program(
            tuple(self.ops),
            tuple(self.params),
            axes,
            out.made_by if mixes and out.domain.axes != 0 else None,
            self.shape,
            self.flips is not None,
        )

    def _common_domain(self, xs: list[Ref], label: str) -> Domain:
        """The positions of branches that are merged, which must be along the same axes."""
        found = next(iter(self.found), None)
        domains = [Domain(found) if x.domain == AS_DATA else x.domain for x in xs]
        for x, domain in zip(xs[1:], domains[1:], strict=True):
            if domain != domains[0]:
                raise NetworkError(
                    f"{label}: expected branches with the same positions, found {domains[0]} "
                    f"behind {xs[0].made_by} and {domain} behind {x.made_by}."
                )
        return domains[0]
