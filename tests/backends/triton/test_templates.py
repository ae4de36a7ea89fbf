"""The templates around every kind of program, beside the reference: interpreted without a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernreg
from kernreg import KernelOperator, nn
from kernreg.backends.base import Part, Request
from kernreg.backends.triton import backend
from kernreg.backends.triton.backend import TritonBackend
from kernreg.backends.triton.tuning import PRECISIONS, Tile
from tests.backends.compare import (
    KERNELS,
    TRITON_DEVICE,
    hard_rows,
    needs_triton,
    on,
    relative_error,
    rows,
)

pytestmark = needs_triton

EPS = np.finfo(float).eps
RELU = nn.mlp(depth=2, b_std=0.1)
NONLINEARITIES = [
    *(nn.Relu(), nn.LeakyRelu(0.2), nn.Abs(), nn.ABRelu(0.5, 2.0), nn.Sign(), nn.Erf(), nn.Gelu()),
    *(nn.SigmoidLike(), nn.Sin(), nn.Cos(), nn.Rbf(), nn.Gaussian(), nn.Exp(), nn.ExpNormalized()),
    *(nn.Gabor(), nn.Monomial(2), nn.RectifiedMonomial(2), nn.Polynomial((0.1, 1.0, 0.5))),
    *(nn.Hermite((0.0, 1.0, 0.5)), nn.Tanh(), nn.Softplus(), nn.Elu()),
]
NETWORKS = [
    nn.serial(
        *(nn.Dense(1.2, 0.3, trainable=False), nn.Relu(), nn.Dense(1.4, 0.1), nn.Relu()),
        nn.repeat(nn.serial(nn.Dense(1.3, trainable=False), nn.Relu()), 2),
    ),
    nn.serial(nn.Dense(1.4, 0.1), nn.residual(nn.serial(nn.Relu(), nn.Dense(1.4, 0.1)))),
    nn.serial(
        nn.parallel(
            nn.serial(nn.Dense(), nn.Relu(), nn.Dense()),
            nn.serial(nn.Dense(1.2, 0.3), nn.Erf(), nn.Dense()),
            merge="product",
        ),
        nn.Dense(),
    ),
    nn.serial(nn.Dense(1.1, 0.2), nn.LayerNorm(), nn.Relu(), nn.Dropout(0.7), nn.Dense()),
    nn.serial(nn.Dense(), nn.repeat(nn.repeat(nn.serial(nn.Relu(), nn.Dense(1.3, 0.1)), 2), 3)),
]


@pytest.mark.parametrize("fn", NONLINEARITIES, ids=repr)
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 5e-6)])
def test_nonlinearity(fn: nn.Nonlinearity, dtype: str, bound: float) -> None:
    net = nn.mlp(depth=1, activation=fn, b_std=0.1)
    assert relative_error(net, rows(5), None, **on("triton"), dtype=dtype) <= bound
    assert relative_error(net, rows(3), rows(4, seed=1), **on("triton"), dtype=dtype) <= bound


@pytest.mark.parametrize("net", NETWORKS, ids=repr)
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 5e-6)])
def test_network(net: nn.Layer, dtype: str, bound: float) -> None:
    assert relative_error(net, rows(70), None, **on("triton"), dtype=dtype) <= bound
    assert relative_error(net, rows(3), rows(70), **on("triton"), dtype=dtype) <= bound


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_near_duplicates_under_every_policy(symmetric: bool, precision: str) -> None:
    """Their gaps come from differences; what the policies round to shows on a GPU only."""
    X = hard_rows()
    other = None if symmetric else X
    options = {**on("triton"), "dtype": "float32", "precision": precision}
    got = kernreg.gram(RELU, X, other, **options)
    want = kernreg.gram(RELU, X, other, backend="reference", exact=True)
    scale = np.sqrt(np.outer(kernreg.diag(RELU, X), kernreg.diag(RELU, X)))
    close = np.abs(want) >= 0.999 * scale
    assert close.sum() > len(X)
    assert (np.abs(got - want)[close] <= 2e-5 * scale[close]).all()


@pytest.mark.parametrize("n", [1, 2, 63, 64, 65, 130])
@pytest.mark.parametrize("d", [1, 17, 33])
def test_edges(n: int, d: int) -> None:
    """Sizes beside multiples of the tile; no entry outside is touched (they would be NaN)."""
    X, Y = rows(n, d), rows(7, d, seed=1)
    assert relative_error(RELU, X, None, **on("triton")) <= (d + 200) * EPS
    assert relative_error(RELU, X, Y, **on("triton")) <= (d + 200) * EPS
    assert relative_error(RELU, Y, X, **on("triton")) <= (d + 200) * EPS


@pytest.mark.parametrize("shape", [(128, 32), (64, 16), (16, 32), (64, 64)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tiles_of_other_shapes(
    shape: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout makes the diagonal differ from its neighbours, so no tile may miss a part of it."""
    tall = Tile(*shape, 16, 4, 1)
    monkeypatch.setattr(backend, "INTERPRETED", tall)
    monkeypatch.setattr(backend, "tile", lambda *args: tall)
    net = nn.serial(nn.Dense(b_std=0.1), nn.Relu(), nn.Dropout(0.7), nn.Dense())
    X = rows(150)
    operator = KernelOperator(net, X, dtype=dtype, **on("triton"))
    V = rows(150, 3, seed=2)
    K = kernreg.gram(net, X, backend="reference")
    bound = 5e-6 if dtype == "float32" else 1e-12
    assert (np.abs(operator @ V - K @ V) <= bound * (np.abs(K) @ np.abs(V))).all()
    if shape[0] % shape[1] == 0:
        values = operator.to_dense()
        np.testing.assert_array_equal(values, values.T)
        np.testing.assert_array_equal(np.diag(values), operator.diagonal())
        assert relative_error(net, X, None, **on("triton"), dtype=dtype) <= bound
    part = operator.tile(slice(10, 140), slice(0, 120))
    assert np.abs(part - K[10:140, :120]).max() <= bound * K.max()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_symmetric_bit_for_bit(dtype: str) -> None:
    X = rows(130).astype(dtype)
    K = kernreg.gram(RELU, X, kernel=KERNELS, **on("triton"))
    for kernel, values in zip(KERNELS, K, strict=True):
        np.testing.assert_array_equal(values, values.T)
        np.testing.assert_array_equal(np.diag(values), kernreg.diag(RELU, X, kernel))


