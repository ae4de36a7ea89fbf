"""Equal rows are one row to everything that is worked out per row."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.backends.distinct import Distinct
from kernreg.backends.rows import Row
from kernreg.numerics.hermite import hermite_coefficients
from kernreg.numerics.quadrature import row_moments


def row(*s: float) -> Row:
    t = torch.tensor(s, dtype=torch.float64)
    return Row(t, 2.0 * t)


def test_rows_of_both_sides_share_their_states() -> None:
    one, two = row(3.0, 1.0, 3.0), row(2.0, 3.0)
    found = Distinct.of(one, two)
    assert found.row.s.tolist() == [1.0, 2.0, 3.0]
    assert found.first is not None
    assert found.first.tolist() == [1, 3, 0]
    assert torch.equal(found.rows(found.row, 0).tau, one.tau)
    assert torch.equal(found.rows(found.row, 1).s, two.s)


def test_different_rows_of_a_symmetric_matrix_stay_as_they_are() -> None:
    one = row(3.0, 1.0, 2.0)
    found = Distinct.of(one, one)
    assert found.row is one
    assert found.first is None
    assert found.all(one.s, 1) is one.s


def test_rows_that_differ_in_their_tangent_kernel_are_different() -> None:
    s = torch.ones(3, dtype=torch.float64)
    found = Distinct.of(Row(s, torch.tensor([1.0, 2.0, 1.0]).double()), row(1.0))
    assert len(found.row.s) == 2


@pytest.mark.parametrize("fn", [nn.Swish(), nn.Tanh()], ids=repr)
def test_sums_do_not_depend_on_the_place(fn: nn.Nonlinearity) -> None:
    """Not on other rows of a block either, as long as they need no longer rule."""
    rng = np.random.default_rng(0)
    s = torch.from_numpy(rng.uniform(0.2, 2.0, 301))
    s[7] = s[100] = s[300]
    for values in (*row_moments(fn, s), *hermite_coefficients(fn, s, 20).coefficients.T):
        assert values[7] == values[100] == values[300]
