"""KernelOperator: parts and products of the matrix that is never stored."""

import gc
import tracemalloc
import weakref

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from kernreg import KernelOperator, gram, nn
from kernreg.operators import kernel as module

NET = nn.mlp(depth=2, W_std=1.3, b_std=0.2)
N, M, D = 83, 51, 6


def rows(n, seed=22):
    return np.random.default_rng(seed).standard_normal((n, D))


def symmetric(**arguments):
    return KernelOperator(NET, rows(N), **arguments)


def rectangular(**arguments):
    return KernelOperator(NET, rows(N), rows(M, seed=23), **arguments)


MAKERS = [symmetric, rectangular]


def entry_bound(K):
    """Largest difference between two evaluations of an entry, in another order of operations.

    The dot product of unit rows is off by D eps, which the slope of the kernel in rho, at most
    depth / (pi sqrt(1 - rho^2)) with rho < 0.99 here, multiplies; each layer adds a few eps.
    """
    eps = np.finfo(K.dtype).eps
    return (D * 2 / np.pi / np.sqrt(1 - 0.99**2) + 3 * 8) * eps * np.abs(K).max()


def product_bound(K, V):
    """Sums of n products in any order, |error| <= n eps |K| |V|, twice, and other entries."""
    eps = np.finfo(np.result_type(K, V)).eps
    size = np.abs(V).astype(float)
    entries = entry_bound(K) * np.abs(size).sum(axis=0)
    return 2 * len(V) * eps * (np.abs(K).astype(float) @ size) + entries


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_attributes_and_dense(make, backend, kernel):
    K = make(backend=backend, kernel=kernel)
    X2 = None if make is symmetric else rows(M, seed=23)
    assert K.shape == (N, N if X2 is None else M)
    assert K.dtype == np.float64
    assert K.symmetric is (X2 is None)
    assert K.backend == backend
    assert repr(K) == f"<KernelOperator {kernel} {N} x {K.shape[1]} float64 on {backend}>"
    assert np.array_equal(K.to_dense(), gram(NET, rows(N), X2, kernel, backend=backend))
    out = np.full(K.shape, np.nan)
    assert K.to_dense(out) is out
    assert np.array_equal(out, K.to_dense())


def test_far_from_parallel_as_the_bounds_assume():
    Z = np.vstack([rows(N), rows(M, seed=23)])
    Z /= np.linalg.norm(Z, axis=1)[:, None]
    assert np.abs((Z @ Z.T)[~np.eye(len(Z), dtype=bool)]).max() < 0.99


