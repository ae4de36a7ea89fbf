"""What the analysis finds out about a program on given rows."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.backends import analysis as A
from kernreg.backends import rows as R
from kernreg.backends.analysis import Analysis, analyze
from kernreg.exceptions import InvalidInputError
from kernreg.numerics.angle import AngleSeries
from tests.backends.compare import hard_rows, needs_cpu, relative_error, rows

CUBE = nn.serial(nn.LayerNorm(), nn.Monomial(3), nn.Dense())


def analysis(net: nn.Layer, X: np.ndarray | None = None, dtype: str = "float32") -> Analysis:
    row = R.input_row(torch.from_numpy(rows() if X is None else X))
    return analyze(net.program(), (row, row), np.dtype(dtype), 100, exact=True)


def test_layers_are_counted_on_the_longest_path() -> None:
    block = nn.serial(nn.Relu(), nn.Dense())
    net = nn.serial(nn.Dense(), nn.residual(nn.serial(block, block)), nn.repeat(block, 5))
    assert A.near_gap(net.program(), np.dtype(np.float64)) == 7e-6
    assert A.near_gap(nn.Dense().program(), np.dtype(np.float64)) == 1e-6


def test_arithmetic_follows_the_bound() -> None:
    assert analysis(nn.mlp(3)).dtype == np.float32
    assert 0 < analysis(nn.mlp(3)).error < 5e-6
    assert analysis(nn.mlp(3), dtype="float64").dtype == np.float64
    assert analysis(nn.mlp(3), dtype="float64").error == 0
    chaotic = analysis(nn.mlp(8, nn.Erf(), W_std=4.0, b_std=0.0))
    assert chaotic.error > 5e-6
    assert chaotic.dtype == np.float64


def test_growth_in_loops_counts() -> None:
    """x^3 grows an error by 9/5: a hundred times in eight turns."""
    assert analysis(nn.serial(nn.Dense(), nn.repeat(CUBE, 1))).dtype == np.float32
    assert analysis(nn.serial(nn.Dense(), nn.repeat(CUBE, 8))).dtype == np.float64
    inner = nn.repeat(nn.repeat(CUBE, 2), 4)
    assert analysis(nn.serial(nn.Dense(), inner)).dtype == np.float64


def test_numbers_beyond_the_range_of_float32_need_float64() -> None:
    """Tangent kernels over 1e30 of the variances, and standard deviations whose square is lost."""
    large = nn.serial(nn.Dense(), nn.Relu(), nn.Dense(1e-16, None, "standard", 999))
    assert analysis(large).error < 5e-6
    assert analysis(large).dtype == np.float64
    for size, dtype in ((1e-7, np.float32), (1e-10, np.float64)):
        found = analysis(nn.serial(nn.Dense(size), nn.Gaussian(), nn.Dense()))
        assert found.error < 5e-6
        assert found.dtype == dtype
    assert analysis(nn.serial(nn.Dense(1e-12), nn.Relu(), nn.Dense())).dtype == np.float32


def test_pairs_near_each_other() -> None:
    """An error of 1e-7, or 1e-16, in a correlation is to be a small one in the angle."""
    for dtype, per_layer in (("float32", 1e-3), ("float64", 1e-6)):
        for depth in (0, 1, 5):
            net = nn.mlp(depth) if depth else nn.Dense()
            assert analysis(net, dtype=dtype).near == pytest.approx(per_layer * max(1, depth))
    assert analysis(nn.mlp(25)).near == 0.02
    assert analysis(nn.mlp(2000), dtype="float64").near == 1e-3


def test_a_loop_behind_a_profile_keeps_its_series() -> None:
    """Series are made for what the profile leaves, in loops too."""
    block = nn.serial(nn.Relu(), nn.Dense(2**0.5))
    loop = nn.repeat(nn.serial(nn.Elementwise(torch.sin), nn.Dense(1.0, 0.1)), 2)
    net = nn.serial(nn.Dense(), nn.repeat(block, 12), loop)
    row = R.input_row(torch.from_numpy(rows()))
    found = analyze(net.program(), (row, row), np.dtype("float64"), 10**6, exact=False)
    assert found.segment is not None
    (terms,) = found.expansions.values()
    assert isinstance(terms, int)
    unit = R.input_row(torch.from_numpy(rows() / np.linalg.norm(rows(), axis=1, keepdims=True)))
    inside = analyze(net.program(), (unit, unit), np.dtype("float64"), 10**6, exact=False)
    assert inside.segment is not None
    assert inside.segment.end == len(net.program().ops) - 1
    assert inside.expansions == {}


def test_kinks_behind_smooth_functions_keep_float32() -> None:
    """A smooth dual gives the gap without a subtraction: a kink takes no root of rounding."""
    kinked = nn.serial(nn.Dense(), nn.Erf(), nn.Dense(), nn.Relu(), nn.Dense())
    assert analysis(kinked).dtype == np.float32
    assert analysis(nn.serial(nn.Dense(), nn.Relu(), nn.Dense(), nn.Erf())).dtype == np.float32


@needs_cpu
@pytest.mark.parametrize(
    "net",
    [
        nn.mlp(8, nn.Erf(), W_std=4.0, b_std=0.0),
        nn.mlp(6, nn.Sin(), W_std=3.0),
        nn.serial(nn.Dense(), nn.repeat(CUBE, 4)),
    ],
)
def test_float32_keeps_its_promise_where_errors_grow(net: nn.Layer) -> None:
    X = hard_rows()
    assert relative_error(net, X, None, backend="cpu", dtype="float32") <= 2e-5
    assert relative_error(net, X, X, backend="cpu", dtype="float32") <= 2e-5


@needs_cpu
def test_a_kink_behind_a_jump_behind_a_smooth_function() -> None:
    """Equal rows: a gap of 1e-16 from a subtraction becomes 1e-8 in the angle behind the jump.

    The kink behind takes the root of that once more: (2 eps)^(1/4) / pi = 4.6e-5.
    """
    net = nn.serial(nn.Dense(), nn.Erf(), nn.Dense(), nn.Sign(), nn.Dense(), nn.Relu(), nn.Dense())
    X = hard_rows()
    assert relative_error(net, X, None, backend="cpu", dtype="float32") <= 4.6e-5


def test_series_are_as_long_as_the_largest_variance_needs() -> None:
    lengths = []
    for size in (0.1, 0.5, 1.0):
        found = analysis(nn.mlp(1, nn.Tanh(), W_std=1.0), size * rows(), "float64")
        (terms,) = found.expansions.values()
        assert isinstance(terms, int)
        assert found.reason is None
        lengths.append(terms)
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[2]


def test_kinks_take_a_series_in_the_angle() -> None:
    found = analysis(nn.mlp(1, nn.Elu()), dtype="float64")
    (series,) = found.expansions.values()
    assert isinstance(series, AngleSeries)
    assert found.reason is None


def test_series_that_are_too_long() -> None:
    found = analysis(nn.mlp(1, nn.Tanh(), W_std=1000.0), dtype="float64")
    assert list(found.expansions.values()) == [None]
    assert found.reason is not None
    assert found.reason.startswith("Tanh() at standard deviations from ")


@pytest.mark.parametrize(
    ("dtype", "depth"), [("float32", 14), ("float32", 40), ("float64", 128), ("float64", 1000)]
)
def test_overflow(dtype: str, depth: int) -> None:
    """ReLU at W_std = 40 multiplies variances by 800 a layer: 10^2.9."""
    net = nn.mlp(depth, W_std=40.0, b_std=None)
    with pytest.raises(InvalidInputError, match=f"overflows.*{dtype}.*smaller W_std"):
        analysis(net, dtype=dtype)
    largest = 38 if dtype == "float32" else 308
    fits = nn.mlp(int(largest / 2.904) - 4, W_std=40.0, b_std=None)
    assert analysis(fits, dtype=dtype).reason is None


def test_series_end_where_the_arithmetic_does() -> None:
    """At 1e-8 in float32, at 1e-13 in float64."""
    net = nn.serial(nn.Dense(), nn.Tanh(), nn.Dense())
    (short,), (long,) = (analysis(net, dtype=t).expansions.values() for t in ("float32", "float64"))
    assert isinstance(short, int)
    assert isinstance(long, int)
    assert 1.3 * short < long


@needs_cpu
def test_a_series_covers_what_dropout_makes_larger() -> None:
    net = nn.serial(nn.Dense(), nn.Erf(), nn.Dropout(0.1), nn.Dense(), nn.Tanh(), nn.Dense())
    error = relative_error(net, rows(), None, backend="cpu", dtype="float64")
    assert error <= 1e-10


def test_loops_keep_no_rows_of_their_turns() -> None:
    """Memory grows with the rows, not with the depth."""
    row = R.input_row(torch.ones(20_000, 2, dtype=torch.float64))
    program = nn.mlp(depth=60, b_std=0.1).program()
    tracked = []
    walker = A._Walker(program.params)
    step = walker.step

    def spy(op, xs, done):
        value = step(op, xs, done)
        tracked.append(weakref.ref(value.s))
        return value

    walker.step = spy  # type: ignore[method-assign]
    walker.run(program.ops, row)
    assert len(tracked) > 100
    assert sum(ref() is not None for ref in tracked) <= 4
