"""Which columns predictions depend on."""

import numpy as np
import pandas as pd
import pytest

from kernreg import nn
from kernreg.baseline.importances import importances
from kernreg.baseline.model import fit_model
from kernreg.datasets import load


def model_of(frame, tmp_path, network="mlp(depth=1, activation=Erf())", rows=None):
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load(str(tmp_path / "t.csv"), task="regression")
    fitted = fit_model(data, np.arange(len(data.X)), network, "ntk", 1e-4, "standard")
    return fitted, data.X


def table(n=200):
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.standard_normal((n, 3)) * [1.0, 1e3, 1.0], columns=["a", "b", "c"])
    frame["k"] = random.choice(["u", "v", "w"], n)
    frame["y"] = 2.0 * frame["a"] + frame["b"] / 1e3
    return frame


def test_the_largest_are_those_that_the_target_is_made_of(tmp_path):
    model, X = model_of(table(), tmp_path)
    shares = importances(model, X)
    assert list(shares)[:2] == ["a", "b"]
    assert set(shares) == {"a", "b", "c", "k"}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-12)


def test_they_are_mean_squared_differences(tmp_path):
    model, X = model_of(table(60), tmp_path)
    squares = np.empty(X.shape[1])
    for j, size in enumerate(X.std(axis=0)):
        step = np.zeros(X.shape[1])
        step[j] = 1e-4 * size
        slopes = (model.predict(X + step) - model.predict(X - step)) / 2e-4
        squares[j] = np.mean(slopes**2)
    shares = squares / squares.sum()
    found = importances(model, X)
    # Differences of order two: 1e-8 of third derivatives of order one, and rounding of 1e-11.
    expected = {"a": shares[0], "b": shares[1], "c": shares[2], "k": shares[3:].sum()}
    assert found == pytest.approx(expected, abs=1e-6)


def test_images_have_none(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).standard_normal((20, 17)))
    network = nn.serial(nn.Unflatten((4, 4, 1)), nn.cnn(1, readout="flatten"))
    model, X = model_of(frame, tmp_path, network)
    assert importances(model, X) == {}
