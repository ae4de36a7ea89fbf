"""Stores that tests write."""

from __future__ import annotations

import json

from kernreg import nn
from kernreg.operators import TileStore
from kernreg.operators.store import records
from tests.contracts.solver import gaussian_points

NET = nn.mlp(depth=2, b_std=0.1)
X = gaussian_points(70, 4)


def written(path, operator, **options):
    store = TileStore.create(path, operator, **options)
    store.write(operator)
    return store


def change(folder, edit, hashed=True):
    """Edit a header; with its hash, as a program does that knows how."""
    path = folder / "zarr.json"
    found = json.loads(path.read_text())
    kept = found["attributes"]["kernreg"]
    old = kept.pop("hash", None)
    edit(found, kept)
    new = records.header_digest(found) if hashed else old
    if new is not None:
        kept["hash"] = new
    path.write_text(json.dumps(found))
