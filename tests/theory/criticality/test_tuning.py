"""Tuned networks: what every layer gets, and that signals pass, at infinite and finite width."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.nn.base import Layer
from kernreg.nn.combinators import Repeat, Residual, Serial
from kernreg.nn.presets import Mlp
from kernreg.numerics.torchmath import TorchMath
from kernreg.theory.criticality.critical_point import critical
from kernreg.theory.criticality.phases import edge_of_chaos
from kernreg.theory.criticality.single_input import averages
from kernreg.theory.criticality.tuning import tune

D = nn.Dense()
GELU = critical(nn.Gelu())
ROOT_2 = pytest.approx(2**0.5, rel=1e-13)


def rows(norm: float = 1.0) -> np.ndarray:
    """Inputs with ``<x, x> / d = norm``."""
    x = np.random.default_rng(3).standard_normal((3, 8))
    return x * np.sqrt(norm / (x**2).mean(axis=1, keepdims=True))


def variance(net: Layer, norm: float = 1.0) -> float:
    found = kernreg.diag(net, rows(norm), "nngp")
    np.testing.assert_allclose(found, found[0], rtol=1e-9)
    return float(found[0])


def denses(net: Any) -> list[tuple[float, float | None]]:
    """``W_std, b_std`` of all dense layers in order, of a loop once."""
    if isinstance(net, nn.Dense):
        return [(net.W_std, net.b_std)]
    if isinstance(net, Mlp):
        net = net.layers()
    parts = {Serial: "layers", Repeat: "block", Residual: "block"}
    inner = getattr(net, parts.get(type(net), ""), ())
    inner = inner if isinstance(inner, tuple) else (inner,)
    found = [pair for part in inner for pair in denses(part)]
    return found + (denses(net.shortcut) if isinstance(net, Residual) else [])


def test_relu() -> None:
    net = tune(nn.serial(nn.Dense(3.0, 0.5), nn.Relu(), nn.Dense(0.1, 0.7), nn.Relu(), D))
    assert denses(net) == [(1.0, 0.0), (ROOT_2, 0.0), (ROOT_2, 0.0)]


def test_the_first_layer_brings_the_input_to_the_fixed_point() -> None:
    net = tune(nn.mlp(depth=4, activation=nn.Gelu()), input_norm=2.5)
    first, rest = denses(net)
    assert GELU.K is not None
    assert GELU.C_b is not None
    assert rest == (pytest.approx(GELU.W_std), pytest.approx(GELU.b_std))
    assert first == (pytest.approx(((GELU.K - GELU.C_b) / 2.5) ** 0.5), pytest.approx(GELU.b_std))
    assert variance(net, 2.5) == pytest.approx(GELU.K, rel=1e-12)


@pytest.mark.parametrize(
    ("sigma", "K"),
    [
        (nn.Relu(), 1.0),
        (nn.LeakyRelu(0.2), 1.0),
        (nn.Abs(), 1.0),
        (nn.Gelu(), GELU.K),
        (nn.Swish(), 14.32017362),
        (nn.Elementwise(torch.nn.functional.mish), 1.670169132478),
    ],
    ids=["relu", "leaky", "abs", "gelu", "swish", "mish"],
)
def test_depth_100_keeps_norms(sigma: nn.Nonlinearity, K: float) -> None:
    """At any depth; off critical, by 5 % in W_std, it does not.

    Rounding moves a half-stable point by less than 1e-9 in 100 layers.
    """
    net = tune(nn.mlp(depth=100, activation=sigma))
    assert variance(net) == pytest.approx(K, rel=1e-9)
    block = net.layers[1]  # type: ignore[attr-defined]
    dense = block.block.layers[1]
    for factor in (0.95, 1.05):
        off = net.with_params(**{"1__block__1__W_std": dense.W_std * factor})
        assert abs(math.log(variance(off) / K)) > math.log(1.5)


@pytest.mark.parametrize(("sigma", "limit"), [(nn.Tanh(), 0.5), (nn.Sin(), 1.0)], ids=repr)
def test_the_class_without_a_norm_decays_slowly(sigma: nn.Nonlinearity, limit: float) -> None:
    """K l -> -1 / a1 up to log(l) / l, where 5 % off in W_std would be a factor e^-10."""
    net = tune(nn.mlp(depth=100, activation=sigma))
    assert variance(net) * 101 == pytest.approx(limit, rel=0.05)
    off = nn.mlp(depth=100, activation=sigma, W_std=0.95, b_std=0.0)
    assert variance(off) < 1e-3 * variance(net)


def test_presets_stay_presets_where_they_can() -> None:
    found = tune(nn.mlp(depth=7, activation=nn.Tanh(), W_std=3.0, b_std=0.4))
    assert found == nn.mlp(depth=7, activation=nn.Tanh(), W_std=1.0, b_std=0.0)
    assert tune(found) == found
    spelled = tune(nn.mlp(depth=7))
    assert repr(spelled) == (
        "serial(Dense(), repeat(serial(Relu(), Dense(W_std=1.4142135623730951)), 7))"
    )


def test_nothing_but_variances_changes() -> None:
    dense = nn.Dense(3.0, None, "standard", 40)
    net = nn.serial(dense, nn.Identity(), nn.Relu(), nn.Dense(b_std=0.3, W_std=2.0))
    found = tune(net)
    assert repr(found) == (
        "serial(Dense(W_std=1.0, b_std=None, parameterization='standard', fan_in=40), Identity(), "
        "Relu(), Dense(W_std=1.4142135623730951))"
    ).replace("W_std=1.0, ", "")


def test_linear_layers_keep_the_variance() -> None:
    assert denses(tune(nn.serial(D, nn.Dense(5.0, 1.0), nn.Relu(), D))) == [
        (1.0, 0.0),
        (1.0, 0.0),
        (ROOT_2, 0.0),
    ]


def test_layers_without_bias_get_one_where_it_is_needed() -> None:
    bare = nn.Dense(b_std=None)
    assert denses(tune(nn.serial(bare, nn.Relu(), bare))) == [(1.0, None), (ROOT_2, None)]
    found = denses(tune(nn.serial(bare, nn.Gelu(), bare)))
    assert [b for _, b in found] == [pytest.approx(GELU.b_std)] * 2


def test_a_loop_whose_first_turn_differs() -> None:
    net = tune(nn.serial(nn.repeat(nn.serial(D, nn.Gelu()), 5), D))
    spelled = nn.serial(*[part for _ in range(5) for part in (D, nn.Gelu())], D)
    assert variance(net) == pytest.approx(variance(tune(spelled)), rel=1e-12)
    assert variance(net) == pytest.approx(GELU.K or 0, rel=1e-12)
    assert len(denses(net)) == 3  # the loop of four turns is still a loop


@pytest.mark.parametrize("n", [0, 1, 2])
def test_short_loops(n: int) -> None:
    net = tune(nn.serial(D, nn.repeat(nn.serial(nn.Relu(), D), n), nn.Relu(), D))
    assert variance(net) == pytest.approx(1.0, rel=1e-12)
    assert net.layers[1].n == n  # type: ignore[attr-defined]


def test_nonlinearities_that_agree() -> None:
    """ReLU takes the variance of GELU; tanh and erf decay together."""
    net = tune(nn.serial(D, nn.Relu(), D, nn.Gelu(), D, nn.Relu(), D))
    assert variance(net) == pytest.approx(GELU.K or 0, rel=1e-12)
    assert [w for w, _ in denses(net)[1:]] == [ROOT_2, pytest.approx(GELU.W_std), ROOT_2]
    odd = tune(nn.serial(D, nn.Tanh(), D, nn.Erf(), D))
    assert denses(odd)[1:] == [(1.0, 0.0), (pytest.approx(math.sqrt(math.pi / 4)), 0.0)]


@pytest.mark.parametrize("other", [nn.Swish(), nn.Tanh()], ids=repr)
def test_nonlinearities_that_disagree(other: nn.Nonlinearity) -> None:
    with pytest.raises(NetworkError, match="no initialisation suits both"):
        tune(nn.serial(D, other, D, nn.Gelu(), D))


def test_dropout() -> None:
    """The variance is that of training: each sample's own grows by 1 / keep_prob."""
    net = nn.serial(D, nn.repeat(nn.serial(nn.Gelu(), nn.Dropout(0.8), D), 50))
    assert variance(tune(net)) == pytest.approx(GELU.K or 0, rel=1e-10)
    at_the_input = tune(nn.serial(nn.Dropout(0.5), D, nn.Relu(), D))
    assert variance(at_the_input) == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("sigma", [nn.Tanh(), nn.Gelu(), nn.Elu(), nn.Relu()], ids=repr)
