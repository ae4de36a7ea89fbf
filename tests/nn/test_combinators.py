"""Compositions against kernels worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.exceptions import NetworkError
from tests.nn.kernels import KERNELS, State, assert_kernels, dense, erf, relu, rows, start

ONE = nn.serial(nn.Relu(), nn.Dense(1.2, 0.3))
TWO = nn.serial(nn.Erf(), nn.Dense(0.8, 0.1))


def one(x: State) -> State:
    return dense(relu(x), 1.2, 0.3)


def two(x: State) -> State:
    return dense(erf(x), 0.8, 0.1)


def first() -> State:
    return dense(start(), 1.5, 0.2)


def behind_first(*layers: nn.Layer) -> nn.Layer:
    return nn.serial(nn.Dense(1.5, 0.2), *layers)


def test_the_empty_network_is_linear() -> None:
    assert_kernels(nn.serial(), start())


def test_serial() -> None:
    assert_kernels(behind_first(ONE, TWO), two(one(first())))


def test_nesting_changes_nothing() -> None:
    flat = nn.serial(nn.Dense(1.5, 0.2), *ONE.layers, *TWO.layers)
    nested = nn.serial(nn.serial(nn.Dense(1.5, 0.2), ONE), nn.Identity(), nn.serial(TWO))
    assert nested != flat
    assert nested.program() == flat.program()


def test_residual() -> None:
    x = first()
    y = one(x)
    assert_kernels(behind_first(nn.residual(ONE)), State(x.k + y.k, x.t + y.t))
    z = dense(x, 0.5)
    net = behind_first(nn.residual(ONE, shortcut=nn.Dense(0.5)))
    assert_kernels(net, State(y.k + z.k, y.t + z.t))


def test_sum() -> None:
    x = first()
    y, z = one(x), two(x)
    assert_kernels(behind_first(nn.parallel(ONE, TWO)), State(y.k + z.k, y.t + z.t))


def test_product() -> None:
    """The product rule, for three factors."""
    x = first()
    y, z = one(x), two(x)
    k = y.k * z.k * x.k
    t = y.t * z.k * x.k + y.k * z.t * x.k + y.k * z.k * x.t
    net = behind_first(nn.parallel(ONE, TWO, nn.Identity(), merge="product"))
    assert_kernels(net, State(k, t))
    assert_kernels(nn.serial(net, nn.Dense(0.7, 0.4)), dense(State(k, t), 0.7, 0.4))


@pytest.mark.parametrize("weights", [None, (1.0, 1.0), (1.0, 3.0), (20, 60)])
def test_concat(weights: tuple[float, ...] | None) -> None:
    """Channels of two branches: the mean of both kernels, weighted by widths."""
    x = first()
    y, z = relu(x), erf(x)
    share = 0.5 if weights is None else weights[0] / sum(weights)
    mean = State(share * y.k + (1 - share) * z.k, share * y.t + (1 - share) * z.t)
    net = behind_first(
        nn.parallel(nn.Relu(), nn.Erf(), merge="concat", weights=weights), nn.Dense(0.7, 0.4)
    )
    assert_kernels(net, dense(mean, 0.7, 0.4))


@pytest.mark.parametrize("merge", ["sum", "product", "concat"])
def test_one_branch_is_the_branch(merge: str) -> None:
    net = behind_first(nn.parallel(ONE, merge=merge), nn.Dense())
    assert_kernels(net, dense(one(first())))


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_repeat(n: int) -> None:
    x = first()
    for _ in range(n):
        y = one(x)
        x = State(x.k + y.k, x.t + y.t)
    assert_kernels(behind_first(nn.repeat(nn.residual(ONE), n)), x)


def test_repeat_inside_repeat() -> None:
    x = first()
    for _ in range(2):
        for _ in range(3):
            x = one(x)
        x = two(x)
    net = behind_first(nn.repeat(nn.serial(nn.repeat(ONE, 3), TWO), 2))
    assert_kernels(net, x)


def test_repeat_of_a_first_layer() -> None:
    """The first turn starts at the raw input, later ones at a Gaussian value."""
    x = start()
    for _ in range(3):
        x = dense(x, 1.1, 0.2)
    assert_kernels(nn.repeat(nn.Dense(1.1, 0.2), 3), x)


def test_layer_norm() -> None:
    x = first()
    s = np.sqrt(np.diag(x.k) + 0.01)
    normal = State(x.k / np.outer(s, s), x.t / np.outer(s, s))
    assert_kernels(behind_first(nn.LayerNorm(0.01), TWO), two(normal))


def test_dropout_grows_the_diagonal_only() -> None:
    net = behind_first(nn.Relu(), nn.Dropout(0.8), nn.Dense(0.7))
    x = relu(first())
    k, t = x.k.copy(), x.t.copy()
    k[np.diag_indices_from(k)] /= 0.8
    t[np.diag_indices_from(t)] /= 0.8
    assert_kernels(net, dense(State(k, t), 0.7))
    # Equal rows of two matrices are two samples.
    cross = kernreg.gram(net, rows(), rows(), kernel=KERNELS, backend="reference")
    np.testing.assert_allclose(np.diag(cross.nngp), np.diag(dense(x, 0.7).k), rtol=1e-7)


@pytest.mark.parametrize("b_std", [None, 0.0, 0.3])
def test_standard_parameterization(b_std: float | None) -> None:
    """``t' = fan_in k + [b is trained] + W^2 t`` (Lee et al. 2019)."""
    net = behind_first(nn.Relu(), nn.Dense(1.2, b_std, "standard", 50))
    x = relu(first())
    k = 1.44 * x.k + (b_std or 0.0) ** 2
    assert_kernels(net, State(k, 50 * x.k + (b_std is not None) + 1.44 * x.t))


def test_whole_networks_are_branches_with_weights_of_their_own() -> None:
    net = nn.residual(nn.mlp(depth=1), shortcut=nn.Dense())
    pair = nn.parallel(nn.mlp(depth=1), nn.mlp(depth=2))
    assert net.program().ops
    assert pair.program().ops


@pytest.mark.parametrize(
    "block",
    [nn.Identity(), nn.residual(nn.serial(nn.Relu(), nn.Dense())), nn.repeat(nn.Dense(), 0)],
)
def test_branches_that_depend_on_each_other_are_refused(block: nn.Layer) -> None:
    with pytest.raises(NetworkError, match="have no weights of their own"):
        nn.serial(nn.Dense(), nn.residual(block))
