"""Triangular solves by panels, against LAPACK; precision while they run."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg
import torch

from kernreg import KernelRegressor, nn
from kernreg.operators.panels import Staircase, full_precision, panel_bounds

N = 61


def problem(dtype):
    rng = np.random.default_rng(31)
    A = rng.standard_normal((N, 2 * N))
    A = (A @ A.T / N + np.eye(N)).astype(dtype)
    return A, rng.standard_normal((N, 3)).astype(dtype)


def factor(A, block):
    result = Staircase(N, block, A.dtype)
    for i0, i1 in result.bounds:
        result.append(torch.from_numpy(A[i0:i1, :i1].copy()))
    return result


def solve_bound(L, x, dtype):
    """Substitution is backward stable row by row: |L x - b| <= N eps |L| |x| (Higham, 8.5).

    Block updates sum in another order, and the factor itself satisfies |L L^T - A| <= N eps |L|
    |L^T|; each at most doubles it.
    """
    size = np.abs(L).astype(float)
    return 4 * N * np.finfo(dtype).eps * (size @ np.abs(x).astype(float))


@pytest.mark.parametrize("block", [1, 7, 30, 61, 100])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_backward(block, dtype):
    A, V = problem(dtype)
    held = factor(A, block)
    L = np.zeros((N, N))
    for (i0, i1), panel in zip(held.bounds, held.panels, strict=True):
        L[i0:i1, :i1] = np.tril(panel.numpy(), i0)
    bound = 4 * N * np.finfo(dtype).eps * (np.abs(L) @ np.abs(L.T))
    assert (np.abs(L @ L.T - A) <= bound).all()
    down = held.forward(torch.from_numpy(V.copy())).numpy()
    assert down.dtype == dtype
    assert (np.abs(L @ down.astype(float) - V) <= solve_bound(L, down, dtype)).all()
    up = held.backward(torch.from_numpy(V.copy())).numpy()
    assert (np.abs(L.T @ up.astype(float) - V) <= solve_bound(L.T, up, dtype)).all()


@pytest.mark.parametrize("start", [0, 2, 8])
def test_forward_from_a_later_panel(start):
    """What is zero above stays zero, and need not be touched."""
    A, V = problem("float64")
    held = factor(A, 7)
    first = held.bounds[start][0]
    V[:first] = 0.0
    expected = held.forward(torch.from_numpy(V.copy())).numpy()
    found = held.forward(torch.from_numpy(V.copy()), start=start).numpy()
    assert not found[:first].any()
    L = scipy.linalg.cholesky(A, lower=True)
    assert (np.abs(found - expected) <= solve_bound(L, expected, "float64")).all()


def test_solves_overwrite():
    A, V = problem("float64")
    held, given = factor(A, 16), torch.from_numpy(V)
    assert held.forward(given) is given
    assert held.backward(given) is given


@pytest.mark.parametrize("n", [1, 5, 64, 100])
@pytest.mark.parametrize("block", [1, 5, 64, 1000])
def test_bounds_cover_every_row_once(n, block):
    bounds = panel_bounds(n, block)
    assert [row for i0, i1 in bounds for row in range(i0, i1)] == list(range(n))
    assert max(i1 - i0 for i0, i1 in bounds) <= block
    assert Staircase.numbers(n, block) == sum((i1 - i0) * i1 for i0, i1 in bounds)


def test_precision_is_restored_when_work_fails():
    def work():
        with full_precision():
            raise KeyError(torch.get_float32_matmul_precision())

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with pytest.raises(KeyError, match="highest"):
            work()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.fixture
def medium():
    """The setting of a caller who allows bfloat16."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


def test_precision_of_threads_that_overlap(medium):
    """The first to begin ends first: the second still has what it needs, and then the caller."""
    began, ended = threading.Event(), threading.Event()
    seen = []

    def first():
        with full_precision():
            began.set()
            second_began.wait()
        ended.set()

    second_began = threading.Event()
    thread = threading.Thread(target=first)
    thread.start()
    began.wait()
    with full_precision(mixed=True):
        seen.append(torch.get_float32_matmul_precision())
        second_began.set()
        ended.wait()
        seen.append(torch.get_float32_matmul_precision())
        with full_precision():
            seen.append(torch.get_float32_matmul_precision())
        seen.append(torch.get_float32_matmul_precision())
    thread.join()
    assert seen == ["highest", "high", "highest", "high"]
    assert torch.get_float32_matmul_precision() == "medium"


def test_precision_after_many_threads(medium):
    wrong = []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(200):
            mixed = rng.random() < 0.5
            with full_precision(mixed):
                time.sleep(0)
                allowed = ("highest", "high") if mixed else ("highest",)
                if (found := torch.get_float32_matmul_precision()) not in allowed:
                    wrong.append(found)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert torch.get_float32_matmul_precision() == "medium"


def test_settings_after_fits_in_threads(medium):
    """Of the process, whichever fit ends last."""
    X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)

    def settings():
        return (
            torch.get_float32_matmul_precision(),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_default_dtype(),
            torch.is_grad_enabled(),
        )

    before = settings()
    alone = KernelRegressor(nn.mlp(depth=1)).fit(X, X[:, 0]).dual_coef_
    with ThreadPoolExecutor(4) as pool:
        fits = [pool.submit(KernelRegressor(nn.mlp(depth=1)).fit, X, X[:, 0]) for _ in range(12)]
        for fit in fits:
            np.testing.assert_array_equal(fit.result().dual_coef_, alone)
    assert settings() == before
