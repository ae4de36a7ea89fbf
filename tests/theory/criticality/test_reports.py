"""The depth report: variances and gradients of whole networks, limits, words."""

from __future__ import annotations

import math

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.nn.base import Layer
from kernreg.theory.criticality.fixed_points import correlation_fixed_point
from kernreg.theory.criticality.phases import phase
from kernreg.theory.criticality.reports import report
from kernreg.theory.criticality.single_input import averages, recursion
from kernreg.theory.criticality.tuning import tune

D = nn.Dense()

# One of every layer, twice over in loops, off critical everywhere.
EVERYTHING = nn.serial(
    nn.Dense(1.3, 0.2),
    nn.repeat(nn.serial(nn.Tanh(), nn.Dense(1.5, 0.1)), 3),
    nn.residual(nn.serial(nn.Relu(), nn.Dropout(0.8), nn.Dense(0.7, 0.1))),
    nn.residual(nn.serial(nn.LayerNorm(), nn.Gelu(), nn.Dense(0.5)), shortcut=nn.Dense(0.9)),
    nn.Identity(),
    nn.repeat(nn.serial(nn.LayerNorm(eps=0.1), nn.Erf(), nn.Dense(1.7, 0.3)), 2),
    nn.repeat(nn.residual(nn.repeat(nn.serial(nn.Elu(), nn.Dense(1.1)), 2)), 2),
    nn.Relu(),
    nn.Dense(1.4, 0.3),
)


def rows(norm: float) -> np.ndarray:
    x = np.array([[1.0, -2.0, 0.5, 0.3]])
    return x * np.sqrt(norm / (x**2).mean())


@pytest.mark.parametrize(
    "net",
    [EVERYTHING, nn.mlp(depth=12), nn.mlp(depth=0), tune(nn.mlp(depth=30, activation=nn.Gelu()))],
    ids=["everything", "mlp", "linear", "tuned"],
)
@pytest.mark.parametrize("norm", [1.0, 3.0])
def test_the_output_variance_is_that_of_the_engine(net: Layer, norm: float) -> None:
    found = report(net, input_norm=norm)
    assert found.K_out == pytest.approx(kernreg.diag(net, rows(norm), "nngp")[0], rel=1e-9)


def test_the_gradient_is_that_of_the_tangent_kernel() -> None:
    """One more linear layer at the front adds its own term: variance times squared gradient.

    A dense layer with W_std = 1 leaves the variance of the first preactivations, 1.3^2, and the
    tangent kernel of what is before it as they are.
    """
    rest = nn.serial(nn.Erf(), nn.Dense(1.7, 0.3), nn.LayerNorm(), nn.Elu(), nn.Dense(1.2, 0.1))
    tail = nn.repeat(nn.residual(nn.serial(nn.Gelu(), nn.Dense(0.8, 0.2))), 3)
    x = rows(1.0)
    net = nn.serial(nn.Dense(1.3), rest, tail)
    longer = nn.serial(nn.Dense(1.3), nn.Dense(), rest, tail)
    extra = kernreg.diag(longer, x, "ntk")[0] - kernreg.diag(net, x, "ntk")[0]
    gradient = math.exp(report(net).log_gradient)
    assert extra == pytest.approx(1.69 * gradient, rel=1e-9)


def test_gradient_of_equal_layers() -> None:
    """The product of chi_perp along the recursion."""
    net = nn.mlp(depth=20, activation=nn.Tanh(), W_std=1.5, b_std=0.3)
    found = report(net)
    path = recursion(nn.Tanh(), 0.09, 2.25, 2.34, depth=20)
    assert found.log_gradient == pytest.approx(np.log(path.chi_perp).sum(), rel=1e-11)
    assert (found.K_in, found.depth) == (pytest.approx(2.34), 20)


@pytest.mark.parametrize(("W_std", "name"), [(1.0, "ordered"), (2.0, "chaotic")])
def test_blocks_hold_the_phase(W_std: float, name: str) -> None:
    found = report(nn.mlp(depth=15, activation=nn.Tanh(), W_std=W_std, b_std=0.2))
    (block,) = found.blocks
    at = phase(nn.Tanh(), 0.04, W_std**2)
    assert block.phase == at.phase == name
    assert (block.label, block.depth) == ("Tanh()", 15)
    shown = (block.chi_par, block.chi_perp, block.c_star, block.xi_par, block.xi_c)
    assert shown == pytest.approx((at.chi_par, at.chi_perp, at.c_star, at.xi_par, at.xi_c))
    scale = min(at.xi_c, 1 / abs(math.log(at.chi_perp)))
    assert block.limit == pytest.approx(6 * scale)
    assert found.used == pytest.approx(15 / block.limit)
    assert found.trains
    too_deep = report(nn.mlp(depth=200, activation=nn.Tanh(), W_std=W_std, b_std=0.2))
    assert not too_deep.trains
    assert "too deep to train" in too_deep.blocks[0].verdict
    assert str(too_deep).endswith("too deep to train")


