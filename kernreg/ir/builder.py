"""How layers write a program."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

from kernreg.exceptions import NetworkError
from kernreg.ir import operations as ir
from kernreg.ir.domain import VECTOR, Domain
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program

__all__ = ["Builder", "Kind", "Ref"]


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
    domain: Domain = VECTOR


@dataclass
class Builder:
    """Collects operations while layers lower themselves."""

    ops: list[ir.Op] = field(default_factory=list)
    params: list[float] = field(default_factory=list)

    def slot(self, value: float) -> int:
        """A new run-time parameter."""
        self.params.append(float(value))
        return len(self.params) - 1

    def emit(self, op: ir.Op, kind: Kind, label: str, domain: Domain = VECTOR) -> Ref:
        """Append an operation that comes from the layer ``label``."""
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

    def apply(self, x: Ref, fn: Dual, values: tuple[float, ...], label: str) -> Ref:
        """Append a nonlinearity."""
        slots = tuple(self.slot(v) for v in values)
        return self.emit(ir.Apply(x.index, fn, slots), Kind.OTHER, label, x.domain)

    def sum(self, xs: list[Ref], weights: tuple[float, ...], kind: Kind, label: str) -> Ref:
        """Append a weighted sum of branches (no weights: all 1)."""
        slots = tuple(self.slot(w) for w in weights)
        op = ir.Sum(tuple(x.index for x in xs), slots)
        return self.emit(op, kind, label, _common_domain(xs, label))

    def product(self, xs: list[Ref], label: str) -> Ref:
        """Append a product of branches."""
        op = ir.Product(tuple(x.index for x in xs))
        return self.emit(op, Kind.OTHER, label, _common_domain(xs, label))

    def repeat(self, x: Ref, body: Builder, out: Ref, count: int, label: str) -> Ref:
        """Append ``count`` turns of ``body``, which was built on its own :meth:`body`."""
        op = ir.Repeat(x.index, tuple(body.ops), count)
        return self.emit(op, out.kind, label, out.domain)

    def body(self, x: Ref) -> tuple[Builder, Ref]:
        """A builder for a loop body on values like ``x``; it shares the parameters."""
        inner = Builder(params=self.params)
        carry = inner.emit(ir.Carry(), x.kind, x.made_by, x.domain)
        return inner, carry

    def finish(self, out: Ref) -> Program:
        """The finished program."""
        if out.index != len(self.ops) - 1:
            raise ValueError("the output of a program must be its last value")
        return Program(tuple(self.ops), tuple(self.params))


def _common_domain(xs: list[Ref], label: str) -> Domain:
    """The positions of branches that are merged, which must be the same."""
    for x in xs[1:]:
        if x.domain != xs[0].domain:
            raise NetworkError(
                f"{label}: expected branches with the same positions, found {xs[0].domain} behind "
                f"{xs[0].made_by} and {x.domain} behind {x.made_by}."
            )
    return xs[0].domain
