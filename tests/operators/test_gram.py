"""``gram`` and ``diag``: shapes, types, containers and ``out``."""

import numpy as np
import pytest
import torch

from kernreg import diag, gram, nn

NET = nn.mlp(depth=2, W_std=1.3, b_std=0.2)
NETWORKS = [
    NET,
    nn.mlp(depth=3, activation=nn.Erf()),
    nn.mlp(depth=2, b_std=0.0),
    nn.serial(nn.Dense(), nn.Relu(), nn.Dropout(0.8), nn.Dense()),
]
BACKENDS = ["cpu", "reference"]
KERNELS = ["nngp", "ntk"]
# Not a multiple of any vector length or tile size.
N, M, D = 67, 45, 6


def rows(n, dtype="float64", seed=20):
    return np.random.default_rng(seed).standard_normal((n, D)).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_shapes_and_types(kernel, dtype):
    X1, X2 = rows(N, dtype), rows(M, dtype, seed=21)
    assert gram(NET, X1, kernel=kernel).shape == (N, N)
    cross = gram(NET, X1, X2, kernel)
    assert cross.shape == (N, M)
    assert cross.dtype == gram(NET, X1, kernel=kernel).dtype == dtype
    assert diag(NET, X1, kernel).shape == (N,)
    assert diag(NET, X1, kernel).dtype == dtype
    assert np.isfinite(cross).all()


@pytest.mark.parametrize(
    ("first", "second", "asked", "result"),
    [
        ("float32", "float64", None, "float64"),
        ("int32", "float32", None, "float64"),
        ("bool", "bool", None, "float64"),
        ("float16", "float16", None, "float64"),
        ("float64", "float64", "float32", "float32"),
        ("float32", "float32", np.float64, "float64"),
        ("float64", "float64", torch.float32, "float32"),
        (">f8", ">f8", None, "float64"),
    ],
)
def test_dtype_of_the_result(first, second, asked, result):
    X1, X2 = np.ones((3, 2)).astype(first), np.ones((4, 2)).astype(second)
    assert gram(NET, X1, X2, dtype=asked).dtype == result
    assert gram(NET, X1, X2, dtype=asked).dtype.isnative


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("network", NETWORKS)
def test_symmetry_and_diagonal_are_exact(network, dtype, backend):
    X = rows(N, dtype)
    X[3], X[40], X[41] = 0.0, X[5], -X[6]
    for kernel in KERNELS:
        K = gram(network, X, kernel=kernel, backend=backend)
        assert np.array_equal(K, K.T)
        assert np.array_equal(np.diagonal(K), diag(network, X, kernel))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("other", [None, 21])
def test_both_kernels_from_one_pass(backend, other):
    X1, X2 = rows(N), other and rows(M, seed=other)
    both = gram(NET, X1, X2, ("ntk", "nngp"), backend=backend)
    assert both._fields == ("nngp", "ntk")
    assert np.array_equal(both.nngp, gram(NET, X1, X2, "nngp", backend=backend))
    assert np.array_equal(both.ntk, gram(NET, X1, X2, "ntk", backend=backend))
    # The NTK of a network with biases is larger everywhere on the diagonal.
    if X2 is None:
        assert (np.diagonal(both.ntk) > np.diagonal(both.nngp)).all()


@pytest.mark.parametrize("network", NETWORKS[:3])
def test_a_cross_kernel_with_the_same_rows_is_the_gram(network):
    X = rows(N)
    K = gram(network, X)
    # Entries are promised to 1e-10 of sqrt(K_ii K_jj), the diagonal, which is found from pairs
    # here, included.
    scale = np.sqrt(np.outer(np.diagonal(K), np.diagonal(K)))
    assert np.abs(gram(network, X, X.copy()) - K).max() < 2e-10 * scale.max()


@pytest.mark.parametrize("network", NETWORKS[:3])
def test_swapping_the_sides_transposes(network):
    X1, X2 = rows(N), rows(M, seed=21)
    K = gram(network, X1, X2)
    assert np.abs(gram(network, X2, X1).T - K).max() < 2e-10 * np.abs(K).max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_out_is_filled_and_nothing_beside_it(dtype, backend):
    X1, X2 = rows(N, dtype), rows(M, dtype, seed=21)
    for second, m in ((None, N), (X2, M)):
        expected = gram(NET, X1, second, backend=backend)
        frame = np.full((N + 4, m + 6), 7.0, dtype=dtype)
        inside = frame[2:-2, 3:-3]
        inside[...] = np.nan
        assert gram(NET, X1, second, backend=backend, out=inside) is inside
        assert np.array_equal(inside, expected)
        inside[...] = 7.0
        assert (frame == 7.0).all()


