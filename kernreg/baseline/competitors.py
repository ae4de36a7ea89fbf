"""Models of other libraries that tables are usually given to, on the same rows."""

from __future__ import annotations

import importlib
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernreg import config
from kernreg.baseline.compare import Score, evaluate
from kernreg.baseline.scaling import Scaler
from kernreg.datasets import Dataset

__all__ = ["COMPETITORS", "Competitor", "available", "score_competitor"]

_HELD_OUT = 0.2

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Competitor:
    """A model of another library.

    Parameters
    ----------
    name : str
        How it is called in tables.
    package : str
        What must be installed.
    make : callable
        ``make(classify, seed, settings)`` gives an estimator as of scikit-learn.
    light : tuple of dict
        Options that a light search tries besides the library's own.
    most_rows : int
        Rows that it is fitted to at most, so that it takes minutes at most.
    """

    name: str
    package: str
    make: Callable[[bool, int, Options], Any]
    light: tuple[Options, ...] = ()
    most_rows: int = 100_000


class _XRFM:
    """xRFM behind the two methods that are used here; it wants rows held out and scaled ones."""

    def __init__(self, classify: bool, seed: int, settings: Options) -> None:
        self.classify, self.seed, self.settings = classify, seed, dict(settings)

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        import torch
        from xrfm import xRFM

        self.scaler = Scaler.fit(X, "standard")
        X = self.scaler.transform(X).astype(np.float32)
        if not self.classify:
            self.mean, self.size = float(y.mean()), float(y.std()) or 1.0
            y = ((y - self.mean) / self.size).astype(np.float32)[:, None]
        order = np.random.default_rng(self.seed).permutation(len(X))
        held = max(1, round(_HELD_OUT * len(X)))
        inside, outside = torch.from_numpy(order[held:]), torch.from_numpy(order[:held])
        rows, values = torch.from_numpy(X), torch.from_numpy(y)
        self.model = xRFM(
            tuning_metric="brier" if self.classify else "mse",
            device=torch.device("cpu"),
            random_state=self.seed,
            verbose=False,
            **self.settings,
        )
        self.model.fit(rows[inside], values[inside], rows[outside], values[outside])

    def predict(self, X: np.ndarray) -> np.ndarray:
        import torch

        rows = torch.from_numpy(self.scaler.transform(X).astype(np.float32))
        found = np.asarray(self.model.predict(rows)).reshape(len(X), -1)
        if self.classify:
            return found[:, 0] if found.shape[1] == 1 else found.argmax(axis=1)
        return np.asarray(found[:, 0] * self.size + self.mean)


def _maker(
    module: str, stem: str, common: Callable[[int, int], Options]
) -> Callable[[bool, int, Options], Any]:
    """Estimators named ``stemRegressor`` and ``stemClassifier``."""

    def make(classify: bool, seed: int, settings: Options) -> Any:
        name = f"{stem}{'Classifier' if classify else 'Regressor'}"
        kind = getattr(importlib.import_module(module), name)
        return kind(**common(seed, config.num_threads()), **settings)

    return make


COMPETITORS = (
    Competitor(
        "histogram gradient boosting",
        "sklearn",
        _maker("sklearn.ensemble", "HistGradientBoosting", lambda seed, _: {"random_state": seed}),
        (
            {"learning_rate": 0.05, "max_iter": 300},
            {"learning_rate": 0.05, "max_iter": 300, "max_leaf_nodes": 15},
            {"learning_rate": 0.05, "max_iter": 300, "min_samples_leaf": 5},
        ),
    ),
    Competitor(
        "random forest",
        "sklearn",
        _maker(
            "sklearn.ensemble",
            "RandomForest",
            lambda seed, threads: {"random_state": seed, "n_jobs": threads},
        ),
        ({"max_features": 1 / 3}, {"max_features": 0.7}, {"min_samples_leaf": 3}),
    ),
    Competitor(
        "XGBoost",
        "xgboost",
        _maker(
            "xgboost",
            "XGB",
            lambda seed, threads: {"random_state": seed, "n_jobs": threads, "verbosity": 0},
        ),
        (
            {"n_estimators": 500, "learning_rate": 0.05},
            {"n_estimators": 500, "learning_rate": 0.05, "max_depth": 4},
            {"n_estimators": 500, "learning_rate": 0.05, "subsample": 0.7, "colsample_bytree": 0.7},
        ),
    ),
    Competitor(
        "LightGBM",
        "lightgbm",
        _maker(
            "lightgbm",
            "LGBM",
            lambda seed, threads: {"random_state": seed, "n_jobs": threads, "verbosity": -1},
        ),
        (
            {"n_estimators": 500, "learning_rate": 0.05},
            {"n_estimators": 500, "learning_rate": 0.05, "num_leaves": 15},
            {"n_estimators": 500, "learning_rate": 0.05, "min_child_samples": 5},
        ),
    ),
    Competitor(
        "CatBoost",
        "catboost",
        _maker(
            "catboost",
            "CatBoost",
            lambda seed, threads: {
                "random_seed": seed,
                "thread_count": threads,
                "verbose": False,
                "allow_writing_files": False,
            },
        ),
        ({"depth": 4}, {"depth": 8}, {"l2_leaf_reg": 10.0}),
    ),
    Competitor("xRFM", "xrfm", _XRFM, most_rows=10_000),
)


