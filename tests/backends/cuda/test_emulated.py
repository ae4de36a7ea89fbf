"""The text of the kernels on the host, thread by thread, against the reference."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import analysis
from kernreg.backends.base import Part, Request
from kernreg.backends.cuda import backend
from kernreg.backends.cuda.source import csrc
from kernreg.codegen.cpp import polynomials
from kernreg.exceptions import BackendError
from kernreg.numerics.angle import AngleSeries
from tests.backends.compare import KERNELS, hard_rows, needs_cpu, rows
from tests.backends.cuda import emulation
from tests.backends.cuda.filling import error, fill, reference
from tests.backends.cuda.networks import NETWORKS, mlp

pytestmark = emulation.needs_compiler


@pytest.fixture(autouse=True)
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "launch", emulation.launch)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    net = NETWORKS[name]
    assert error(fill(net, rows()), reference(net, rows())) <= 1e-10
    Y = rows(4, seed=1)
    assert error(fill(net, rows(), Y), reference(net, rows(), Y)) <= 1e-10


@needs_cpu
@pytest.mark.parametrize("fn", [nn.Tanh(), nn.Elu()], ids=repr)
def test_series_in_the_angle(fn: nn.Nonlinearity, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the cpu backend with the same series, a made-up one, as the fit of a true one is slow.

    Behind a kink comes another one, which needs the exact gap of rows that are nearly parallel.
    """
    rng, terms, nodes = np.random.default_rng(0), 6, 3
    coefficients = rng.uniform(0.0, 0.03, (3, terms, nodes, nodes))
    coefficients[2, 0] += 0.5  # only pairs that are close before are close behind
    made_up = AngleSeries(0.1, 5.0, coefficients, rng.uniform(0, 0.1, (nodes,) * 2))
    monkeypatch.setattr(analysis, "_expand", lambda *args: made_up)
    net = nn.serial(nn.Dense(), fn, nn.Dense(1.0, 0.1), nn.Relu(), nn.Dense())
    X = rows()
    X[1] = X[0] + 1e-7 * X[2]
    want = kernreg.gram(net, X, kernel=KERNELS, backend="cpu", exact=True)
    assert error(fill(net, X), dict(zip(KERNELS, want, strict=True))) <= 1e-12


@pytest.mark.parametrize("name", ["relu", "residual", "dropout"])
def test_close_rows(name: str) -> None:
    X = hard_rows()
    net = NETWORKS[name]
    got, want = fill(net, X), reference(net, X)
    for kernel in KERNELS:
        scale = np.sqrt(np.outer(np.diag(want[kernel]), np.diag(want[kernel])))
        assert np.all(abs(got[kernel] - want[kernel]) <= 1e-12 * scale)
        assert np.array_equal(np.diag(got[kernel]), kernreg.diag(net, X, kernel))
    # As different data, equal rows are pairs like others.
    assert error(fill(net, X, X), reference(net, X, X)) <= 1e-10


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130])
def test_symmetric_sizes(n: int) -> None:
    X = rows(n, d=3)
    got = fill(NETWORKS["relu"], X)
    assert error(got, reference(NETWORKS["relu"], X)) <= 1e-12
    for kernel in KERNELS:
        assert np.array_equal(got[kernel], got[kernel].T)


@pytest.mark.parametrize(("n", "m", "d"), [(1, 129, 1), (65, 2, 15), (64, 64, 16), (70, 66, 33)])
def test_rectangular_sizes(n: int, m: int, d: int) -> None:
    X, Y = rows(n, d), rows(m, d, seed=1)
    net = NETWORKS["relu"]
    assert error(fill(net, X, Y), reference(net, X, Y)) <= 1e-12


@pytest.mark.parametrize(
    "part", [(0, 80, 0, 80), (70, 140, 70, 140), (3, 80, 60, 140), (65, 140, 0, 70), (5, 5, 0, 9)]
)
def test_parts(part: tuple[int, int, int, int]) -> None:
    """Parts of a symmetric matrix that the diagonal crosses anywhere, or not at all."""
    X = rows(140, d=3)
    X[100] = X[69]
    net = NETWORKS["relu"]
    i0, i1, j0, j1 = part
    got = fill(net, X, part=Part(*part))
    want = {k: v[i0:i1, j0:j1] for k, v in reference(net, X).items()}
    for kernel in KERNELS:
        np.testing.assert_allclose(got[kernel], want[kernel], rtol=1e-12)
        k = np.arange(max(i0, j0), min(i1, j1))
        diagonal = kernreg.diag(net, X, kernel)[k]
        assert np.array_equal(got[kernel][k - i0, k - j0], diagonal)


@pytest.mark.parametrize("kernel", KERNELS)
def test_one_kernel_in_float32(kernel: str) -> None:
    net, X = mlp(nn.Erf(), 2), rows()
    got = fill(net, X, kernels=(kernel,), dtype=torch.float32)
    assert got[kernel].dtype == np.float32
    assert np.array_equal(got[kernel], fill(net, X)[kernel].astype(np.float32))


