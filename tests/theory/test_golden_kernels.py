"""Deep ReLU kernels and a posterior mean of the theory sheet, through the whole library."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kernreg import KernelRegressor, gram, nn

GOLDEN = json.loads((Path(__file__).parent / "golden_kernels.json").read_text())


@pytest.mark.parametrize("entry", GOLDEN["relu_fL"], ids=lambda e: f"{e['L_hidden']} {e['theta']}")
def test_deep_relu(entry):
    """K = 2 f_L and Theta = 2 (L + 1) t_L for |x|^2 = d and C_W = 2."""
    depth, theta = entry["L_hidden"], entry["theta"]
    X = 2**0.5 * np.array([[1.0, 0.0], [np.cos(theta), np.sin(theta)]])
    dense = nn.Dense(2**0.5)
    net = nn.serial(dense, nn.repeat(nn.serial(nn.Relu(), dense), depth))
    nngp, ntk = gram(net, X, kernel=("nngp", "ntk"), dtype="float64")
    assert nngp[0, 1] / 2 == pytest.approx(entry["nngp_unit"], rel=1e-9)
    assert ntk[0, 1] / (2 * (depth + 1)) == pytest.approx(entry["ntk_over_Lplus1"], rel=1e-9)


def test_posterior_mean():
    """One hidden erf layer, C_W = 2.25, C_b = 0.01: regression without ridge is the mean."""
    (entry,) = GOLDEN["nngp_posterior"]
    X, X_new, Y = (np.array(entry[name]) for name in ("X", "Xt", "Y"))
    dense = nn.Dense(1.5, 0.1)
    model = KernelRegressor(
        nn.serial(dense, nn.Erf(), dense), kernel="nngp", alpha=0.0, fit_intercept=False
    )
    found = model.fit(X, Y).predict(X_new)
    # cond(K) eps is about 1e-13.
    np.testing.assert_allclose(found, np.reshape(entry["mean"], found.shape), rtol=1e-9, atol=1e-10)
