"""Where the positions of a value are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AS_DATA", "VECTOR", "Domain"]


@dataclass(frozen=True)
class Domain:
    """The axes of positions; how many positions there are is known when rows are bound.

    Parameters
    ----------
    axes : int or None
        Their number, 0 for a vector: it has one position, and each of its rows one state. None: as
        many as the data have.
    """

    axes: int | None = 0

    def __str__(self) -> str:
        if self.axes is None:
            return "the axes of the data"
        return "no axes of positions" if self.axes == 0 else f"{self.axes} axes of positions"


VECTOR = Domain()
"""No positions."""

AS_DATA = Domain(None)
"""Those of the input, of which the network does not say how many axes they have."""
