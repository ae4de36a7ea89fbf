"""What a baseline is compared with: a constant, linear ridge and kernels of distances."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from kernreg.baseline.scaling import Scaler
from kernreg.baseline.search import Trial, targets
from kernreg.datasets import Dataset

__all__ = ["Score", "constant", "evaluate", "radial_ridge", "ridge"]


@dataclass(frozen=True)
class Score:
    """How one model did on the test rows.

    Parameters
    ----------
    model : str
        Short name.
    description : str
        Its settings.
    rows : int
        Rows it was fitted to.
    test : float
        Test R2 or accuracy.
    rmse : float or None
        Test root mean squared error, for regression.
    leave_one_out : float or None
        Score in the search.
    seconds : float
        Time to fit and predict.
    """

    model: str
    description: str
    rows: int
    test: float
    rmse: float | None
    leave_one_out: float | None
    seconds: float


def evaluate(data: Dataset, truth: np.ndarray, predicted: np.ndarray) -> tuple[float, float | None]:
    """Accuracy and None, or R2 and root mean squared error."""
    if data.task == "classification":
        return float(np.mean(truth == predicted)), None
    squared = float(np.mean((truth - predicted) ** 2))
    variance = float(np.var(truth))
    return (1 - squared / variance if variance > 0 else float("nan")), squared**0.5


def constant(data: Dataset, train: np.ndarray, test: np.ndarray) -> Score:
    """The mean, or the most frequent class."""
    started = time.perf_counter()
    y = data.y[train]
    if data.task == "regression":
        value, name = y.mean(), "mean of the target"
    else:
        labels, counts = np.unique(y, return_counts=True)
        value, name = labels[counts.argmax()], f"always {labels[counts.argmax()]}"
    test_score, rmse = evaluate(data, data.y[test], np.full(len(test), value))
    return Score(
        "constant", name, len(train), test_score, rmse, None, time.perf_counter() - started
    )


def ridge(data: Dataset, train: np.ndarray, test: np.ndarray) -> Score:
    """Linear ridge on standardised features, its penalty by leave-one-out."""
    from sklearn.linear_model import RidgeCV

    started = time.perf_counter()
    scaler = Scaler.fit(data.X[train], "standard")
    X, Y = scaler.transform(data.X[train]), targets(data.y[train], data.classes)
    penalties = len(train) * np.logspace(-8, 2, 21)
    model = RidgeCV(alphas=penalties).fit(X, Y)
    predicted = _decode(data, model.predict(scaler.transform(data.X[test])).reshape(len(test), -1))
    test_score, rmse = evaluate(data, data.y[test], predicted)
    held_out = 1 + model.best_score_ / float(np.var(Y)) if data.task == "regression" else None
    return Score(
        "ridge",
        f"linear, alpha = {model.alpha_:.3g}",
        len(train),
        test_score,
        rmse,
        held_out,
        time.perf_counter() - started,
    )


def radial_ridge(
    data: Dataset, train: np.ndarray, test: np.ndarray, trial: Trial, most_rows: int
) -> Score:
    """scikit-learn's KernelRidge with the kernel and ridge that leave-one-out chose.

    Parameters
    ----------
    data : Dataset
        The data.
    train, test : ndarray of int
        Rows.
    trial : Trial
        The chosen kernel of distances.
    most_rows : int
        Rows that fit in memory; more are thinned out evenly.
    """
    from sklearn.kernel_ridge import KernelRidge

    started = time.perf_counter()
    if len(train) > most_rows:
        train = train[np.linspace(0, len(train) - 1, most_rows).astype(int)]
    scaler = Scaler.fit(data.X[train], trial.candidate.scaling)
    X, Y = scaler.transform(data.X[train]), targets(data.y[train], data.classes)
    mean = Y.mean(axis=0)
    kernel = trial.candidate.of_distances
    model = KernelRidge(kernel="precomputed", alpha=trial.alpha).fit(kernel(X, X), Y - mean)
    parts = np.array_split(test, max(1, len(test) // 1000))
    decision = [model.predict(kernel(scaler.transform(data.X[part]), X)) + mean for part in parts]
    test_score, rmse = evaluate(data, data.y[test], _decode(data, np.concatenate(decision)))
    return Score(
        f"{trial.candidate.family} ridge",
        f"{trial.candidate.describe()}, alpha = {trial.alpha:.3g}",
        len(train),
        test_score,
        rmse,
        trial.score,
        time.perf_counter() - started,
    )


def _decode(data: Dataset, decision: np.ndarray) -> np.ndarray:
    if data.classes is None:
        return decision[:, 0]
    if len(data.classes) == 2:
        return data.classes[(decision[:, 0] > 0).astype(int)]
    return data.classes[decision.argmax(axis=1)]
