"""What entries and products of a module's kernel cost here, measured on a few of its rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kernreg.finite.empirical.jacobian import pull, push

if TYPE_CHECKING:
    from kernreg.finite.empirical.entries import Entries

__all__ = ["Costs", "faster"]

_ROWS = 16


def _seconds(run: Callable[[], Any]) -> float:
    """Of the second of two runs."""
    run()
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def faster(entries: Entries, X: Tensor) -> str:
    """Whether entries are made faster layer by layer or from Jacobians."""
    size = next(iter(entries.params.values())).element_size()
    at_once = entries.n_outputs if not isinstance(entries.outputs, int) else 1
    each = 4 * size * at_once * sum(p.numel() for p in entries.params.values())
    rows = int(min(_ROWS, len(X), entries.budget // max(1, each)))
    if rows < 1:
        return "structured"
    found = {}
    for method in ("structured", "jacobian"):
        entries._taken = method
        found[method] = _seconds(lambda: entries.between(entries.record(X[:rows]), None))
    return min(found, key=lambda m: found[m])


@dataclass(frozen=True)
class Costs:
    """Seconds.

    Parameters
    ----------
    row, pair : float
        Of entries: for each row of a block, and for each entry.
    passed : float
        Of a product: a gradient and a derivative along it, for each row.
    step : int
        Rows of a block.
    """

    row: float
    pair: float
    passed: float
    step: int

    @classmethod
    def measured(cls, entries: Entries, X: Tensor) -> Costs:
        """On some rows."""
        few = min(_ROWS, len(X), entries.step(X))
        half = max(1, few // 2)

        def square(rows: int) -> float:
            return _seconds(lambda: entries.between(entries.record(X[:rows]), None))

        small, large = square(half), square(few)
        # a r + b r^2 through both; rows of one size say nothing of pairs.
        pair = max(0.0, (large / few - small / half) / max(1, few - half))
        row = max(1e-9, large / few - pair * few)
        module, params = entries.module, entries.params

        def product() -> None:
            push(module, params, X[:few], pull(module, params, X[:few], 1.0 + entries.like(few)))

        return cls(row, pair, _seconds(product) / few, entries.step(X))

    def entries(self, n1: int, n2: int) -> float:
        """Of a matrix of so many rows and columns."""
        blocks = -(-n1 // self.step)
        return self.row * (n1 + blocks * n2) + self.pair * n1 * n2

    def products(self, n1: int, n2: int, passes: int) -> float:
        """Of a product with so many vectors."""
        return passes * 0.5 * (n1 + n2) * self.passed
