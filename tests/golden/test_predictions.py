"""Every prediction of the golden index: ensembles at any time, posteriors, differential equations.

Means and covariances of test rows are those of the estimators, which see the rows alone. Where the
source starts from given outputs, or asks for its training rows, the theory has its matrices.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

import kernreg
from kernreg import EnsembleRegressor, GaussianProcessRegressor
from kernreg.solvers.eigh import EighState
from kernreg.theory.training import (
    LOSSES,
    Dynamics,
    Ensemble,
    along_modes,
    largest_learning_rate,
    trajectory,
)
from tests.golden import build

INDEX = {
    entry["id"]: entry
    for entry in map(json.loads, (build.DATA / "predict_index.jsonl").read_text().splitlines())
}
KEYS = [(case, key) for case, entry in INDEX.items() for key in entry["keys"]]
EXACT = 1e-10
# The source's integrator: rtol = atol = 1.4e-8 for each of its steps.
INTEGRATED = 1e-6
TIMES = {"inf": np.inf, "arr": [0.0, 0.5, 3.0]}


@cache
def data(case: str) -> dict[str, np.ndarray]:
    return dict(np.load(build.DATA / INDEX[case]["file"]))


def options(case: str) -> dict[str, Any]:
    entry = INDEX[case]
    scale = "absolute" if entry["diag_reg_absolute_scale"] else "mean_diag"
    return {"alpha": entry["diag_reg"], "alpha_scale": scale}


def rate(case: str) -> float:
    """Of the sum of squares: the source has the mean over all numbers."""
    return INDEX[case]["learning_rate"] / data(case)["y_train"].size


def modes(case: str, kernel: str, regularised: bool = True) -> EighState:
    entry, matrix = INDEX[case], data(case)[f"{kernel}_dd"]
    unit = 1.0 if entry["diag_reg_absolute_scale"] else np.trace(matrix) / len(matrix)
    ridge = entry["diag_reg"] * unit * regularised
    return EighState(*np.linalg.eigh(matrix), ridge=ridge)


@cache
def ensemble(case: str, train: str) -> EnsembleRegressor:
    """With ``nngp`` the source is Bayesian: targets have the noise of its regulariser."""
    model = EnsembleRegressor(
        build.network(INDEX[case]["arch"]),
        train,
        learning_rate=INDEX[case]["learning_rate"],
        target_noise=train == "nngp",
        **options(case),
    )
    return model.fit(data(case)["x_train"], data(case)["y_train"])


@cache
def posterior(case: str, kernel: str) -> GaussianProcessRegressor:
    model = GaussianProcessRegressor(
        build.network(INDEX[case]["arch"]),
        kernel,
        optimizer=None,
        fit_intercept=False,
        **options(case),
    )
    return model.fit(data(case)["x_train"], data(case)["y_train"])


def moments(model: Any, case: str, what: str, **arguments: Any) -> np.ndarray:
    mean, cov = model.predict(data(case)["x_test"], return_cov=True, **arguments)
    if what == "mean":
        return mean
    # Targets share their covariance.
    return cov if np.ndim(model.y_mean_) == 0 else cov[..., 0]


def of_training_rows(case: str, train: str, time: float, what: str) -> np.ndarray:
    """The source adds its regulariser to the kernel of the rows with themselves.

    So each of them is a new row with the weights of its own that the ridge amounts to; for
    ``nngp`` these are random before training, for ``ntk`` they start from 0.
    """
    z, state = data(case), modes(case, train)
    noise = state.ridge * np.eye(len(state.values))
    between, prior = z[f"{train}_dd"] + noise, z["nngp_dd"]
    if train == "nngp":
        made = Ensemble(state, Dynamics(rate(case)), target_noise=state.ridge)
        prior = between
    else:
        made = Ensemble(state, Dynamics(rate(case)), along_modes(state, prior))
    if what == "mean":
        return between @ made.coefficients(z["y_train"], (time,))[0]
    return made.covariance(between, prior, prior, time)


def from_given_outputs(case: str, time: float, rows: str) -> np.ndarray:
    z, state = data(case), modes(case, "ntk")
    made = Ensemble(state, Dynamics(rate(case)))
    (moved,) = made.coefficients(z["y_train"] - z["fx_train_0"], (time,))
    kernel = z["ntk_td"]
    if rows == "train":
        kernel = z["ntk_dd"] + state.ridge * np.eye(len(moved))
    return z[f"fx_{rows}_0"] + kernel @ moved


def integrated(case: str, loss: str, momentum: float, time: float, rows: str) -> np.ndarray:
    z = data(case)
    (moved,) = trajectory(
        lambda V: z["ntk_dd"] @ V,
        LOSSES[{"mse": "mse", "ce": "cross_entropy"}[loss]],
        z["y_onehot" if loss == "ce" else "y_train"],
        [time],
        Dynamics(rate(case), momentum),
        start=z["fx_train_0"],
    )
    return z[f"fx_{rows}_0"] + z["ntk_dd" if rows == "train" else "ntk_td"] @ moved


def found(case: str, key: str) -> np.ndarray:
    """What kernreg has for an array of the source."""
    number = r"(?P<time>[\d.]+|inf|arr)"
    if match := re.fullmatch(rf"ens_(ntk|nngp)_t{number}_(train|test)_(mean|cov)", key):
        train, given, rows, what = match.groups()
        time = TIMES.get(given) or float(given)
        if rows == "train":
            return of_training_rows(case, train, time, what)
        return moments(ensemble(case, train), case, what, time=time)
    if match := re.fullmatch(r"gp_(ntk|nngp|ntkgp)_(mean|cov)", key):
        kind, what = match.groups()
        if kind == "ntk":
            return moments(ensemble(case, "ntk"), case, what)
        return moments(posterior(case, {"ntkgp": "ntk"}.get(kind, kind)), case, what)
    if match := re.fullmatch(rf"gdmse_t{number}_(train|test)", key):
        return from_given_outputs(case, float(match["time"]), match[2])
    if match := re.fullmatch(rf"ode_(mse|ce)(?:_mom([\d.]+))?_t{number}_(train|test)", key):
        momentum = float(match[2] or 0)
        return integrated(case, match[1], momentum, float(match["time"]), match[4])
    if match := re.fullmatch(r"max_lr_mom([\d.]+)", key):
        largest = np.linalg.eigvalsh(data(case)["ntk_dd"])[-1]
        numbers = data(case)["y_train"].size
        return np.array(numbers * largest_learning_rate(largest, float(match[1])))
    raise NotImplementedError(f"no array of kernreg for {key} of {case}")


@pytest.mark.parametrize(("case", "key"), KEYS, ids=["-".join(pair) for pair in KEYS])
def test_array(case: str, key: str) -> None:
    want, got = data(case)[key], found(case, key)
    np.testing.assert_allclose(
        got.reshape(want.shape), want, rtol=0, atol=INTEGRATED if key[:3] == "ode" else EXACT
    )


@pytest.mark.parametrize("case", INDEX)
def test_every_array_is_in_the_index(case: str) -> None:
    """What is no result was an input of it."""
    given = {"x_train", "x_test", "y_train", "y_onehot", "fx_train_0", "fx_test_0"}
    kernels = {f"{k}_{rows}" for k in ("nngp", "ntk") for rows in ("dd", "td", "tt")}
    assert data(case).keys() - set(INDEX[case]["keys"]) <= given | kernels


@pytest.mark.parametrize("case", INDEX)
def test_kernels(case: str) -> None:
    z, net = data(case), build.network(INDEX[case]["arch"])
    pairs = {"dd": ("x_train", None), "td": ("x_test", "x_train"), "tt": ("x_test", None)}
    for name, (rows, others) in pairs.items():
        made = kernreg.gram(net, z[rows], others and z[others], kernel=("nngp", "ntk"))
        for kernel in ("nngp", "ntk"):
            got = getattr(made, kernel)
            np.testing.assert_allclose(got, z[f"{kernel}_{name}"], rtol=0, atol=EXACT)


@pytest.mark.parametrize("case", INDEX)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_closed_form_of_the_integrated_equation(case: str, momentum: float) -> None:
    z, state = data(case), modes(case, "ntk", regularised=False)
    key = f"ode_mse_mom{momentum}_t5" if momentum else "ode_mse_t5"
    made = Ensemble(state, Dynamics(rate(case), momentum))
    (moved,) = made.coefficients(z["y_train"] - z["fx_train_0"], (5.0,))
    for rows, kernel in (("train", "ntk_dd"), ("test", "ntk_td")):
        got = z[f"fx_{rows}_0"] + z[kernel] @ moved
        np.testing.assert_allclose(got, z[f"{key}_{rows}"], rtol=0, atol=INTEGRATED)


@pytest.mark.parametrize("case", INDEX)
@pytest.mark.parametrize("solver", ["eigh", "krylov"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_largest_learning_rate(case: str, solver: str, momentum: float) -> None:
    """Of the estimator, which looks at no ridge if there is none."""
    z = data(case)
    net = build.network(INDEX[case]["arch"])
    model = EnsembleRegressor(net, time=0.0, momentum=momentum, solver=solver)
    model.fit(z["x_train"], z["y_train"])
    want = z[f"max_lr_mom{momentum}"]
    np.testing.assert_allclose(model.largest_learning_rate_, want, rtol=EXACT)
