"""Every method gives the products of plain Jacobians, for every kind of layer and of output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.finite import EmpiricalOperator, module
from kernreg.finite.empirical.entries import METHODS

T = torch.nn


class Scaled(T.Module):
    """A parameter of no layer that is known."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.scale = T.Parameter(torch.linspace(0.5, 1.5, n))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


class Twice(T.Module):
    """One layer called two times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.layer, self.last = T.Linear(4, 6), T.Linear(6, 6), T.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.tanh(self.layer(torch.tanh(self.layer(self.first(x))))))


class Tied(T.Module):
    """Two layers with the same weights."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = T.Linear(4, 4), T.Linear(4, 4), T.Linear(4, 2)
        self.b.weight = self.a.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.sin(self.b(torch.sin(self.a(x)))))


class Named(T.Module):
    """A layer called by the name of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = T.Linear(4, 5), T.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(input=torch.tanh(self.a(x)))


class Elsewhere(T.Module):
    """The weights of a layer used in another way than by the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = T.Linear(4, 4), T.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.tanh(F.linear(self.a(x), self.a.weight.T)))


def of_description(net: nn.Layer, shape: tuple[int, ...], width: int = 5) -> T.Module:
    return module(net, width, shape, 2, random_state=1)


def around(positions: int, filter_shape: int) -> T.Module:
    """Filters that read past the end, of channels that are read as views."""
    conv = nn.Conv(filter_shape, padding="CIRCULAR", b_std=0.1)
    net = nn.serial(conv, nn.Relu(), conv, nn.Relu(), nn.Flatten(), nn.Dense())
    return of_description(net, (positions, 2), 32)


conv = nn.Conv(3, b_std=0.1)
MODULES = {
    "linear": (lambda: T.Linear(4, 2), (4,)),
    "mlp": (lambda: T.Sequential(T.Linear(4, 7), T.Tanh(), T.Linear(7, 2, bias=False)), (4,)),
    "norm": (lambda: T.Sequential(T.Linear(4, 6), T.LayerNorm(6), T.GELU(), T.Linear(6, 2)), (4,)),
    "conv1d": (
        lambda: T.Sequential(T.Conv1d(2, 4, 3, 2, 1), T.ReLU(), T.Flatten(), T.Linear(16, 2)),
        (2, 8),
    ),
    "conv2d, groups, in place": (
        lambda: T.Sequential(
            T.Conv2d(2, 4, 3, padding=1),
            T.ReLU(inplace=True),
            T.Conv2d(4, 6, 3, stride=2, groups=2, dilation=2, padding="valid", bias=False),
            T.Tanh(),
            T.AdaptiveAvgPool2d(1),
            T.Flatten(),
            T.Linear(6, 2),
        ),
        (2, 8, 8),
    ),
    "conv2d, circular": (
        lambda: T.Sequential(
            T.Conv2d(2, 3, 3, padding="same", padding_mode="circular"),
            T.Tanh(),
            T.Flatten(),
            T.Linear(48, 2),
        ),
        (2, 4, 4),
    ),
    "conv3d": (
        lambda: T.Sequential(T.Conv3d(1, 2, 2), T.Tanh(), T.Flatten(), T.Linear(16, 2)),
        (1, 3, 3, 3),
    ),
    "conv2d, many channels": (
        lambda: T.Sequential(
            T.Conv2d(2, 64, 3, padding=1),
            T.ReLU(),
            T.Conv2d(64, 4, 3, padding=(1, 0), groups=2),
            T.Tanh(),
            T.AdaptiveAvgPool2d(1),
            T.Flatten(),
            T.Linear(4, 2),
        ),
        (2, 12, 12),
    ),
    "conv1d, many channels": (
        lambda: T.Sequential(
            T.Conv1d(32, 3, 2, dilation=3), T.Tanh(), T.Flatten(), T.Linear(12, 2)
        ),
        (32, 7),
    ),
    "circular, many channels": (lambda: around(6, 3), (6, 2)),
    "circular, more than once": (lambda: around(3, 8), (3, 2)),
    "batch norm": (
        lambda: T.Sequential(T.Linear(4, 6), T.BatchNorm1d(6), T.Tanh(), T.Linear(6, 2)).eval(),
        (4,),
    ),
    "own parameter": (lambda: T.Sequential(T.Linear(4, 6), Scaled(6), T.Linear(6, 2)), (4,)),
    "called twice": (Twice, (4,)),
    "tied": (Tied, (4,)),
    "named": (Named, (4,)),
    "positions": (
        lambda: T.Sequential(T.Linear(3, 5), T.Tanh(), T.Flatten(), T.Linear(20, 2)),
        (4, 3),
    ),
    "several axes behind": (
        lambda: T.Sequential(T.Linear(4, 4), T.Tanh(), T.Unflatten(1, (2, 2))),
        (4,),
    ),
    "dense": (lambda: of_description(nn.mlp(depth=2), (4,)), (4,)),
    "standard": (
        lambda: module(nn.mlp(depth=1), 5, 4, 2, parameterization="standard", random_state=0),
        (4,),
    ),
    "local": (
        lambda: of_description(
            nn.serial(
                conv, nn.Relu(), nn.ConvLocal(2, b_std=0.3), nn.Erf(), nn.Flatten(), nn.Dense()
            ),
            (6, 2),
        ),
        (6, 2),
    ),
    "transposed": (
        lambda: of_description(
            nn.serial(
                nn.ConvTranspose((2, 3), 2), nn.Relu(), nn.GlobalAvgPool(), nn.Dense(1.0, 0.2)
            ),
            (3, 3, 2),
        ),
        (3, 3, 2),
    ),
    "branches": (
        lambda: of_description(
            nn.serial(
                conv,
                nn.residual(nn.serial(nn.Relu(), conv)),
                nn.LayerNorm(),
                nn.Relu(),
                nn.Flatten(),
                nn.Dense(),
            ),
            (4, 2),
        ),
        (4, 2),
    ),
}


