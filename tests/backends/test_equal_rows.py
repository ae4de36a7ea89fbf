"""Equal rows stay equal, and nearly equal ones keep their digits, through any number of layers."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import kernreg
from kernreg import nn
from tests.backends.compare import KERNELS, backends, native, needs_cpu, on
from tests.golden.exact import DIGITS
from tests.nn.strategies import NONLINEARITIES

MIX = nn.Dense(1.6, 0.2)

STEEP = {
    "erf": nn.Erf(1.2, 4.0, 0.1),
    "sigmoid": nn.serial(nn.SigmoidLike(), nn.Dense(9.0, None), nn.Sin(1.0, 1.0, 0.3)),
    "sin": nn.Sin(1.0, 2.5, 0.4),
    "cos": nn.Cos(1.0, 2.5, 0.2),
    "gelu": nn.serial(nn.Gelu(), nn.Dense(2.0, 0.5), nn.LayerNorm(), nn.Sin(1.0, 4.0)),
    "gabor": nn.serial(nn.Gabor(), nn.Dense(9.0, 0.1), nn.Gabor()),
    "gaussian": nn.Gaussian(1.0, -3.0),
    "rbf": nn.Rbf(2.0),
    "cubic": nn.serial(nn.LayerNorm(0.0), nn.Monomial(3)),
    "kinked": nn.serial(nn.Erf(b=2.0), nn.Dense(1.5, None), nn.LeakyRelu(0.3)),
    "jump": nn.serial(nn.Gelu(), nn.Dense(1.5, 0.1), nn.Sign(), MIX, nn.Abs()),
}

BY_SERIES = {
    "tanh": nn.serial(nn.Tanh(), MIX, nn.Sin(1.0, 3.0)),
    "elu": nn.serial(nn.LayerNorm(), nn.Elu(), MIX, nn.LayerNorm(), nn.Erf(1.0, 4.0)),
}


def rows(d: int = 4) -> np.ndarray:
    """Rows of which 0 and 1, 2 and 300 are equal: in a block of a tile, and in two."""
    X = np.random.default_rng(8).standard_normal((303, d))
    X[1], X[300] = X[0], X[2]
    return X


def deviation(net: nn.Layer, X: np.ndarray, pairs: list[tuple[int, int]], **options: str) -> float:
    """Worst ``|K_ij / K_ii - 1|`` of both kernels over pairs of equal rows."""
    worst = 0.0
    whole = kernreg.gram(net, X, kernel=KERNELS, **options)
    cross = kernreg.gram(net, X[::2], X, kernel=KERNELS, **options)
    for kernel in KERNELS:
        K, C = getattr(whole, kernel), getattr(cross, kernel)
        d = np.diag(K)
        for i, j in pairs:
            found = [K[i, j], K[j, i], C[i // 2, j], C[i // 2, i]]
            worst = max(worst, *(abs(float(v) / d[i] - 1.0) for v in found))
    return worst


def deep(block: nn.Layer) -> nn.Layer:
    """Eight blocks, half of them beside a shortcut."""
    block = nn.serial(block, MIX)
    return nn.serial(MIX, nn.repeat(block, 4), nn.repeat(nn.residual(block), 4))


@needs_cpu
@pytest.mark.parametrize("block", STEEP.values(), ids=STEEP)
def test_equal_rows(block: nn.Layer, monkeypatch: pytest.MonkeyPatch) -> None:
    X, pairs = rows(), [(0, 1), (2, 300)]
    for isa in ("avx512", "avx2", "baseline"):
        monkeypatch.setenv("KERNREG_ISA", isa)
        assert deviation(deep(block), X, pairs, backend="cpu") <= 1e-13
    assert deviation(deep(block), X, pairs, backend="cpu", dtype="float32") <= 5e-6


@needs_cpu
@pytest.mark.parametrize("block", BY_SERIES.values(), ids=BY_SERIES)
def test_equal_rows_behind_series(block: nn.Layer) -> None:
    """The series is set up anew for every matrix, so there are few layers and rows."""
    X = rows()[[0, 1, 2, 5, 300]]
    net = nn.serial(MIX, nn.repeat(nn.serial(block, MIX), 3))
    assert deviation(net, X, [(0, 1), (2, 4)], backend="cpu") <= 1e-13


@backends
@pytest.mark.parametrize("block", [STEEP["erf"], STEEP["gelu"], nn.Swish()], ids=repr)
def test_equal_rows_on_all_backends(block: nn.Layer, backend: str) -> None:
    X = rows()[[0, 1, 2, 5, 300]]
    net = nn.serial(MIX, nn.repeat(nn.residual(nn.serial(block, MIX)), 3))
    assert deviation(net, X, [(0, 1), (2, 4)], **on(backend)) <= 1e-13


ODD_AND_EVEN = {
    "erf": (nn.Elementwise(torch.erf), nn.Erf()),
    "sin": (nn.Elementwise(torch.sin), nn.Sin()),
    "cos": (nn.Elementwise(torch.cos), nn.Cos()),
    "abs": (nn.Elementwise(torch.abs, smooth=False), nn.Abs()),
}


@backends
@pytest.mark.parametrize(("fn", "closed"), ODD_AND_EVEN.values(), ids=ODD_AND_EVEN)
def test_nearly_opposite_rows_behind_series(
    fn: nn.Nonlinearity, closed: nn.Nonlinearity, backend: str
) -> None:
    """A kink takes the root of a gap; 1e-16 of it in its place would be 1e-8 of the NTK."""
    X = rows()[3:7]
    X[1], X[2] = -X[0] * (1.0 + 1e-9), 1e-7 * X[3] - X[0]
    series, exact = (
        kernreg.gram(nn.serial(nn.Dense(1.1), f, MIX, nn.Abs(), MIX), X, kernel=KERNELS, **options)
        for f, options in ((fn, on(backend)), (closed, {"backend": "reference"}))
    )
    for K, want in zip(series, exact, strict=True):
        d = np.sqrt(np.diag(want))
        assert np.abs((K - want) / np.outer(d, d)).max() <= 1e-12


@native
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_equal_rows_in_random_networks(backend: str, data: st.DataObject) -> None:
    """Sums, products and layer normalisation of random nonlinearities, repeated."""
    parts = [data.draw(NONLINEARITIES) for _ in range(2)]
    closed = [fn for fn in parts if fn.closed_form] or [nn.Gelu()]
    if backend == "reference":
        parts = closed  # others are integrated pair by pair
    dense = [nn.Dense(data.draw(st.floats(0.5, 4.0)), data.draw(st.sampled_from([None, 0.3])))
             for _ in parts]  # fmt: skip
    branches = [nn.serial(nn.LayerNorm(), fn, W) for fn, W in zip(parts, dense, strict=True)]
    merge = data.draw(st.sampled_from(["sum", "product"]))
    block = nn.serial(nn.parallel(*branches, merge=merge), MIX, nn.LayerNorm())
    net = nn.serial(nn.Dense(), nn.repeat(block, data.draw(st.integers(1, 8))))
    X = rows(3)[[0, 1, 4, 5]]
    assert deviation(net, X, [(0, 1)], backend=backend) <= 1e-13


def test_dropout_tells_equal_rows_apart_as_samples() -> None:
    """Two samples of one row differ by their masks; without a mask they would not."""
    net = nn.serial(MIX, nn.Erf(b=3.0), nn.Dropout(0.5), MIX, nn.Erf(b=3.0), MIX)
    X = rows()[:2]
    K = kernreg.gram(net, X, kernel="nngp", backend="reference")
    C = kernreg.gram(net, X[:1], X[:1], kernel="nngp", backend="reference")
    assert K[0, 1] == pytest.approx(C[0, 0], rel=1e-14)
    assert K[0, 1] < 0.99 * K[0, 0]


def kernel_of_pair(layers: list[nn.Layer], x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Ratios ``K12 / sqrt(K11 K22)`` of both kernels from their definitions in 60 digits."""
    with mpmath.workdps(DIGITS):
        q = [mpmath.fsum(mpmath.mpf(a) * mpmath.mpf(b) for a, b in zip(u, v, strict=True)) / len(u)
             for u, v in ((x, x), (y, y), (x, y))]  # fmt: skip
        t = [mpmath.mpf(0)] * 3
        for layer in layers:
            if isinstance(layer, nn.Dense):
                W, b = mpmath.mpf(layer.W_std) ** 2, mpmath.mpf(layer.b_std or 0) ** 2
                q = [W * k + b for k in q]
                t = [k + W * u for k, u in zip(q, t, strict=True)]
            else:
                ends = ((q[0], q[0]), (q[1], q[1]), (q[0], q[1]))
                found = [_averages(layer, k, *s) for k, s in zip(q, ends, strict=True)]
                q = [k for k, _ in found]
                t = [u * slope for u, (_, slope) in zip(t, found, strict=True)]
        return tuple(float(k[2] / mpmath.sqrt(k[0] * k[1]) - 1) for k in (q, t))