def available() -> Iterator[Competitor]:
    """The competitors whose packages are installed.

    Examples
    --------
    >>> [competitor.name for competitor in available()][:2]
    ['histogram gradient boosting', 'random forest']
    """
    for competitor in COMPETITORS:
        if importlib.util.find_spec(competitor.package) is not None:
            yield competitor


def score_competitor(
    competitor: Competitor,
    data: Dataset,
    train: np.ndarray,
    test: np.ndarray,
    seed: int = 0,
    light: bool = False,
) -> Score:
    """Fit a competitor to the training rows and score it on the test rows.

    Parameters
    ----------
    competitor : Competitor
        Which.
    data : Dataset
        The data.
    train, test : ndarray of int
        Rows; of more training rows than the competitor takes some are chosen at random.
    seed : int
        Of the model and of choices of rows.
    light : bool
        Choose among its own settings and a few others by rows held out of the training rows;
        otherwise its own settings are taken.

    Returns
    -------
    Score
        NaN, with the reason in its description, if the library cannot take the data.
    """
    started = time.perf_counter()
    try:
        return _scored(competitor, data, train, test, seed, light)
    except Exception as error:  # whatever another library may raise
        reason = " ".join(str(error).split())[:90]
        seconds = time.perf_counter() - started
        said = f"failed: {type(error).__name__}: {reason}"
        rows = min(len(train), competitor.most_rows)
        return Score(competitor.name, said, rows, float("nan"), None, None, seconds)


def _scored(
    competitor: Competitor,
    data: Dataset,
    train: np.ndarray,
    test: np.ndarray,
    seed: int,
    light: bool,
) -> Score:
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    if len(train) > competitor.most_rows:
        train = np.sort(rng.choice(train, competitor.most_rows, replace=False))
    classify = data.classes is not None
    X, y = data.X[train], data.y[train]
    labels, codes = np.unique(y, return_inverse=True) if classify else (None, y)
    codes = codes.astype(np.int64 if classify else np.float64)

    def fitted(rows: np.ndarray, settings: Options) -> Any:
        model = competitor.make(classify, seed, settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X[rows], codes[rows])
        return model

    def predict(model: Any, Z: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = np.asarray(model.predict(Z)).reshape(len(Z))
        return found if labels is None else labels[found.astype(np.int64)]

    settings: Options = {}
    held_out = None
    if light and competitor.light and len(train) >= 10:
        order = rng.permutation(len(train))
        held = max(1, round(_HELD_OUT * len(train)))
        inside, outside = order[held:], order[:held]
        if not classify or len(np.unique(codes[inside])) == len(np.unique(codes)):
            choices = ({}, *competitor.light)
            scores = [
                evaluate(data, y[outside], predict(fitted(inside, choice), X[outside]))[0]
                for choice in choices
            ]
            best = int(np.argmax(scores))
            settings, held_out = choices[best], scores[best]
    model = fitted(np.arange(len(train)), settings)
    test_score, rmse = evaluate(data, data.y[test], predict(model, data.X[test]))
    written = ", ".join(f"{name} = {value:.3g}" for name, value in settings.items())
    return Score(
        competitor.name,
        written or "its own settings",
        len(train),
        test_score,
        rmse,
        held_out,
        time.perf_counter() - started,
    )
