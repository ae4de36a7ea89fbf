"""What ``gram``, ``diag`` and ``KernelOperator`` refuse, and how they say it."""

import numpy as np
import pytest
import torch

from kernreg import KernelOperator, diag, gram, nn
from kernreg.exceptions import InvalidInputError, KernregError, NetworkError
from kernreg.operators import StreamedOperator

NET = nn.mlp(depth=1)
X = np.random.default_rng(30).standard_normal((12, 4))


def changed(value):
    result = X.copy()
    result[7, 2] = value
    return result


ROWS = [
    (changed(np.nan), r"NaN or infinity \(first in row 7\); drop or impute"),
    (changed(np.inf), r"NaN or infinity \(first in row 7\)"),
    (torch.from_numpy(changed(np.nan)), r"NaN or infinity \(first in row 7\)"),
    (X[0], r"matrix of shape \(n, d\), found shape \(4,\); reshape a single row"),
    (X[None], r"holds images of shape \(12, 4\), but the network has no layer for positions"),
    (5.0, r"found shape \(\)"),
    (X[:0], r"empty: shape \(0, 4\)"),
    (X[:, :0], r"empty: shape \(12, 0\)"),
    (X + 0j, "real numbers, found dtype complex128; .*split complex"),
    (np.full((4, 2), {}, dtype=object), "real numbers, found dict such as '{}'"),
    (X.astype(str), "real numbers, found dtype <U"),
    (X.astype("datetime64[s]"), "holds dates; expected numbers"),
    ([[1.0, 2.0], [3.0]], "not a rectangular array"),
    (torch.ones(3, 4, device="meta"), "device must be 'cpu' or 'cuda', found 'meta'"),
    (torch.from_numpy(X).to_sparse(), "(?i)sparse"),
]


@pytest.mark.parametrize(("data", "message"), ROWS)
def test_rows(data, message):
    for call in (gram, diag, KernelOperator):
        with pytest.raises(InvalidInputError, match=message) as caught:
            call(NET, data)
        assert isinstance(caught.value, ValueError)
        assert isinstance(caught.value, KernregError)


@pytest.mark.parametrize(("data", "message"), [ROWS[0], ROWS[3], ROWS[6], ROWS[8]])
def test_columns(data, message):
    for call in (gram, KernelOperator):
        with pytest.raises(InvalidInputError, match=f"X2.*{message}"):
            call(NET, X, data)


def test_number_of_features():
    for call in (gram, KernelOperator):
        with pytest.raises(InvalidInputError, match="X2 must have 4 columns, as X1 has, found 3"):
            call(NET, X, X[:, :3])


@pytest.mark.parametrize(
    "kernel", ["rbf", "", (), ("ntk", "ntk"), ("ntk", "rbf"), ("ntk", "nngp", "ntk"), None, 5]
)
def test_kernel(kernel):
    for call in (gram, diag, KernelOperator):
        with pytest.raises(InvalidInputError, match="kernel must be 'nngp' or 'ntk'"):
            call(NET, X, kernel=kernel)


def test_two_kernels_where_one_is_wanted():
    for call in (diag, KernelOperator):
        with pytest.raises(InvalidInputError, match="kernel must be 'nngp' or 'ntk', found"):
            call(NET, X, kernel=("nngp", "ntk"))


@pytest.mark.parametrize("dtype", ["float16", int, "complex128", "number", torch.float16, object])
def test_dtype(dtype):
    for call in (gram, diag, KernelOperator):
        with pytest.raises(InvalidInputError, match="dtype must be float32 or float64, found"):
            call(NET, X, dtype=dtype)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("device", "abacus", "device must be 'cpu' or 'cuda', found 'abacus'"),
        ("device", "cuda:99", "device 'cuda:99' is not there: torch .* sees .* GPUs. Use device="),
        ("precision", "fp8", "precision must be one of ieee, tf32x3, tf32, bf16x3, found 'fp8'"),
        ("backend", "abacus", "'auto' or one of cpu, triton, cuda, reference, found 'abacus'"),
    ],
)
def test_device_and_backend(argument, value, message):
    for call in (gram, KernelOperator):
        with pytest.raises(InvalidInputError, match=message):
            call(NET, X, **{argument: value})


@pytest.mark.parametrize("network", [3, None, nn.Relu, lambda x: x])
def test_network(network):
    for call in (gram, KernelOperator, diag):
        with pytest.raises(InvalidInputError, match=r"net must be a network from kernreg\.nn"):
            call(network, X)