def made(name: str) -> tuple[T.Module, torch.Tensor, torch.Tensor]:
    """A module in float64 with two sets of rows."""
    torch.manual_seed(0)
    maker, shape = MODULES[name]
    return maker().double(), *torch.randn(2, 5, *shape, dtype=torch.float64)


def jacobian(f: T.Module, X: torch.Tensor, names: list[str] | None = None) -> torch.Tensor:
    """Of shape (n, t, p), one gradient after the other."""
    params = [p for n, p in f.named_parameters() if names is None or n in names]
    rows = []
    for x in X:
        numbers = f(x[None]).flatten()
        grads = [
            torch.autograd.grad(v, params, retain_graph=True, allow_unused=True) for v in numbers
        ]
        flat = [
            torch.cat(
                [
                    (g if g is not None else torch.zeros_like(p)).flatten()
                    for g, p in zip(row, params, strict=True)
                ]
            )
            for row in grads
        ]
        rows.append(torch.stack(flat))
    return torch.stack(rows)


def plain(f: T.Module, X: torch.Tensor, Y: torch.Tensor, outputs: str | int) -> torch.Tensor:
    a, b = jacobian(f, X), jacobian(f, Y)
    if outputs == "full":
        return a.flatten(0, 1) @ b.flatten(0, 1).T
    if outputs == "mean":
        return a.flatten(1) @ b.flatten(1).T / a.shape[1]
    return a[:, outputs] @ b[:, outputs].T


def close(found: torch.Tensor, want: torch.Tensor) -> None:
    assert found.shape == want.shape
    assert float((found - want).abs().max()) <= 1e-10 * float(want.abs().max())


@pytest.mark.parametrize("outputs", ["mean", "full", 1])
@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize("name", MODULES)
def test_entries_and_products(name: str, method: str, outputs: str | int) -> None:
    f, X, Y = made(name)
    want, own = plain(f, X, Y, outputs), plain(f, X, X, outputs)
    options = {"outputs": outputs, "method": method}
    K, S = EmpiricalOperator(f, X, Y, **options), EmpiricalOperator(f, X, **options)
    close(K.to_dense(), want)
    close(S.to_dense(), own)
    close(S.diagonal(), own.diagonal())
    V = torch.randn(K.shape[1], 2, dtype=torch.float64)
    close(K @ V, want @ V)
    close(K.transposed() @ V[: K.shape[0]], want.T @ V[: K.shape[0]])
    close(K.tile(slice(1, 4), slice(2, 5)), want[1:4, 2:5])


def test_blocks_within_memory() -> None:
    f, X, _ = made("conv2d, groups, in place")
    K = EmpiricalOperator(f, X, method="structured", max_memory=40_000)
    assert K._entries.step(X) < len(X)
    close(K.to_dense(), plain(f, X, X, "mean"))


