"""The bound on rounding in float32: above what is seen, and not far above."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.backends import analysis as A
from kernreg.backends import rounding
from kernreg.backends import rows as R
from kernreg.backends.analysis import Analysis, analyze
from kernreg.backends.series import SeriesDual
from kernreg.codegen.polynomials import POLYNOMIALS
from kernreg.ir.pair import Pair
from kernreg.numerics.angle import fit_angle_series
from kernreg.numerics.torchmath import TorchMath
from tests.backends.compare import KERNELS, needs_cpu, rows

STEEP = nn.serial(nn.Erf(b=2.0), nn.Dense(1.5, 0.1))
CUBE = nn.serial(nn.LayerNorm(), nn.Monomial(3), nn.Dense())


def analysis(net: nn.Layer, X: np.ndarray, pairs: int = 100, exact: bool = True) -> Analysis:
    row = R.input_row(torch.from_numpy(X))
    return analyze(net.program(), (row, row), np.dtype("float32"), pairs, exact)


def bound(net: nn.Layer, X: np.ndarray | None = None) -> float:
    return analysis(net, rows() if X is None else X).error


def close_rows(scale: float) -> np.ndarray:
    """Rows, and others near them and near their opposites."""
    X = rows(16, 4)
    g = np.random.default_rng(1)
    steps = 10.0 ** g.uniform(-7, -1, size=(16, 1)) * g.standard_normal((16, 4))
    sides = np.where(np.arange(16) % 4 == 3, -1.0, 1.0)[:, None]
    return (scale * np.concatenate([X, sides * (X + steps)])).astype(np.float32).astype(float)


@needs_cpu
@pytest.mark.parametrize(
    "net",
    [
        nn.mlp(3),
        nn.mlp(10, b_std=0.0),
        nn.mlp(5, nn.Gelu(), W_std=1.4),
        nn.mlp(8, nn.Erf(), W_std=1.5),
        nn.mlp(4, nn.Sin(), W_std=1.5),
        nn.mlp(2, nn.Elementwise(torch.sin)),
        nn.serial(nn.Dense(), nn.Erf(), nn.Dense(), nn.Relu(), nn.Dense()),
        nn.serial(nn.Dense(1e-3, 1.0), nn.repeat(STEEP, 3)),
        nn.serial(nn.Dense(), nn.repeat(nn.residual(STEEP), 3)),
        nn.serial(nn.Dense(), nn.parallel(STEEP, nn.Dense(0.3, 0.5)), STEEP),
        nn.serial(nn.Dense(), nn.parallel(STEEP, STEEP, merge="product"), nn.Dense(), STEEP),
        nn.serial(nn.Dense(), nn.repeat(nn.serial(nn.Relu(), nn.Dropout(0.8), nn.Dense()), 3)),
        nn.serial(
            nn.Dense(1.3, 0.2, "standard", 40), nn.Relu(), nn.Dense(1.0, None, "standard", 9)
        ),
        nn.serial(nn.Dense(), nn.LayerNorm(), nn.Hermite((0.3, 1.0, -0.7)), nn.Dense(1.0, 0.2)),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_no_error_is_above_the_bound(
    net: nn.Layer, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(A, "_PROMISE", np.inf)
    X = close_rows(scale)
    found = analysis(net, X)
    assert found.dtype == np.float32
    assert error_beside_float64(net, X) <= found.error


def error_beside_float64(net: nn.Layer, X: np.ndarray) -> float:
    """Worst ``|K32 - K64| / sqrt(K_ii K_jj)`` of both kernels on the cpu backend."""
    single, double = (
        kernreg.gram(net, X, kernel=KERNELS, dtype=dtype, backend="cpu", exact=True)
        for dtype in ("float32", "float64")
    )
    worst = 0.0
    for one, other in zip(single, double, strict=True):
        size = np.sqrt(np.diag(other))
        worst = max(worst, float((np.abs(one - other) / np.outer(size, size)).max()))
    return worst


CONTRACTING = [
    nn.serial(nn.Dense(1e-3, 1.0), nn.repeat(STEEP, 20)),
    nn.serial(nn.Dense(1.0, 0.5), nn.repeat(nn.serial(nn.Sin(b=1.3), nn.Dense(2.0, 0.1)), 8)),
    nn.serial(nn.Dense(0.01, 0.7), nn.residual(nn.serial(nn.repeat(STEEP, 12), nn.Dense()))),
    nn.serial(nn.Dense(0.1, 3.0), nn.repeat(nn.serial(nn.Gaussian(), nn.Dense(2.0)), 9), STEEP),
    nn.serial(nn.Dense(), nn.parallel(nn.Dense(0.01, 1.0), nn.repeat(STEEP, 9)), nn.Erf()),
    nn.serial(nn.Dense(1e-3, 1.0), nn.repeat(nn.serial(STEEP, nn.LayerNorm(0.1)), 30)),
]


@needs_cpu
@pytest.mark.parametrize("net", CONTRACTING)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6])
def test_every_layer_adds_rounding_behind_one_that_contracts(net: nn.Layer, scale: float) -> None:
    """All errors of the rows are lost where a bias leads; those of later layers grow."""
    X = close_rows(scale)[::2]
    assert error_beside_float64(net, X) <= 5e-6


ORDINARY = [
    *(nn.mlp(depth, b_std=b) for depth in (3, 10, 30) for b in (0.0, 0.1)),
    *(nn.mlp(depth, nn.Erf(), W_std=W) for depth in (3, 10) for W in (0.886, 1.0)),
    *(nn.mlp(depth, nn.Gelu(), W_std=1.408) for depth in (1, 3, 5)),
    nn.mlp(10, nn.LeakyRelu(0.1), W_std=1.4),
    nn.mlp(10, nn.Tanh(), W_std=1.0),
    nn.serial(nn.Dense(), nn.repeat(nn.residual(nn.serial(nn.Relu(), nn.Dense())), 5), nn.Dense()),
    nn.serial(nn.Dense(), nn.Rbf(0.5)),
]


@pytest.mark.parametrize("net", ORDINARY)
def test_ordinary_networks_stay_in_float32(net: nn.Layer) -> None:
    assert analysis(net, rows()).dtype == np.float32


@pytest.mark.parametrize("block", [STEEP, nn.residual(nn.serial(nn.Relu(), nn.Dense())), CUBE])
def test_a_loop_is_its_layers(block: nn.Layer) -> None:
    looped = nn.serial(nn.Dense(), nn.repeat(block, 4))
    assert bound(looped) == bound(nn.serial(nn.Dense(), block, block, block, block))
    assert bound(looped) > 1.2 * bound(nn.serial(nn.Dense(), nn.repeat(block, 2)))


@pytest.mark.parametrize(
    ("net", "turns"),
    [
        (nn.mlp(10_000, nn.Erf(), W_std=0.5, b_std=0.5), 100),  # settles
        (nn.mlp(10_000, nn.Erf(), W_std=3.0, b_std=0.1), 100),  # grows
    ],
)
def test_long_loops_end_early(net: nn.Layer, turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    rounding._error_of.cache_clear()
    step = rounding.Walker.step
    monkeypatch.setattr(rounding.Walker, "step", lambda *args: (calls.append(1), step(*args))[1])
    row = R.input_row(torch.from_numpy(rows()))
    error = rounding.float32_error(net.program(), row, 1e-3, {})
    assert error < 5e-6 or error == np.inf
    assert 0 < len(calls) < 2 * turns  # operations


def test_rows_of_nearly_the_same_size_share_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of sizes at most 2 % away, and follows a network by its numbers."""
    net, X = nn.mlp(3, nn.Erf(), W_std=1.5, b_std=0.1), rows()
    rounding._error_of.cache_clear()
    once = bound(net, X)
    with monkeypatch.context() as patch:
        patch.setattr(rounding, "_STEPS", 2**20)
        rounding._error_of.cache_clear()
        assert once == pytest.approx(bound(net, X), rel=0.05)
    rounding._error_of.cache_clear()
    bound(net, X)
    monkeypatch.setattr(rounding.Walker, "step", lambda *_: pytest.fail("followed again"))
    assert bound(net, 1.001 * X) == once
    with pytest.raises(pytest.fail.Exception):
        bound(nn.mlp(3, nn.Erf(), W_std=1.6, b_std=0.1), X)


