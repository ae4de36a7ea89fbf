"""Modules that do unusual things: right numbers or a clear error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import kernreg
from kernreg import nn
from kernreg.exceptions import InvalidInputError, NetworkError
from kernreg.finite import EmpiricalOperator, module, read
from tests.finite.test_entries import close, jacobian

T = torch.nn


class Odd(T.Module):
    """Layers ``a`` and ``b`` of width 6, used by a function."""

    def __init__(self, use, inputs: int = 4) -> None:
        super().__init__()
        self.a, self.b, self.use = T.Linear(inputs, 6), T.Linear(6, 2), use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.use(self, x)


def experts(m: Odd, x: torch.Tensor) -> torch.Tensor:
    out = x.new_zeros(len(x), 2)
    for chosen in (x[:, 0] > 0, x[:, 0] <= 0):
        out[chosen] = m.b(torch.tanh(m.a(x[chosen])))
    return out


def sorted_rows(m: Odd, x: torch.Tensor) -> torch.Tensor:
    order = x[:, 0].argsort()
    return m.b(torch.tanh(m.a(x[order])))[order.argsort()]


ODD = {
    "tied": lambda m, x: F.linear(torch.relu(m.a(x)), m.a.weight.T),
    "reversed": lambda m, x: m.b(torch.relu(m.a(x.flip(0))).flip(0)),
    "sorted": sorted_rows,
    "positions in rows": lambda m, x: m.b(torch.tanh(m.a(x.reshape(-1, 2)))).reshape(len(x), -1),
    "both signs": lambda m, x: (
        m.b(torch.tanh(m.a(torch.cat([x, -x])))).reshape(2, len(x), 2).sum(0)
    ),
    "experts": experts,
    "no graph": lambda m, x: m.b(torch.tanh(m.a(x).detach())),
    "a gate": lambda m, x: m.b(m.a(x) * torch.sigmoid(m.a(x))),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("blank", [False, True])
def test_the_kernel_is_that_of_gradients(name: str, blank: bool) -> None:
    torch.manual_seed(0)
    f = Odd(ODD[name], 2 if name == "positions in rows" else 4).double()
    X = torch.randn(6, 4, dtype=torch.float64)
    X[0] *= not blank
    J = jacobian(f, X)
    want = J.flatten(1) @ J.flatten(1).T / J.shape[1]
    K = EmpiricalOperator(f, X)
    close(K.to_dense(), want)
    close(K.rows([3, 0]), want[[3, 0]])
    v = torch.randn(6, dtype=torch.float64)
    close(K @ v, want @ v)


class Last(T.Module):
    """The last state of a recurrent network."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.out = T.LSTM(3, 4, batch_first=True), T.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.lstm(x)[0][:, -1])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (Last, (5, 3)),
        (lambda: T.Sequential(T.Linear(4, 6), T.PReLU(), T.Linear(6, 2)), (4,)),
        (
            lambda: T.Sequential(
                T.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True), T.Flatten(),
                T.Linear(12, 2),
            ),
            (3, 4),
        ),
        (
            lambda: T.Sequential(
                T.Conv1d(2, 4, 3), T.GroupNorm(2, 4), T.Flatten(), T.Linear(8, 2)
            ),
            (2, 4),
        ),
    ],
)  # fmt: skip
def test_layers_that_are_not_known(make, shape) -> None:
    torch.manual_seed(0)
    f, X = make().double(), torch.randn(4, *shape, dtype=torch.float64)
    J = jacobian(f, X)
    close(EmpiricalOperator(f, X).to_dense(), J.flatten(1) @ J.flatten(1).T / 2)


def test_embeddings_take_whole_numbers() -> None:
    torch.manual_seed(0)
    f = T.Sequential(T.Embedding(7, 3), T.Flatten(), T.Linear(6, 2)).double()
    X = torch.tensor([[0, 1], [2, 2], [6, 1]])
    J = jacobian(f, X)
    close(EmpiricalOperator(f, X).to_dense(), J.flatten(1) @ J.flatten(1).T / 2)


def test_data_stay_as_they_are() -> None:
    torch.manual_seed(0)
    f = T.Sequential(T.ReLU(inplace=True), T.Linear(4, 2))
    X = torch.randn(5, 4)
    given = X.clone()
    K = EmpiricalOperator(f, X)
    before = K.to_dense()
    assert torch.equal(X, given)
    values = EmpiricalOperator(f, X, kernel="nngp")
    assert torch.equal(values._X1, given)
    values.to_dense()
    assert torch.equal(values._X1, given)
    X.zero_()
    assert torch.equal(K.rows([0, 3]), before[[0, 3]])