@pytest.mark.parametrize("outputs", ["mean", "full"])
def test_symmetric_bit_by_bit(outputs: str) -> None:
    f, X, _ = made("conv2d, groups, in place")
    for limit in (None, 40_000):
        K = EmpiricalOperator(f.float(), X.float(), outputs=outputs, max_memory=limit).to_dense()
        assert torch.equal(K, K.T)


def test_weights_used_elsewhere_are_found_out() -> None:
    torch.manual_seed(0)
    f, X = Elsewhere().double(), torch.randn(4, 4, dtype=torch.float64)
    close(EmpiricalOperator(f, X).to_dense(), plain(f, X, X, "mean"))
    with pytest.raises(InvalidInputError, match="use method='auto' or 'jacobian'"):
        EmpiricalOperator(f, X, method="structured").to_dense()


def test_parameters_that_outputs_do_not_use() -> None:
    class Idle(T.Linear):
        def __init__(self) -> None:
            super().__init__(4, 2)
            self.idle = T.Linear(2, 2)

    X = torch.randn(3, 4)
    for method in ("auto", "jacobian", "products"):
        K = EmpiricalOperator(Idle(), X, parameters="idle", method=method).to_dense()
        assert torch.equal(K, torch.zeros(3, 3))


def test_parameters_by_group() -> None:
    f, X, _ = made("mlp")
    total = EmpiricalOperator(f, X).to_dense()
    parts = [EmpiricalOperator(f, X, parameters=name).to_dense() for name in ("0", ["2.weight"])]
    close(parts[0] + parts[1], total)
    for part, names in zip(parts, (["0.weight", "0.bias"], ["2.weight"]), strict=True):
        J = jacobian(f, X, names)
        close(part, J.flatten(1) @ J.flatten(1).T / 2)
    f[0].requires_grad_(False)
    close(EmpiricalOperator(f, X).to_dense(), parts[1])


def test_training_goes_on_without_the_operator() -> None:
    f, X, _ = made("mlp")
    K = EmpiricalOperator(f, X)
    before, name = K.to_dense(), K.fingerprint()
    with torch.no_grad():
        f[0].weight += 1.0
    assert torch.equal(EmpiricalOperator.to_dense(K), before)
    assert K.fingerprint() == name != EmpiricalOperator(f, X).fingerprint()


def test_float32_is_evaluated_anew_in_float64() -> None:
    f, X, _ = made("conv1d")
    exact = plain(f, X, X, "mean")
    # Rounded weights are exact in float64 again.
    narrow = EmpiricalOperator(f.float(), X.float())
    assert narrow.dtype == np.float32
    wide = narrow.astype("float64")
    close(wide.to_dense(), plain(f.double(), X.float().double(), X.float().double(), "mean"))
    assert float((narrow.to_dense() - exact).abs().max()) <= 1e-4 * float(exact.abs().max())


def test_nngp_of_outputs() -> None:
    f, X, Y = made("mlp")
    a, b = f(X).detach(), f(Y).detach()
    close(EmpiricalOperator(f, X, Y, kernel="nngp").to_dense(), a @ b.T / 2)
    close(EmpiricalOperator(f, X, Y, kernel="nngp", outputs=1).to_dense(), a[:, 1:] @ b[:, 1:].T)
    full = EmpiricalOperator(f, X, Y, kernel="nngp", outputs="full")
    close(full.to_dense(), a.reshape(-1, 1) @ b.reshape(1, -1))
    close(full @ torch.ones(10, dtype=torch.float64), full.to_dense().sum(1))


@pytest.mark.parametrize("outputs", ["mean", "full", 1])
def test_many_rows_are_multiplied_without_entries(outputs: str | int) -> None:
    """Then products and single rows take derivatives along gradients."""
    torch.manual_seed(0)
    f = T.Sequential(T.Linear(3, 4), T.Tanh(), T.Linear(4, 2)).double()
    X = torch.randn(400, 3, dtype=torch.float64)
    K, formed = (EmpiricalOperator(f, X, outputs=outputs, method=m) for m in ("auto", "structured"))
    assert K.fused
    assert not formed.fused
    v = torch.randn(K.shape[1], dtype=torch.float64)
    close(K @ v, formed @ v)
    close(K.rows([5, 77]), formed.rows([5, 77]))
    close(K.keep() @ v, formed @ v)
