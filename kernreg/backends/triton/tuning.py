"""Sizes of tiles, as data: ``tiles.json`` beside this file."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PRECISIONS", "Tile", "tile"]

PRECISIONS = ("ieee", "tf32x3", "tf32", "bf16x3")
"""Arithmetic of float32 products on a GPU; see :func:`kernreg.gram`."""


@dataclass(frozen=True)
class Tile:
    """Rows, columns and inner length of a tile; warps that share it; stages of its pipeline."""

    BM: int
    BN: int
    BK: int
    warps: int
    stages: int


# Formulas for gaps hold twice as many numbers at once: without spills for Gelu, depth 10.
_NARROW = {
    "gram": {80: Tile(16, 16, 16, 4, 1), 90: Tile(64, 32, 32, 8, 2)},
    "multiply": {80: Tile(16, 32, 16, 4, 1), 90: Tile(64, 16, 32, 8, 2)},
    "multiply_half": {80: Tile(16, 32, 16, 4, 1), 90: Tile(64, 16, 32, 8, 2)},
}

INTERPRETED = Tile(64, 64, 32, 4, 1)
"""Under the interpreter, where every operation on a tile costs the same."""


@functools.cache
def _table() -> dict[str, dict[str, dict[str, list[int]]]]:
    text = Path(__file__).with_name("tiles.json").read_text()
    table: dict[str, dict[str, dict[str, list[int]]]] = json.loads(text)
    return table


def tile(template: str, precision: str, capability: int, narrow: bool = False) -> Tile:
    """The tile of a template on a device.

    Parameters
    ----------
    template : {"gram", "multiply", "multiply_half"}
        Which kernel; the last is the product that uses symmetry.
    precision : str
        One of :data:`PRECISIONS`, or "float64".
    capability : int
        Compute capability of the device, 90 for 9.0; the entry of the nearest older one serves.
    narrow : bool, default=False
        For programs whose duals have formulas for the gap, on the matrix units.

    Returns
    -------
    Tile

    Examples
    --------
    >>> tile("gram", "tf32x3", 100).warps
    8
    """
    if narrow and precision not in ("ieee", "float64"):
        return _NARROW[template][90 if capability >= 90 else 80]
    entries = {int(key): value for key, value in _table()[template][precision].items()}
    known = [key for key in sorted(entries) if key <= capability] or [min(entries)]
    return Tile(*entries[known[-1]])
