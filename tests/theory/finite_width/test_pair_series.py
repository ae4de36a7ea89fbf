"""Hermite series of averages over pairs against nodes."""

from __future__ import annotations

import pytest
import torch

from kernreg import nn
from kernreg.theory.finite_width.pair_averages import NodeSource, Pairs
from kernreg.theory.finite_width.pair_rules import pair_rule
from kernreg.theory.finite_width.pair_series import SeriesSource, row_series

S = torch.tensor([0.4, 0.9, 1.3], dtype=torch.float64)


@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Gelu(), nn.Sin(1.0, 1.2, 0.3)], ids=repr)
@pytest.mark.parametrize("tolerance", [1e-4, 1e-8])
def test_against_nodes(fn: nn.Nonlinearity, tolerance: float) -> None:
    """Every average by name, with unequal variances, both signs of rho, and equal inputs."""
    i, j = torch.tensor([0, 1, 2, 1]), torch.tensor([2, 2, 0, 1])
    rho = torch.tensor([0.3, -0.8, 0.99, 1.0], dtype=torch.float64)
    pairs = Pairs(rho, 1 - rho.abs(), S[i], S[j])
    r = torch.tensor([0.2, -0.6, 0.9, 1.0], dtype=torch.float64)
    after = Pairs(r, 1 - r.abs(), S[i], S[j])
    c1, c2 = 1.1 / S[i], 0.9 / S[j]
    rows = row_series(fn, S, tolerance, tangent=True)
    assert rows is not None
    series = SeriesSource(rows, i, j)
    nodes = NodeSource(fn, pair_rule(fn, 1.3, 1e-11, tangent=True))
    found = series.sums(pairs, c1, c2, after, tangent=True)
    exact = nodes.sums(pairs, c1, c2, after, tangent=True)
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        # An average may be small beside the root mean squares of its factors.
        scale = max(1.0, float(value.abs().max()))
        error = float((found[name] - value).abs().max())
        assert error < 20 * tolerance * scale, name
    near, far = series.distances(pairs, c1, c2)
    for got, want in zip((near, far), nodes.distances(pairs, c1, c2), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=10 * tolerance)


def test_length() -> None:
    """Longer for a smaller tolerance and a larger variance; none for a kink, or too long."""
    lengths = []
    for s, tolerance in [(0.5, 1e-3), (0.5, 1e-8), (1.0, 1e-8)]:
        rows = row_series(nn.Tanh(), s * torch.ones(2).double(), tolerance, tangent=True)
        assert rows is not None
        lengths.append(rows.tables["f0"].shape[1])
    assert lengths == sorted(set(lengths))
    assert row_series(nn.Elu(), S, 1e-3, tangent=False) is None
    assert row_series(nn.Tanh(), 30.0 * S, 1e-6, tangent=True) is None


def test_polynomials_are_finite_sums() -> None:
    rows = row_series(nn.Monomial(3), S, 1e-12, tangent=False)
    assert rows is not None
    # The longest is the ninth power.
    assert rows.tables["f0"].shape[1] == 10