def test_behind_layer_norm(sigma: nn.Nonlinearity) -> None:
    """Edge of chaos at variance 1, for nonlinearities without a critical point as well."""
    net = tune(nn.serial(D, nn.repeat(nn.serial(nn.LayerNorm(), sigma, D), 30)))
    W_std, b_std = denses(net)[-1]
    at = averages(sigma, 1.0)
    assert b_std is not None
    assert W_std**2 * at.slope_square[0] == pytest.approx(1.0, rel=1e-12)
    assert b_std**2 + W_std**2 * at.square[0] == pytest.approx(1.0, rel=1e-12)
    assert variance(net) == pytest.approx(1.0, rel=1e-11)


def test_layer_norm_cannot_help_everyone() -> None:
    with pytest.raises(NetworkError, match="behind LayerNorm has no edge of chaos"):
        tune(nn.serial(D, nn.LayerNorm(), nn.Softplus(), D))


@pytest.mark.parametrize("depth", [1, 10, 100, 1000])
def test_residual_blocks_grow_by_e_at_most(depth: int) -> None:
    """K (1 + 1 / L)^L, and at half that depth the square root of it."""
    net = tune(nn.serial(D, nn.repeat(nn.residual(nn.serial(nn.Relu(), D)), depth), D))
    assert variance(net) == pytest.approx((1 + 1 / depth) ** depth, rel=1e-11)
    W_std, b_std = denses(net)[1]
    assert (W_std, b_std) == (pytest.approx((2 / depth) ** 0.5), 0.0)


