"""Stores that tests write."""

from __future__ import annotations

from kernreg import nn
from kernreg.linalg import TileStore
from tests.contracts.solver import gaussian_points

NET = nn.mlp(depth=2, b_std=0.1)
X = gaussian_points(70, 4)


def written(path, operator, **options):
    store = TileStore.create(path, operator, **options)
    store.write(operator)
    return store
