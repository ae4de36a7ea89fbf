"""Scaling of features, chosen on the training rows."""

import numpy as np
import pytest

from kernreg.baseline.scaling import Scaler, scalings_for, share_a_unit
from kernreg.exceptions import InvalidInputError

rng = np.random.default_rng(30)
X = rng.standard_normal((50, 3)) * [1.0, 1e-3, 1e4] + [0.0, 5.0, -1e5]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_standard(dtype):
    Z = Scaler.fit(X.astype(dtype), "standard").transform(X.astype(dtype))
    assert Z.dtype == np.float64
    assert np.abs(Z.mean(axis=0)).max() < 1e-10
    assert np.abs(Z.std(axis=0) - 1).max() < 1e-10


def test_common():
    Z = Scaler.fit(X, "common").transform(X)
    assert np.mean(Z**2) == pytest.approx(1, rel=1e-14)
    # One factor, so that ratios stay.
    assert np.allclose(Z / X, (Z / X)[0, 0], rtol=1e-14)


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, 1e-300, 1.70000000000316032e18, 1e150])
def test_constant_columns(value):
    """The mean of equal numbers may differ from them by rounding, which must not be blown up."""
    same = np.full((50, 2), value)
    same[:, 1] = X[:, 0]
    Z = Scaler.fit(same, "standard").transform(same)
    # The other columns have unit variance; 1.7e18 is a time stamp in nanoseconds.
    assert np.abs(Z[:, 0]).max() < 1e-12


def test_zero_data():
    zero = np.zeros((4, 2))
    for kind in ("standard", "common"):
        assert np.array_equal(Scaler.fit(zero, kind).transform(zero), zero)


@pytest.mark.parametrize("kind", ["standard", "common"])
def test_squares_that_overflow(kind):
    huge = np.array([[1e200, 1.0], [-1e200, 2.0]])
    with pytest.raises(InvalidInputError, match="so large that their squares overflow"):
        Scaler.fit(huge, kind)


def test_new_rows_are_not_looked_at():
    scaler = Scaler.fit(X[:10], "standard")
    expected = (X[10:] - X[:10].mean(axis=0)) / X[:10].std(axis=0)
    assert np.allclose(scaler.transform(X[10:]), expected, rtol=1e-9)


def test_data_are_not_changed():
    copy = X.copy()
    Scaler.fit(X, "standard").transform(X)
    assert np.array_equal(X, copy)


@pytest.mark.parametrize(
    ("reach", "expected"),
    [
        ([1.0, 1.0, 1.0], True),
        ([1.0, 0.25, 0.25], True),
        ([1.0, 0.24, 0.24], False),
        ([1.0, 0.3, 1e-6], True),
        ([1.0], False),
        ([0.0, 0.0], True),
    ],
)
def test_columns_that_share_a_unit(reach, expected):
    rows = np.array([reach, -np.array(reach)])
    assert share_a_unit(rows) == expected
    assert scalings_for("auto", rows) == (("standard", "common") if expected else ("standard",))
    assert scalings_for("common", rows) == ("common",)
