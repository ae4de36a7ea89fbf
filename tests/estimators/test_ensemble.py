"""EnsembleRegressor beside simulations with its kernel matrices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.linalg

from kernreg import EnsembleRegressor, GaussianProcessRegressor, gram, nn
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.theory.training import LOSSES

N, M = 12, 5
NET = nn.mlp(depth=2, b_std=0.3)
RNG = np.random.default_rng(6)
X, NEW = RNG.standard_normal((N, 3)), RNG.standard_normal((M, 3))
Y = np.column_stack([np.sin(X[:, 0]), 1 + X[:, 1] * X[:, 2]])
WEIGHTS = RNG.uniform(0.3, 3.0, N)
EVERY = np.vstack([X, NEW])


def kernels(train: str) -> tuple[np.ndarray, np.ndarray]:
    """Those that training follows and starts from, on all rows."""
    return gram(NET, EVERY, kernel=train), gram(NET, EVERY, kernel="nngp")


def response(train: str, time: float, model: EnsembleRegressor, weights: Any = None) -> np.ndarray:
    """How the outputs of all rows answer to targets, for networks that start from 0.

    Coefficients c of ``T(x, X) c`` follow ``c' = rate W (y - T c) - rate ridge c``.
    """
    T, _ = kernels(train)
    w = np.ones(N) if weights is None else weights
    ridge = model.alpha
    if model.alpha_scale == "mean_diag":
        ridge *= np.average(T.diagonal()[:N], weights=w)
    total = w.sum() if model.reduction == "mean" else 1.0
    rate, momentum = model.learning_rate / total, model.momentum
    curvature = w[:, None] * T[:N, :N] + ridge * np.eye(N)
    if model.steps is not None:
        c, move = np.zeros((N, N)), np.zeros((N, N))
        for _ in range(int(time)):
            move = momentum * move + rate * (np.diag(w) - curvature @ c)
            c = c + move
        return T[:, :N] @ c
    eye, none = np.eye(N), np.zeros((N, N))
    slope = np.block([[-rate * curvature, rate * np.diag(w)], [none, none]])
    if momentum:
        slope = np.block(
            [
                [none, eye, none],
                [-rate * curvature, (momentum - 1) * eye, rate * np.diag(w)],
                [none, none, none],
            ]
        )
    return T[:, :N] @ scipy.linalg.expm(time * slope)[:N, -N:]


def covariance(train: str, moved: np.ndarray, noise: float = 0.0, weights: Any = 1.0) -> np.ndarray:
    """Of networks that start from the NNGP, as the response leaves them."""
    _, K = kernels(train)
    left = np.eye(N + M) - np.hstack([moved, np.zeros((N + M, M))])
    return left @ K @ left.T + moved @ np.diag(noise / (weights * np.ones(N))) @ moved.T


SETTINGS: dict[str, dict[str, Any]] = {
    "flow": {"time": 30.0},
    "sum": {"time": 3.0, "reduction": "sum"},
    "rate": {"time": 7.0, "learning_rate": 3.0},
    "decay": {"time": 30.0, "alpha": 0.05},
    "absolute decay": {"time": 30.0, "alpha": 0.5, "alpha_scale": "absolute"},
    "momentum": {"time": 12.0, "momentum": 0.8},
    "momentum, decay": {"time": 12.0, "momentum": 0.5, "alpha": 0.1},
    "steps": {"steps": 40},
    "momentum, steps": {"steps": 40, "momentum": 0.7, "alpha": 0.02},
}
# The exponential of a matrix of norm 100 is good to some 1e-13.
TOL = 1e-10


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("solver", ["eigh", "krylov"])
@pytest.mark.parametrize("train", ["ntk", "nngp"])
@pytest.mark.parametrize("case", SETTINGS)
def test_is_a_simulation(case: str, train: str, solver: str, weighted: bool) -> None:
    weights = WEIGHTS if weighted else None
    model = EnsembleRegressor(NET, train, solver=solver, **SETTINGS[case])
    if model.steps is not None:
        model.set_params(learning_rate=0.4)
    model.fit(X, Y[:, 0], sample_weight=weights)
    time = model.steps if model.steps is not None else model.time
    moved = response(train, time, model, weights)
    spread = covariance(train, moved)
    # Krylov spaces of twelve rows are whole after twelve products.
    mean, std = model.predict(EVERY, return_std=True)
    np.testing.assert_allclose(mean, moved @ Y[:, 0], rtol=0, atol=TOL)
    np.testing.assert_allclose(std**2, spread.diagonal(), rtol=0, atol=TOL)
    mean, cov = model.predict(EVERY, return_cov=True)
    np.testing.assert_allclose(mean, moved @ Y[:, 0], rtol=0, atol=TOL)
    np.testing.assert_allclose(cov, spread, rtol=0, atol=TOL)


def test_noise_in_targets() -> None:
    model = EnsembleRegressor(NET, time=20.0, alpha=0.3, alpha_scale="absolute", target_noise=True)
    model.fit(X, Y[:, 0], sample_weight=WEIGHTS)
    moved = response("ntk", 20.0, model, WEIGHTS)
    expected = covariance("ntk", moved, 0.3, WEIGHTS)
    np.testing.assert_allclose(model.predict(EVERY, return_cov=True)[1], expected, atol=TOL)


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("solver", ["eigh", "krylov"])
def test_without_end_it_is_the_posterior(solver: str, weighted: bool) -> None:
    settings = {"alpha": 0.1, "fit_intercept": False}
    weights = WEIGHTS if weighted else None
    exact = GaussianProcessRegressor(NET, optimizer=None, **settings)
    exact.fit(X, Y, sample_weight=weights)
    members = EnsembleRegressor(NET, "nngp", target_noise=True, solver=solver, **settings)
    members.fit(X, Y, sample_weight=weights)
    for name in ("return_std", "return_cov"):
        for found, expected in zip(
            members.predict(NEW, **{name: True}), exact.predict(NEW, **{name: True}), strict=True
        ):
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(members.dual_coef_, exact.dual_coef_, rtol=0, atol=1e-9)


@pytest.mark.parametrize("solver", ["eigh", "krylov"])
@pytest.mark.parametrize(
    "settings", [{}, {"steps": 9, "learning_rate": 0.5}], ids=["flow", "steps"]
)
def test_a_trajectory_is_its_times(settings: Any, solver: str) -> None:
    model = EnsembleRegressor(NET, solver=solver, alpha=0.01, **settings).fit(X, Y)
    times = [0, 1, 50, 7, np.inf]
    for name, last in (("return_std", (M, 2)), ("return_cov", (M, M, 2))):
        mean, spread = model.predict(NEW, time=times, **{name: True})
        assert mean.shape == (5, M, 2)
        assert spread.shape == (5, *last)
        for index, time in enumerate(times):
            alone = model.predict(NEW, time=time, **{name: True})
            np.testing.assert_allclose(mean[index], alone[0], rtol=0, atol=1e-12)
            np.testing.assert_allclose(spread[index], alone[1], rtol=0, atol=1e-12)
    assert np.array_equal(model.predict(NEW, time=times), mean)
    own = model.predict(NEW, time=settings.get("steps", np.inf))
    np.testing.assert_allclose(model.predict(NEW), own, rtol=0, atol=1e-13)


def test_before_training_it_is_the_prior() -> None:
    mean, cov = EnsembleRegressor(NET).fit(X, Y[:, 0]).predict(NEW, time=0, return_cov=True)
    assert (mean == 0).all()
    np.testing.assert_allclose(cov, gram(NET, NEW, kernel="nngp"), rtol=1e-13)
    centred = EnsembleRegressor(NET, fit_intercept=True).fit(X, Y)
    np.testing.assert_allclose(centred.predict(NEW, time=0), np.tile(Y.mean(axis=0), (M, 1)))


def test_the_mean_of_targets_is_taken_off_before() -> None:
    centred = EnsembleRegressor(NET, time=5.0, fit_intercept=True)
    centred.fit(X, Y, sample_weight=WEIGHTS)
    mean = np.average(Y, axis=0, weights=WEIGHTS)
    plain = EnsembleRegressor(NET, time=10.0).fit(X, Y - mean, sample_weight=WEIGHTS)
    # The loss is a mean over both targets, too.
    np.testing.assert_allclose(
        centred.predict(NEW), plain.predict(NEW, time=5.0) + mean, rtol=0, atol=1e-12
    )
    one = EnsembleRegressor(NET).fit(X, Y[:, 0]).predict(NEW, time=2.5)
    both = EnsembleRegressor(NET).fit(X, Y).predict(NEW, time=5.0)
    np.testing.assert_allclose(both[:, 0], one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("solver", ["eigh", "krylov"])
def test_a_row_of_weight_two_is_two_rows(solver: str) -> None:
    counts = 1 + np.arange(N) % 3
    settings = {"alpha": 0.01, "time": 20.0, "solver": solver}
    weighted = EnsembleRegressor(NET, **settings).fit(X, Y, sample_weight=counts)
    repeated = EnsembleRegressor(NET, **settings)
    repeated.fit(np.repeat(X, counts, axis=0), np.repeat(Y, counts, axis=0))
    for found, expected in zip(
        weighted.predict(NEW, return_std=True), repeated.predict(NEW, return_std=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)
    assert weighted.largest_learning_rate_ == pytest.approx(repeated.largest_learning_rate_)


@pytest.mark.parametrize("momentum", [0.0, 0.6])
@pytest.mark.parametrize("solver", ["eigh", "krylov"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_largest_learning_rate(solver: str, momentum: float, reduction: str) -> None:
    settings = {"momentum": momentum, "reduction": reduction, "alpha": 0.1, "steps": 400}
    model = EnsembleRegressor(NET, solver=solver, alpha_scale="absolute", **settings)
    limit = model.set_params(learning_rate=1e-9).fit(X, Y[:, 0]).largest_learning_rate_
    top = np.linalg.eigvalsh(gram(NET, X, kernel="ntk"))[-1] + 0.1
    expected = 2 * (1 + momentum) / top * (N if reduction == "mean" else 1)
    assert limit == pytest.approx(expected, rel=1e-9)
    below = model.set_params(learning_rate=0.99 * limit).fit(X, Y[:, 0])
    assert np.abs(below.predict(X)).max() < 10 * np.abs(Y).max()
    model.set_params(learning_rate=1.05 * limit)
    with pytest.warns(UserWarning, match=f"diverge: the largest that do not have {limit:.6g}"):
        model.fit(X, Y[:, 0])
    # Each step grows the largest mode: to 1.1^400 without momentum, 1.06^400 with it.
    assert np.abs(model.predict(X[:1], time=0)) == 0
    with pytest.raises(InvalidInputError, match=r"diverge.*at the end outputs are infinite"):
        model.predict(X, time=np.inf)


@pytest.mark.filterwarnings("ignore:steps of learning_rate")
def test_outputs_beyond_what_numbers_can_hold() -> None:
    model = EnsembleRegressor(NET, steps=5000, learning_rate=1e4)
    with pytest.raises(InvalidInputError, match=r"leave the range of numbers.*lower learning_rate"):
        model.fit(X, Y)


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "huber"])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_steps_on_other_losses(loss: str, momentum: float) -> None:
    targets = {"cross_entropy": np.eye(3)[np.arange(N) % 3], "logistic": np.sign(Y), "huber": 3 * Y}
    y, T = targets[loss], kernels("ntk")[0]
    settings = {"loss": loss, "momentum": momentum, "alpha": 0.05, "alpha_scale": "absolute"}
    model = EnsembleRegressor(NET, steps=25, learning_rate=0.3, **settings)
    model.fit(X, y, sample_weight=WEIGHTS)
    c, move = np.zeros(y.shape), np.zeros(y.shape)
    rate = 0.3 / (WEIGHTS.sum() * y.shape[1])
    for _ in range(25):
        slope = WEIGHTS[:, None] * LOSSES[loss](T[:N, :N] @ c, y) + 0.05 * c
        move = momentum * move - rate * slope
        c = c + move
    np.testing.assert_allclose(model.predict(NEW), T[N:, :N] @ c, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.predict(NEW, time=[25])[0], T[N:, :N] @ c, atol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "huber"])
def test_flow_on_other_losses(loss: str) -> None:
    """Small steps come near it: their error is a share of their size, halved by extrapolation."""
    y = {"cross_entropy": np.eye(3)[np.arange(N) % 3], "logistic": np.sign(Y), "huber": 3 * Y}[loss]
    flow = EnsembleRegressor(NET, loss=loss, time=8.0).fit(X, y).predict(NEW)
    steps = [
        EnsembleRegressor(NET, loss=loss, steps=count, learning_rate=8.0 / count)
        .fit(X, y)
        .predict(NEW)
        for count in (400, 800)
    ]
    near = np.abs(steps[1] - steps[0]).max()
    assert near < 0.01
    np.testing.assert_allclose(2 * steps[1] - steps[0], flow, rtol=0, atol=0.1 * near)


@pytest.mark.parametrize("settings", [{"time": 8.0}, {"steps": 20, "learning_rate": 0.5}])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_loss_of_the_user(momentum: float, settings: Any) -> None:
    """Squared error by its gradient is squared error, integrated to 1e-8."""
    common = {"momentum": momentum, "alpha": 0.02, **settings}
    model = EnsembleRegressor(NET, loss=np.subtract, **common).fit(X, Y, sample_weight=WEIGHTS)
    known = EnsembleRegressor(NET, **common).fit(X, Y, sample_weight=WEIGHTS)
    np.testing.assert_allclose(model.predict(NEW), known.predict(NEW), rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "logistic", "huber", np.subtract])
def test_other_losses_have_no_spread_and_no_end(loss: Any) -> None:
    y = np.eye(3)[np.arange(N) % 3]
    y = 2 * y - 1 if loss == "logistic" else y
    with pytest.raises(InvalidInputError, match="followed for a finite time: give time or steps"):
        EnsembleRegressor(NET, loss=loss).fit(X, y)
    model = EnsembleRegressor(NET, loss=loss, time=2.0).fit(X, y)
    for name in ("return_std", "return_cov"):
        with pytest.raises(InvalidInputError, match="known for loss='mse' only"):
            model.predict(NEW, **{name: True})
    assert model.sample_y(NEW, 2).shape == (M, 3, 2)
    with pytest.raises(InvalidInputError, match="finite time"):
        model.predict(NEW, time=[1.0, np.inf])
    with pytest.raises(InvalidInputError, match="target_noise is for loss='mse'"):
        EnsembleRegressor(NET, loss=loss, time=2.0, target_noise=True).fit(X, y)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"time": 1.0, "steps": 3}, "time is of gradient flow, steps are of gradient descent"),
        ({"time": -1.0}, "'time' parameter"),
        ({"time": np.nan}, "'time' parameter"),
        ({"steps": -1}, "'steps' parameter"),
        ({"steps": 1.5}, "'steps' parameter"),
        ({"learning_rate": 0.0}, "'learning_rate' parameter"),
        ({"momentum": 1.0}, "'momentum' parameter"),
        ({"alpha": -1.0}, "'alpha' parameter"),
        ({"loss": "hinge"}, "'loss' parameter"),
        ({"reduction": "median"}, "'reduction' parameter"),
        ({"train": "gauss"}, "'train' parameter"),
        ({"solver": "cholesky"}, "'solver' parameter"),
        ({"dtype": np.float32}, "expected dtype float64 or None, found float32"),
    ],
)
def test_settings_that_cannot_be(settings: Any, message: str) -> None:
    model = EnsembleRegressor(NET, **settings)
    with pytest.raises(ValueError, match=message):
        model.fit(X, Y)
    assert not hasattr(model, "dual_coef_")


@pytest.mark.parametrize("time", [-1, [1.0, -0.1], np.nan, [], [[1.0]]])
def test_times_that_cannot_be(time: Any) -> None:
    for settings in ({}, {"steps": 3, "learning_rate": 0.1}):
        model = EnsembleRegressor(NET, **settings).fit(X, Y)
        with pytest.raises(InvalidInputError, match=r"expected (times|steps) >= 0"):
            model.predict(NEW, time=time)
    with pytest.raises(InvalidInputError, match=r"expected whole numbers of steps, found 1\.5"):
        model.predict(NEW, time=1.5)
    with pytest.raises(InvalidInputError, match="ask for one of"):
        model.predict(NEW, return_std=True, return_cov=True)


@pytest.mark.parametrize("time", [0.0, 20.0, np.inf])
def test_draws(time: float) -> None:
    """In their moments, within five standard errors."""
    model = EnsembleRegressor(NET, alpha=0.05).fit(X, Y)
    drawn = model.sample_y(NEW, 3000, random_state=1, time=time)
    assert drawn.shape == (M, 2, 3000)
    mean, cov = model.predict(NEW, time=time, return_cov=True)
    for target in range(2):
        own, moved = cov[..., target], drawn[:, target] - mean[:, target, None]
        size = own.diagonal()
        assert (np.abs(moved.mean(axis=1)) <= 5 * np.sqrt(size / 3000)).all()
        error = np.sqrt((np.outer(size, size) + own**2) / 3000)
        assert (np.abs(moved @ moved.T / 3000 - own) <= 5 * error).all()
    one = EnsembleRegressor(NET, alpha=0.05).fit(X, Y[:, 0])
    assert one.sample_y(NEW, 4, time=time).shape == (M, 4)
    assert np.array_equal(one.sample_y(NEW, 4), one.sample_y(NEW, 4))


@pytest.mark.parametrize("noise", [False, True])
def test_draws_are_followed_through_training(noise: bool) -> None:
    """The same networks at every time: from the prior to the targets, as each is trained."""
    model = EnsembleRegressor(NET, alpha=0.05 * noise, target_noise=noise).fit(X, Y)
    times = [0.0, 3.0, 50.0, np.inf]
    paths = model.sample_y(np.vstack([NEW, X]), 5, time=times)
    assert paths.shape == (4, M + N, 2, 5)
    for index, time in enumerate(times):
        alone = model.sample_y(np.vstack([NEW, X]), 5, time=time)
        np.testing.assert_allclose(paths[index], alone, rtol=0, atol=1e-10)
    start, end = paths[0], paths[-1]
    moved = end - start
    # What a network learns is what its own distance from the targets is worth.
    gap = Y[:, :, None] - start[M:]
    train = model._fitted(X).to_dense()
    if not noise:
        expected = model._fitted(NEW, X).to_dense() @ np.linalg.solve(train, gap.reshape(N, -1))
        np.testing.assert_allclose(moved[:M].reshape(M, -1), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(end[M:], np.repeat(Y[:, :, None], 5, axis=2), atol=1e-6)
    else:
        assert np.abs(end[M:] - Y[:, :, None]).max() > 0.01


def test_draws_of_other_losses() -> None:
    """Squared error by its gradient has the same networks."""
    known = EnsembleRegressor(NET, alpha=0.02, time=6.0).fit(X, Y, sample_weight=WEIGHTS)
    model = EnsembleRegressor(NET, alpha=0.02, time=6.0, loss=np.subtract)
    model.fit(X, Y, sample_weight=WEIGHTS)
    expected, found = (m.sample_y(NEW, 3, time=[1.0, 6.0]) for m in (known, model))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_memory() -> None:
    rows = np.random.default_rng(0).standard_normal((300, 3))
    model = EnsembleRegressor(NET, time=5.0).fit(rows, rows[:, 0])
    assert model.plan_.solver == "eigh"
    many = np.random.default_rng(1).standard_normal((1500, 3))
    expected = model.predict(many, return_std=True)
    model.set_params(max_memory="50MB")
    with pytest.raises(MemoryBudgetError, match=r"covariance of 1500 rows takes 18 MB"):
        model.predict(many, return_cov=True)
    for found, known in zip(model.predict(many, return_std=True), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=0, atol=1e-12)
    single = np.stack([model.predict(row[None], return_std=True) for row in many[:20]])
    np.testing.assert_allclose(single[..., 0].T, np.array(expected)[:, :20], rtol=0, atol=1e-11)
