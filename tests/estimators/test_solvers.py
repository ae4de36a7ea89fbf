"""Estimators on every solver: the same predictions, whatever is kept of the matrix."""

import importlib

import numpy as np
import pytest

from kernreg import KernelRegressor, nn
from kernreg.exceptions import InvalidInputError
from kernreg.linalg import PCG, LowPrecisionCholesky, Nystrom, OutOfCoreCholesky, RPCholesky
from tests.backends.compare import chosen_freely

operator = importlib.import_module("kernreg.linalg.operator")
plan = importlib.import_module("kernreg.linalg.plan")

NET = nn.mlp(depth=2, b_std=0.1)
SOLVERS = {
    "pcg": "pcg",
    "no preconditioner": PCG(None),
    "kept": PCG(RPCholesky(rank=30), storage="packed"),
    "recomputed": PCG(Nystrom(rank=30), storage="recomputed"),
    "factor": PCG(LowPrecisionCholesky(block=64)),
}


def data(n=200):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((n, 4))
    return X, np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2.0, 200)], ids=["", "weighted"])
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS.keys())
def test_predictions_are_those_of_cholesky(solver, weights, dtype):
    """Both have a residual below 1e-8; float32 predictions are rounded to 1e-7 of their scale."""
    X, Y = data()
    new = np.random.default_rng(4).standard_normal((50, 4)).astype(dtype)
    found = [
        KernelRegressor(NET, alpha=1e-4, solver=s, dtype=dtype)
        .fit(X, Y, sample_weight=weights)
        .predict(new)
        for s in (solver, "cholesky")
    ]
    bound = 1e-6 if dtype == "float64" else 2e-5
    np.testing.assert_allclose(found[0], found[1], atol=bound * np.abs(found[1]).max())


def test_on_disk(tmp_path):
    X, Y = data()
    solver = OutOfCoreCholesky(tmp_path, block=32)
    direct = KernelRegressor(NET, alpha=1e-4, solver=solver).fit(X, Y)
    in_memory = KernelRegressor(NET, alpha=1e-4, solver="cholesky").fit(X, Y)
    np.testing.assert_allclose(direct.dual_coef_, in_memory.dual_coef_, rtol=1e-7)
    assert direct.plan_.storage == "disk"
    with pytest.raises(InvalidInputError, match="one ridge"):
        KernelRegressor(NET, alpha=[1e-2, 1e-4], solver=solver).fit(X, Y)


@chosen_freely
def test_auto_iterates_within_a_budget_that_holds_no_matrix(monkeypatch):
    for module in (operator, plan):
        monkeypatch.setattr(module, "PANEL_BYTES", 2**20)
    X, Y = data(1500)
    small = KernelRegressor(NET, alpha=1e-2, max_memory="7MB", dtype="float32").fit(X, Y)
    assert small.plan_.solver == "pcg"
    assert small.solution_.ok
    large = KernelRegressor(NET, alpha=1e-2, max_memory="1GB", dtype="float32").fit(X, Y)
    assert large.plan_.solver == "cholesky"
    found, expected = small.predict(X[:50]), large.predict(X[:50])
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.mark.parametrize("solver", ["pcg", PCG()])
def test_alpha_cannot_be_chosen_by_conjugate_gradients(solver):
    X, Y = data(20)
    with pytest.raises(InvalidInputError, match="give alpha as one number"):
        KernelRegressor(NET, alpha=[0.1, 1.0], solver=solver).fit(X, Y)