def test_residual_kernels_have_a_limit() -> None:
    """theory.md: correlation .6421, .6467, .64714 after 10, 100, 1000 blocks of some pair.

    Here: the change from 300 to 600 blocks is half of that from 150 to 300, as of a 1 / L error.
    """
    x = rows()[:2]

    def correlation(depth: int) -> float:
        net = tune(nn.serial(D, nn.repeat(nn.residual(nn.serial(nn.Relu(), D)), depth)))
        k = kernreg.gram(net, x, kernel="nngp")
        return float(k[0, 1] / math.sqrt(k[0, 0] * k[1, 1]))

    a, b, c = (correlation(depth) for depth in (150, 300, 600))
    assert (c - b) / (b - a) == pytest.approx(0.5, abs=0.01)


def test_residual_blocks_are_counted() -> None:
    """Two loops, a single block and a nested one: L = 3 + 2 * 2 + 1 + 1."""
    block = nn.residual(nn.serial(nn.Relu(), D))
    nested = nn.residual(nn.serial(nn.Relu(), D, block))
    net = nn.serial(D, nn.repeat(block, 3), nn.repeat(nn.repeat(block, 2), 2), nested)
    found = denses(tune(net))
    assert [w for w, _ in found[1:]] == pytest.approx([(2 / 9) ** 0.5] * 4)
    # Its output: the branch adds a ninth, and the nested block a ninth of that ninth.
    assert variance(tune(net)) == pytest.approx((1 + 1 / 9) ** 7 * (1 + (1 + 1 / 9) / 9))


def test_only_the_last_layer_of_a_branch_is_scaled() -> None:
    deep = nn.residual(nn.serial(nn.Relu(), D, nn.Relu(), D))
    assert denses(tune(nn.serial(D, nn.repeat(deep, 4))))[1:] == [
        (ROOT_2, 0.0),
        (pytest.approx(0.5**0.5), 0.0),
    ]
    looped = nn.residual(nn.repeat(nn.serial(nn.Relu(), D), 3))
    preset = nn.residual(nn.serial(nn.Relu(), nn.mlp(depth=2)))
    for branch in (looped, preset):
        net = tune(nn.serial(D, nn.repeat(branch, 4)))
        assert variance(net) == pytest.approx(1.25**4, rel=1e-12)


def test_projections_keep_the_variance() -> None:
    net = nn.serial(D, nn.residual(nn.serial(nn.Relu(), D), shortcut=nn.Dense(3.0, 1.0)), D)
    found = tune(net)
    assert (1.0, 0.0) in denses(found)
    assert variance(found) == pytest.approx(2.0, rel=1e-12)


def test_transformer_like_blocks() -> None:
    """Pre-norm: every branch adds 1 / L to the variance."""
    branch = nn.serial(nn.LayerNorm(), nn.Gelu(), D)
    net = tune(nn.serial(D, nn.repeat(nn.residual(branch), 20)))
    assert variance(net) == pytest.approx(2.0, rel=1e-10)


def test_no_critical_point() -> None:
    with pytest.raises(NetworkError) as caught:
        tune(nn.mlp(depth=3, activation=nn.Elu()))
    text = str(caught.value)
    assert "Elu() has no critical initialisation" in text
    assert "not smooth at 0" in text
    edge = edge_of_chaos(nn.Elu(), 0.1)
    assert f"tune(net, C_b=0.1) sets C_W = {edge.C_W:.6g}" in text
    net = tune(nn.mlp(depth=100, activation=nn.Elu()), C_b=0.1)
    assert variance(net) == pytest.approx(edge.K, rel=1e-9)
    with pytest.raises(NetworkError, match="no stable edge of chaos either"):
        tune(nn.mlp(depth=3, activation=nn.Softplus()))


