"""Where the positions of a value are."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["VECTOR", "Domain"]


@dataclass(frozen=True)
class Domain:
    """The axes of positions; how many positions there are is known when rows are bound.

    Parameters
    ----------
    axes : int
        Their number, 0 for a vector: it has one position, and each of its rows one state.
    """

    axes: int = 0


VECTOR = Domain()
"""No positions."""
