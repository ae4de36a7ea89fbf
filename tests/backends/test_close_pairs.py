"""Close pairs in float64 beside others in float32, where only they would break the promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

import kernreg
from kernreg import nn
from kernreg.backends import analysis as A
from kernreg.backends import rounding
from kernreg.backends import rows as R
from kernreg.backends.analysis import Analysis, analyze
from kernreg.backends.base import Part, Request
from kernreg.backends.cpu import CpuBackend, load_extension
from tests.backends.compare import KERNELS, needs_cpu

DEEP = [
    nn.mlp(100, b_std=0.1),
    nn.mlp(30, nn.Erf(), W_std=1.4),
    nn.mlp(60, nn.Gelu(), W_std=1.4),
    nn.mlp(15, nn.Tanh(), W_std=1.4),
    nn.serial(nn.Dense(), nn.repeat(nn.residual(nn.serial(nn.Abs(), nn.Dense(0.5, 0.1))), 40)),
    nn.serial(nn.Dense(), nn.repeat(nn.serial(nn.LayerNorm(), nn.Relu(), nn.Dense()), 60)),
]


def pairs_at_all_angles(n: int = 40, d: int = 7, scale: float = 1.0) -> np.ndarray:
    """Rows, and others near them, near their opposites and equal to them, of many sizes."""
    g = np.random.default_rng(3)
    X = g.standard_normal((n, d))
    steps = 10.0 ** g.uniform(-8, -0.5, size=(n, 1)) * g.standard_normal((n, d))
    sides = np.where(np.arange(n) % 5 == 4, -1.0, 1.0)[:, None]
    sizes = g.uniform(0.5, 2.0, size=(n, 1))
    both = np.concatenate([X, sides * sizes * (X + steps), X[:5], 2.0 * X[5:9]])
    return (scale * both).astype(np.float32).astype(float)


def found(net: nn.Layer, X: np.ndarray, spare: bool = True) -> Analysis:
    row = R.input_row(torch.from_numpy(X))
    return analyze(net.program(), (row, row), np.dtype("float32"), 100, True, spare_close=spare)


@needs_cpu
@pytest.mark.parametrize(
    ("net", "scale"), [*((net, 1.0) for net in DEEP), *((DEEP[k], 1e-3) for k in (0, 4, 5))]
)
def test_no_error_is_above_the_bound(
    net: nn.Layer, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = pairs_at_all_angles(scale=scale)
    with monkeypatch.context() as patch:
        patch.setattr(A, "_PROMISE", np.inf)
        alone = found(net, X)
    promise = rounding.float32_error(
        net.program(),
        R.input_row(torch.from_numpy(X)),
        alone.near,
        alone.expansions,
        spare_close=True,
    )
    assert promise < 0.9 * alone.error
    monkeypatch.setattr(A, "_PROMISE", promise)
    spared = found(net, X)
    assert spared.dtype == np.float32
    assert spared.close is not None
    for X2 in (None, X[::-3]):
        K32, K64 = (
            kernreg.gram(net, X, X2, kernel=KERNELS, dtype=dtype, backend="cpu", exact=True)
            for dtype in ("float32", "float64")
        )
        for kernel, one, other in zip(KERNELS, K32, K64, strict=True):
            size = np.sqrt(kernreg.diag(net, X, kernel=kernel))
            across = size if X2 is None else size[::-3]
            assert (np.abs(one - other) / np.outer(size, across)).max() <= promise


def test_only_where_it_helps() -> None:
    """Ordinary networks need it not, chaotic ones get float64 for all pairs."""
    X = pairs_at_all_angles()
    deep = found(nn.mlp(100, b_std=0.1), X)
    assert deep.dtype == np.float32
    assert deep.close is not None
    assert deep.close.dtype == np.float64
    assert deep.error <= 5e-6
    assert found(nn.mlp(100, b_std=0.1), X, spare=False).dtype == np.float64
    assert found(nn.mlp(3), X).close is None
    chaotic = found(nn.mlp(8, nn.Erf(), W_std=4.0, b_std=0.0), X)
    assert chaotic.dtype == np.float64
    assert chaotic.close is None


def test_numbers_beyond_the_range_of_float32_need_float64() -> None:
    net = nn.serial(nn.Dense(1e-12), nn.Erf(), nn.repeat(nn.serial(nn.Dense(3.0), nn.Erf()), 3))
    assert found(net, pairs_at_all_angles()).close is None


@needs_cpu
def test_no_entry_depends_on_those_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for the rounding of products that some instruction sets add in one step, others not."""
    monkeypatch.setenv("KERNREG_ISA", "baseline")
    X = torch.from_numpy(pairs_at_all_angles(n=200)).float()
    bound = CpuBackend().bind(Request(DEEP[0].program(), X, None, np.dtype("float32")))
    n = len(X)
    whole = torch.empty(n, n)
    bound.fill(Part(0, n, 0, n), {"ntk": whole})
    assert torch.equal(whole, whole.T)
    for part in (Part(3, 140, 7, 300), Part(190, n, 0, 217), Part(0, 1, 0, n)):
        tile = torch.empty(part.i1 - part.i0, part.j1 - part.j0)
        bound.fill(part, {"ntk": tile})
        assert torch.equal(tile, whole[part.i0 : part.i1, part.j0 : part.j1])


@needs_cpu
def test_equal_rows_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNREG_ISA", "baseline")
    X = pairs_at_all_angles(n=40).astype(np.float32)
    K = kernreg.gram(DEEP[0], X, X)
    assert (K[80:85] == K[:5]).all()
    assert (K[:, 80:85] == K[:, :5]).all()


@needs_cpu
def test_sparse_rows() -> None:
    X = pairs_at_all_angles(n=60, d=30)
    X[np.random.default_rng(0).random(X.shape) < 0.7] = 0.0
    X[60:120] = X[:60] * np.float32(1.0 + 2.0**-12)
    for columns in (None, X[::2]):
        dense = kernreg.gram(DEEP[0], X, columns, dtype="float32")
        sparse = kernreg.gram(
            DEEP[0], csr_array(X), None if columns is None else csr_array(columns), dtype="float32"
        )
        assert np.abs(sparse - dense).max() <= 2 * 5e-6 * dense.max()


@needs_cpu
@pytest.mark.parametrize(
    "close",
    [
        (np.zeros((1, 8), np.int32), np.zeros(1), np.zeros((1, 3))),
        (np.zeros((1, 7), np.int32), np.zeros(1), np.zeros((1, 3)), np.zeros((1, 3))),
        (np.zeros((1, 8), np.int32), np.zeros(1), np.zeros((1, 2)), np.zeros((1, 3))),
    ],
)
def test_malformed_jobs_are_refused(close: tuple[np.ndarray, ...]) -> None:
    core, _ = load_extension()
    assert core is not None
    side = np.ones((3, 2), np.float32), np.zeros((0, 3), np.float32), np.ones(3)
    job = False, 0.0, np.zeros((0, 8), np.int32), np.zeros(0), [np.zeros((3, 3), np.float32), None]
    with pytest.raises(ValueError, match=r"malformed|belong together"):
        core.fill("baseline", *side, *side, *job, np.ones(3), np.ones(3), [0, 3, 0, 3], 1, close)
