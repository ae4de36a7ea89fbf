from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kernreg import KernelOperator, nn
from kernreg.backends.cpu import load_extension
from kernreg.exceptions import InvalidInputError
from kernreg.operators import PackedOperator
from kernreg.solvers import Cholesky
from tests.contracts.solver import gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator


@settings(max_examples=20, deadline=None)
@given(
    n=st.sampled_from([1, 2, 511, 512, 513, 1030, 1600]),
    t=st.integers(0, 7),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_products(n, t, dtype):
    """Each entry is a sum of n rounded products, whatever their order."""
    K = kernel_matrix(n)
    V = gaussian_points(n, max(t, 1), seed=1).astype(dtype)
    V = V if t else V[:, 0]
    found = PackedOperator(DenseOperator(K, dtype)) @ V
    assert found.shape == V.shape
    assert found.dtype == V.dtype
    bound = n * np.finfo(dtype).eps * (np.abs(K) @ np.abs(V)) + np.finfo(dtype).eps
    assert (np.abs(found - K.astype(dtype).astype(float) @ V) <= bound).all()


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_vectors_are_summed_in_float64(isa, dtype, monkeypatch):
    """By the engine, the same on any number of threads: beside the sum, one rounding."""
    if load_extension()[0] is None or isa not in load_extension()[0].instruction_sets():
        pytest.skip(f"no {isa} here")
    monkeypatch.setenv("KERNREG_ISA", isa)
    n = 1601
    K = kernel_matrix(n).astype(dtype)
    stored = PackedOperator(DenseOperator(K.astype(float), dtype))
    for t in range(1, 5):
        V = gaussian_points(n, t, seed=t).astype(dtype)
        found = []
        for threads in ("1", "2", "5"):
            monkeypatch.setenv("KERNREG_NUM_THREADS", threads)
            found.append(stored @ V)
        assert all((each == found[0]).all() for each in found)
        exact = K.astype(np.longdouble) @ V.astype(np.longdouble)
        size = np.abs(K).astype(float) @ np.abs(V).astype(float)
        bound = np.finfo(dtype).eps / 2 * np.abs(exact) + n * 2.0**-53 * size
        assert (np.abs(found[0] - exact) <= 1.01 * bound).all()


def test_conjugates_that_are_not_made_yet():
    V = torch.randn(1, 1, dtype=torch.complex128).conj()
    K = KernelOperator(nn.mlp(depth=1), np.ones((1, 3)))
    for operator in (K, PackedOperator(K)):
        found = operator @ V
        torch.testing.assert_close(found, float(K.diagonal()[0]) * V.resolve_conj())


def test_entries_are_evaluated_once():
    operator = DenseOperator(kernel_matrix(1100))
    stored = PackedOperator(operator)
    for _ in range(3):
        stored @ np.ones(1100)
    assert operator.panels == 3
    assert stored.nbytes == PackedOperator.bytes_for(1100, "float64") < 8 * 1100**2 * 0.75


def test_serves_a_solver_like_the_operator_does():
    K, y = kernel_matrix(700), gaussian_points(700, 1)
    stored = PackedOperator(DenseOperator(K))
    solver = Cholesky(block=300)
    values = [
        solver.solve(solver.init(operator, 0.1), y).value for operator in (stored, DenseOperator(K))
    ]
    np.testing.assert_array_equal(*values)


@pytest.mark.parametrize("bounds", [(0, 700), (0, 1), (511, 513), (512, 600), (300, 700)])
def test_panels(bounds):
    K = kernel_matrix(700)
    i0, i1 = bounds
    out = np.empty((i1 - i0, i1))
    assert PackedOperator(DenseOperator(K)).lower_panel(i0, i1, out) is out
    np.testing.assert_array_equal(out, K[i0:i1, :i1])


def test_other_types_and_parts_come_from_the_source():
    operator = KernelOperator(nn.mlp(depth=1), gaussian_points(20, 3), dtype="float32")
    stored = PackedOperator(operator)
    assert stored.astype("float32") is stored
    assert stored.astype("float64").dtype == np.float64
    np.testing.assert_array_equal(stored.rows([3, 1]), operator.rows([3, 1]))
    np.testing.assert_array_equal(stored.diagonal(), operator.diagonal())
    part = slice(2, 5), slice(0, 9)
    np.testing.assert_array_equal(stored.tile(*part), operator.tile(*part))


def test_reduced_precision_of_torch_does_not_leak_in():
    stored = PackedOperator(DenseOperator(kernel_matrix(300), "float32"))
    V = gaussian_points(300, 4).astype(np.float32)
    expected = stored @ V
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        np.testing.assert_array_equal(stored @ V, expected)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_bad_operators():
    K = kernel_matrix(600)
    K[590, 3] = K[3, 590] = np.inf
    with pytest.raises(InvalidInputError, match=r"NaN or infinity \(first in row 590, column 3\)"):
        PackedOperator(DenseOperator(K))
    operator = DenseOperator(np.ones((3, 2)))
    operator.symmetric = False
    with pytest.raises(InvalidInputError, match="symmetric operator"):
        PackedOperator(operator)