def test_parts_hold_the_diagonal_where_they_cross_it() -> None:
    X = torch.from_numpy(rows(150)).to(TRITON_DEVICE)
    bound = TritonBackend().bind(Request(RELU.program(), X, None, np.dtype(np.float64)))
    whole = kernreg.gram(RELU, X, backend="reference")
    for i0, i1, j0, j1 in ((0, 150, 0, 150), (40, 120, 0, 120), (70, 90, 80, 140), (0, 9, 90, 99)):
        part = torch.full((i1 - i0, j1 - j0), torch.nan, dtype=X.dtype, device=X.device)
        bound.fill(Part(i0, i1, j0, j1), {"ntk": part})
        error = (part - whole[i0:i1, j0:j1]).abs().max()
        assert error <= 400 * EPS * whole.max()
        for k in range(max(i0, j0), min(i1, j1)):
            assert part[k - i0, k - j0] == bound.diagonal("ntk")[k]


@pytest.mark.parametrize("columns", [1, 3, 16, 130])
@pytest.mark.parametrize("n", [1, 65, 130])
@pytest.mark.parametrize("kernel", KERNELS)
def test_product(kernel: str, n: int, columns: int) -> None:
    """Products without a stored tile, symmetric and rectangular."""
    X, Y = rows(n), rows(70, seed=1)
    V, U = rows(n, columns, seed=2), rows(70, columns, seed=3)
    for operator, right, net in (
        (KernelOperator(RELU, X, kernel=kernel, **on("triton")), V, RELU),
        (KernelOperator(RELU, X, Y, kernel=kernel, **on("triton")), U, RELU),
    ):
        other = None if operator.symmetric else Y
        K = kernreg.gram(net, X, other, kernel=kernel, backend="reference")
        assert operator.fused
        bound = (n + 500) * EPS * (np.abs(K) @ np.abs(right))
        assert (np.abs(operator @ right - K @ right) <= bound).all()


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_of_an_output_that_are_far_apart(
    symmetric: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than 32 bits inside a tile: the same numbers strip by strip."""
    X, Y = rows(70), None if symmetric else rows(90, seed=1)
    options = {**on("triton"), "kernel": KERNELS}
    want = kernreg.gram(RELU, X, Y, **options)
    strips = []
    fill = backend._TritonBound.fill
    monkeypatch.setattr(
        backend._TritonBound,
        "fill",
        lambda self, part, out: strips.append(part.j1 - part.j0) or fill(self, part, out),
    )
    monkeypatch.setattr(backend, "_REACH", 64 * 41)
    monkeypatch.setattr(backend, "_STRIP", 40)
    got = kernreg.gram(RELU, X, Y, **options)
    assert strips == [70, 40, 30] if symmetric else [90, 40, 40, 10]
    for kernel in KERNELS:
        error = np.abs(getattr(got, kernel) - getattr(want, kernel))
        assert error.max() <= 400 * EPS * getattr(want, kernel).max()


def test_product_in_float32_keeps_a_vector_and_the_kind_of_the_operand() -> None:
    X = rows(80)
    operator = KernelOperator(RELU, X, dtype="float32", **on("triton"))
    v = rows(80, 1)[:, 0]
    K = kernreg.gram(RELU, X, backend="reference")
    product = operator @ v
    assert (product.shape, product.dtype) == ((80,), np.float64)
    assert (np.abs(product - K @ v) <= 5e-6 * (np.abs(K) @ np.abs(v))).all()
    tensor = operator @ torch.from_numpy(v)
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_allclose(tensor.numpy(), product, rtol=1e-6)
