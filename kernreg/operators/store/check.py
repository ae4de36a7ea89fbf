"""Whether the entries on disk are those of an operator."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernreg.exceptions import StoreError
from kernreg.operators.base import Operator
from kernreg.operators.store.tiles import TileArray

__all__ = ["TOLERANCE", "compare"]

TOLERANCE = {"float64": 1e-9, "float32": 4e-5, "bfloat16": 2.0**-7}
"""How far two evaluations of an entry may differ, over sqrt(K_ii K_jj)."""

_SIDE = 16


def compare(
    store: TileArray,
    operator: Operator,
    diagonal: NDArray[Any],
    samples: int,
    rng: np.random.Generator,
) -> None:
    """Compare the diagonal, if symmetric, and a block in each of ``samples`` tiles.

    Raises
    ------
    StoreError
        If an entry differs by more than rounding.
    """
    if operator.dtype != store.entries:
        operator = operator.astype(store.entries)
    tolerance = TOLERANCE[store.dtype]
    if store.symmetric:
        expected = np.asarray(operator.diagonal())
        _require_close(store, diagonal, expected, tolerance * np.abs(expected), "diagonal")
    places = store.tiles()
    for index in rng.choice(len(places), min(samples, len(places)), replace=False):
        i0, i1, j0, j1 = store.bounds(*places[index])
        top, left = int(rng.integers(i0, i1)), int(rng.integers(j0, j1))
        rows, columns = slice(top, min(top + _SIDE, i1)), slice(left, min(left + _SIDE, j1))
        tile = store.read(*places[index])
        found = tile[top - i0 :, left - j0 :][:_SIDE, :_SIDE]
        expected = np.empty(found.shape, dtype=store.entries)
        operator.tile(rows, columns, expected)
        scale = np.max(np.abs(expected))
        if store.symmetric:
            scale = np.sqrt(np.abs(np.outer(diagonal[rows], diagonal[columns])))
        _require_close(store, found, expected, tolerance * scale, f"tile {places[index]}")


def _require_close(
    store: TileArray, found: NDArray[Any], expected: NDArray[Any], bound: Any, where: str
) -> None:
    if not (np.abs(found - expected) <= bound).all():
        raise StoreError(
            f"{store.path} holds other entries than the operator (first seen in the {where}): it "
            "was written by another version of the network's functions; delete it and write it "
            "again."
        )
