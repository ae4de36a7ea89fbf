"""Models with error bars in files, pickles and the tools of scikit-learn."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kernreg import (
    EnsembleRegressor,
    GaussianProcessClassifier,
    GaussianProcessRegressor,
    KernelRegressor,
    load,
    nn,
)
from kernreg.exceptions import InvalidInputError, ModelFileError
from kernreg.operators.store import records
from kernreg.solvers import OutOfCoreCholesky, Restricted

NET = nn.mlp(depth=1, b_std=0.3)
RNG = np.random.default_rng(4)
X, NEW = RNG.standard_normal((25, 3)), RNG.standard_normal((6, 3))
Y = np.column_stack([np.sin(X[:, 0]), 5 + X[:, 1]])
WEIGHTS = RNG.uniform(0.3, 3.0, 25)
FIXED = {"optimizer": None, "alpha": 0.05}
MODELS = {
    "tuned": GaussianProcessRegressor(nn.Dense(1.2, 0.3)),
    "cholesky": GaussianProcessRegressor(NET, **FIXED),
    "eigh": GaussianProcessRegressor(NET, "ntk", solver="eigh", **FIXED),
    "pcg": GaussianProcessRegressor(NET, solver="pcg", **FIXED),
    "sketch": GaussianProcessRegressor(NET, solver="sketch", **FIXED),
    "restricted": GaussianProcessRegressor(NET, solver=Restricted(centres=10), **FIXED),
    "no intercept": GaussianProcessRegressor("mlp(depth=2)", fit_intercept=False, **FIXED),
    "ensemble": EnsembleRegressor(NET, alpha=0.01),
    "noisy ensemble": EnsembleRegressor(NET, "nngp", alpha=0.1, target_noise=True),
    "flow": EnsembleRegressor(NET, time=20.0, momentum=0.5, fit_intercept=True),
    "steps": EnsembleRegressor(NET, steps=20, learning_rate=0.3, reduction="sum", alpha=0.1),
    "krylov": EnsembleRegressor(NET, solver="krylov", time=20.0),
}
MODELS["steps"].set_params(learning_rate=0.005)


def answers(model: Any) -> list[np.ndarray]:
    found = [*model.predict(NEW, return_std=True), model.predict(NEW, return_cov=True)[1]]
    found.append(model.sample_y(NEW, 2, random_state=1))
    if isinstance(model, GaussianProcessRegressor):
        found += model.predict_interval(NEW, level=0.8)
        found.append(np.array(model.noise_))
        found.append(np.array(model.log_marginal_likelihood_value_, dtype=float))
        found.append(model.theta_)
    else:
        found.append(np.array(model.largest_learning_rate_))
        found.append(model.predict(NEW, time=[0.0, 3.0]))
    return found


@pytest.mark.parametrize("target", [Y, Y[:, 0], Y[:, :1]], ids=["several", "one", "column"])
@pytest.mark.parametrize("name", MODELS)
def test_say_the_same(name: str, target: np.ndarray, tmp_path: Any) -> None:
    model = clone(MODELS[name]).fit(X, target, sample_weight=WEIGHTS)
    expected = answers(model)
    model.save(tmp_path / "model")
    texts, _, _ = records.read_record(tmp_path / "model")
    assert json.loads(texts["kernreg"])["class"] == type(model).__name__
    again = load(tmp_path / "model")
    assert type(again) is type(model)
    # Whether answered before or behind the copy: what is made again is made of the same numbers.
    for other in (
        again,
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(again)),
    ):
        for found, known in zip(answers(other), expected, strict=True):
            assert found.shape == known.shape
            np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-12)
    again.save(tmp_path / "again")
    assert np.array_equal(load(tmp_path / "again").predict(NEW), model.predict(NEW))


@pytest.mark.parametrize("name", MODELS)
def test_means_are_the_same_bit_for_bit(name: str, tmp_path: Any) -> None:
    model = clone(MODELS[name]).fit(X, Y)
    model.save(tmp_path / "model")
    assert np.array_equal(load(tmp_path / "model").predict(NEW), model.predict(NEW))


def test_a_factor_on_disk_is_made_again(tmp_path: Any) -> None:
    solver = OutOfCoreCholesky(tmp_path / "factor", block=8)
    (tmp_path / "factor").mkdir()
    model = GaussianProcessRegressor(NET, solver=solver, **FIXED).fit(X, Y)
    expected = answers(model)
    model.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        for found, known in zip(answers(other), expected, strict=True):
            np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-12)


def test_noise_for_each_row(tmp_path: Any) -> None:
    model = GaussianProcessRegressor(NET, alpha=0.1 / WEIGHTS, optimizer=None).fit(X, Y)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    for found, known in zip(answers(again), answers(model), strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-12, atol=1e-12)
    assert np.array_equal(again.alpha, model.alpha)
    again.fit(X, Y)
    assert np.array_equal(again.predict(NEW), model.predict(NEW))


@pytest.mark.parametrize(
    "model",
    [
        GaussianProcessRegressor(NET, optimizer=lambda f, x, bounds: (x, f(x)[0])),
        EnsembleRegressor(NET, loss=lambda f, y: f - y, time=1.0),
    ],
    ids=["optimizer", "loss"],
)
def test_what_a_file_cannot_hold(model: Any, tmp_path: Any) -> None:
    model.fit(X, Y)
    with pytest.raises(InvalidInputError, match=r"cannot be (written to a model file|saved)"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_files_of_another_class(tmp_path: Any) -> None:
    GaussianProcessRegressor(NET, optimizer=None).fit(X, Y).save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="holds a GaussianProcessRegressor, not a Ensemble"):
        EnsembleRegressor.load(tmp_path / "model")
    assert isinstance(GaussianProcessRegressor.load(tmp_path / "model"), GaussianProcessRegressor)


@pytest.mark.parametrize("name", MODELS)
def test_parameters(name: str) -> None:
    model = MODELS[name]
    assert clone(model).get_params() == model.get_params()
    changed = clone(model).set_params(network="mlp(depth=2)", network__b_std=0.7, alpha=0.2)
    assert changed.network == nn.mlp(depth=2, b_std=0.7)
    assert changed.alpha == 0.2
    assert repr(changed).startswith(type(model).__name__)
    fitted = clone(model).fit(X, Y)
    # A fit changes no parameter.
    assert {k: str(v) for k, v in fitted.get_params().items()} == {
        k: str(v) for k, v in model.get_params().items()
    }


@pytest.mark.parametrize(
    ("model", "grid"),
    [
        (GaussianProcessRegressor(NET, optimizer=None), {"alpha": [1e-4, 0.1, 10.0]}),
        (EnsembleRegressor(NET), {"time": [0.01, 10.0, 1e3], "alpha": [0.0, 0.1]}),
        (KernelRegressor(NET, alpha=0.1), {"kernel": ["nngp", "ntk"]}),
    ],
)
def test_a_grid_of_a_pipeline(model: Any, grid: Any) -> None:
    name = type(model).__name__.lower()
    named = {f"{name}__{key}": values for key, values in grid.items()}
    pipeline = make_pipeline(StandardScaler(), model)
    search = GridSearchCV(pipeline, named, cv=3).fit(10 * X + 3, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    scaler = StandardScaler().fit(10 * X + 3)
    last = clone(search.best_estimator_[-1]).fit(scaler.transform(10 * X + 3), Y)
    found = search.best_estimator_
    np.testing.assert_allclose(
        found.predict(10 * NEW + 3), last.predict(scaler.transform(10 * NEW + 3))
    )
    if not isinstance(model, KernelRegressor):
        mean, std = found.predict(10 * NEW + 3, return_std=True)
        assert mean.shape == std.shape == (6, 2)
    assert cross_val_predict(pipeline, X, Y, cv=3).shape == Y.shape


@pytest.mark.parametrize("name", ["tuned", "ensemble"])
def test_tables(name: str) -> None:
    table, new = (pd.DataFrame(rows, columns=["u", "v", "w"]) for rows in (X, NEW))
    model = clone(MODELS[name]).fit(table, pd.DataFrame(Y, columns=["a", "b"]))
    plain = clone(MODELS[name]).fit(X, Y)
    assert model.feature_names_in_.tolist() == ["u", "v", "w"]
    for how in ({"return_std": True}, {"return_cov": True}):
        for found, known in zip(model.predict(new, **how), plain.predict(NEW, **how), strict=True):
            assert np.array_equal(found, known)
    assert np.array_equal(model.sample_y(new), plain.sample_y(NEW))
    for call in (model.predict, model.sample_y, lambda X: model.predict(X, return_std=True)):
        with pytest.raises(ValueError, match="same order as they were in fit"):
            call(new[["w", "v", "u"]])


def test_a_classifier_in_a_file(tmp_path: Any) -> None:
    labels = np.array(["low", "high"])[(X[:, 0] > 0).astype(int)]
    model = GaussianProcessClassifier(NET).fit(X, labels)
    model.save(tmp_path / "model")
    for other in (load(tmp_path / "model"), pickle.loads(pickle.dumps(model))):
        np.testing.assert_allclose(other.predict_proba(NEW), model.predict_proba(NEW), rtol=1e-12)
        assert np.array_equal(other.predict(NEW), model.predict(NEW))
        assert other.log_marginal_likelihood() == model.log_marginal_likelihood()


def test_the_time_of_a_fit_is_not_that_of_a_prediction(tmp_path: Any) -> None:
    model = EnsembleRegressor(NET, time=5.0).fit(X, Y)
    before = model.predict(NEW)
    assert not np.allclose(model.predict(NEW, time=50.0), before)
    assert np.array_equal(model.predict(NEW), before)