def test_float64_rows_of_a_float32_module_are_not_rounded_twice() -> None:
    f = T.Linear(1, 1, bias=False)
    X = np.array([[1.0], [1.0 + 1e-9]])
    wide = EmpiricalOperator(f, X).astype("float64").to_dense()
    assert abs(wide[1, 1] - wide[0, 0] - 2e-9) < 1e-12
    model = kernreg.KernelRegressor(f, alpha=1e-3, fit_intercept=False).fit(X, [1.0, 1.0])
    assert model._operator(model.X_fit_).to_dense()[1, 1] > 1.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: T.LazyLinear(3), "parameters without a shape"),
        (lambda: torch.jit.script(T.Linear(4, 2)), "a scripted module"),
    ],
)
def test_refused(make, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EmpiricalOperator(make(), torch.randn(3, 4))
    with pytest.raises(InvalidInputError, match="must be an array of numbers"):
        EmpiricalOperator(T.Linear(1, 1), np.array([["a"]]))


# Descriptions

W = 8
act = T.ReLU()


class Shortcut(T.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + super().forward(x)


class Wide(T.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.o = T.Linear(5, 12), T.Linear(5, 4), T.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o(torch.cat([torch.relu(self.a(x)), torch.tanh(self.b(x))], 1))


class InPlace(T.Module):
    def __init__(self, pre: bool) -> None:
        super().__init__()
        self.a, self.b, self.r, self.pre = T.Linear(5, W), T.Linear(W, W), T.ReLU(inplace=True), pre

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        if self.pre:
            return self.b(self.r(h)) + h
        self.r(h)
        return self.b(h)


def test_descriptions_of_common_idioms() -> None:
    shared = read(T.Sequential(T.Linear(5, W), act, T.Linear(W, W), act, T.Linear(W, 1)))
    assert [type(p).__name__ for p in shared.layers] == ["Dense", "Relu", "Dense", "Relu", "Dense"]
    net = read(T.Sequential(T.Linear(5, W), Shortcut(T.ReLU(), T.Linear(W, W)), T.ReLU()))
    assert "residual" in repr(net)
    assert "weights=(12.0, 4.0)" in repr(read(Wide()))
    pooled = T.Sequential(
        T.Conv2d(1, W, 3), act, T.AdaptiveAvgPool2d(1), T.Dropout(0.5), T.Flatten(), T.Linear(W, 1)
    )
    kinds = [type(p).__name__ for p in read(pooled.eval()).layers]
    assert kinds == ["Conv", "Relu", "GlobalAvgPool", "Identity", "Dense"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InPlace(pre=True), "changes a value in place that is used elsewhere"),
        (lambda: InPlace(pre=False), "changes a value in place that is used elsewhere"),
        (
            lambda: T.Sequential(T.Conv2d(1, 4, 3), T.LayerNorm(6), T.ReLU(), T.Flatten()),
            "behind a",
        ),
        (lambda: T.LazyLinear(3), "parameters without a shape"),
    ],
)
def test_descriptions_that_would_be_wrong(make, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        read(make())


def test_what_leaves_a_network_stands_for_all_channels() -> None:
    norm = module(nn.serial(nn.Dense(), nn.LayerNorm()), 512, 3, random_state=0)
    X = torch.randn(4, 3)
    assert norm(X).shape == (4, 1)
    assert float(norm(X).abs().min()) > 0
    for net, shape in (
        (nn.serial(nn.Conv((3, 3)), nn.Flatten()), (4, 4, 2)),
        (nn.serial(nn.Dense(), nn.parallel(nn.Relu(), nn.Identity(), merge="concat")), 3),
    ):
        with pytest.raises(NetworkError, match="do not stand for all: end it in Dense"):
            module(net, 8, shape)
    assert module(nn.serial(nn.Conv((3, 3)), nn.Flatten()), 8, (4, 4, 2), 128).outputs == 128
    for bad in ({"width": 64.0}, {"width": None}, {"input_shape": 3.5}, {"dtype": "float32"}):
        with pytest.raises(InvalidInputError, match=next(iter(bad))):
            module(nn.mlp(), **{"width": 8, "input_shape": 3, **bad})


class OnSmallRows(torch.nn.Module):
    """Small rows go through the weights twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        small = (x.norm(dim=1, keepdim=True) < 1.0).to(x.dtype)
        return self.a(x) + small * (x @ self.a.weight.T)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_use_of_weights_that_only_small_rows_show(place: int) -> None:
    X = 5.0 * np.eye(3)[[0, 1, 2, 0, 0]]
    X[place] /= 10.0
    torch.manual_seed(0)
    f = OnSmallRows().double()
    found = EmpiricalOperator(f, X).to_dense()
    np.testing.assert_allclose(found, EmpiricalOperator(f, X, method="jacobian").to_dense())
