"""The kernel program: what a network does to the state of a pair of inputs.

A program is a list of operations in static single assignment form. Value ``i`` is what operation
``i`` makes: the state ``(nngp, ntk, variances)`` of a pair. Numbers that a user may vary live in
``Program.params``, so that programs of one structure share compiled code.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Any

from kernreg.ir.pair import Dual

__all__ = [
    "Apply",
    "Builder",
    "Carry",
    "Dense",
    "Dropout",
    "Input",
    "Kind",
    "Normalize",
    "Op",
    "Product",
    "Program",
    "Ref",
    "Repeat",
    "Sum",
    "inputs",
]


class Kind(enum.Enum):
    """What is known of the distribution of a value over random networks."""

    INPUT = "the raw input"
    GAUSSIAN = "a Gaussian preactivation"
    OTHER = "not Gaussian"


@dataclass(frozen=True)
class Input:
    """The data: ``k = <x, x'> / d``, ``t = 0``."""


@dataclass(frozen=True)
class Carry:
    """The value that enters a loop body."""


@dataclass(frozen=True)
class Dense:
    """``k' = W^2 k + b^2``, ``t' = k' + W^2 t`` ("ntk" parameterization).

    ``W`` and ``b`` are slots of ``params``. With ``fan_in`` the layer is in the "standard"
    parameterization: ``t' = fan_in k + W^2 t + [b is a parameter]``. One that is not trained adds
    nothing of its own: ``t' = W^2 t``.
    """

    x: int
    W: int
    b: int | None = None
    fan_in: int | None = None
    trained: bool = True

    @property
    def plain(self) -> bool:
        """Whether it adds ``k'`` to the tangent kernel, as most layers do."""
        return self.trained and self.fan_in is None


@dataclass(frozen=True)
class Apply:
    """A nonlinearity: ``k' = E[phi phi']``, ``t' = t E[phi_dot phi_dot']``."""

    x: int
    fn: Dual
    slots: tuple[int, ...] = ()


@dataclass(frozen=True)
class Sum:
    """Weighted sum of independent branches, of ``k`` and of ``t``; ``slots`` hold the weights."""

    xs: tuple[int, ...]
    slots: tuple[int, ...] = ()


@dataclass(frozen=True)
class Product:
    """Product of branches: ``k' = prod k_i``, ``t' = sum_i t_i prod_{j != i} k_j``."""

    xs: tuple[int, ...]


@dataclass(frozen=True)
class Normalize:
    """Layer normalisation: ``k' = k / sqrt((eps + q1)(eps + q2))``, the same factor for ``t``."""

    x: int
    eps: int


@dataclass(frozen=True)
class Dropout:
    """The variance of one sample grows by ``1 / keep``; pairs of samples do not change."""

    x: int
    keep: int


@dataclass(frozen=True)
class Repeat:
    """``count`` turns of ``body``; its operation 0 is :class:`Carry`, its last one goes round."""

    x: int
    body: tuple[Op, ...]
    count: int


Op = Input | Carry | Dense | Apply | Sum | Product | Normalize | Dropout | Repeat


def inputs(op: Op) -> tuple[int, ...]:
    """Numbers of the values that an operation reads."""
    if isinstance(op, Sum | Product):
        return op.xs
    return () if isinstance(op, Input | Carry) else (op.x,)


# Floating-point operations per matrix entry, measured to about a factor of two: what a plan needs.
_FLOPS = {Dense: 8, Sum: 8, Product: 6, Normalize: 0, Dropout: 4, Input: 4, Carry: 0}
_FLOPS_CLOSED, _FLOPS_SERIES = 40, 300


@dataclass(frozen=True)
class Program:
    """A network as operations on the state of a pair.

    Parameters
    ----------
    ops : tuple of Op
        Operation ``i`` makes value ``i``; the last value is the output.
    params : tuple of float
        Run-time parameters.

    Examples
    --------
    >>> from kernreg import nn
    >>> print(nn.mlp(depth=2, W_std=1.5, b_std=0.1).program())
    %0 = input
    %1 = dense %0  W_std=1.5 b_std=0.1
    %2 = repeat 2 times on %1
      %0 = carry
      %1 = Relu() %0
      %2 = dense %1  W_std=1.5 b_std=0.1
    """

    ops: tuple[Op, ...]
    params: tuple[float, ...] = ()

    def structure(self) -> tuple[Any, ...]:
        """What compiled code depends on: everything but the values of ``params``."""
        return _structure(self.ops)

    def with_params(self, params: tuple[float, ...]) -> Program:
        """The same program on other numbers."""
        if len(params) != len(self.params):
            raise ValueError(f"expected {len(self.params)} parameters, found {len(params)}")
        return replace(self, params=tuple(float(v) for v in params))

    def trains(self) -> bool:
        """Whether some layer is trained, or none has weights at all."""
        layers = [op for op in _all(self.ops) if isinstance(op, Dense)]
        return not layers or any(op.trained for op in layers)

    def flops(self) -> int:
        """Rough number of floating-point operations per entry, inner product left out."""
        return _flops(self.ops)

    def __str__(self) -> str:
        return "\n".join(_lines(self.ops, self.params))


