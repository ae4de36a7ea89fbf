"""Networks as lists of layers: what is taken, and what is refused with which words."""

from __future__ import annotations

import pytest
import torch

from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.theory.finite_width.plain import (
    Affine,
    check_widths,
    plain_layers,
    uniform,
    width_ratios,
)


def test_nested_and_repeated() -> None:
    block = nn.serial(nn.Relu(), nn.Dense(1.5, 0.2))
    net = nn.serial(nn.Dense(2.0, None), nn.repeat(block, 2), nn.serial(nn.Tanh(), nn.Dense()))
    plain = plain_layers(net)
    assert plain.first == Affine(0.0, 4.0, 0.0, 4.0)
    assert [fn for fn, _ in plain.hidden] == [nn.Relu(), nn.Relu(), nn.Tanh()]
    assert plain.hidden[0][1] == Affine(0.2**2, 2.25, 0.2**2, 2.25)
    assert plain_layers(nn.mlp(depth=0)).depth == 0


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.serial(nn.Dense(), nn.Relu()), "Dense layer at the end"),
        (nn.serial(nn.Dense(), nn.Dense()), "expected a Nonlinearity as layer 1"),
        (nn.serial(nn.Dense(), nn.LayerNorm(), nn.Relu(), nn.Dense()), "LayerNorm"),
        (nn.serial(nn.Dense(), nn.residual(nn.serial(nn.Relu(), nn.Dense()))), "residual"),
        (nn.Dense(parameterization="standard", fan_in=8), "parameterization='ntk'"),
        (3, "expected a network"),
    ],
)
def test_other_networks(net: nn.Layer, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        plain_layers(net)


def test_arguments() -> None:
    assert uniform(torch.tanh, 0.1, 1.5, 0.1, 1.5, 2).depth == 2
    for wrong, message in [
        (("tanh", 0.1, 1.5, 0.1, 1.5, 2), "sigma must be"),
        ((nn.Tanh(), -0.1, 1.5, 0.1, 1.5, 2), "C_b"),
        ((nn.Tanh(), 0.1, 0.0, 0.1, 1.5, 2), "C_W must be a finite number > 0"),
        ((nn.Tanh(), 0.1, 1.5, 0.1, float("nan"), 2), "lambda_W"),
        ((nn.Tanh(), 0.1, 1.5, 0.1, 1.5, 1.5), "depth"),
    ]:
        with pytest.raises(InvalidInputError, match=message):
            uniform(*wrong)


def test_widths() -> None:
    assert check_widths([4, 5], 2) == (4, 5)
    assert width_ratios([20, 40, 10], 3) == [1.0, 2.0, 0.25]
    assert width_ratios(None, 2) == [1.0, 1.0]
    assert width_ratios([], 0) == []
    with pytest.raises(InvalidInputError, match="2 hidden layers"):
        check_widths([4, 5, 6], 2)
    with pytest.raises(InvalidInputError, match="integer >= 1"):
        check_widths(0, 2)
