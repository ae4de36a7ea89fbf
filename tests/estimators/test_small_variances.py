"""Standard deviations beside training rows, where nearly all of the prior is explained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf

from kernreg import EnsembleRegressor, GaussianProcessRegressor, diag, load, nn
from kernreg.solvers import Restricted
from tests.contracts.solver import gaussian_points
from tests.differential.recursion import DIGITS, exact_kernels

N, D = 30, 3
DISTANCES = (1e-3, 1e-4, 1e-5, 1e-6)
DENSE = nn.Dense(1.5, 0.1)
RELU = nn.serial(DENSE, nn.Relu(), DENSE, nn.Relu(), DENSE)
ERF = nn.serial(DENSE, nn.Erf(), DENSE, nn.Erf(), DENSE)
CASES = {"relu nngp": (RELU, "nngp"), "relu ntk": (RELU, "ntk"), "erf nngp": (ERF, "nngp")}
X = gaussian_points(N, D)
Y = np.sin(X[:, 0])


def beside() -> np.ndarray:
    """Two rows at each distance from a row of its own, and one far away."""
    turns = gaussian_points(2 * len(DISTANCES), D, seed=1)
    turns /= np.linalg.norm(turns, axis=1, keepdims=True)
    near = X[: len(turns)] + np.repeat(DISTANCES, 2)[:, None] * turns
    return np.vstack([near, gaussian_points(1, D, seed=2)])


NEW = beside()


class Exact:
    """The kernel of all rows, and the posterior, with 60 digits."""

    def __init__(self, net: nn.Layer, kernel: str) -> None:
        with mp.workdps(DIGITS):
            rows = [[mpf(float(x)) for x in row] for row in np.vstack([X, NEW])]
            pairs = getattr(exact_kernels(net, rows), kernel)
            self.matrix = mp.matrix(len(rows), len(rows))
            for (i, j), value in pairs.items():
                self.matrix[i, j] = self.matrix[j, i] = value

    def std(self, noise: float) -> np.ndarray:
        with mp.workdps(DIGITS):
            inverse = mp.inverse(self.matrix[:N, :N] + mpf(float(noise)) * mp.eye(N))
            found = []
            for i in range(N, N + len(NEW)):
                column = self.matrix[:N, i]
                left = self.matrix[i, i] - (column.T * inverse * column)[0]
                found.append(float(mp.sqrt(left)))
            return np.array(found)


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[nn.Layer, str, Exact]:
    net, kernel = CASES[request.param]
    return net, kernel, Exact(net, kernel)


def fitted(net: nn.Layer, kernel: str, alpha: float, solver: Any) -> GaussianProcessRegressor:
    model = GaussianProcessRegressor(net, kernel, alpha=alpha, optimizer=None, solver=solver)
    return model.fit(X, Y)


def check(std: np.ndarray, case: Any, noise: float) -> None:
    _, _, exact = case
    want = exact.std(noise)
    assert (np.abs(std - want) <= 1e-4 * want).all()
    # A variance is off by some eps of the norm of the matrix, which is N times the prior at most.
    with mp.workdps(DIGITS):
        prior = np.array([float(exact.matrix[i, i]) for i in range(N, N + len(NEW))])
    rounding = 2 * N * np.finfo(np.float64).eps * prior / want
    assert (np.abs(std - want) <= rounding + 1e-9 * want).all()


@pytest.mark.parametrize("alpha", [1e-6, 1e-8, 1e-10])
@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg", "sketch"])
def test_of_rows_beside_training_rows(case: Any, alpha: float, solver: str) -> None:
    net, kernel, _ = case
    model = fitted(net, kernel, alpha, solver)
    check(model.predict(NEW, return_std=True)[1], case, model.noise_)
    covariance = model.predict(NEW, return_cov=True)[1]
    check(np.sqrt(covariance.diagonal()), case, model.noise_)


@pytest.mark.parametrize("alpha", [1e-6, 1e-8, 1e-10])
def test_of_a_saved_model(case: Any, alpha: float, tmp_path: Any) -> None:
    """Its factor is made again."""
    net, kernel, _ = case
    model = fitted(net, kernel, alpha, "cholesky")
    model.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    check(again.predict(NEW, return_std=True)[1], case, model.noise_)


@pytest.mark.parametrize("alpha", [1e-6, 1e-8, 1e-10])
def test_of_the_last_layer_trained(case: Any, alpha: float) -> None:
    """Without end and with noise of their own, networks are draws from the posterior."""
    net, kernel, _ = case
    if kernel == "ntk":
        pytest.skip("is no posterior")
    model = EnsembleRegressor(net, "nngp", alpha=alpha, target_noise=True).fit(X, Y)
    noise = GaussianProcessRegressor(net, alpha=alpha, optimizer=None).fit(X, Y).noise_
    check(model.predict(NEW, return_std=True)[1], case, noise)


EQUAL = np.vstack([X, X[:5]])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("alpha", [1e-8, 1e-14, 0.0])
@pytest.mark.parametrize(
    "solver", ["cholesky", "banded", "eigh", "pcg", "sketch", Restricted(centres=20)]
)
@pytest.mark.parametrize("rows", [X, EQUAL], ids=["distinct", "equal"])
def test_never_negative(alpha: float, solver: Any, rows: np.ndarray) -> None:
    """Also of training rows themselves, with noise below rounding, and where rows are equal."""
    net, targets = RELU, np.sin(rows[:, 0])
    model = GaussianProcessRegressor(net, alpha=alpha, optimizer=None, solver=solver)
    model.fit(rows, targets)
    every = np.vstack([rows, NEW])
    mean, std = model.predict(every, return_std=True)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()
    assert (std >= 0).all()
    prior = np.sqrt(diag(net, every, "nngp"))
    assert (std <= prior * (1 + 1e-12)).all()
    if not isinstance(solver, Restricted):
        # At most the noise is left of training rows, and the jitter of some eps of the norm.
        assert (std[: len(rows)] <= model.noise_**0.5 + 1e-6).all()
    covariance = model.predict(every, return_cov=True)[1]
    assert np.isfinite(covariance).all()
    np.testing.assert_allclose(covariance.diagonal(), std**2, rtol=0, atol=1e-11)
    assert np.isfinite(model.sample_y(every, 2)).all()
    lower, upper = model.predict_interval(every)
    assert (lower <= upper).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("train", ["ntk", "nngp"])
@pytest.mark.parametrize("solver", ["eigh", "krylov"])
@pytest.mark.parametrize("rows", [X, EQUAL], ids=["distinct", "equal"])
def test_ensembles_are_never_negative(train: str, solver: str, rows: np.ndarray) -> None:
    model = EnsembleRegressor(RELU, train, solver=solver).fit(rows, np.sin(rows[:, 0]))
    every = np.vstack([rows, NEW])
    for time in (0.0, 1.0, 1e6, np.inf):
        mean, std = model.predict(every, time=time, return_std=True)
        assert np.isfinite(mean).all()
        assert np.isfinite(std).all()
        assert (std >= 0).all()
    assert std[: len(rows)].max() <= 1e-4