@pytest.mark.parametrize("apart", [1e-4, 3e-3, 1.5e-2, 0.3])
@pytest.mark.parametrize(
    "net",
    [nn.mlp(30, nn.Gelu(), W_std=3.0, b_std=0.0), nn.mlp(20, nn.Erf(), W_std=1.5, b_std=0.1)],
)
def test_shared_bounds_know_that_rows_differ(
    net: nn.Layer, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables of rows of different size round apart, however small the difference."""
    X = rows(30, 6)
    X *= np.linspace(1.0, 1.0 + apart, 30)[:, None] / np.linalg.norm(X, axis=1, keepdims=True)
    shared = bound(net, X)
    monkeypatch.setattr(rounding, "_on_grid", lambda s: tuple(s.tolist()))
    assert shared >= 0.8 * bound(net, X)


def test_a_kink_takes_the_root_of_the_error_of_a_gap() -> None:
    """Behind a subtraction equal rows are 1e-7 apart: 4e-4 in the angle, over pi in the slope."""
    smooth = nn.serial(nn.Dense(), nn.Elementwise(torch.sin), nn.Dense(), nn.Relu(), nn.Dense())
    assert bound(smooth) > 1e-5
    assert bound(nn.serial(nn.Dense(), nn.Relu(), nn.Dense(), nn.Erf())) < 2e-6


def test_errors_of_factors_add_up() -> None:
    branch = nn.serial(nn.Relu(), nn.Dense())
    one = bound(nn.serial(nn.Dense(), branch))
    several = nn.parallel(*[branch] * 4, merge="product")
    assert 1.3 * one < bound(nn.serial(nn.Dense(), several)) < 8.0 * one


def test_dropout_makes_errors_smaller() -> None:
    def net(*between: nn.Layer) -> nn.Layer:
        return nn.serial(nn.Dense(), nn.Erf(b=3.0), *between, nn.Dense(0.1, 1.0), nn.Erf(b=2.0))

    assert bound(net(nn.Dropout(0.2))) < bound(net())


def test_rows_of_zeros_have_no_error() -> None:
    assert bound(nn.mlp(2, nn.Erf(), b_std=0.0), np.zeros((3, 2))) < 1e-6


@needs_cpu
def test_a_function_of_the_angle_rounds_once() -> None:
    X = rows(40)
    net = nn.mlp(30, b_std=0.0)
    replaced = analysis(net, X, pairs=10**6, exact=False)
    assert replaced.segment is not None
    assert replaced.dtype == np.float32
    assert 1e-7 < replaced.error != bound(net, X)


@needs_cpu
def test_a_profile_of_100_layers_keeps_float32_and_its_bound() -> None:
    """Rows of one norm at every angle from the first, from 1e-5 on."""
    theta = np.concatenate([[0.0], np.geomspace(1e-5, 1.0, 600), np.linspace(1.0, np.pi, 600)])
    X = np.stack([np.cos(theta), np.sin(theta)], axis=1)
    net = nn.mlp(100, b_std=0.0)
    row = R.input_row(torch.from_numpy(X).float().double())
    found = analyze(net.program(), (row, row), np.dtype("float32"), len(X) ** 2, False)
    assert found.segment is not None
    assert found.dtype == np.float32
    K32, K64 = (
        kernreg.gram(net, X.astype(np.float32), kernel="ntk", dtype=dtype, backend="cpu")
        for dtype in ("float32", "float64")
    )
    assert np.abs(K32 / K64[0, 0] - K64 / K64[0, 0]).max() <= found.error


def test_an_angle_rounds_by_the_units_it_is_said_to() -> None:
    """The arithmetic of ``chebyshev_at`` in float32, beside float64."""
    gap = np.concatenate([np.geomspace(1e-14, 1.0, 400_000), np.linspace(1e-6, 1.0, 400_000)])
    gap = gap.astype(np.float32)
    z = np.float32(0.5) * gap
    arc = np.full_like(z, POLYNOMIALS["arc"]["float32"][-1])
    for c in POLYNOMIALS["arc"]["float32"][-2::-1]:
        arc = arc * z + np.float32(c)
    arc = np.sqrt(z) * arc
    exact = 2.0 * np.arcsin(np.sqrt(0.5 * gap.astype(float)))
    for angle, theta in ((arc, exact), (np.float32(np.pi) - arc, np.pi - exact)):
        at = np.float32(2.0) - angle * np.float32(4.0 / np.pi)
        units = np.abs(at - (2.0 - 4.0 / np.pi * theta)) * np.pi / 4.0 / 2.0**-24
        bound = rounding._units_of_angle(torch.from_numpy(theta)).numpy()
        assert (units <= bound).all()
        assert units.max() >= 0.5 * bound.max()


def test_no_digits_are_left_to_be_amplified() -> None:
    """With float64 arithmetic series and profiles are as good as that."""
    block = nn.serial(nn.Elementwise(torch.sin), nn.Dense(3.0, 0.1))
    few = analysis(nn.serial(nn.Dense(), block), rows())
    many = analysis(nn.serial(nn.Dense(), nn.repeat(block, 12)), rows())
    assert few.dtype == np.float32
    assert many.dtype == np.float64
    assert few.near > many.near
    assert next(iter(few.expansions.values())) < next(iter(many.expansions.values()))


def pairs() -> Pair:
    gap = torch.tensor([0.0, 1e-6, 0.1, 0.9, 0.3, 1e-3], dtype=torch.float64)[:, None, None]
    side = torch.tensor([1.0, 1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)[:, None, None]
    s1 = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64).expand(6, 3, 3)
    s2 = torch.tensor([[0.5, 1.0, 1.9]], dtype=torch.float64).expand(6, 3, 3)
    return Pair((side * (1.0 - gap)).expand(6, 3, 3), gap.expand(6, 3, 3), s1, s2)


@pytest.mark.parametrize(
    ("exact", "fn", "terms"),
    [
        (nn.Sin(), nn.Elementwise(torch.sin), 60),
        (nn.Sin(), nn.Elementwise(torch.sin), None),
        (nn.Relu(), nn.Elementwise(torch.relu, smooth=False), None),
    ],
)
def test_a_series_is_the_dual(exact: nn.Nonlinearity, fn: nn.Nonlinearity, terms: int) -> None:
    """Both series end at 1e-10 of the mean squares, which are at most 2."""
    series = terms or fit_angle_series(fn, 0.5, 2.0, 1e-10)
    p = pairs()
    got = SeriesDual(fn, series).dual(TorchMath, p)
    unit = Pair(p.rho, p.gap, torch.ones_like(p.s1), torch.ones_like(p.s1))
    want = exact.dual(TorchMath, unit if exact.homogeneous else p)
    scale = p.s1 * p.s2 if exact.homogeneous else 1.0
    assert torch.allclose(got.kappa, scale * want.kappa, rtol=0, atol=2e-9)
    assert torch.allclose(got.kappa_dot, want.kappa_dot, rtol=0, atol=2e-9)
    if got.gap is not None:
        assert torch.allclose(got.gap[:2, 1:2, 1:2], want.gap[:2, 1:2, 1:2], rtol=1e-8, atol=0)


def test_a_series_at_rows_of_zeros() -> None:
    zero = torch.zeros(1, dtype=torch.float64)
    for series in (20, fit_angle_series(nn.Elementwise(torch.sin), 0.0, 1.0, 1e-8)):
        m = SeriesDual(nn.Elementwise(torch.sin), series).dual(
            TorchMath, Pair(zero, 1.0 + zero, zero, 1.0 + zero)
        )
        assert float(m.kappa) == 0.0
        assert float(m.kappa_dot) == 0.0
