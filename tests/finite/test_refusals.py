"""Modules that have no kernel, and arguments that do not fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from kernreg import KernelRegressor, nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.finite import (
    EmpiricalOperator,
    KernelEvolution,
    module,
    predict_training,
    read,
    stable_learning_rate,
    taylor,
)

T = torch.nn
X = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))


class Counting(T.Linear):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__(4, 2)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x)


class Noisy(T.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x + torch.zeros_like(x).uniform_())


class Mixing(T.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x - x.mean(0))


class Labels(T.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).argmax(1)


class Detached(T.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).detach()


class Pair(T.Linear):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x), x


class Shifted(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.shift = T.Linear(4, 2), T.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) + self.shift


class Shortcut(T.Module):
    """A shortcut that is not Gaussian."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = T.Linear(4, 6), T.Linear(6, 6), T.Linear(6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.relu(self.a(x))
        return self.c(torch.relu(h + self.b(h)))


class Recurrent(Shortcut):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.b(self.a(x))))))


class Averaged(T.Module):
    """Over one axis of two."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = T.Conv2d(1, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.layer(x)).mean(2)


LINEAR = T.Linear(4, 4)


def frozen() -> T.Module:
    return T.Linear(4, 2).requires_grad_(False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EmpiricalOperator(nn.mlp(), X), "expected a torch.nn.Module, found Mlp"),
        (lambda: EmpiricalOperator(T.Identity(), X), "has no parameters"),
        (
            lambda: EmpiricalOperator(T.Sequential(T.Linear(4, 2), T.BatchNorm1d(2)), X),
            r"1 is BatchNorm1d in training mode.*call module.eval\(\)",
        ),
        (lambda: EmpiricalOperator(Counting(), X), "changes its buffer 'calls'"),
        (lambda: EmpiricalOperator(Noisy(4, 2), X), "the module is random"),
        (
            lambda: EmpiricalOperator(T.Sequential(T.Linear(4, 50), T.Dropout(0.5)), X),
            r"random.*dropout.*eval",
        ),
        (lambda: EmpiricalOperator(Mixing(4, 2), X), "outputs for one row depend on the others"),
        (lambda: EmpiricalOperator(Labels(4, 2), X), r"cannot be differentiated \(torch.int64"),
        (lambda: EmpiricalOperator(Detached(4, 2), X), "requires_grad=False"),
        (lambda: EmpiricalOperator(Pair(4, 2), X), "expected one tensor with a row for each"),
        (lambda: EmpiricalOperator(T.Linear(4, 2).half(), X), "parameters of type torch.float16"),
        (lambda: EmpiricalOperator(frozen(), X), "no parameter of the module requires a gradient"),
        (
            lambda: EmpiricalOperator(T.Linear(4, 2).to("meta"), X),
            "X1 is on cpu, the module on meta",
        ),
        (
            lambda: EmpiricalOperator(T.Sequential(T.Linear(4, 2), T.Linear(2, 2).to("meta")), X),
            "parameters on cpu, meta: move it to one device",
        ),
        (lambda: EmpiricalOperator(T.Linear(3, 2), X), r"cannot run on X1 of shape \(6, 4\)"),
        (lambda: EmpiricalOperator(T.Linear(4, 2), X, X[:, :3]), "cannot run on X2"),
        (lambda: EmpiricalOperator(T.Linear(4, 2), X / 0), "X1 contains NaN or infinity"),
        (lambda: EmpiricalOperator(T.Linear(4, 2), X[:0]), "X1 holds no rows"),
        (lambda: EmpiricalOperator(T.Linear(4, 2), X, outputs=2), "a number below 2"),
        (lambda: EmpiricalOperator(T.Linear(4, 2), X, kernel="ck"), "kernel must be 'ntk' or"),
        (lambda: EmpiricalOperator(T.Linear(4, 2), X, method="fast"), "method must be auto"),
        (
            lambda: EmpiricalOperator(T.Linear(4, 2), X, parameters="weights"),
            "no parameter or group 'weights'; it has weight, bias",
        ),
        (
            lambda: EmpiricalOperator(frozen(), X, parameters="weight"),
            "'weight' does not require a gradient",
        ),
        (
            lambda: EmpiricalOperator(T.Linear(4, 2), X, outputs="full").take([0]),
            "has no parts by row numbers",
        ),
        (lambda: KernelEvolution(X, outputs="full")(T.Linear(4, 2), 0), "outputs must be 'mean'"),
        (lambda: predict_training(T.Linear(4, 2), X, np.ones(6), X), r"y has shape \(6, 1\), but"),
        (lambda: stable_learning_rate(T.Linear(4, 2), X, loss="hinge"), "loss must be one of sum"),
        (lambda: taylor(T.Linear(4, 2), 1.5), "degree must be a whole number"),
        (lambda: taylor(T.Identity(), 1), "has no parameters to expand in"),
        (lambda: module(nn.mlp(), 8), "input_shape is needed"),
        (lambda: module(nn.mlp(), 0, 3), "width must be a whole number from 1 on, found 0"),
        (lambda: module(nn.mlp(), 8, 3, init="xavier"), "init must be one of gaussian"),
        (lambda: module(nn.mlp(), 8, 3, outputs=0), "outputs must be a whole number"),
        (lambda: module(nn.mlp(), 8, 3, parameterization="mup"), "must be 'ntk', 'standard' or"),
        (lambda: module(nn.cnn(), 8, 3), r"for images, found input_shape=3"),
        (lambda: module(nn.mlp(), 8, (4, 4, 1)), "no layer for positions"),
        (
            lambda: module(nn.mlp(), 8, 3)(torch.ones(2, 4)),
            r"expected rows of 3 numbers, found an array of shape \(2, 4\)",
        ),
        (
            lambda: module(nn.cnn(1), 8, (4, 4, 2), channels="first")(torch.ones(1, 4, 4, 2)),
            r"expected images of shape \(2, 4, 4\) \(channels='first'\)",
        ),
        (
            lambda: KernelRegressor(T.Linear(4, 1), scale="ard").fit(X.numpy(), np.arange(6.0)),
            "scale='ard' needs the description of a network",
        ),
        (
            lambda: KernelRegressor(T.Linear(4, 1), input_shape=(2, 3)).fit(
                X.numpy(), np.arange(6.0)
            ),
            r"X has 4 numbers in a row, but input_shape \(2, 3\) has 6",
        ),
    ],
)
def test_clear_errors(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: module(nn.mlp(depth=2), [8, 8, 8], 3), "3 widths were given, but the network has"),
        (lambda: module(nn.mlp(depth=2), [8], 3), "more hidden layers than the 1 widths"),
        (
            lambda: module(
                nn.serial(nn.Dense(), nn.residual(nn.serial(nn.Relu(), nn.Dense()))), 4, 3, 9
            ),
            "leaves 4 channels, but 9 outputs are wanted",
        ),
        (
            lambda: module(
                nn.serial(nn.Dense(parameterization="standard", fan_in=7), nn.Relu(), nn.Dense()),
                4,
                3,
            ),
            "fan_in is 7, but 3 channels are before it",
        ),
        (
            lambda: module(nn.serial(nn.Conv((3, 3), padding="VALID"), nn.Flatten()), 4, (2, 2, 1)),
            "does not fit images of 2 x 2",
        ),
        (
            lambda: read(T.Sequential(T.Linear(3, 4), T.BatchNorm1d(4))),
            r"1 \(BatchNorm1d\) has no description",
        ),
        (lambda: read(T.Sequential(T.ReLU(), T.Linear(3, 3))), "stands directly on the input"),
        (
            lambda: read(T.Conv2d(3, 4, 3, stride=2, padding=1)),
            "with strides torch pads both sides alike",
        ),
        (lambda: read(T.Conv2d(4, 4, 3, groups=2)), "its channels are in groups"),
        (lambda: read(Recurrent()), "b has no description: it is called twice"),
        (lambda: read(T.Sequential(LINEAR, T.Tanh(), LINEAR)), "2 .* is the same layer as 0"),
        (lambda: read(Averaged()), "mean has no description: it is not over all 2 axes"),
        (
            lambda: read(T.Sequential(T.Conv2d(1, 4, 3), T.ReLU(), T.Linear(6, 1))),
            "Dense.* stands behind a convolution",
        ),
        (lambda: read(Shortcut()), "Shortcut is no network with a kernel: .*EmpiricalOperator"),
        (lambda: read(T.MultiheadAttention(4, 2)), r"MultiheadAttention\) has no description"),
        (lambda: read(Mixing(4, 2)), "linear has no description: the function linear with these"),
        (lambda: read(Shifted()), "add has no description: it is made of something else"),
        (lambda: read(Pair(4, 2)), "Pair has no description: it returns more than one tensor"),
    ],
)
def test_descriptions_that_do_not_fit(make: Callable[[], object], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        make()
