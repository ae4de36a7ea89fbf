"""Kernel ridge regression end to end, in time and in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

import kernreg
from benchmarks.conftest import Compare, report
from benchmarks.problems import KERNEL, network, rows, torch_relu_ntk
from benchmarks.timing import seconds
from kernreg import KernelRegressor
from kernreg.solvers import Cholesky

DEPTH, OUTPUTS = 3, 10


def relative_residual(K: np.ndarray, ridge: float, coef: np.ndarray, Y: np.ndarray) -> float:
    """``|(K + ridge I) coef - Y| / |Y|`` in float64; ``Y`` as the model saw it."""
    coef = coef.astype(np.float64)
    return float(np.linalg.norm(K @ coef + ridge * coef - Y) / np.linalg.norm(Y))


@pytest.mark.parametrize(("dtype", "target"), [("float64", 2.0), ("float32", 3.0)])
def test_ridge_beside_scikit_learn(
    dtype: str, target: float, compare: Compare, benchmark: Any, short: bool
) -> None:
    """Gram and solve with 10 outputs; the peer gets its kernel from torch."""
    net = network("relu", DEPTH)
    X = rows(1500 if short else 8000, 100).astype(dtype)
    Y = np.random.default_rng(1).standard_normal((len(X), OUTPUTS)).astype(dtype)
    K = kernreg.gram(net, X.astype(np.float64), kernel=KERNEL)
    ridge = 1e-3 * float(np.mean(np.diagonal(K)))
    tensor = torch.from_numpy(X)
    model = KernelRegressor(
        net, kernel=KERNEL, alpha=ridge, alpha_scale="absolute", solver=Cholesky(), dtype=dtype
    )
    peer = KernelRidge(alpha=ridge, kernel="precomputed")

    compare(
        f"ridge, {dtype}: times faster than KernelRidge on torch's kernel",
        lambda: model.fit(X, Y),
        lambda: seconds(lambda: peer.fit(torch_relu_ntk(tensor, DEPTH).numpy(), Y)),
        target=target,
        rounds=3,
        n=len(X),
    )
    residual = relative_residual(K, ridge, model.dual_coef_, Y - model.y_mean_)
    benchmark.extra_info["residual"] = residual
    benchmark.extra_info["peer_residual"] = relative_residual(K, ridge, peer.dual_coef_, Y)
    assert residual <= (1e-10 if dtype == "float64" else 1e-2)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_memory_of_fit(dtype: str, benchmark: Any, short: bool) -> None:
    """Half of the matrix is stored, and nothing of its size besides."""
    n = 3000 if short else 10_000
    command = [sys.executable, "-m", "benchmarks.fit_memory", str(n), dtype]
    out = benchmark.pedantic(lambda: subprocess.check_output(command, text=True), rounds=1)
    numbers = json.loads(out) / np.dtype(dtype).itemsize
    report(
        benchmark,
        f"memory of fit at n={n}, {dtype}: numbers beyond the data / n^2",
        numbers / n**2,
        target=None if short else 0.65,
        at_most=True,
        n=n,
    )
