"""Random networks: the cpu backend against the reference, symmetry, diagonals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import kernreg
from kernreg import nn
from tests.backends.compare import KERNELS, backends, hard_rows, needs_cpu, on, relative_error, rows
from tests.nn.strategies import GROWING, HOMOGENEOUS, JUMPS, NUMERICAL, SMOOTH, networks

examples = settings(max_examples=50)
ANY = networks(HOMOGENEOUS | SMOOTH | JUMPS)


@needs_cpu
@examples
@given(net=ANY)
def test_float64(net: nn.Layer) -> None:
    """A rounding of 1e-16 grows by 4 per layer at most: 1e-10 leaves room for ten layers."""
    assert relative_error(net, rows(), None, backend="cpu") <= 1e-10
    assert relative_error(net, rows(), rows(4, seed=1), backend="cpu") <= 1e-10


@needs_cpu
@examples
@given(net=networks(HOMOGENEOUS | JUMPS) | networks(SMOOTH))
def test_float64_on_hard_rows(net: nn.Layer) -> None:
    """Kinks and smooth functions apart.

    Behind a smooth function a gap is known to 1e-16, and a kink would make 1e-8 of that.
    """
    assert relative_error(net, hard_rows(), None, backend="cpu") <= 1e-10
    assert relative_error(net, hard_rows(), hard_rows(), backend="cpu") <= 1e-10


@needs_cpu
@examples
@given(net=ANY)
def test_float32(net: nn.Layer) -> None:
    """The numerics contract: 5e-6."""
    other = rows(4, seed=1)
    assert relative_error(net, rows(), None, backend="cpu", dtype="float32") <= 5e-6
    assert relative_error(net, rows(), other, backend="cpu", dtype="float32") <= 5e-6


@needs_cpu
@examples
@given(net=ANY)
def test_float32_on_hard_rows(net: nn.Layer) -> None:
    """The numerics contract: 2e-5 for near-duplicate and identical rows."""
    X = hard_rows()
    assert relative_error(net, X, None, backend="cpu", dtype="float32") <= 2e-5
    assert relative_error(net, X, X, backend="cpu", dtype="float32") <= 2e-5


@needs_cpu
@settings(max_examples=8)
@given(net=networks(NUMERICAL | GROWING, max_leaves=2))
def test_series(net: nn.Layer) -> None:
    """Without a closed form: "auto", since a series may be too long for the cpu backend.

    Series end at a tail of 1e-13, for float32 at 1e-8, of each of at most six layers.
    """
    X = rows(3)
    assert relative_error(net, X, None) <= 1e-10
    assert relative_error(net, X, X, dtype="float32") <= 2e-5


@backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@examples
@given(net=ANY)
def test_symmetric_bit_for_bit(net: nn.Layer, backend: str, dtype: str) -> None:
    X = hard_rows().astype(dtype)
    K = kernreg.gram(net, X, kernel=KERNELS, **on(backend))
    for kernel in KERNELS:
        matrix = getattr(K, kernel)
        assert matrix.dtype == dtype
        np.testing.assert_array_equal(matrix, matrix.T)
        np.testing.assert_array_equal(np.diag(matrix), kernreg.diag(net, X, kernel))
