"""Descriptions of modules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import kernreg
from kernreg import nn
from kernreg.finite import EmpiricalOperator, module, read
from kernreg.finite.network import FiniteNetwork
from tests.finite.test_module import IMAGES, VECTORS

T = torch.nn


class Block(T.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a, self.b = (T.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.b(torch.relu(self.a(T.functional.relu(x))))


class Residual(T.Module):
    """As people write them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = T.Conv2d(3, 32, 3, padding=1), T.Sequential(Block(32), Block(32))
        self.pool, self.head = T.AdaptiveAvgPool2d(1), T.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = T.functional.avg_pool2d(T.functional.relu(self.blocks(self.stem(x))), 2)
        x = self.pool(x)
        return self.head(torch.flatten(x, 1))


class Gated(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.value = T.Linear(3, 8), T.Linear(8, 8), T.Linear(8, 8)
        self.other, self.last = T.Linear(8, 8), T.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.first(x).tanh()
        h = self.gate(h).sigmoid() * self.value(h)
        return self.last(torch.cat([h, torch.sin(self.other(h))], dim=1))


@pytest.mark.parametrize("name", [*VECTORS, *IMAGES])
def test_gives_the_description_back(name: str) -> None:
    for nets, shape in ((VECTORS, (4,)), (IMAGES, (4, 4, 2))):
        if name in nets and name != "standard":
            found = read(module(nets[name], 8, shape, 2))
            # Presets are read as what they stand for.
            assert found == nets[name] or found.program() == nets[name].program()


def test_the_parameterization_is_that_of_the_module() -> None:
    net = nn.serial(nn.Dense(1.3, 0.2), nn.Relu(), nn.Dense())
    found = read(module(net, 16, 4, parameterization="standard"))
    assert found.layers[2] == nn.Dense(1.0, 0.0, "standard", 16)
    assert read(module(found, 16, 4, parameterization="ntk")) == net


def test_a_residual_network_of_torch() -> None:
    torch.manual_seed(0)
    f = Residual()
    net = read(f, "ntk")
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == ["Conv", "Serial", "Relu", "AvgPool", "GlobalAvgPool", "Dense"]
    # Weights are uniform to 1 / sqrt(fan_in), so that their deviation is a third of the root.
    assert math.isclose(net.layers[0].W_std, 1 / math.sqrt(3), rel_tol=0.03)
    assert net.layers[1].layers[0] == net.layers[1].layers[0].with_params()
    X = np.random.default_rng(0).standard_normal((2, 6, 6, 3))
    assert np.isfinite(kernreg.gram(net, X)).all()


def test_sums_products_and_concatenations() -> None:
    torch.manual_seed(0)
    net = read(Gated(), "ntk")
    text = repr(net)
    assert "merge='product'" in text
    assert "merge='concat'" in text
    assert "Elementwise" in text
    assert "Sin()" in text


def test_sequences_of_torch() -> None:
    torch.manual_seed(0)
    f = T.Sequential(
        T.Conv1d(2, 8, 3, padding="same", padding_mode="circular"), T.GELU(), T.AvgPool1d(2),
        T.Flatten(), T.Linear(16, 8), T.Dropout(0.25), T.LeakyReLU(0.3), T.Linear(8, 8), T.SiLU(),
        T.Linear(8, 8, bias=False), T.Softplus(), T.Linear(8, 8), T.ELU(), T.Linear(8, 8), T.SELU(),
        T.Linear(8, 8), T.LayerNorm(8), T.Tanh(), T.Linear(8, 1).requires_grad_(False),
    )  # fmt: skip
    kinds = [type(layer).__name__ for layer in read(f.eval()).layers]
    assert kinds == [
        "Conv", "Gelu", "AvgPool", "Flatten", "Dense", "Identity", "LeakyRelu", "Dense", "Swish",
        "Dense", "Softplus", "Dense", "Elu", "Dense", "Selu", "Dense", "LayerNorm", "Tanh", "Dense",
    ]  # fmt: skip
    net = read(f[4:5], "standard").layers[0]
    assert (net.parameterization, net.fan_in) == ("standard", 16)
    assert read(f).layers[-1].trainable is False
    assert read(f[9]).b_std is None


def test_the_limit_is_that_of_wide_networks() -> None:
    """Kernels of a wide module and of what is read of it."""
    torch.manual_seed(1)
    f = T.Sequential(T.Linear(3, 4096), T.ReLU(), T.Linear(4096, 64)).double()
    X = torch.randn(4, 3, dtype=torch.float64)
    for kernel in ("nngp", "ntk"):
        want = kernreg.gram(read(f), X.numpy(), kernel=kernel)
        found = EmpiricalOperator(f, X, kernel=kernel).to_dense().numpy()
        # 64 outputs say what the variance is to a share of sqrt(2 / 64).
        bound = 3 * math.sqrt(2 / 64) if kernel == "nngp" else 3 * math.sqrt(2 / 64 / 4)
        assert np.linalg.norm(found - want) <= bound * np.linalg.norm(want)


def test_state_dicts_and_devices() -> None:
    a, b = (module(nn.mlp(depth=2), 8, 3, random_state=k) for k in range(2))
    X = torch.randn(2, 3)
    assert not torch.equal(a(X), b(X))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(X), b(X))
    assert isinstance(a, FiniteNetwork)
    assert torch.equal(module(nn.mlp(depth=2), 8, 3, random_state=0)(X), a(X))