def test_edge_of_chaos_by_request() -> None:
    edge = edge_of_chaos(nn.Tanh(), 0.05)
    net = tune(nn.mlp(depth=100, activation=nn.Tanh()), C_b=0.05)
    assert denses(net)[1] == (pytest.approx(edge.C_W**0.5), pytest.approx(0.05**0.5))
    assert variance(net) == pytest.approx(edge.K, rel=1e-9)
    assert tune(nn.mlp(depth=3), C_b=0.0) == tune(nn.mlp(depth=3))
    with pytest.raises(InvalidInputError, match="at C_b = 0 only"):
        tune(nn.mlp(depth=3), C_b=0.1)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (nn.serial(D, nn.parallel(D, D), nn.Relu(), D), "what sum does to the scale of a signal"),
        (nn.serial(nn.Relu(), D), "directly on the input"),
    ],
    ids=["parallel", "input"],
)
def test_networks_it_does_not_take(net: Layer, words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        tune(net)


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan])
def test_bad_input_norm(norm: float) -> None:
    with pytest.raises(InvalidInputError, match="input_norm"):
        tune(nn.mlp(), input_norm=norm)


def finite(layer: Layer, h: Tensor, width: int, draw: torch.Generator) -> Tensor:
    """Output of a random network of finite width; rows of ``h`` are inputs."""
    match layer:
        case nn.Dense():
            scale = layer.W_std / math.sqrt(h.shape[1])
            weights = scale * torch.randn(h.shape[1], width, generator=draw)
            return h @ weights + (layer.b_std or 0.0) * torch.randn(width, generator=draw)
        case nn.Nonlinearity():
            return layer.phi(TorchMath, h)
        case Serial(layers):
            for part in layers:
                h = finite(part, h, width, draw)
            return h
        case Repeat(block, n):
            for _ in range(n):
                h = finite(block, h, width, draw)
            return h
        case Residual(block, shortcut):
            return finite(block, h, width, draw) + finite(shortcut, h, width, draw)
        case nn.Identity():
            return h
        case Mlp():
            return finite(layer.layers(), h, width, draw)
    raise AssertionError(layer)


def test_a_residual_network_of_width_500_keeps_its_norm() -> None:
    """100 blocks, 64 inputs, within 10 % of the theory; unscaled branches are off by 2^100.

    The norm of one input varies by 2 / sqrt(width) per unit of depth, 9 %, and less over inputs.
    """
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(64, 100, generator=draw)
    block = nn.residual(nn.serial(nn.Relu(), D))
    net = tune(nn.serial(D, nn.repeat(block, 100)))
    found = (finite(net, x, 500, draw) ** 2).mean() / (x**2).mean()
    assert float(found) == pytest.approx(math.e, rel=0.1)
    plain = nn.serial(D, nn.repeat(nn.residual(nn.serial(nn.Relu(), nn.Dense(2**0.5))), 100))
    assert float((finite(plain, x, 500, draw) ** 2).mean()) > 1e20


def test_real_networks_of_width_500_and_depth_100() -> None:
    """ln |z|^2 of a critical ReLU network is a random walk of variance 5 depth / width = 1.

    Its mean is -1/2. Six networks: 4 standard errors are 1.6. A W_std 10 % off moves it by 19.
    """
    draw = torch.Generator().manual_seed(1)
    x = torch.ones(1, 100)
    net = tune(nn.mlp(depth=100))
    logs = [float((finite(net, x, 500, draw) ** 2).mean().log()) for _ in range(6)]
    assert np.mean(logs) == pytest.approx(-0.5, abs=1.6)
    for factor in (0.9, 1.1):
        off = nn.mlp(depth=100, W_std=factor * 2**0.5, b_std=0.0)
        assert abs(float((finite(off, x, 500, draw) ** 2).mean().log())) > 12


@pytest.mark.parametrize("sigma", [nn.Relu(), nn.Gelu()], ids=repr)
def test_the_mean_norm_over_many_networks(sigma: nn.Nonlinearity) -> None:
    """4000 networks of width 500: the mean of |z|^2 stays within 10 % over 100 layers.

    Given z of a layer, the next preactivations of one input are independent normal variables of
    variance C_b + C_W |sigma(z)|^2 / n: so the law of a finite network is drawn without its
    weights. |z|^2 spreads by sqrt(e - 1) = 1.3 of its mean, 2 % after averaging.
    """
    draw = torch.Generator().manual_seed(2)
    (W_first, b_first), (W_std, b_std) = denses(tune(nn.mlp(depth=100, activation=sigma)))
    K = W_first**2 + (b_first or 0.0) ** 2

    def norm(W_std: float) -> float:
        z = math.sqrt(K) * torch.randn(4000, 500, generator=draw)
        for _ in range(100):
            scale = W_std**2 * (sigma.phi(TorchMath, z) ** 2).mean(dim=1, keepdim=True)
            z = torch.sqrt(scale + (b_std or 0.0) ** 2) * torch.randn(4000, 500, generator=draw)
        return float((z**2).mean())

    assert norm(W_std) == pytest.approx(K, rel=0.1)