def test_ill_formed_network():
    for call in (gram, KernelOperator, diag):
        with pytest.raises(NetworkError, match="Dense layer before it"):
            call(nn.Relu(), X)


def read_only(shape):
    array = np.empty(shape)
    array.flags.writeable = False
    return array


OUTS = [
    (np.empty((12, 11)), r"\(12, 12\)"),
    (np.empty(144), r"\(12, 12\)"),
    (np.empty((12, 12), "float32"), "float32"),
    (np.empty((12, 12), order="F"), "contiguous"),
    (read_only((12, 12)), "writeable"),
    ([[0.0] * 12] * 12, "out must"),
    (torch.empty(12, 11, dtype=torch.float64), "out must"),
]


@pytest.mark.parametrize(("out", "message"), OUTS)
def test_out_of_gram(out, message):
    with pytest.raises(InvalidInputError, match=f"out must .*{message}|{message}"):
        gram(NET, X, out=out)


@pytest.mark.parametrize(("out", "message"), OUTS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_out_of_an_operator(out, message, backend):
    with pytest.raises(InvalidInputError, match=f"out must .*{message}|{message}"):
        KernelOperator(NET, X, backend=backend).to_dense(out)


def test_number_of_outs():
    one = np.empty((12, 12))
    with pytest.raises(InvalidInputError, match="out must"):
        gram(NET, X, kernel=("nngp", "ntk"), out=one)
    with pytest.raises(InvalidInputError, match="out must hold 2 arrays, found 1"):
        gram(NET, X, kernel=("nngp", "ntk"), out=(one,))
    with pytest.raises(InvalidInputError, match="out must hold 1 arrays, found 2"):
        gram(NET, X, out=(one, one))


@pytest.mark.parametrize("part", [slice(0, 9, 2), slice(None, None, -1)])
def test_slices_with_a_step(part):
    for arguments in ((part, slice(3)), (slice(3), part)):
        with pytest.raises(InvalidInputError, match="no step"):
            KernelOperator(NET, X).tile(*arguments)


@pytest.mark.parametrize("part", [3, [1, 2], None])
def test_parts_that_are_no_slices(part):
    with pytest.raises(InvalidInputError, match="slice"):
        KernelOperator(NET, X).tile(part, slice(3))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_empty_part_is_empty(backend):
    K = KernelOperator(NET, X, backend=backend)
    assert K.tile(slice(5, 5), slice(3)).shape == (0, 3)
    assert K.tile(slice(3), slice(7, 2)).shape == (3, 0)
    assert K.rows([]).shape == (0, 12)


@pytest.mark.parametrize("operator", [KernelOperator, StreamedOperator])
@pytest.mark.parametrize("empty", [[], slice(5, 5)])
def test_parts_without_rows(operator, empty):
    K = operator(NET, X)
    with pytest.raises(InvalidInputError, match="at least one row"):
        K.take(empty)
    with pytest.raises(InvalidInputError, match="at least one row"):
        K.part([1], empty)


@pytest.mark.parametrize("index", [[12], [-13], [0, 99]])
def test_rows_that_are_not_there(index):
    with pytest.raises(IndexError, match="out of bounds"):
        KernelOperator(NET, X).rows(index)


@pytest.mark.parametrize("index", [[1.5], [1.0, 2.0], ["1"], [1j], np.arange(12) % 5 == 1])
def test_row_numbers_are_whole(index):
    """Nothing is rounded, and a mask does not stand for the rows 0 and 1."""
    with pytest.raises(InvalidInputError, match="index"):
        KernelOperator(NET, X).rows(index)


@pytest.mark.parametrize("shape", [(), (11,), (0,), (11, 2), (12, 2, 2)])
def test_products_that_do_not_fit(shape):
    for K in (KernelOperator(NET, X), KernelOperator(NET, X[:5], X)):
        n = K.shape[0]
        with pytest.raises(InvalidInputError, match=f"do not fit: {n} x 12 operator and an array"):
            K @ np.ones(shape)


def test_symmetric_operators_only():
    K = KernelOperator(NET, X, X)
    with pytest.raises(InvalidInputError, match="symmetric operators; use tile"):
        K.lower_panel(0, 3)
    with pytest.raises(InvalidInputError, match="symmetric operators"):
        K.diagonal()