@pytest.mark.parametrize("sigma", [nn.Relu(), nn.Gelu(), nn.Tanh(), nn.Swish()], ids=repr)
def test_tuned_networks_train_at_any_depth(sigma: nn.Nonlinearity) -> None:
    found = report(tune(nn.mlp(depth=60, activation=sigma)))
    (block,) = found.blocks
    assert block.phase == "critical"
    assert math.isinf(block.limit)
    assert (found.used, found.trains) == (0.0, True)
    assert "at any depth" in block.verdict


def test_edge_of_chaos_trains_at_any_depth() -> None:
    (block,) = report(tune(nn.mlp(depth=60, activation=nn.Elu()), C_b=0.1)).blocks
    assert block.phase == "edge"
    assert math.isinf(block.limit)


def test_layers_of_two_kinds() -> None:
    """Depths add up as shares of their limits, wherever the layers stand."""
    ordered = nn.serial(nn.Tanh(), nn.Dense(1.0, 0.2))
    chaotic = nn.serial(nn.Tanh(), nn.Dense(2.0, 0.2))
    found = report(nn.serial(D, nn.repeat(nn.serial(ordered, chaotic), 4), ordered))
    assert [b.depth for b in found.blocks] == [5, 4]
    assert found.depth == 9
    assert found.used == pytest.approx(sum(b.depth / b.limit for b in found.blocks))


def test_loops_that_settle_are_cut_short() -> None:
    """A loop of 100,000 turns: the variance settles after some 60."""
    net = nn.mlp(depth=100_000, activation=nn.Tanh(), W_std=1.0, b_std=0.2)
    found = report(net)
    short = report(nn.mlp(depth=200, activation=nn.Tanh(), W_std=1.0, b_std=0.2))
    chi = short.blocks[0].chi_perp
    assert found.blocks[0].depth == 100_000
    expected = short.log_gradient + 99_800 * math.log(chi)
    assert found.log_gradient == pytest.approx(expected, rel=1e-9)


def test_residual_blocks() -> None:
    """chi_perp = 1 + W_std^2 / 2 of ReLU; tuned, depth uses a sixth of the limit or less."""
    block = nn.residual(nn.serial(nn.Relu(), nn.Dense(2**0.5)))
    (found,) = report(nn.serial(D, nn.repeat(block, 50))).blocks
    assert (found.label, found.phase, found.depth) == ("residual(Relu())", "residual", 50)
    assert found.chi_perp == pytest.approx(2.0, rel=1e-10)
    assert found.limit == pytest.approx(6 / math.log(2), rel=1e-10)
    assert found.chi_par is None
    tuned = report(tune(nn.serial(D, nn.repeat(block, 50))))
    assert tuned.blocks[0].chi_perp == pytest.approx(1.02, rel=1e-10)
    assert tuned.used == pytest.approx(50 * math.log(1.02) / 6, rel=1e-9)
    assert tuned.trains


def test_a_residual_block_on_the_input_is_the_first_layer() -> None:
    block = nn.residual(D, shortcut=nn.Dense(0.5, 0.0))
    rest = nn.repeat(nn.serial(nn.Relu(), D), 3)
    found = report(nn.serial(block, rest), input_norm=2.0)
    expected = report(nn.serial(nn.Dense((D.W_std**2 + 0.25) ** 0.5, 0.0), rest), input_norm=2.0)
    assert found.K_in == pytest.approx(expected.K_in, rel=1e-12)
    assert found.log_gradient == pytest.approx(expected.log_gradient, rel=1e-12)


def test_dropout_in_residual_blocks_is_said_not_to_count() -> None:
    block = nn.residual(nn.serial(nn.Relu(), nn.Dropout(0.9), nn.Dense(0.1)))
    (found,) = report(nn.serial(D, nn.repeat(block, 3))).blocks
    assert "two passes of one input is not counted" in found.verdict


