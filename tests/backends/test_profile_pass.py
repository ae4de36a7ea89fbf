"""What the profile pass recognises, and that it changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.backends import rows as R
from kernreg.backends.analysis import Segment, _depth, analyze
from kernreg.ir import operations as ir
from tests.backends.compare import needs_cpu, relative_error, rows

BLOCK = nn.serial(nn.Relu(), nn.Dense(2**0.5))
BIASED = nn.serial(nn.Relu(), nn.Dense(2**0.5, 0.1))
MANY = 10**6


def unit(X: np.ndarray) -> np.ndarray:
    return X / np.linalg.norm(X, axis=1, keepdims=True)


def segment(
    net: nn.Layer, X: np.ndarray, pairs: int = MANY, dtype: str = "float64", exact: bool = False
) -> Segment | None:
    row = R.input_row(torch.from_numpy(X))
    return analyze(net.program(), (row, row), np.dtype(dtype), pairs, exact).segment


def covered(net: nn.Layer, X: np.ndarray) -> list[ir.Op] | None:
    found = segment(net, X)
    return None if found is None else list(net.program().ops[found.start + 1 : found.end + 1])


@pytest.mark.parametrize("depth", [12, 50, 1000])
def test_homogeneous_networks_without_biases(depth: int) -> None:
    """Rows of any norm, also of norm 0."""
    X = rows(20)
    X[3] = 0
    found = segment(nn.mlp(depth, b_std=0.0), X)
    assert found is not None
    assert (found.start, found.end) == (0, 2)
    # theory.md, section 1: about 16 sqrt(depth) terms.
    assert found.profile.coefficients.shape[1] <= 32 + 24 * depth**0.5
    assert found.profile.error <= 5e-13


def test_one_norm_for_all_rows() -> None:
    """Then biases and smooth functions are the same for every row."""
    X = unit(rows(20))
    for fn in (nn.Relu(), nn.Erf(), nn.Gelu()):
        found = segment(nn.mlp(16, fn, b_std=0.3), X)
        assert found is not None
        assert found.end == 2


def test_a_layer_norm_makes_one_norm() -> None:
    """From there on; the bias before it is not part of the profile."""
    norm = nn.LayerNorm(0.0)
    net = nn.serial(nn.Dense(1.0, 0.5), norm, nn.repeat(BIASED, 16))
    ops = covered(net, rows(20))
    assert ops is not None
    assert isinstance(ops[-1], ir.Repeat)


def test_branches_inside() -> None:
    net = nn.serial(nn.Dense(), nn.repeat(nn.residual(BLOCK), 16))
    ops = covered(net, rows(20))
    assert ops is not None
    assert isinstance(ops[-1], ir.Repeat)


@pytest.mark.parametrize(
    ("net", "options"),
    [
        (nn.mlp(16, b_std=0.1), {}),
        (nn.mlp(16, nn.Erf(), b_std=0.0), {}),
        (nn.mlp(16, b_std=0.0), {"exact": True}),
        (nn.mlp(16, b_std=0.0), {"pairs": 100}),
        (nn.mlp(1, b_std=0.0), {}),
        (nn.serial(nn.Dense(), nn.repeat(BLOCK, 16), nn.Dense(b_std=1.0), nn.Relu()), {}),
    ],
)
def test_not_recognised(net: nn.Layer, options: dict) -> None:
    """Norms that matter, an exact run, few pairs, few layers, a kink that needs the gap."""
    assert segment(net, rows(20), **options) is None


def test_norms_apart_by_more_than_rounding() -> None:
    X = unit(rows(20))
    net = nn.mlp(16, b_std=0.3)
    assert segment(net, X * (1 + 1e-16)) is not None
    X[0] *= 1 + 1e-10
    assert segment(net, X) is None


def test_float32_needs_fewer_terms() -> None:
    low, high = (segment(nn.mlp(50, b_std=0.0), rows(20), dtype=d) for d in ("float32", "float64"))
    assert low is not None
    assert high is not None
    assert low.profile.coefficients.shape[1] < high.profile.coefficients.shape[1]


@needs_cpu
@pytest.mark.parametrize(
    "net",
    [
        nn.mlp(16, b_std=0.0),
        nn.mlp(16, nn.LeakyRelu(0.1), W_std=1.2, b_std=None),
        nn.serial(nn.Dense(), nn.repeat(nn.residual(BLOCK), 16), nn.Dense(0.7, 0.3)),
        nn.serial(nn.Dense(), nn.LayerNorm(0.0), nn.repeat(BIASED, 16)),
        nn.mlp(16, nn.Erf(), b_std=0.3),
    ],
)
@pytest.mark.parametrize("symmetric", [True, False])
def test_entries_are_those_of_the_exact_recursion(net: nn.Layer, symmetric: bool) -> None:
    """The fit is good to 5e-13 in float64 and 2e-7 in float32, at each of 10,000 entries."""
    X = unit(rows(100, 8))
    X[1], X[2] = X[0], -X[0]
    Y = None if symmetric else unit(rows(90, 8, seed=1))
    assert segment(net, X) is not None
    assert relative_error(net, X, Y, backend="cpu") <= 2e-12
    single = X.astype(np.float32).astype(float)
    assert relative_error(net, single, Y, backend="cpu", dtype="float32") <= 5e-6


DEEP = nn.repeat(BLOCK, 16)
FIRST = {
    "standard": nn.serial(nn.Dense(1.3, 0.0, "standard", 50), DEEP),
    "not trained": nn.serial(nn.Dense(1.3, trainable=False), DEEP),
    "branches": nn.serial(
        nn.parallel(nn.Dense(1.3), nn.serial(nn.Dense(0.7), nn.Relu(), nn.Dense(0.4))), DEEP
    ),
    "two stretches": nn.serial(
        nn.Dense(), nn.repeat(BLOCK, 12), nn.LayerNorm(), nn.Dense(1.2, 0.3), nn.repeat(BIASED, 20)
    ),
}


@needs_cpu
@pytest.mark.parametrize("net", FIRST.values(), ids=FIRST)
def test_what_stands_before_a_profile_is_not_taken_for_a_plain_layer(net: nn.Layer) -> None:
    """On enough pairs for a profile; the tangent kernel before it need not be the kernel."""
    assert relative_error(net, rows(100), None, backend="cpu", dtype="float64") <= 1e-11


def test_exact_means_no_profile_for_any_number_of_pairs() -> None:
    assert segment(nn.mlp(50, b_std=0.0), rows(), pairs=10**9, exact=True) is None
    assert segment(nn.mlp(50, b_std=0.0), rows(), pairs=10**9) is not None


def test_depth_counts_all_loops() -> None:
    """And what stands between them: the length of a profile follows from it."""
    two = nn.serial(nn.Dense(), nn.repeat(BLOCK, 7), BLOCK, nn.repeat(nn.repeat(BLOCK, 2), 3))
    assert _depth(two.program().ops) == 7 + 1 + 6