def test_out_in_other_orders_of_rows():
    X = rows(N)
    expected = gram(NET, X)
    backwards, spread = np.empty((N, N))[::-1], np.empty((2 * N, N))[::2]
    for out in (backwards, spread):
        gram(NET, X, out=out)
        assert np.array_equal(out, expected)


def test_out_of_two_kernels_keeps_the_order_of_the_names():
    X = rows(N)
    first, second = np.empty((N, N)), np.empty((N, N))
    given = (first, second)
    assert gram(NET, X, kernel=("ntk", "nngp"), out=given) is given
    assert np.array_equal(first, gram(NET, X, kernel="ntk"))
    assert np.array_equal(second, gram(NET, X, kernel="nngp"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch(dtype):
    X1, X2 = (torch.from_numpy(rows(n)).to(dtype) for n in (N, M))
    K = gram(NET, X1, X2)
    assert isinstance(K, torch.Tensor)
    assert K.dtype == dtype
    assert np.array_equal(K.numpy(), gram(NET, X1.numpy(), X2.numpy()))
    both = gram(NET, X1, kernel=("nngp", "ntk"))
    assert isinstance(both.ntk, torch.Tensor)
    assert torch.equal(both.nngp, gram(NET, X1, kernel="nngp"))
    out = torch.empty(N, M, dtype=dtype)
    assert gram(NET, X1, X2, out=out) is out
    assert torch.equal(out, K)
    assert torch.equal(diag(NET, X1), torch.from_numpy(diag(NET, X1.numpy())))
    assert torch.equal(gram(NET, X1.clone().requires_grad_().detach(), X2), K)


@pytest.mark.filterwarnings("ignore:X1 is b?float16")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_other_numbers_of_torch_become_float64(dtype):
    X = torch.from_numpy(rows(N)).to(dtype)
    K = gram(NET, X)
    assert K.dtype == torch.float64
    assert torch.equal(K, gram(NET, X.to(torch.float64)))


def test_container_of_the_rows_decides():
    X1, X2 = rows(N), rows(M, seed=21)
    assert isinstance(gram(NET, X1, torch.from_numpy(X2)), np.ndarray)
    assert isinstance(gram(NET, torch.from_numpy(X1), X2), torch.Tensor)


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("torch_warns_always")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["fortran", "columns", "spread", "backwards", "read-only"])
def test_any_layout_of_the_rows(layout, backend):
    X = rows(N)
    view = {
        "fortran": np.asfortranarray(X),
        "columns": np.repeat(X, 2, axis=1)[:, ::2],
        "spread": np.repeat(X, 3, axis=0)[::3],
        "backwards": X[::-1].copy()[::-1],
        "read-only": X.copy(),
    }[layout]
    view.flags.writeable = layout != "read-only"
    # Norms may be summed in another order: each result is within 1e-10 of the exact one.
    for found, expected in (
        (gram(NET, view, backend=backend), gram(NET, X, backend=backend)),
        (gram(NET, X, view, backend=backend), gram(NET, X, X, backend=backend)),
        (diag(NET, view), diag(NET, X)),
    ):
        assert np.abs(found - expected).max() < 2e-10 * np.abs(expected).max()


def test_one_row_and_one_feature():
    K = gram(NET, [[0.5]])
    assert K.shape == (1, 1)
    assert K[0, 0] == diag(NET, [[0.5]])[0]


def test_exact_runs_the_recursion():
    """A bias-free network is a function of the angle, fitted once; both promise 1e-10."""
    network, X = nn.mlp(depth=30, b_std=0.0), rows(N)
    fitted, exact = gram(network, X), gram(network, X, exact=True)
    scale = np.sqrt(np.outer(np.diagonal(exact), np.diagonal(exact)))
    assert (np.abs(fitted - exact) / scale).max() < 2e-10