def _averages(fn: nn.Layer, k: mpmath.mpf, q1: mpmath.mpf, q2: mpmath.mpf) -> tuple:
    """Textbook forms, which share nothing with the library."""
    if isinstance(fn, nn.Erf):
        b = 2 * mpmath.mpf(fn.b) ** 2
        P = (1 + b * q1) * (1 + b * q2)
        a = mpmath.mpf(fn.a) ** 2
        slope = 2 * a * b / mpmath.pi / mpmath.sqrt(P - (b * k) ** 2)
        return 2 * a / mpmath.pi * mpmath.asin(b * k / mpmath.sqrt(P)) + fn.c**2, slope
    if isinstance(fn, nn.Sin):
        b = mpmath.mpf(fn.b) ** 2
        size = mpmath.exp(-b * (q1 + q2) / 2)
        return size * mpmath.sinh(b * k), b * size * mpmath.cosh(b * k)
    if isinstance(fn, nn.Gelu):
        D = (1 + q1) * (1 + q2) - k * k
        N = q1 * q2 + k * k * (1 - q1 / (1 + q1) - q2 / (1 + q2))
        s = mpmath.asin(k / mpmath.sqrt((1 + q1) * (1 + q2)))
        root = mpmath.sqrt(D)
        bend = k / root + 2 * k * (1 - q1 / (1 + q1) - q2 / (1 + q2)) / root + N * k / root**3
        return k / 4 + (k * s + N / root) / (2 * mpmath.pi), (
            mpmath.mpf(1) / 4 + (s + bend) / (2 * mpmath.pi)
        )
    assert isinstance(fn, nn.Relu)
    theta = mpmath.acos(min(k / mpmath.sqrt(q1 * q2), mpmath.mpf(1)))
    size = mpmath.sqrt(q1 * q2) / (2 * mpmath.pi)
    turn = mpmath.pi - theta
    return size * (mpmath.sin(theta) + turn * mpmath.cos(theta)), turn / (2 * mpmath.pi)


