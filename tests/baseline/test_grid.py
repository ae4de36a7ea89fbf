"""The networks and kernels of distances that are tried."""

import numpy as np
import pytest

from kernreg import nn
from kernreg.baseline.grid import ALPHAS, GAUSSIAN, RADIAL, networks, radial

KINDS = ("standard", "common")


@pytest.mark.parametrize("quick", [True, False])
def test_candidates_are_what_they_say(quick):
    X = np.random.default_rng(0).standard_normal((4, 3))
    grid = networks(KINDS, quick)
    assert len(set(grid)) == len(grid)
    for candidate in grid:
        activation = nn.Rbf(1.0) if candidate.family == "Rbf" else getattr(nn, candidate.family)()
        expected = nn.mlp(candidate.depth, activation, candidate.W_std, candidate.b_std)
        if candidate.unit_rows:
            expected = nn.serial(nn.Dense(), nn.LayerNorm(), expected)
            assert candidate.scaling == "common"
        assert candidate.network == expected
        said = candidate.describe()
        assert f"{candidate.depth} hidden layer" in said
        assert f"W_std = {candidate.W_std:g}, b_std = {candidate.b_std:g}, " in said
        assert f"{candidate.scaling} inputs" in said
        assert ("unit norm" in said) == candidate.unit_rows
    nngp, ntk = grid[0].grams(X)
    assert nngp.shape == ntk.shape == (4, 4)
    assert np.linalg.eigvalsh(ntk - nngp).min() > 0


def test_sizes():
    full, quick = networks(("standard",)), networks(("standard",), quick=True)
    assert {c.family for c in full} == {"Relu", "Abs", "Gelu", "Erf", "Rbf"}
    assert len(quick) < len(full) / 3
    # "common" adds each network once as it is and once on rows of unit norm.
    assert len(networks(KINDS)) == 3 * len(full)
    for family in RADIAL:
        assert len(radial(family, KINDS)) == 2 * len(radial(family, ("standard",)))


@pytest.mark.parametrize("family", RADIAL)
def test_kernels_of_distances(family):
    X = np.random.default_rng(0).standard_normal((5, 3))
    squares = np.sum((X[:, None] - X[None]) ** 2, axis=2) / 3
    for candidate in radial(family, ("standard",)):
        (K,) = candidate.grams(X)
        power = squares if family == GAUSSIAN else np.sqrt(squares)
        assert np.abs(K - np.exp(-candidate.gamma * power)).max() < 1e-14


def test_ridges():
    assert len(ALPHAS) == 17
    assert ALPHAS[0] == 1e-8
    assert ALPHAS[-1] == 1
    assert np.allclose(ALPHAS[1:] / ALPHAS[:-1], 10**0.5, rtol=1e-12)
