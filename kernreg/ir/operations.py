"""The operations of a kernel program, and how each prints.

What the engine does with an operation stands in :mod:`kernreg.backends.ops`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kernreg.ir.pair import Dual

__all__ = [
    "Apply",
    "Carry",
    "Dense",
    "Dropout",
    "Input",
    "Normalize",
    "Op",
    "Product",
    "Repeat",
    "Sum",
]

# Floating-point operations of a nonlinearity per matrix entry.
_FLOPS_CLOSED, _FLOPS_SERIES = 40, 300

Params = tuple[float, ...]


@dataclass(frozen=True)
class Op:
    """What makes a value of a program; ``label`` is the layer that it comes from.

    Subclasses are frozen dataclasses whose numbers of values and slots of ``params`` are fields.
    """

    label: str = field(default="", compare=False, kw_only=True)

    @property
    def inputs(self) -> tuple[int, ...]:
        """Numbers of the values that it reads."""
        return ()

    def structure(self) -> Any:
        """What compiled code depends on."""
        return self

    def flops(self) -> int:
        """Floating-point operations per matrix entry, measured to about a factor of two."""
        return 0

    def text(self, params: Params) -> str:
        """One line that says what it does."""
        raise NotImplementedError

    def lines(self, params: Params) -> list[str]:
        """What is printed below that line."""
        return []


@dataclass(frozen=True)
class _Unary(Op):
    """Reads value ``x``."""

    x: int

    @property
    def inputs(self) -> tuple[int, ...]:
        return (self.x,)


@dataclass(frozen=True)
class Input(Op):
    """The data: ``k = <x, x'> / d``, ``t = 0``."""

    def flops(self) -> int:
        return 4

    def text(self, params: Params) -> str:
        return "input"


@dataclass(frozen=True)
class Carry(Op):
    """The value that enters a loop body."""

    def text(self, params: Params) -> str:
        return "carry"


@dataclass(frozen=True)
class Dense(_Unary):
    """``k' = W^2 k + b^2``, ``t' = k' + W^2 t`` ("ntk" parameterization).

    ``W`` and ``b`` are slots of ``params``. With ``fan_in`` the layer is in the "standard"
    parameterization: ``t' = fan_in k + W^2 t + [b is a parameter]``. One that is not trained adds
    nothing of its own: ``t' = W^2 t``.
    """

    W: int
    b: int | None = None
    fan_in: int | None = None
    trained: bool = True

    @property
    def plain(self) -> bool:
        """Whether it adds ``k'`` to the tangent kernel, as most layers do."""
        return self.trained and self.fan_in is None

    def flops(self) -> int:
        return 8

    def text(self, params: Params) -> str:
        text = f"dense %{self.x}  W_std={params[self.W]:g}"
        text += "" if self.b is None else f" b_std={params[self.b]:g}"
        text += "" if self.fan_in is None else f" standard fan_in={self.fan_in}"
        return text + ("" if self.trained else " not trained")


@dataclass(frozen=True)
class Apply(_Unary):
    """A nonlinearity: ``k' = E[phi phi']``, ``t' = t E[phi_dot phi_dot']``."""

    fn: Dual
    slots: tuple[int, ...] = ()

    def bound(self, params: Params) -> Dual:
        """The nonlinearity with the program's numbers."""
        return self.fn.bind(tuple(params[s] for s in self.slots))

    def structure(self) -> Any:
        return Apply, self.x, self.fn.structure(), self.slots

    def flops(self) -> int:
        return _FLOPS_CLOSED if self.fn.closed_form else _FLOPS_SERIES

    def text(self, params: Params) -> str:
        return f"{self.bound(params)!r} %{self.x}"


@dataclass(frozen=True)
class Sum(Op):
    """Weighted sum of independent branches, of ``k`` and of ``t``; ``slots`` hold the weights."""

    xs: tuple[int, ...]
    slots: tuple[int, ...] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.xs

    def weights(self, params: Params) -> list[float]:
        """The weights, 1 where there are none."""
        return [params[s] for s in self.slots] if self.slots else [1.0] * len(self.xs)

    def flops(self) -> int:
        return 8

    def text(self, params: Params) -> str:
        terms = [f"%{x}" for x in self.xs]
        if self.slots:
            terms = [f"{params[s]:g} {t}" for s, t in zip(self.slots, terms, strict=True)]
        return "sum " + " + ".join(terms)


@dataclass(frozen=True)
class Product(Op):
    """Product of branches: ``k' = prod k_i``, ``t' = sum_i t_i prod_{j != i} k_j``."""

    xs: tuple[int, ...]

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.xs

    def flops(self) -> int:
        return 6

    def text(self, params: Params) -> str:
        return "product " + " * ".join(f"%{x}" for x in self.xs)


@dataclass(frozen=True)
class Normalize(_Unary):
    """Layer normalisation: ``k' = k / sqrt((eps + q1)(eps + q2))``, the same factor for ``t``."""

    eps: int

    def text(self, params: Params) -> str:
        return f"normalize %{self.x}  eps={params[self.eps]:g}"


@dataclass(frozen=True)
class Dropout(_Unary):
    """The variance of one sample grows by ``1 / keep``; pairs of samples do not change."""

    keep: int

    def flops(self) -> int:
        return 4

    def text(self, params: Params) -> str:
        return f"dropout %{self.x}  keep={params[self.keep]:g}"


@dataclass(frozen=True)
class Repeat(_Unary):
    """``count`` turns of ``body``; its operation 0 is :class:`Carry`, its last one goes round."""

    body: tuple[Op, ...]
    count: int

    def structure(self) -> Any:
        return Repeat, self.x, tuple(op.structure() for op in self.body), self.count

    def flops(self) -> int:
        return self.count * sum(op.flops() for op in self.body)

    def text(self, params: Params) -> str:
        return f"repeat {self.count} times on %{self.x}"

    def lines(self, params: Params) -> list[str]:
        return ["  " + line for line in listing(self.body, params)]


def listing(ops: tuple[Op, ...], params: Params) -> list[str]:
    """Numbered lines of operations and of the bodies of loops."""
    return [
        line
        for i, op in enumerate(ops)
        for line in (f"%{i} = {op.text(params)}", *op.lines(params))
    ]
