"""Flow and posteriors of the theory sheet, through the whole library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kernreg import EnsembleRegressor, GaussianProcessRegressor, nn

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text())
DENSE = nn.Dense(1.5, 0.1)
# One hidden layer, C_W = 2.25, C_b = 0.01.
NET = nn.serial(DENSE, nn.Erf(), DENSE)


def check(model: Any, entry: dict[str, Any]) -> None:
    X, X_new, Y = (np.array(entry[name]) for name in ("X", "Xt", "Y"))
    mean, cov = model.fit(X, Y).predict(X_new, return_cov=True)
    # Condition numbers up to 1e3 or so, and the source's own rounding of them.
    np.testing.assert_allclose(mean, entry["mean"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(cov, entry["cov"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["eigh", "krylov"])
@pytest.mark.parametrize("entry", GOLDEN["ntk_gp_flow"], ids=lambda entry: f"lam={entry['lam']}")
def test_flow(entry: dict[str, Any], solver: str) -> None:
    model = EnsembleRegressor(
        NET,
        time=entry["t"],
        alpha=entry["lam"],
        alpha_scale="absolute",
        reduction="sum",
        solver=solver,
    )
    check(model, entry)


@pytest.mark.parametrize("entry", GOLDEN["nngp_posterior"])
@pytest.mark.parametrize(
    "model",
    [
        GaussianProcessRegressor(NET, alpha=0.0, optimizer=None, fit_intercept=False),
        EnsembleRegressor(NET, "nngp"),
    ],
    ids=["posterior", "last layer trained"],
)
def test_posterior(entry: dict[str, Any], model: Any) -> None:
    check(model, entry)
