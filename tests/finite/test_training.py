"""Training as the tangent kernel describes it, and what it does to the kernel."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from kernreg import nn
from kernreg.exceptions import InvalidInputError
from kernreg.finite import (
    EmpiricalOperator,
    KernelEvolution,
    evolve,
    linearized,
    module,
    predict_training,
    stable_learning_rate,
    taylor,
)
from kernreg.plotting import KernelEvolutionDisplay

EXACT = 1e-10


def setting(outputs: int = 2) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor, torch.Tensor]:
    r = torch.Generator().manual_seed(4)
    X, Z = (torch.randn(n, 3, generator=r, dtype=torch.float64) for n in (6, 4))
    y = torch.randn(6, outputs, generator=r, dtype=torch.float64)
    f = module(
        "serial(Dense(1.2, 0.1), Erf(), Dense(1.1, 0.2))", 16, 3, outputs, random_state=1,
        dtype=torch.float64,
    )  # fmt: skip
    return f, X, y, Z


def descend(f: torch.nn.Module, X: torch.Tensor, y: torch.Tensor, rate: float, steps: int) -> None:
    """Gradient descent on half the sum of squares."""
    params = list(f.parameters())
    for _ in range(steps):
        loss = 0.5 * ((f(X) - y) ** 2).sum()
        with torch.no_grad():
            for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
                p -= rate * g


def test_the_linear_model_learns_what_the_kernel_says() -> None:
    f, X, y, Z = setting()
    rate = 0.5 * stable_learning_rate(f, X, loss="sum")
    steps = [0, 1, 7, 40]
    said = predict_training(f, X, y, Z, steps, learning_rate=rate, discrete=True)
    for k, count in enumerate(steps):
        line = linearized(f)
        descend(line, X, y, rate, count)
        assert np.abs(said[k] - line(Z).detach().numpy()).max() <= EXACT


def test_wide_networks_learn_it_too() -> None:
    """The error is of order 1 / sqrt(width)."""
    _, X, y, Z = setting(1)
    apart = []
    for width in (64, 4096):
        errors = []
        for seed in range(4):
            f = module("mlp(depth=1, activation=Erf())", width, 3, random_state=seed).double()
            rate = 0.5 * stable_learning_rate(f, X, loss="sum")
            said = predict_training(f, X, y, Z, 30, learning_rate=rate, discrete=True)
            descend(f, X, y, rate, 30)
            errors.append(np.abs(said - f(Z).detach().numpy()).max())
        apart.append(np.mean(errors))
    assert apart[1] <= apart[0] / 4


def test_the_mean_kernel_serves_one_output_alike() -> None:
    f, X, y, Z = setting(1)
    a, b = (predict_training(f, X, y, Z, 3.0, outputs=o, ridge=0.1) for o in ("full", "mean"))
    assert np.abs(a - b).max() <= EXACT


def test_ridge_is_a_penalty_on_the_distance() -> None:
    f, X, y, Z = setting(1)
    ridge = 0.3
    line = linearized(f)
    rate = 0.4 / float(np.linalg.norm(EmpiricalOperator(f, X).to_dense().numpy(), 2) + ridge)
    start = [p.detach().clone() for p in line.parameters()]
    for _ in range(2000):
        loss = 0.5 * ((line(X) - y) ** 2).sum()
        loss = loss + 0.5 * ridge * sum(
            ((p - s) ** 2).sum() for p, s in zip(line.parameters(), start, strict=True)
        )
        with torch.no_grad():
            params = list(line.parameters())
            for p, g in zip(params, torch.autograd.grad(loss, params), strict=True):
                p -= rate * g
    said = predict_training(f, X, y, Z, ridge=ridge)
    assert np.abs(said - line(Z).detach().numpy()).max() <= 1e-6


def test_steps_diverge_above_the_largest_rate() -> None:
    f, X, y, _ = setting()
    for loss, numbers in (("sum", 1), ("mean", 12), ("mean_rows", 6)):
        rate = stable_learning_rate(f, X, loss=loss) / numbers
        assert math.isclose(rate, stable_learning_rate(f, X, loss="sum"), rel_tol=1e-6)
    before = float(((linearized(f)(X) - y) ** 2).sum().detach())
    for factor, above in ((0.95, False), (1.05, True)):
        line = linearized(f)
        descend(line, X, y, factor * rate, 300)
        assert (float(((line(X) - y) ** 2).sum().detach()) > before) is above


def test_taylor_polynomials() -> None:
    """A network of two layers of squares is a polynomial of degree 3 in its parameters."""
    f, X, _, _ = setting()
    square = module("serial(Dense(), Monomial(degree=2), Dense())", 4, 3, random_state=0).double()
    for g, exact_from in ((f, None), (square, 3)):
        expansions = [taylor(g, k) for k in range(4)]
        for e in expansions:
            assert torch.equal(e(X), g(X))
        r = torch.Generator().manual_seed(0)
        moved = [1e-2 * torch.randn(p.shape, generator=r, dtype=p.dtype) for p in g.parameters()]
        want = None
        for owner in (g, *(e.module for e in expansions)):
            with torch.no_grad():
                for p, m in zip(owner.parameters(), moved, strict=True):
                    p += m
            want = g(X) if want is None else want
        errors = [float((e(X) - want).detach().abs().max()) for e in expansions]
        assert all(later < earlier / 5 for earlier, later in itertools.pairwise(errors))
        if exact_from is not None:
            assert errors[exact_from] <= 1e-14


def test_taylor_modules_are_modules() -> None:
    f, X, _, _ = setting()
    line = linearized(f)
    assert len(list(line.parameters())) == len(list(f.parameters()))
    again = linearized(f)
    descend(line, X, torch.zeros(6, 2, dtype=torch.float64), 0.01, 3)
    again.load_state_dict(line.state_dict())
    assert torch.equal(again(X), line(X))
    K = EmpiricalOperator(line, X, outputs="full").to_dense()
    want = EmpiricalOperator(f, X, outputs="full").to_dense()
    assert float((K - want).abs().max()) <= EXACT  # that of a linear model stays


def test_a_module_made_linear() -> None:
    f = module("mlp(depth=1)", 8, 3, linearize=True, random_state=0)
    plain = module("mlp(depth=1)", 8, 3, random_state=0)
    X = torch.randn(5, 3)
    assert torch.equal(f(X), plain(X))


def test_evolution_of_a_kernel() -> None:
    f, X, y, _ = setting(1)
    f.train()
    seen = KernelEvolution(X, y, leading=3)
    before = EmpiricalOperator(f, X).to_dense().numpy()
    seen(f, 0)
    descend(f, X, y, 0.05, 20)
    last = seen(f, 20)
    assert f.training
    K = EmpiricalOperator(f, X).to_dense().numpy()
    assert math.isclose(last.movement, np.linalg.norm(K - before) / np.linalg.norm(before))
    assert seen.snapshots[0].movement == 0.0
    assert math.isclose(seen.snapshots[0].similarity, 1.0)
    H = np.eye(6) - 1 / 6
    C, Y = H @ K @ H, H @ y.numpy() @ y.numpy().T @ H
    want = (C * Y).sum() / np.linalg.norm(C) / np.linalg.norm(Y)
    assert last.alignment is not None
    assert math.isclose(last.alignment, want, rel_tol=1e-9)
    assert last.alignment > seen.column("alignment")[0]
    np.testing.assert_allclose(last.eigenvalues, np.linalg.eigvalsh(K)[::-1][:3] / 6)
    assert math.isclose(last.trace, K.trace() / 6)
    assert seen.last is not None
    assert np.array_equal(seen.last, K)
    labels = KernelEvolution(X, ["a", "b"] * 3)
    assert labels(f, 0).alignment is not None
    assert KernelEvolution(X)(f, 0).alignment is None


def test_functions_of_torch_work_on_modules() -> None:
    net = nn.serial(nn.Conv((3, 3), b_std=0.1), nn.Relu(), nn.GlobalAvgPool(), nn.Dense())
    f = module(net, 8, (4, 4, 2), 3, random_state=0, dtype=torch.float64)
    X = torch.randn(5, 4, 4, 2, dtype=torch.float64)
    params = dict(f.named_parameters())

    def one(p: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(f, p, (x[None],))[0]

    jacobians = torch.func.vmap(torch.func.jacrev(one), (None, 0))(params, X)
    J = torch.cat([j.flatten(2) for j in jacobians.values()], 2).flatten(1)
    K = EmpiricalOperator(f, X).to_dense()
    assert float((J @ J.T / 3 - K).abs().max()) <= EXACT
    first = module(net, 8, (4, 4, 2), 3, random_state=0, dtype=torch.float64, channels="first")
    assert torch.equal(first(X.movedim(3, 1)), f(X))
    assert torch.equal(f(X.reshape(5, -1)), f(X))


def test_loops_that_keep_some_turns_only() -> None:
    net = nn.serial(nn.Dense(), nn.repeat(nn.serial(nn.Erf(), nn.Dense()), 250), nn.Dense())
    X = torch.randn(3, 4, dtype=torch.float64)
    found = []
    for checkpoint in (False, True):
        f = module(net, 4, 4, random_state=0, dtype=torch.float64, checkpoint=checkpoint)
        f(X).sum().backward()
        found.append(torch.cat([p.grad.flatten() for p in f.parameters()]))
    assert torch.equal(*found)


def test_orthogonal_weights() -> None:
    for outputs, inputs in ((6, 6), (8, 3), (3, 8)):
        f = module(nn.Dense(1.3, None), 1, inputs, outputs, init="orthogonal", random_state=0)
        w = f.weighted()[0]
        W = w.scale * w.weight.detach().double()
        small = W @ W.T if outputs <= inputs else W.T @ W
        want = 1.3**2 * max(1.0, outputs / inputs)
        assert float((small - want * torch.eye(len(small))).abs().max()) <= 1e-5


def test_delta_orthogonal_layers_keep_all_lengths() -> None:
    """1,000 linear convolutions: the jacobian is orthogonal, as each layer's is."""
    net = nn.repeat(nn.Conv((3, 3), padding="CIRCULAR", b_std=None), 1000)
    f = module(net, 8, (3, 3, 8), 8, init="delta_orthogonal", random_state=0, dtype=torch.float64)
    x = torch.randn(1, 3, 3, 8, dtype=torch.float64)
    J = torch.func.jacfwd(lambda v: f(v).flatten())(x).reshape(72, 72)
    singular = torch.linalg.svdvals(J.detach())
    assert float((singular - 1.0).abs().max()) <= 1e-10


