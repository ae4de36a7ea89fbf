"""The operations of a kernel program, and how each prints.

What the engine does with an operation stands in :mod:`kernreg.backends.ops`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kernreg.ir.pair import Dual
from kernreg.ir.taps import Taps

__all__ = [
    "Apply",
    "Carry",
    "Dense",
    "Dropout",
    "Input",
    "Join",
    "Mix",
    "Normalize",
    "Op",
    "Product",
    "Repeat",
    "Sum",
    "all_ops",
    "listing",
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


def _own(params: Params, W: int, b: int | None, fan_in: int | None) -> tuple[float, float]:
    """The same for trained weights: ``fan_in k + [b is a parameter]`` is ``g k' + h``."""
    if fan_in is None:
        return 1.0, 0.0
    g = fan_in / params[W] ** 2
    return g, 0.0 if b is None else 1.0 - g * params[b] ** 2


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

    def own(self, params: Params) -> tuple[float, float]:
        """``(g, h)`` of ``t' = g k' + h + W^2 t``, the part that the layer's weights add."""
        return _own(params, self.W, self.b, self.fan_in) if self.trained else (0.0, 0.0)

    def flops(self) -> int:
        return 8

    def text(self, params: Params) -> str:
        text = f"dense %{self.x}  W_std={params[self.W]:g}"
        text += "" if self.b is None else f" b_std={params[self.b]:g}"
        text += "" if self.fan_in is None else f" standard fan_in={self.fan_in}"
        return text + ("" if self.trained else " not trained")


@dataclass(frozen=True)
class Mix(_Unary):
    """Sums over positions: ``K' = sum_a A_a K A_a'^T`` with what the layer's weights do to it.

    Each tap has weights of its own, as in a convolution, unless they are ``shared``: then the sum
    is of the values themselves, as in pooling.

    Parameters
    ----------
    taps : Taps
        Which positions are read.
    W, b : int or None
        Slots of ``params``; a layer without weights has no ``W``.
    fan_in : int or None
        Width of the input times positions of a filter, in the "standard" parameterization.
    trained : bool
        As in :class:`Dense`.
    shared : str or None
        How a shared sum is scaled: "mean", "sum", or "present", the mean over what is there.
    local : bool
        Whether weights differ from position to position, so that no two positions behind are
        correlated.
    """

    taps: Taps
    W: int | None = None
    b: int | None = None
    fan_in: int | None = None
    trained: bool = True
    shared: str | None = None
    local: bool = False

    def own(self, params: Params) -> tuple[float, float]:
        """``(g, h)`` of ``t' = g k' + h + W^2 A(t)``, the part that the layer's weights add."""
        if self.W is None or not self.trained:
            return 0.0, 0.0
        return _own(params, self.W, self.b, self.fan_in)

    def numbers(self, params: Params) -> tuple[float, float]:
        """Standard deviations of weights and biases, 1 and 0 where there are none."""
        W = 1.0 if self.W is None else params[self.W]
        return W, 0.0 if self.b is None else params[self.b]

    def flops(self) -> int:
        return 12

    def text(self, params: Params) -> str:
        name = "local mix" if self.local else "mix"
        text = f"{name} %{self.x}  {self.taps}"
        text += "" if self.shared is None else f" {self.shared}"
        text += "" if self.W is None else f" W_std={params[self.W]:g}"
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
class Join(Op):
    """Positions of independent branches side by side along ``axis``: blocks, nothing between."""

    xs: tuple[int, ...]
    axis: int

    @property
    def inputs(self) -> tuple[int, ...]:
        return self.xs

    def flops(self) -> int:
        return 1

    def text(self, params: Params) -> str:
        return "join " + ", ".join(f"%{x}" for x in self.xs) + f" along axis {self.axis}"


@dataclass(frozen=True)
class Normalize(_Unary):
    """Layer normalisation: ``k' = k / sqrt((eps + q1)(eps + q2))``, the same factor for ``t``.

    Along ``axes`` of positions variances are averaged.
    """

    eps: int
    axes: tuple[int, ...] = ()

    def text(self, params: Params) -> str:
        over = f" axes={self.axes}" if self.axes else ""
        return f"normalize %{self.x}  eps={params[self.eps]:g}{over}"


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


def all_ops(ops: Iterable[Op]) -> list[Op]:
    """Operations, and those of loops in them."""
    inner = [all_ops(op.body) for op in ops if isinstance(op, Repeat)]
    return [*ops, *(op for body in inner for op in body)]