def test_profile_pass() -> None:
    """Rows of one norm and enough layers and pairs: a series in the angle for all of it."""
    X = rows(90, d=6)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    net = nn.serial(nn.Dense(1.2, 0.1), nn.repeat(nn.serial(nn.Erf(), nn.Dense(1.3, 0.2)), 20))
    request = Request(net.program(), torch.from_numpy(X), None, np.dtype("float64"))
    assert "profile_step(s0" in backend.CudaBackend().bind(request).text(KERNELS, "float64")
    assert error(fill(net, X, exact=False), reference(net, X)) <= 1e-10


def test_float32_arithmetic_is_refused() -> None:
    X = torch.from_numpy(rows())
    with pytest.raises(BackendError, match="float64"):
        backend.CudaBackend().bind(
            Request(NETWORKS["relu"].program(), X, None, np.dtype("float32"))
        )


_TRIANGLE = """
extern "C" void place(int64_t tile, int64_t *at) { triangle(tile, at[0], at[1]); }
"""


def test_tiles_of_the_lower_triangle() -> None:
    """Also where a tile's number has more digits than its square root can be sure of."""
    X = torch.from_numpy(rows())
    request = Request(NETWORKS["relu"].program(), X, None, np.dtype("float64"))
    text = backend.CudaBackend().bind(request).text(KERNELS, "float64")
    place = emulation.compiled(text + _TRIANGLE).place
    at = (ctypes.c_int64 * 2)()
    for row in (*range(40), 65_535, 94_906_265, 94_906_266, 3_000_000_000):
        for column in {0, row // 2, row}:
            place(ctypes.c_int64(row * (row + 1) // 2 + column), at)
            assert tuple(at) == (row, column)


_WARP = """
extern "C" void run(const double *rho, const double *gap, const double *x, const double *y,
                    const double *c, int terms, int nodes, double *out) {
  emulate(1, kLanes, [&] {
    int j = threadIdx.x;
    Slots t{x, y + j, 1, kLanes};
    State<double> s{rho[j], gap[j], 1.0}, found = angles_step(s, t, c, terms, nodes);
    double values[] = {found.rho, found.gap, found.tau};
    for (int k = 0; k < 3; ++k) out[k * kLanes + j] = values[k];
  });
}
"""


@pytest.mark.parametrize(("nodes", "parity"), [(1, 0), (5, 1), (32, -1), (41, 0)])
def test_lanes_share_the_series_of_their_row(nodes: int, parity: int) -> None:
    """With more nodes than lanes too; NumPy sums the same series."""
    rng, terms, lanes = np.random.default_rng(0), 7, 32
    gap = np.where(np.arange(lanes) % 3, rng.uniform(0, 1, lanes), 1e-5 * rng.uniform(0, 1, lanes))
    sign = rng.choice([-1.0, 1.0], lanes)
    rho = sign * (1 - gap)
    x, y = rng.standard_normal(2 * nodes + 1), rng.standard_normal((2 * nodes + 1, lanes))
    y[nodes:-1] = x[nodes:-1, None] + 0.1 * y[nodes:-1] / nodes**0.5
    c = 0.1 * rng.standard_normal((3, terms, nodes, nodes)) / nodes
    consts = np.array([parity, *c.ravel()])
    parts = ["cuda/device.cuh", None, "vmath.inl", "pair.inl", "cuda/steps.cuh"]
    text = "".join(polynomials() if name is None else csrc(name) for name in parts)
    out = np.full((3, lanes), np.nan)
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (rho, gap, x, y, consts)]
    emulation.compiled(text + _WARP).run(
        *pointers, ctypes.c_int(terms), ctypes.c_int(nodes), ctypes.c_void_p(out.ctypes.data)
    )
    mirrored = (rho < 0) & (parity != 0)
    angle = 2 * np.arcsin(np.sqrt(gap / 2))
    theta = np.where(mirrored | (rho > 0), angle, np.pi - angle)
    basis = np.cos(np.arange(terms)[:, None] * np.arccos(1 - 2 * theta / np.pi))
    value, slope, growth = np.einsum("tmab,a,bj,mj->tj", c, x[:nodes], y[:nodes], basis)
    distance = np.sum(0.5 * (x[nodes:-1, None] - y[nodes:-1]) ** 2, axis=0)
    slope = slope * x[-1] * y[-1]
    below = distance + np.maximum(0, growth) * gap
    near = (mirrored | (rho > 0)) & (below < 0.5) & (np.minimum(gap, below) < 1e-4)
    assert 0 < near.sum() < lanes
    sides = [np.where(mirrored, sign, 1) for sign in (parity, 1, -parity)]
    lost = np.maximum(0, 1 - abs(value))
    want = [np.where(near, 1 - below, value), np.where(near, below, lost), slope]
    np.testing.assert_allclose(out, np.multiply(sides, want), atol=1e-12)