def test_a_ready_made_run_is_the_same_each_time() -> None:
    r = np.random.default_rng(0)
    X = r.standard_normal((90, 2))
    y = np.where(X[:, 0] * X[:, 1] > 0, "same", "other")
    first, second = (evolve("mlp(depth=1)", X, y, width=32, steps=60) for _ in range(2))
    assert first.scores == second.scores
    assert first.scores["kernel after training"] > 0.8
    assert first.evolution.snapshots[0].movement == 0.0
    assert "cosine with the first kernel" in str(first)
    for bad, message in (
        ({"steps": 0}, "steps must be at least 1"),
        ({"X": X[:9], "y": y[:9]}, "expected at least 20 rows"),
        ({"y": np.full(90, "one")}, "expected at least two classes"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            evolve("mlp(depth=1)", **{"X": X, "y": y, **bad})


def test_display_of_an_evolution() -> None:
    f, X, y, _ = setting(1)
    seen = KernelEvolution(X, y)
    seen(f, 0)
    with pytest.raises(InvalidInputError, match="at least two snapshots, found 1"):
        KernelEvolutionDisplay(seen)
    descend(f, X, y, 0.05, 5)
    seen(f, 5)
    shown = KernelEvolutionDisplay(seen).plot()
    assert [len(line.get_xdata()) for line in shown.lines_] == [2, 2]
    assert shown.lines_[0].get_ydata()[1] == seen.snapshots[1].alignment