def _structure(ops: tuple[Op, ...]) -> tuple[Any, ...]:
    out: list[Any] = []
    for op in ops:
        if isinstance(op, Apply):
            out.append((Apply, op.x, op.fn.structure(), op.slots))
        elif isinstance(op, Repeat):
            out.append((Repeat, op.x, _structure(op.body), op.count))
        else:
            out.append(op)
    return tuple(out)


def _all(ops: tuple[Op, ...]) -> list[Op]:
    """All operations, those of loops included."""
    inner = [_all(op.body) for op in ops if isinstance(op, Repeat)]
    return [*ops, *(op for body in inner for op in body)]


def _flops(ops: tuple[Op, ...]) -> int:
    total = 0
    for op in ops:
        if isinstance(op, Repeat):
            total += op.count * _flops(op.body)
        elif isinstance(op, Apply):
            total += _FLOPS_CLOSED if op.fn.closed_form else _FLOPS_SERIES
        else:
            total += _FLOPS[type(op)]
    return total


def _lines(ops: tuple[Op, ...], params: tuple[float, ...]) -> list[str]:
    lines = []
    for i, op in enumerate(ops):
        match op:
            case Input():
                text = "input"
            case Carry():
                text = "carry"
            case Dense(x, W, b, fan_in, trained):
                text = f"dense %{x}  W_std={params[W]:g}"
                text += "" if b is None else f" b_std={params[b]:g}"
                text += "" if fan_in is None else f" standard fan_in={fan_in}"
                text += "" if trained else " not trained"
            case Apply(x, fn, slots):
                text = f"{fn.bind(tuple(params[s] for s in slots))!r} %{x}"
            case Sum(xs, slots):
                terms = [f"%{x}" for x in xs]
                if slots:
                    terms = [f"{params[s]:g} {t}" for s, t in zip(slots, terms, strict=True)]
                text = "sum " + " + ".join(terms)
            case Product(xs):
                text = "product " + " * ".join(f"%{x}" for x in xs)
            case Normalize(x, eps):
                text = f"normalize %{x}  eps={params[eps]:g}"
            case Dropout(x, keep):
                text = f"dropout %{x}  keep={params[keep]:g}"
            case Repeat(x, _, count):
                text = f"repeat {count} times on %{x}"
        lines.append(f"%{i} = {text}")
        if isinstance(op, Repeat):
            lines += ["  " + line for line in _lines(op.body, params)]
    return lines


@dataclass(frozen=True)
class Ref:
    """A value under construction: its number, its kind, and the layer that made it."""

    index: int
    kind: Kind
    made_by: str = "the input"


@dataclass
class Builder:
    """Collects operations while layers lower themselves."""

    ops: list[Op] = field(default_factory=list)
    params: list[float] = field(default_factory=list)

    def _slot(self, value: float) -> int:
        self.params.append(float(value))
        return len(self.params) - 1

    def _emit(self, op: Op, kind: Kind, made_by: str) -> Ref:
        self.ops.append(op)
        return Ref(len(self.ops) - 1, kind, made_by)

    def input(self, kind: Kind = Kind.INPUT) -> Ref:
        """Start the program."""
        return self._emit(Input(), kind, "the input")

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
        W = self._slot(W_std)
        # Without the "standard" parameterization a bias of variance 0 is no bias.
        bias = None if b_std is None or (b_std == 0 and fan_in is None) else self._slot(b_std)
        return self._emit(Dense(x.index, W, bias, fan_in, trained), Kind.GAUSSIAN, label)

    def apply(self, x: Ref, fn: Dual, values: tuple[float, ...], label: str) -> Ref:
        """Append a nonlinearity."""
        slots = tuple(self._slot(v) for v in values)
        return self._emit(Apply(x.index, fn, slots), Kind.OTHER, label)

    def sum(self, xs: list[Ref], weights: tuple[float, ...], kind: Kind, label: str) -> Ref:
        """Append a weighted sum of branches (no weights: all 1)."""
        slots = tuple(self._slot(w) for w in weights)
        return self._emit(Sum(tuple(x.index for x in xs), slots), kind, label)

    def product(self, xs: list[Ref], label: str) -> Ref:
        """Append a product of branches."""
        return self._emit(Product(tuple(x.index for x in xs)), Kind.OTHER, label)

    def normalize(self, x: Ref, eps: float, label: str) -> Ref:
        """Append layer normalisation."""
        return self._emit(Normalize(x.index, self._slot(eps)), x.kind, label)

    def dropout(self, x: Ref, keep: float, label: str) -> Ref:
        """Append dropout."""
        return self._emit(Dropout(x.index, self._slot(keep)), Kind.OTHER, label)

    def repeat(self, x: Ref, body: Builder, out: Ref, count: int, label: str) -> Ref:
        """Append ``count`` turns of ``body``, which was built on its own :meth:`carry`."""
        return self._emit(Repeat(x.index, tuple(body.ops), count), out.kind, label)

    def body(self, kind: Kind, made_by: str) -> tuple[Builder, Ref]:
        """A builder for a loop body; it shares the parameters of this program."""
        inner = Builder(params=self.params)
        return inner, inner._emit(Carry(), kind, made_by)

    def finish(self, out: Ref) -> Program:
        """The finished program."""
        if out.index != len(self.ops) - 1:
            raise ValueError("the output of a program must be its last value")
        return Program(tuple(self.ops), tuple(self.params))
