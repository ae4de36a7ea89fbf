"""GaussianProcessRegressor beside scikit-learn's, with the same kernel."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor as Sklearn

from kernreg import GaussianProcessRegressor, diag, gram, nn
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.solvers import PCG, OutOfCoreCholesky, Restricted, SketchAndProject
from tests.backends.compare import chosen_freely
from tests.estimators.network_kernel import NetworkKernel

N, M, D = 30, 8, 4
NET = nn.mlp(depth=2, b_std=0.3)
RNG = np.random.default_rng(5)
X, NEW = RNG.standard_normal((N, D)), RNG.standard_normal((M, D))
Y = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2], 2 + X[:, 3]])
Y += 0.1 * RNG.standard_normal((N, 3))
TARGETS = {"one": Y[:, 0], "column": Y[:, :1], "several": Y}
LEVELS = {"scalar": 0.1, "rows": RNG.uniform(0.05, 0.5, N)}
# The condition is at most the trace over the noise, 5e3, so that rounding costs 1e-12; iterations
# end at residuals of 1e-12.
TOL = 1e-9
SOLVERS: dict[str, Any] = {
    "cholesky": "cholesky",
    "banded": "banded",
    "eigh": "eigh",
    "pcg": PCG(tol=1e-12),
    "sketch": SketchAndProject(block=20, tol=1e-12),
}


def theirs(kernel: str, alpha: Any) -> Sklearn:
    return Sklearn(NetworkKernel(NET, NET.W_std, NET.b_std, kernel), alpha=alpha, optimizer=None)


def ours(kernel: str = "nngp", **settings: Any) -> GaussianProcessRegressor:
    plain = {"alpha_scale": "absolute", "optimizer": None, "fit_intercept": False}
    return GaussianProcessRegressor(NET, kernel, **(plain | settings))


def close(found: Any, expected: Any, tol: float = TOL) -> None:
    assert np.shape(found) == np.shape(expected)
    np.testing.assert_allclose(found, expected, rtol=tol, atol=tol)


def check_equal(model: GaussianProcessRegressor, other: Sklearn) -> None:
    close(model.predict(NEW), other.predict(NEW))
    for name in ("return_std", "return_cov"):
        found, expected = (m.predict(NEW, **{name: True}) for m in (model, other))
        close(found[0], expected[0])
        close(found[1], expected[1])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_is_that_of_scikit_learn(kernel: str, target: str, level: str) -> None:
    y, alpha = TARGETS[target], LEVELS[level]
    model, other = ours(kernel, alpha=alpha).fit(X, y), theirs(kernel, alpha).fit(X, y)
    check_equal(model, other)
    close(model.log_marginal_likelihood_value_, other.log_marginal_likelihood())
    close(model.log_marginal_likelihood(), other.log_marginal_likelihood_value_)
    close(model.X_train_, other.X_train_, 0)
    assert np.array_equal(model.y_train_.ravel(), other.y_train_.ravel())
    assert model.sample_y(NEW, 5).shape == other.sample_y(NEW, 5).shape
    assert model.score(NEW, TARGETS[target][:M]) == pytest.approx(other.score(NEW, y[:M]))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("target", ["one", "several"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers(solver: str, target: str, level: str) -> None:
    y, alpha = TARGETS[target], LEVELS[level]
    model = ours("ntk", alpha=alpha, solver=SOLVERS[solver]).fit(X, y)
    other = theirs("ntk", alpha).fit(X, y)
    check_equal(model, other)
    if solver in ("cholesky", "banded", "eigh"):
        close(model.log_marginal_likelihood_value_, other.log_marginal_likelihood())
    else:
        assert model.log_marginal_likelihood_value_ is None
    close(model.log_marginal_likelihood(), other.log_marginal_likelihood())


@pytest.mark.parametrize("target", ["one", "several"])
def test_on_disk(target: str, tmp_path: Any) -> None:
    y = TARGETS[target]
    model = ours(alpha=0.1, solver=OutOfCoreCholesky(tmp_path, block=8)).fit(X, y)
    other = theirs("nngp", 0.1).fit(X, y)
    check_equal(model, other)
    close(model.log_marginal_likelihood(), other.log_marginal_likelihood())


def test_with_every_row_a_centre() -> None:
    """Normal equations square the condition."""
    model = ours(alpha=0.1, solver=Restricted(centres=N)).fit(X, Y)
    for found, expected in zip(
        model.predict(NEW, return_std=True),
        theirs("nngp", 0.1).fit(X, Y).predict(NEW, return_std=True),
        strict=True,
    ):
        close(found, expected, 1e-7)


def test_the_mean_of_targets_is_the_mean_of_the_prior() -> None:
    model = ours(alpha=0.1, fit_intercept=True).fit(X, Y)
    other = theirs("nngp", 0.1).fit(X, Y - Y.mean(axis=0))
    mean, std = model.predict(NEW, return_std=True)
    close(mean, other.predict(NEW) + Y.mean(axis=0))
    close(std, other.predict(NEW, return_std=True)[1])
    close(model.log_marginal_likelihood(), other.log_marginal_likelihood())


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_normalized_targets(size: float) -> None:
    """One deviation for all targets: that of scikit-learn where there is one target."""
    y = size * (Y[:, 0] + 5)
    model = ours(alpha=0.1, normalize_y=True, fit_intercept=True).fit(X, y)
    kernel = NetworkKernel(NET, NET.W_std, NET.b_std, "nngp")
    other = Sklearn(kernel, alpha=0.1, optimizer=None, normalize_y=True).fit(X, y)
    for name in ("return_std", "return_cov"):
        for found, expected in zip(
            model.predict(NEW, **{name: True}), other.predict(NEW, **{name: True}), strict=True
        ):
            close(found / size, expected / size, 1e-8)
    close(model.log_marginal_likelihood(), other.log_marginal_likelihood())
    assert model.noise_ == pytest.approx(0.1 * np.var(y), rel=1e-12)
    close(model.y_train_ / size, y / size)
    drawn = model.sample_y(NEW, 4000, random_state=1, method="pathwise")
    mean, std = model.predict(NEW, return_std=True)
    assert (np.abs(drawn.mean(axis=1) - mean) < 5 * std / 4000**0.5).all()
    assert (np.abs(drawn.std(axis=1) / std - 1) < 5 / 8000**0.5).all()


def test_relative_noise() -> None:
    unit = float(np.mean(diag(NET, X, kernel="nngp")))
    model = ours(alpha=0.01, alpha_scale="mean_diag").fit(X, Y)
    assert model.noise_ == pytest.approx(0.01 * unit, rel=1e-14)
    assert model.alpha_ == 0.01
    check_equal(model, theirs("nngp", 0.01 * unit).fit(X, Y))


def test_weights_are_levels_of_noise() -> None:
    weights = RNG.uniform(0.3, 3.0, N)
    model = ours(alpha=0.1).fit(X, Y, sample_weight=weights)
    other = theirs("nngp", 0.1 / weights).fit(X, Y)
    check_equal(model, other)
    # Levels are kept by their mean and the share of each row.
    levels = ours(alpha=0.1 / weights).fit(X, Y)
    assert levels.noise_ == pytest.approx(np.mean(0.1 / weights), rel=1e-14)
    check_equal(levels, other)
    # As numbers of rows, weights have more to say than as levels of noise.
    close(levels.log_marginal_likelihood(), other.log_marginal_likelihood())


@pytest.mark.parametrize("alpha_scale", ["absolute", "mean_diag"])
def test_a_row_of_weight_two_is_two_rows(alpha_scale: str) -> None:
    counts = np.arange(N) % 3
    settings = {"alpha": 0.1, "alpha_scale": alpha_scale, "fit_intercept": True}
    weighted = ours(**settings).fit(X, Y, sample_weight=counts)
    repeated = ours(**settings).fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0))
    for found, expected in zip(
        weighted.predict(NEW, return_std=True), repeated.predict(NEW, return_std=True), strict=True
    ):
        close(found, expected)
    close(weighted.log_marginal_likelihood(), repeated.log_marginal_likelihood())
    (_, found), (_, expected) = (
        model.log_marginal_likelihood(model.theta_, eval_gradient=True)
        for model in (weighted, repeated)
    )
    # Differences of order four, of other matrices.
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", ["nngp", "ntk"])
def test_the_prior(kernel: str) -> None:
    model = ours(kernel)
    mean, std = model.predict(NEW, return_std=True)
    assert (mean == 0).all()
    close(std, np.sqrt(diag(NET, NEW, kernel=kernel)), 1e-14)
    mean, cov = model.predict(NEW, return_cov=True)
    assert (mean == 0).all()
    close(cov, gram(NET, NEW, kernel=kernel), 1e-14)
    assert model.predict(NEW).shape == (M,)
    assert not hasattr(model, "n_features_in_")
    other = theirs(kernel, 0.1)
    close(std, other.predict(NEW, return_std=True)[1], 1e-12)
    assert model.sample_y(NEW, 3).shape == other.sample_y(NEW, 3).shape == (M, 3)


DRAWS = 2000


def check_moments(drawn: np.ndarray, mean: np.ndarray, cov: np.ndarray) -> None:
    """Of draws in columns, within five standard errors; seeds are fixed."""
    own = np.diag(cov)
    assert drawn.shape == (len(mean), DRAWS)
    assert (np.abs(drawn.mean(axis=1) - mean) <= 5 * np.sqrt(own / DRAWS)).all()
    moved = drawn - mean[:, None]
    error = np.sqrt((np.outer(own, own) + cov**2) / DRAWS)
    assert (np.abs(moved @ moved.T / DRAWS - cov) <= 5 * error).all()


@pytest.mark.parametrize("method", ["exact", "pathwise"])
def test_draws_from_the_prior(method: str) -> None:
    drawn = ours().sample_y(NEW, DRAWS, random_state=1, method=method)
    check_moments(drawn, np.zeros(M), gram(NET, NEW, kernel="nngp"))


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg", "weighted", "rows"])
@pytest.mark.parametrize("method", ["exact", "pathwise"])
def test_draws_from_the_posterior(method: str, solver: str) -> None:
    weights = np.linspace(0.5, 2.0, N) if solver == "weighted" else None
    alpha = LEVELS["rows" if solver == "rows" else "scalar"]
    model = ours(alpha=alpha, fit_intercept=True, solver=SOLVERS.get(solver, "auto"))
    model.fit(X, Y[:, 2], sample_weight=weights)
    drawn = model.sample_y(NEW, DRAWS, random_state=2, method=method)
    check_moments(drawn, *model.predict(NEW, return_cov=True))


@pytest.mark.parametrize("method", ["exact", "pathwise"])
def test_draws_of_several_targets(method: str) -> None:
    model = ours(alpha=0.1, fit_intercept=True).fit(X, Y)
    drawn = model.sample_y(NEW, DRAWS, random_state=3, method=method)
    mean, cov = model.predict(NEW, return_cov=True)
    assert drawn.shape == (M, 3, DRAWS)
    for target in range(3):
        check_moments(drawn[:, target], mean[:, target], cov[..., target])
    # Targets are independent of each other: what they share is chance, 1 over the root of draws.
    moved = (drawn - mean[..., None]) / np.sqrt(cov[0, 0, 0])
    assert abs(np.mean(moved[0, 0] * moved[0, 1])) < 5 / np.sqrt(DRAWS)


def test_draws_are_repeated_by_their_seed() -> None:
    model = ours(alpha=0.1).fit(X, Y)
    for method in ("exact", "pathwise"):
        first, again, other = (model.sample_y(NEW, 2, s, method=method) for s in (7, 7, 8))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)
    state = np.random.RandomState(7)
    assert np.array_equal(model.sample_y(NEW, 2, state), model.sample_y(NEW, 2, 7))
    assert not np.array_equal(model.sample_y(NEW, 2, state), model.sample_y(NEW, 2, 7))


def test_centres_alone_draw_exactly_only() -> None:
    model = ours(alpha=0.1, solver=Restricted(centres=10)).fit(X, Y)
    with pytest.raises(InvalidInputError, match="method='exact'"):
        model.sample_y(NEW, method="pathwise")
    with pytest.raises(InvalidInputError, match="keeps its centres only"):
        model.log_marginal_likelihood(model.theta_)
    assert model.sample_y(NEW, 2).shape == (M, 3, 2)


def test_a_covariance_too_large_for_memory() -> None:
    many = np.random.default_rng(0).standard_normal((2000, D))
    model = ours(alpha=0.1).fit(X, Y[:, 0])
    expected = model.predict(many, return_std=True)[1]
    small = model.set_params(max_memory="50MB")
    # 8 bytes for each of 2000^2 numbers.
    with pytest.raises(MemoryBudgetError, match=r"2000 rows takes 32 MB, .*ask for return_std"):
        small.predict(many, return_cov=True)
    close(small.predict(many, return_std=True)[1], expected, 1e-12)
    # Draws go another way.
    assert small.sample_y(many[:1500], method="pathwise").shape == (1500, 1)
    prior = ours(max_memory="50MB")
    with pytest.raises(MemoryBudgetError, match="ask for return_std"):
        prior.predict(many, return_cov=True)


@pytest.mark.parametrize("solver", ["cholesky", "banded", "eigh", "pcg", "restricted"])
def test_standard_deviations_in_tiles(solver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Restricted(centres=20) if solver == "restricted" else SOLVERS[solver]
    model = ours(alpha=0.1, solver=chosen).fit(X, Y)
    _, whole = model.predict(NEW, return_std=True)
    single = np.vstack([model.predict(row[None], return_std=True)[1] for row in NEW])
    close(single, whole, 1e-11)
    posterior = importlib.import_module("kernreg.estimators.posterior")
    monkeypatch.setattr(posterior, "PANEL_BYTES", 3 * 8 * N)
    monkeypatch.setattr(type(model._after().solver), "columns_at_once", lambda *_: 3, raising=False)
    close(model.predict(NEW, return_std=True)[1], whole, 1e-11)


@chosen_freely
def test_backends() -> None:
    found = [
        ours("ntk", alpha=0.1, backend=name).fit(X, Y).predict(NEW, return_std=True)
        for name in ("cpu", "reference")
    ]
    close(found[0][0], found[1][0])
    close(found[0][1], found[1][1])