def test_normalized_layers() -> None:
    """The map of correlations at variance 1; gradients relative to the variance."""
    net = nn.serial(D, nn.repeat(nn.serial(nn.LayerNorm(), nn.Tanh(), nn.Dense(2.0, 0.3)), 20))
    found = report(net)
    (block,) = found.blocks
    at = averages(nn.Tanh(), 1.0)
    chi = 4 * at.slope_square[0] / (0.09 + 4 * at.square[0])
    assert block.label == "Tanh() normalized"
    assert (block.chi_par, block.xi_par) == (0.0, 0.0)
    assert block.chi_perp == pytest.approx(chi, rel=1e-9)
    c, slope = correlation_fixed_point(nn.Tanh(), 0.09, 4.0, 1.0)
    assert block.c_star == pytest.approx(c, rel=1e-9)
    assert block.xi_c == pytest.approx(-1 / math.log(slope), rel=1e-9)
    assert block.phase == "chaotic"
    (tuned,) = report(tune(net)).blocks
    assert tuned.phase == "edge"
    assert math.isinf(tuned.limit)


def test_dropout_limits_depth() -> None:
    """Two passes of one input keep the share keep_prob of their covariance in every layer."""
    net = nn.serial(D, nn.repeat(nn.serial(nn.Relu(), nn.Dropout(0.9), D), 50))
    (block,) = report(tune(net)).blocks
    assert block.phase == "critical"
    assert block.limit == pytest.approx(-6 / math.log(0.9), rel=1e-9)
    assert "dropout" in block.verdict


def test_variances_that_grow() -> None:
    """ReLU with a bias: K grows by C_b per layer, gradients stay."""
    found = report(nn.mlp(depth=50, W_std=2**0.5, b_std=0.1))
    (block,) = found.blocks
    assert block.phase == "unbounded"
    assert block.K_out - block.K_in == pytest.approx(0.5, rel=1e-10)
    assert block.chi_perp == pytest.approx(1.0, rel=1e-12)
    assert block.c_star is None
    assert block.limit == pytest.approx(6 * 50 / math.log(2.51 / 2.01), rel=1e-6)
    softplus = report(nn.mlp(depth=50, activation=nn.Softplus(), W_std=2**0.5))
    assert not softplus.trains
    # Its gradients vanish on the way, though chi_perp tends to 1.
    assert softplus.blocks[0].chi_perp < 0.9


def test_a_network_without_layers_that_bend() -> None:
    found = report(nn.serial(D, nn.Dense(2.0)))
    assert (found.blocks, found.depth, found.trains) == ((), 0, True)
    assert (found.K_in, found.K_out) == (1.0, 4.0)
    assert found.log_gradient == pytest.approx(math.log(4.0))


def test_a_constant_nonlinearity_stops_gradients() -> None:
    found = report(nn.mlp(depth=30, activation=nn.Monomial(0)))
    assert found.log_gradient == -math.inf
    assert (found.blocks[0].chi_perp, found.blocks[0].limit, found.trains) == (0.0, 0.0, False)


def test_table() -> None:
    net = nn.mlp(depth=50, activation=nn.Tanh(), W_std=1.0, b_std=0.2)
    lines = str(report(net)).splitlines()
    assert lines[0].split() == [
        *("layer", "depth", "phase", "C_b", "C_W", "K", "in", "K", "out", "chi_par"),
        *("chi_perp", "c*", "xi_par", "xi_c", "limit"),
    ]
    assert lines[1].split() == [
        *("Tanh()", "50", "ordered", "0.04", "1", "1.04", "0.16977", "0.59676"),
        *("0.77907", "1", "1.937", "4.006", "24.03"),
    ]
    assert lines[2] == (
        "Tanh(): too deep to train (depth 50, up to depth 24): inputs become alike and gradients "
        "vanish; squared gradients times 10^-5.88"
    )
    assert lines[3] == (
        "depth 50: variance 1.04 -> 0.1698, squared gradients times 10^-5.88; too deep to train"
    )
    assert all(line == line.rstrip() for line in lines)


def test_refused() -> None:
    with pytest.raises(NetworkError, match=r"^parallel.*what sum does to the size of a signal"):
        report(nn.serial(D, nn.parallel(D, D)))
    with pytest.raises(NetworkError, match="directly on the input"):
        report(nn.serial(nn.Relu(), D))
    with pytest.raises(InvalidInputError, match="input_norm"):
        report(nn.mlp(), input_norm=-1.0)
    with pytest.raises(InvalidInputError, match="jumps"):
        report(nn.mlp(activation=nn.Sign()))
    with pytest.raises(InvalidInputError, match="Exp"):
        report(nn.mlp(activation=nn.Exp()))