PARTS = [
    (slice(None), slice(None)),
    (slice(3, 40), slice(20, 49)),
    (slice(40, 50), slice(0, 10)),
    (slice(0, 10), slice(40, 50)),
    (slice(-5, None), slice(None, -7)),
    (slice(17, 18), slice(17, 18)),
    (slice(70, 200), slice(45, 200)),
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles(make, backend, dtype):
    K = make(backend=backend, dtype=dtype)
    dense = K.to_dense()
    for r, c in PARTS:
        tile, expected = K.tile(r, c), dense[r, c]
        assert tile.shape == expected.shape
        assert tile.dtype == dtype
        assert np.abs(tile - expected).max() <= entry_bound(dense)
        if make is symmetric:
            i, j = np.arange(N)[r], np.arange(N)[c]
            shared = i[:, None] == j
            assert np.array_equal(tile[shared], expected[shared])
        frame = np.full((tile.shape[0] + 2, tile.shape[1] + 4), 7.0, dtype=dtype)
        inside = frame[1:-1, 2:-2]
        assert K.tile(r, c, out=inside) is inside
        assert np.array_equal(inside, tile)
        inside[...] = 7.0
        assert (frame == 7.0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lower_panels(dtype):
    K = symmetric(dtype=dtype)
    dense = K.to_dense()
    for i0, i1 in ((0, 10), (10, 47), (47, N), (0, N), (82, 83)):
        panel = K.lower_panel(i0, i1)
        assert panel.shape == (i1 - i0, i1)
        assert np.abs(panel - dense[i0:i1, :i1]).max() <= entry_bound(dense)
        assert np.array_equal(np.diagonal(panel[:, i0:]), K.diagonal()[i0:i1])


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("index", [[0], [5, 3, 5], [-1, 0], np.array([80, 2]), 7, range(3, 9)])
def test_rows(make, index):
    K = make()
    dense = K.to_dense()
    found = K.rows(index)
    expected = dense[np.atleast_1d(index)]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= entry_bound(dense)


def test_a_row_meets_itself_on_the_diagonal():
    """Dropout makes that entry larger than the same pair of two different samples."""
    network = nn.serial(nn.Dense(), nn.Relu(), nn.Dropout(0.5), nn.Dense())
    K = KernelOperator(network, rows(N))
    found = K.rows([4, 9, 4])
    assert np.array_equal(found[[0, 1, 2], [4, 9, 4]], K.diagonal()[[4, 9, 4]])


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("columns", [None, 1, 4, 0])
@pytest.mark.parametrize("panel", [1, 10, 41, 83, 1000])
def test_products_in_panels_of_any_size(make, columns, panel, monkeypatch):
    K = make()
    monkeypatch.setattr(module, "PANEL_BYTES", panel * 8 * K.shape[1])
    rng = np.random.default_rng(24)
    V = rng.standard_normal(K.shape[1] if columns is None else (K.shape[1], columns))
    dense = K.to_dense()
    found = K @ V
    assert found.shape == (N, *V.shape[1:])
    assert (np.abs(found - dense @ V) <= product_bound(dense, V)).all()


@pytest.mark.parametrize(
    ("own", "other", "result"),
    [
        ("float64", "float64", "float64"),
        ("float32", "float32", "float32"),
        ("float32", "float64", "float64"),
        ("float64", "float32", "float64"),
        ("float64", "int64", "float64"),
        ("float64", "bool", "float64"),
        ("float64", "complex128", "complex128"),
    ],
)
@pytest.mark.parametrize("make", MAKERS)
def test_type_of_a_product(make, own, other, result, monkeypatch):
    K = make(dtype=own)
    monkeypatch.setattr(module, "PANEL_BYTES", 20 * K.dtype.itemsize * K.shape[1])
    V = (3 * rows(K.shape[1], seed=25)).astype(other)
    found = K @ V
    assert found.dtype == result
    dense = K.to_dense()
    assert (np.abs(found - dense.astype(complex) @ V) <= product_bound(dense, V)).all()


def test_lists_and_tensors_multiply():
    K = rectangular()
    expected = K @ np.ones(M)
    assert np.array_equal(K @ ([1.0] * M), expected)
    assert np.array_equal(K @ torch.ones(M, dtype=torch.float64), expected)


def test_astype():
    K = symmetric()
    single = K.astype("float32")
    assert single.dtype == np.float32
    assert (single.shape, single.kernel, single.symmetric) == (K.shape, K.kernel, True)
    scale = np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    # The contract of float32 entries.
    assert (np.abs(single.to_dense() - K.to_dense()) / scale).max() < 5e-6
    again = single.astype(np.float64)
    assert np.array_equal(again.to_dense(), K.to_dense())


@pytest.mark.parametrize("make", MAKERS)
def test_as_scipy(make):
    K = make()
    A, dense = K.as_scipy(), K.to_dense()
    assert isinstance(A, scipy.sparse.linalg.LinearOperator)
    assert (A.shape, A.dtype) == (K.shape, K.dtype)
    V, W = rows(K.shape[1], seed=26), rows(N, seed=27)
    for found, expected, bound in (
        (A @ V, dense @ V, product_bound(dense, V)),
        (A @ V[:, 0], dense @ V[:, 0], product_bound(dense, V[:, 0])),
        (A @ V[:, :1], dense @ V[:, :1], product_bound(dense, V[:, :1])),
        (A.T @ W, dense.T @ W, product_bound(dense.T, W)),
        (A.rmatvec(W[:, 0]), dense.T @ W[:, 0], product_bound(dense.T, W[:, 0])),
    ):
        assert found.shape == expected.shape
        assert (np.abs(found - expected) <= bound).all()


def test_conjugate_gradients_of_scipy():
    K = symmetric()
    A = K.as_scipy() + scipy.sparse.linalg.aslinearoperator(np.eye(N))
    b = rows(N, seed=28)[:, 0]
    found, status = scipy.sparse.linalg.cg(A, b, rtol=1e-12, maxiter=500)
    assert status == 0
    matrix = K.to_dense() + np.eye(N)
    # ||x - x*|| <= ||A^-1|| ||r||, and the residual is below 1e-12 ||b|| up to its own rounding.
    residual = 1e-12 + N * np.finfo(float).eps * np.linalg.cond(matrix)
    error = np.linalg.norm(found - np.linalg.solve(matrix, b))
    assert error <= 2 * np.linalg.norm(np.linalg.inv(matrix), 2) * residual * np.linalg.norm(b)


@pytest.mark.parametrize("make", MAKERS)
def test_a_product_does_not_store_the_matrix(make, monkeypatch):
    n = 1200
    X = np.random.default_rng(29).standard_normal((n, D))
    K = KernelOperator(NET, X, None if make is symmetric else X + 1)
    monkeypatch.setattr(module, "PANEL_BYTES", 32 * 8 * n)
    V = np.ones(n)
    tracemalloc.start()
    K @ V
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Two panels of 32 rows may be alive at once, and a few vectors.
    assert peak < (2 * 32 + 10) * 8 * n


def test_making_an_operator_keeps_nothing_of_its_caller():
    """A cycle of frames would hold the caller's arrays until the garbage collector runs."""

    class Marker:
        pass

    def caller():
        marker = Marker()
        KernelOperator(NET, rows(3)).astype("float32")
        return weakref.ref(marker)

    gc.collect()
    gc.disable()
    try:
        assert caller()() is None
    finally:
        gc.enable()
