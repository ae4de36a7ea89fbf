from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernreg.exceptions import InvalidInputError
from kernreg.solvers.scaling import scaled, unscaled

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(columns=st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=4), size=finite)
def test_scaled_numbers_are_those_given(columns, size):
    """Up to what underflows beside a larger number, and in a range whose squares are finite."""
    values = np.array(columns).T
    found, exponents = scaled(values, abs(size))
    back = np.ldexp(found, exponents)
    np.testing.assert_allclose(back, values, rtol=0, atol=2.0**-500 * np.abs(values).max())
    largest = np.abs(found).max(axis=0)
    for column, given_largest in zip(largest, np.abs(values).max(axis=0), strict=True):
        assert (column == 0) == (given_largest == 0)
        assert column == 0 or 2.0**-520 < column < 2.0**520


def test_ordinary_numbers_are_not_copied():
    values = np.array([[1e-50, 0.0], [1e50, 3.0]])
    found, exponents = scaled(values)
    assert found is values
    assert not exponents.any()
    assert unscaled(found, exponents) is values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(InvalidInputError, match="beyond the range"):
        unscaled(np.array([[1.0, 0.0], [bad, 0.0]]), np.zeros(2, dtype=np.intc))


@pytest.mark.parametrize(
    ("value", "exponent", "message"),
    [(1.0, 1024, "beyond the range"), (1.0, -1045, "below the range"), (1 / 3, -1041, "below")],
)
def test_numbers_that_do_not_fit_are_refused(value, exponent, message):
    with pytest.raises(InvalidInputError, match=message):
        unscaled(np.array([[value], [value / 3]]), np.array([exponent], dtype=np.intc))


def test_small_numbers_beside_one_that_keeps_its_digits():
    found = unscaled(np.array([[1.0], [2.0**-900]]), np.array([-1000], dtype=np.intc))
    assert found.tolist() == [[2.0**-1000], [0.0]]
