"""What backends that generate code for a whole program share: instructions and numbers of duals."""

from __future__ import annotations

from kernreg.ir.pair import Dual
from kernreg.ir.trace import DualCode

__all__ = ["OPS", "Duals"]

_ORDER = (
    "loop", "next", "dense", "sum", "product", "dropout",
    "series", "angles", "angles_gap", "profile", "copy",
)  # fmt: skip

OPS = {name: k for k, name in enumerate(_ORDER)} | {"dual": 1000}
"""Operation codes; a dual's number is added to ``dual``."""


class Duals:
    """Numbers for the duals of one program; equal code gets one number.

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.ir.trace import trace_dual
    >>> duals = Duals()
    >>> [duals.number(fn, trace_dual(fn)) for fn in (nn.Relu(), nn.Sin(), nn.Sin(2.0))]
    [0, 1, 1]
    """

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, DualCode]] = {}
        self._numbers: dict[str, int] = {}

    def number(self, fn: Dual, code: DualCode) -> int:
        """The number of a dual, a new one for new code."""
        number = self._numbers.setdefault(code.signature(), len(self._numbers))
        self.found.setdefault(number, (type(fn).__name__, code))
        return number
