"""Sparse rows give the entries of the same rows with their zeros."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernreg
from kernreg import KernelOperator, nn
from kernreg.backends.cpu import load_extension
from kernreg.backends.sparse import SparseRows, dense_rows
from kernreg.exceptions import BackendError, InvalidInputError
from tests.backends.compare import KERNELS, hard_rows, native, needs_cpu

EPS = np.finfo(float).eps
net = nn.serial(nn.Dense(1.5, 0.1), nn.Relu(), nn.Dense(1.2, 0.3), nn.Erf(), nn.Dense())


def sparse(n: int, d: int, filled: float, seed: int = 0, dtype: str = "float64") -> sp.csr_array:
    rng = np.random.default_rng(seed)
    return sp.csr_array(sp.random(n, d, filled, format="csr", rng=rng, dtype=dtype))


def error(X: sp.csr_array, Y: sp.csr_array | None, backend: str, net: nn.Layer = net) -> float:
    """The largest difference to dense rows, of sqrt(K_ii K_jj)."""
    worst = 0.0
    full = (X.toarray(), None if Y is None else Y.toarray())
    found = kernreg.gram(net, X, Y, KERNELS, backend=backend)
    right = kernreg.gram(net, *full, KERNELS, backend=backend)
    for kernel in KERNELS:
        one = np.sqrt(kernreg.diag(net, full[0], kernel))
        other = one if Y is None else np.sqrt(kernreg.diag(net, full[1], kernel))
        scale = np.maximum(np.outer(one, other), 1e-300)
        worst = max(worst, (np.abs(getattr(found, kernel) - getattr(right, kernel)) / scale).max())
    return worst


# 300 columns are two strips, and a row in ten or none at all is filled; 40,000 features are packed
# in three passes.
@native
@pytest.mark.parametrize(
    ("n", "m", "d", "filled"),
    [(1, 1, 1, 1.0), (5, 300, 7, 0.2), (300, 5, 50, 0.01), (100, 257, 400, 0.1)],
)
def test_shapes(n: int, m: int, d: int, filled: float, backend: str) -> None:
    """Sums of at most d products of unit rows: as many roundings, grown by less than 10."""
    X, Y = sparse(n, d, filled), sparse(m, d, filled, seed=1)
    assert error(X, None, backend) <= (10 * d + 200) * EPS
    assert error(X, Y, backend) <= (10 * d + 200) * EPS


@needs_cpu
@pytest.mark.parametrize("d", [16_384, 16_385, 40_000])
def test_more_features_than_are_packed_at_once(d: int) -> None:
    """Each sum has 0.4 d terms; they cancel no more than in the dense product."""
    X, Y = sparse(40, d, 0.4), sparse(30, d, 0.4, seed=1)
    assert error(X, None, "cpu") <= (d + 200) * EPS
    assert error(X, Y, "cpu") <= (d + 200) * EPS


@needs_cpu
@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
def test_instruction_sets(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    core = load_extension()[0]
    if core is None or isa not in core.instruction_sets():
        pytest.skip(f"this machine has no {isa}")
    monkeypatch.setenv("KERNREG_ISA", isa)
    X = sparse(270, 90, 0.1)
    assert error(X, None, "cpu") <= 1000 * EPS
    single = X.astype(np.float32)
    found = kernreg.gram(net, single, backend="cpu")
    right = kernreg.gram(net, single.toarray().astype(np.float64), backend="cpu")
    assert found.dtype == np.float32
    assert np.abs(found - right).max() <= 5e-6 * right.diagonal().max()


@native
def test_hard_rows(backend: str) -> None:
    """Equal, nearly equal, opposite, tiny and empty rows, by differences where they are near."""
    X = sp.csr_array(hard_rows())
    assert error(X, None, backend) <= 1e-12
    assert error(X, X.copy(), backend) <= 1e-12


@needs_cpu
@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 4), st.floats(-3, 3, width=32)), max_size=40
    ),
    kind=st.sampled_from(["csr", "csc", "coo", "lil", "dok", "bsr", "dia"]),
)
def test_any_kind_and_order(entries: list[tuple[int, int, float]], kind: str) -> None:
    """Duplicates are added, zeros that are written down do not count, features are in any order."""
    i, j, v = (np.array(part) for part in zip(*entries, strict=True)) if entries else ([], [], [])
    X = sp.coo_array((np.array(v, float), (np.array(i, int), np.array(j, int))), shape=(7, 5))
    one_way = nn.serial(nn.Dense(1.0, 0.5), nn.Relu(), nn.Dense())
    assert error(X.asformat(kind), None, "cpu", one_way) <= 1000 * EPS


@native
def test_one_side_may_be_dense(backend: str) -> None:
    X, Y = sparse(9, 20, 0.2), sparse(6, 20, 0.3, seed=1)
    right = kernreg.gram(net, X.toarray(), Y.toarray(), backend=backend)
    for first, second in ((X, Y.toarray()), (X.toarray(), Y), (torch.from_numpy(X.toarray()), Y)):
        found = np.asarray(kernreg.gram(net, first, second, backend=backend))
        np.testing.assert_allclose(found, right, rtol=1e-12)


@native
def test_symmetric_bit_for_bit(backend: str) -> None:
    X = sparse(300, 40, 0.1)
    K = kernreg.gram(net, X, backend=backend)
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_array_equal(K.diagonal(), kernreg.diag(net, X))


@needs_cpu
def test_columns_without_end() -> None:
    """Features are numbered anew: neither their number nor 32 bits limit them."""
    features = np.array([5, 2**32 + 5, 7, 5], dtype=np.int64)
    X = sp.csr_array((np.ones(4), features, [0, 1, 3, 4]), shape=(3, 2**33))
    small = sp.csr_array((np.ones(4), [0, 2, 1, 0], [0, 1, 3, 4]), shape=(3, 2**33))
    found = kernreg.gram(net, X)
    np.testing.assert_array_equal(found, kernreg.gram(net, small))
    assert abs(found[0, 2] - found[0, 0]) <= 200 * EPS
    assert found[0, 0] - found[0, 1] > 1e-8  # rows are short for so many columns


def test_duplicates_are_added_in_their_own_type() -> None:
    X = sp.coo_array((np.array([True, True]), ([0, 0], [1, 1])), shape=(2, 3))
    np.testing.assert_array_equal(kernreg.gram(net, X), kernreg.gram(net, X.toarray()))


def test_numbers_of_the_network_have_gradients() -> None:
    X = sparse(6, 10, 0.4)
    W = torch.tensor(1.3, requires_grad=True, dtype=torch.float64)
    one = nn.mlp(2)
    kernreg.gram(one, X, params={"W_std": W}).sum().backward()
    V = W.detach().clone().requires_grad_()
    kernreg.gram(one, X.toarray(), params={"W_std": V}).sum().backward()
    assert W.grad is not None
    assert V.grad is not None
    torch.testing.assert_close(W.grad, V.grad)


def test_data_are_left_as_they_are() -> None:
    X = sp.csr_array((np.array([1.0, 0.0, 2.0, 3.0]), [2, 0, 1, 1], [0, 3, 4]), shape=(2, 3))
    before = X.data.copy(), X.indices.copy(), X.indptr.copy()
    kernreg.gram(net, X)
    for found, right in zip((X.data, X.indices, X.indptr), before, strict=True):
        np.testing.assert_array_equal(found, right)


def test_operators() -> None:
    X = sparse(70, 30, 0.2)
    K, D = KernelOperator(net, X), KernelOperator(net, X.toarray())
    V = np.random.default_rng(0).standard_normal((70, 3))
    np.testing.assert_allclose(K @ V, D @ V, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(K.rows([3, 69]), D.rows([3, 69]), rtol=1e-12)
    np.testing.assert_allclose(K.take([4, 9, 2]).to_dense(), D.take([4, 9, 2]).to_dense())
    np.testing.assert_allclose(K.diagonal(), D.diagonal(), rtol=1e-14)
    assert K.fingerprint() == KernelOperator(net, sp.coo_array(X)).fingerprint()
    assert K.fingerprint() != KernelOperator(net, 2 * X).fingerprint()


def test_many_rows_are_prepared_late(monkeypatch: pytest.MonkeyPatch) -> None:
    from kernreg.operators import kernel

    monkeypatch.setattr(kernel, "PREPARED_ROWS", 10)
    monkeypatch.setattr(kernel, "_ROWS", 7)
    X = sparse(30, 20, 0.2)
    np.testing.assert_array_equal(KernelOperator(net, X).diagonal(), kernreg.diag(net, X))


def test_equal_rows_are_found() -> None:
    X = SparseRows.of(sp.csr_array([[0, 1, 2], [0, 0, 0], [0, 1, 2], [1, 0, 2], [0, 0, 0]]), float)
    first, group = X.groups()
    assert first.tolist() == [0, 1, 3]
    assert group.tolist() == [0, 1, 0, 2, 1]


def test_lengths_are_safe() -> None:
    X = SparseRows.of(sp.csr_array([[3e200, 4e200], [3e-200, 4e-200], [0, 0]]), float)
    np.testing.assert_allclose(X.lengths(), [5e200, 5e-200, 0], rtol=4 * EPS)
    unit = dense_rows(X.over(X.lengths(), torch.float64))
    np.testing.assert_allclose(unit, [[0.6, 0.8], [0.6, 0.8], [0, 0]], rtol=4 * EPS)


@pytest.mark.parametrize(
    ("values", "start", "features", "columns"),
    [
        ([1.0], [0, 2], [0], 3),
        ([1.0, 1.0], [0, 2], [1, 1], 3),
        ([1.0, 1.0], [0, 2], [2, 1], 3),
        ([1.0], [0, 1], [3], 3),
        ([1.0], [0, 1], [-1], 3),
        ([1.0], [0, 2, 1], [0], 3),
        ([1.0], [0, 1], [0.0], 3),
        ([1.0], [1], [0], 3),
        ([1.0], [0, 1], [0], 0),
    ],
)
def test_malformed_parts_are_refused(
    values: list[float], start: list[int], features: list[float], columns: int
) -> None:
    """Also by the extension, which would read beyond its memory."""
    with pytest.raises(ValueError, match="malformed sparse rows"):
        SparseRows.from_parts(np.array(values), start, features, columns)
    core = load_extension()[0]
    if core is None or isinstance(features[0], float):
        return
    n, (one, zero) = len(start) - 1, (np.ones(max(0, len(start) - 1)), np.zeros((0, 0)))
    rows = np.array(values), np.array(start), np.array(features, dtype=np.int32), columns
    code, out = np.zeros((0, 8), dtype=np.int32), [np.zeros((n, n)), None]
    table = zero.reshape(0, 0) if n == 0 else np.zeros((0, n))
    side = rows, table, one
    with pytest.raises(ValueError, match="malformed"):
        core.fill(
            "baseline", *side, *side, False, 0.0, code, one, out, one, one, [0, n, 0, n], 1, None
        )


def test_errors() -> None:
    X = sparse(4, 27, 0.5)
    for call, message in (
        (lambda: kernreg.gram(nn.cnn(2), X, input_shape=(3, 3, 3)), "sparse.*images"),
        (lambda: kernreg.gram(net, X, X[:, :5]), "must have 27 columns"),
        (lambda: kernreg.gram(net, torch.eye(3).to_sparse()), "sparse tensor; pass a CSR array"),
        (lambda: kernreg.gram(net, X.astype(complex)), "real numbers"),
        (lambda: kernreg.gram(net, sp.csr_array([[0, 1], [0, np.nan]])), "NaN.*row 1"),
        (lambda: kernreg.gram(net, sp.csr_array((0, 3))), r"found \(0, 3\)"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            call()
    V = torch.ones(4, 1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(InvalidInputError, match="no gradients"):
        KernelOperator(net, X) @ V
    with pytest.raises(BackendError, match=r"GPU only|sparse"):
        kernreg.gram(net, X, backend="cuda")
