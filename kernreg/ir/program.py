"""The kernel program: what a network does to the state of a pair of inputs.

A program is a list of operations in static single assignment form. Value ``i`` is what operation
``i`` makes: the state ``(nngp, ntk, variances)`` of a pair. Numbers that a user may vary live in
``Program.params``, so that programs of one structure share compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from kernreg.ir.operations import Dense, Mix, Op, all_ops, listing

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
    spatial : bool
        Whether the output has positions too.

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
    spatial: bool = False

    def structure(self) -> tuple[Any, ...]:
        """What compiled code depends on: everything but the values of ``params``."""
        return tuple(op.structure() for op in self.ops)

    def with_params(self, params: tuple[float, ...]) -> Program:
        """The same program on other numbers."""
        if len(params) != len(self.params):
            raise ValueError(f"expected {len(self.params)} parameters, found {len(params)}")
        return replace(self, params=tuple(float(v) for v in params))

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

