"""What entries and products of a module's kernel cost, in operations.

Counted, not timed, so that the same call does the same each time. Runs and products of matrices
are about as fast as each other, which ``benchmarks/finite.py`` measures.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Costs"]

# A run forwards, a gradient by parameters, and a derivative along a direction, in runs.
_PULLED, _PUSHED = 3.0, 2.0
# A gradient by the outputs of layers, and from it those by their weights.
_BY_LAYERS = 2.0


@dataclass(frozen=True)
class Costs:
    """Operations.

    Parameters
    ----------
    run : float
        Of the module on one row.
    parameters : int
        That are differentiated by.
    numbers : int
        Outputs that take part.
    full : bool
        Whether each output meets each.
    step : int
        Rows of a block.
    """

    run: float
    parameters: int
    numbers: int
    full: bool
    step: int

    def entries(self, n1: int, n2: int) -> float:
        """Of the entries between so many rows.

        Examples
        --------
        >>> costs = Costs(1e6, 10_000, 1, False, 100)
        >>> costs.entries(1000, 1000) / costs.products(1000, 1000, 1)
        10.6
        """
        rows = n1 + -(-n1 // self.step) * n2
        pairs = n1 * n2 * self.numbers**2 if self.full else n1 * n2 * self.numbers
        return rows * (1.0 + _BY_LAYERS * self.numbers) * self.run + 2.0 * self.parameters * pairs

    def products(self, n1: int, n2: int, columns: int) -> float:
        """Of a product with so many columns, without entries."""
        passes = columns if self.full else columns * self.numbers
        return passes * (n2 * _PULLED + n1 * _PUSHED) * self.run
