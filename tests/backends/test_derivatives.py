"""Derivatives by the tile engine beside those in torch."""

import numpy as np
import pytest
import torch

from kernreg import config, nn
from kernreg.backends.derivatives import Differentiable
from kernreg.backends.differentiate import derivatives_of
from kernreg.backends.fused_derivatives import FusedDerivatives
from kernreg.backends.triton.derivatives import TritonDerivatives
from tests.operators.test_gradients import NETWORKS, NONLINEARITIES

CLOSED = [fn for fn in NONLINEARITIES if fn.closed_form]


def rows():
    """Some at random, two that are equal, two nearly so, and one of zeros."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((7, 5)), rng.standard_normal((300, 5))
    Y[0], Y[1], X[3] = X[0], X[1] + 1e-7, 0.0
    return torch.from_numpy(X), torch.from_numpy(Y)


def assert_both_agree(net, kernel):
    X, Y = rows()
    program = net.program()
    fused = FusedDerivatives(program, X, Y, kernel, 2).tile(slice(0, 7), slice(2, 300))
    plain = Differentiable(program, X, Y, kernel, 2).tile(slice(0, 7), slice(2, 300))
    near = FusedDerivatives(program, X, Y, kernel, 2).tile(slice(0, 7), slice(0, 2))
    exact = Differentiable(program, X, Y, kernel, 2).tile(slice(0, 7), slice(0, 2))
    for found, want, share in ((fused, plain, 1e-12), (near, exact, 1e-8)):
        parts = zip(
            [found.by_product, *found.by_square], [want.by_product, *want.by_square], strict=True
        )
        for a, b in parts:
            assert bool(torch.isfinite(a).all())
            # Rounding of a sum of terms of the size of the largest derivative.
            torch.testing.assert_close(a, b, rtol=share, atol=share * float(b.abs().max()))


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("fn", CLOSED, ids=lambda fn: type(fn).__name__)
def test_every_nonlinearity(fn, kernel):
    assert_both_agree(nn.mlp(2, fn, 1.1, 0.3), kernel)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_operation(name, kernel):
    assert_both_agree(NETWORKS[name], kernel)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
@pytest.mark.parametrize("fn", [nn.Monomial(3), nn.Erf(), nn.Tanh(), nn.Exp()], ids=repr)
def test_rows_of_zeros_without_a_bias(fn, kernel):
    """Nothing of such a row is left, and derivatives are still finite."""
    X, Y = rows()
    Y = Y[:10]
    program = nn.mlp(2, fn, 0.8, None).program()
    tile = derivatives_of(program, X, Y, kernel, 2).tile(slice(0, 7), slice(0, 10))
    for values in (tile.by_product, *tile.by_square):
        assert bool(torch.isfinite(values).all())
    assert bool(torch.isfinite(derivatives_of(program, X, Y, kernel).diagonal()).all())


def test_deep_networks_fit_the_registers():
    assert_both_agree(nn.mlp(30, nn.Gelu(), 1.2, 0.1), "ntk")


def test_what_the_engine_cannot_run_goes_to_torch():
    X, Y = rows()
    program = nn.mlp(1, nn.Tanh(), 1.1, 0.3).program()
    assert type(derivatives_of(program, X, Y, "ntk")) is Differentiable
    assert type(derivatives_of(nn.mlp(1).program(), X, Y, "ntk")) is FusedDerivatives


@pytest.mark.skipif(not config.triton_interpreter(), reason="Triton runs on a GPU here")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ["relu", "residual", "standard", "gelu"])
def test_triton_agrees(name, dtype):
    """Interpreted; a row of zeros, whose scale is beyond float32, is left to float64."""
    net = NETWORKS.get(name, nn.mlp(2, nn.Gelu(), 1.1, 0.3))
    X, Y = rows()
    Y = Y[:20]
    program = net.program()
    part = slice(4 if dtype == torch.float32 else 2, 7), slice(2, 20)
    found = TritonDerivatives(program, X, Y, "ntk", 2, dtype).tile(*part)
    want = Differentiable(program, X, Y, "ntk", 2).tile(*part)
    # Rounding, of which a kink between rows 0.3 apart makes some tens of units.
    share = 100.0 * torch.finfo(dtype).eps
    for a, b in zip(
        [found.by_product, *found.by_square], [want.by_product, *want.by_square], strict=True
    ):
        assert a.dtype == dtype
        torch.testing.assert_close(a.double(), b, rtol=share, atol=share * float(b.abs().max()))
