"""Estimators with the kernel of a torch module."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from kernreg import EnsembleRegressor, GaussianProcessRegressor, KernelClassifier, KernelRegressor
from kernreg.exceptions import InvalidInputError
from kernreg.finite import EmpiricalOperator, module
from kernreg.solvers import PCG, Restricted

X = np.random.default_rng(0).standard_normal((60, 3))
y = np.sin(X[:, 0]) + 0.1 * X[:, 1]
Z = np.random.default_rng(1).standard_normal((7, 3))


def network(outputs: int = 1) -> torch.nn.Module:
    return module("mlp(depth=1)", 32, 3, outputs, random_state=0, dtype=torch.float64)


def by_hand(f: torch.nn.Module, ridge: float, kernel: str = "ntk") -> np.ndarray:
    K = EmpiricalOperator(f, X, kernel=kernel).to_dense()
    between = EmpiricalOperator(f, Z, X, kernel=kernel).to_dense()
    scale = ridge * np.trace(K) / len(X)
    mean = y.mean()
    # Targets less their mean, as by default.
    return mean + between @ np.linalg.solve(K + scale * np.eye(len(X)), y - mean)


@pytest.mark.parametrize("solver", ["auto", "cholesky", "banded", "eigh", "pcg", PCG(tol=1e-12)])
def test_regression(solver: object) -> None:
    f = network()
    model = KernelRegressor(f, alpha=1e-2, solver=solver).fit(X, y)
    assert np.abs(model.predict(Z) - by_hand(f, 1e-2)).max() <= 1e-4
    assert "parameters" in repr(model.network_)
    twice = clone(model).fit(X, y)
    assert np.array_equal(twice.predict(Z), model.predict(Z))
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(Z), model.predict(Z))


def test_alpha_by_leave_one_out_and_parts() -> None:
    model = KernelRegressor(network()).fit(X, y)
    assert model.alpha_ > 0
    assert model.loo_ is not None
    few = KernelRegressor(network(), alpha=1e-2, solver=Restricted(20)).fit(X, y)
    assert few.score(X, y) > 0.9
    report = KernelRegressor(network(), alpha=1e-2).explain(X, seconds=False)
    assert "FiniteNetwork of 161 parameters" in str(report)


def test_the_module_may_be_trained_further() -> None:
    f = network()
    model = KernelRegressor(f, alpha=1e-2).fit(X, y)
    before = model.predict(Z)
    with torch.no_grad():
        next(f.parameters()).add_(1.0)
    assert np.array_equal(model.predict(Z), before)
    assert np.abs(model.fit(X, y).predict(Z) - by_hand(f, 1e-2)).max() <= 1e-8


def test_classes_of_images() -> None:
    images = np.random.default_rng(2).standard_normal((40, 4, 4, 1)).astype(np.float32)
    labels = np.where(images.mean((1, 2, 3)) > 0, "light", "dark")
    f = module("cnn(depth=1)", 8, (4, 4, 1), 2, random_state=0)
    model = KernelClassifier(f, alpha=1e-3).fit(images, labels)
    assert model.score(images, labels) > 0.9
    flat = KernelClassifier(f, alpha=1e-3, input_shape=(4, 4, 1))
    flat.fit(images.reshape(40, -1), labels)
    assert (flat.predict(images.reshape(40, -1)) == model.predict(images)).all()
    with pytest.raises(InvalidInputError, match=r"holds rows of shape \(4, 5, 1\)"):
        model.predict(np.zeros((1, 4, 5, 1), np.float32))


def test_gaussian_process() -> None:
    f = network()
    model = GaussianProcessRegressor(f, kernel="ntk", alpha=1e-2, random_state=0).fit(X, y)
    mean, std = model.predict(Z, return_std=True)
    assert np.isfinite(mean).all()
    assert (std > 0).all()
    fixed = GaussianProcessRegressor(f, kernel="ntk", alpha=1e-2, optimizer=None).fit(X, y)
    assert np.abs(fixed.predict(Z) - by_hand(f, 1e-2)).max() <= 1e-6


def test_what_needs_a_description(tmp_path) -> None:
    model = KernelRegressor(network(), alpha=1e-2).fit(X, y)
    with pytest.raises(InvalidInputError, match="use pickle or joblib"):
        model.save(tmp_path / "model")
    with pytest.raises(InvalidInputError, match="EnsembleRegressor needs the description"):
        EnsembleRegressor(network()).fit(X, y)
    with pytest.raises(InvalidInputError, match=r"set_params\(network__...\) needs the descr"):
        KernelRegressor(network()).set_params(network__depth=3)