NEAR = {
    "erf": [MIX, *[nn.Erf(b=3.0), nn.Dense(1.5, 0.1)] * 6],
    "sin": [MIX, *[nn.Sin(b=2.0), nn.Dense(1.5, 0.1)] * 6],
    "gelu": [MIX, *[nn.Gelu(), nn.Dense(1.2, 0.3)] * 3, nn.Erf(b=4.0), nn.Dense()],
    "kinked": [MIX, *[nn.Erf(), nn.Dense(1.5, 0.1), nn.Relu(), nn.Dense(1.5, 0.1)] * 2],
}


@native
@pytest.mark.parametrize("apart", [1e-4, 1e-7, 1e-10])
@pytest.mark.parametrize("layers", NEAR.values(), ids=NEAR)
def test_nearly_equal_rows(layers: list[nn.Layer], apart: float, backend: str) -> None:
    """What is left between rows, to the rounding of the rows themselves, which is eps / apart."""
    X = np.random.default_rng(2).standard_normal((2, 5))
    X[1] = X[0] + apart * X[1]
    net = nn.serial(*layers)
    want = kernel_of_pair(layers, *X)
    eps = float(np.finfo(np.float64).eps)
    for kernel, exact in zip(KERNELS, want, strict=True):
        d = kernreg.diag(net, X, kernel)
        found = kernreg.gram(net, X, kernel=kernel, backend=backend)[0, 1] / np.sqrt(d[0] * d[1])
        assert abs((found - 1.0) - exact) <= 40 * eps + 40 * eps / apart * abs(exact)
