"""The kernel program: what a network does to the state of a pair of inputs.

A program is a list of operations in static single assignment form. Value ``i`` is what operation
``i`` makes: the state ``(nngp, ntk, variances)`` of a pair. Numbers that a user may vary live in
``Program.params``, so that programs of one structure share compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kernreg.exceptions import NetworkError
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.operations import Dense, Join, Mix, Normalize, Op, Repeat, all_ops, listing
from kernreg.ir.taps import Sizes

__all__ = ["Program"]


@dataclass(frozen=True)
class Program:
    """A network as operations on the state of a pair.

    Parameters
    ----------
    ops : tuple of Op
        Operation ``i`` makes value ``i``; the last value is the output.
    params : tuple of float
        Run-time parameters.
    axes : int or None
        Axes of positions that the data must have: 0 for rows, None for any number but 0.
    spatial : str or None
        The last layer, if the output has positions too.
    shape : tuple of int or None
        Of the images that rows hold, channels last, where the network says so.
    flips : bool
        Whether the kernel is averaged over images and their mirror images.

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
    axes: int | None = 0
    spatial: str | None = None
    shape: tuple[int, ...] | None = None
    flips: bool = False

    def structure(self) -> tuple[Any, ...]:
        """What compiled code depends on: everything but the values of ``params``."""
        return tuple(op.structure() for op in self.ops)

    def with_params(self, params: tuple[float, ...]) -> Program:
        """The same program on other numbers."""
        if len(params) != len(self.params):
            raise ValueError(f"expected {len(self.params)} parameters, found {len(params)}")
        return replace(self, params=tuple(float(v) for v in params))

    def sizes(self) -> list[Sizes]:
        """Numbers of positions behind each operation, () for vectors.

        Raises
        ------
        NetworkError
            If a layer does not fit the images.
        """
        if self.shape is None:
            raise ValueError("the program does not say of which shape images are")
        return _Sizes().all(self.ops, self.shape[:-1])

    def trains(self) -> bool:
        """Whether some layer is trained, or none has weights at all."""
        ops = all_ops(self.ops)
        layers = [
            op for op in ops if isinstance(op, Dense) or (isinstance(op, Mix) and op.W is not None)
        ]
        return not layers or any(op.trained for op in layers)

    def flops(self) -> int:
        """Rough number of floating-point operations per entry, inner product left out."""
        return sum(op.flops() for op in self.ops)

    def __str__(self) -> str:
        return "\n".join(listing(self.ops, self.params))


class _Sizes(Pass[Sizes]):
    """Numbers of positions; operations that are named nowhere keep them."""

    rules = Rules("sizes")

    def all(self, ops: tuple[Op, ...], start: Sizes) -> list[Sizes]:
        found = [start]
        for op in ops[1:]:
            found.append(self.step(op, [found[x] for x in op.inputs], []))
        return found

    def step(self, op: Op, xs: list[Sizes], done: list[Sizes]) -> Sizes:
        if isinstance(op, Repeat):
            return self._turns(op, xs[0])
        if isinstance(op, Mix):
            return op.taps.out(xs[0], op.label)
        if isinstance(op, Normalize) and op.axes and max(op.axes) >= len(xs[0]):
            raise NetworkError(
                f"{op.label}: axes must be below {len(xs[0])}, the number of axes of positions."
            )
        joined = op.axis if isinstance(op, Join) else None
        if joined is not None and joined >= len(xs[0]):
            raise NetworkError(
                f"{op.label}: axis must be below {len(xs[0])}, the number of axes of positions."
            )
        for x in xs[1:]:
            if any(a != b for k, (a, b) in enumerate(zip(x, xs[0], strict=True)) if k != joined):
                raise NetworkError(
                    f"{op.label}: expected branches with as many positions, found {xs[0]} and {x}: "
                    "give them the same strides and padding."
                )
        if joined is None:
            return xs[0]
        along = sum(x[joined] for x in xs)
        return (*xs[0][:joined], along, *xs[0][joined + 1 :])

    def _turns(self, op: Repeat, x: Sizes) -> Sizes:
        for _ in range(op.count):
            before, x = x, self.all(op.body, x)[-1]
            if x == before:
                break
        return x
