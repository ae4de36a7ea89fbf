"""Whether error bars and probabilities hold on real data.

``python -m benchmarks.calibration regression`` fits Gaussian processes, before and after tuning, to
the regression sets with at most 6,000 rows: share of the test rows within 90 % intervals, and log
density. ``classification`` compares probabilities of KernelClassifier with those of scikit-learn's
CalibratedClassifierCV around the same model. Columns are scaled on the training rows, the splits
are the first ``--folds`` of the data. Adds its table to ``results/calibration.json``. Data: see
:func:`benchmarks.problems.data_dir`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from sklearn.calibration import CalibratedClassifierCV
from sklearn.preprocessing import StandardScaler

from benchmarks.problems import data_dir
from kernreg import GaussianProcessRegressor, KernelClassifier
from kernreg.baseline.uncertainty import calibration_error

RESULTS = Path(__file__).parent / "results" / "calibration.json"
MOST_ROWS = 6000
# Not those on which the calibration was chosen.
CLASSES = (
    "bank",
    "blood",
    "car",
    "contrac",
    "energy-y1",
    "ionosphere",
    "pima",
    "statlog-vehicle",
    "waveform",
    "wine-quality-red",
)


def scaled(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of mean 0 and variance 1 on the training rows."""
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def intervals(model: GaussianProcessRegressor, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Shares within 90 % intervals of both kinds, log density, R2."""
    mean, std = model.predict(X, return_std=True)
    found = {}
    for method in ("calibrated", "gaussian"):
        lower, upper = model.predict_interval(X, 0.9, method=method)
        found[method] = float(np.mean((lower <= y) & (y <= upper)))
    spread = np.sqrt(std**2 + model.noise_)
    density = float(np.mean(scipy.stats.norm.logpdf(y, mean, spread)))
    return found | {"log_density": density, "R2": float(1 - np.mean((y - mean) ** 2) / y.var())}


def regression(name: str, fold: int) -> dict[str, Any]:
    """A row of the table for one set and fold."""
    with np.load(data_dir() / "uci_regression" / f"{name}.npz") as data:
        X, y, test = data["X"], data["y"], data["test_mask"][:, fold] == 1
    train, new = scaled(X[~test], X[test])
    center, size = y[~test].mean(), y[~test].std()
    seen, truth = (y[~test] - center) / size, (y[test] - center) / size
    row: dict[str, Any] = {"rows": len(train), "test_rows": len(new)}
    for label, optimizer in (("untuned", None), ("tuned", "fmin_l_bfgs_b")):
        started = time.perf_counter()
        model = GaussianProcessRegressor(optimizer=optimizer).fit(train, seen)
        row[label] = intervals(model, new, truth)
        row[label]["seconds"] = time.perf_counter() - started
    return row


def probabilities(values: np.ndarray, classes: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Log-loss and expected calibration error."""
    said = values[np.arange(len(truth)), np.searchsorted(classes, truth)]
    right = classes[values.argmax(axis=1)] == truth
    return {
        "log_loss": -float(np.mean(np.log(np.maximum(said, 1e-15)))),
        "calibration_error": calibration_error(values.max(axis=1), right),
    }


def classification(name: str, fold: int) -> dict[str, Any]:
    """A row of the table for one set and fold."""
    with np.load(data_dir() / "uci_classification" / f"{name}.npz") as data:
        kept = data["is_test"] == 0
        X, y = data["X"][kept], data["y"][kept]
        rows, test = data[f"fold{fold}_train"], data[f"fold{fold}_test"]
    train, new = scaled(X[rows], X[test])
    row: dict[str, Any] = {"rows": len(rows), "test_rows": len(test)}
    for label, model in (
        ("kernreg", KernelClassifier()),
        # Five models, and one whose decision values were learned from by five others.
        ("CalibratedClassifierCV", CalibratedClassifierCV(KernelClassifier(), cv=5)),
        ("one model", CalibratedClassifierCV(KernelClassifier(), cv=5, ensemble=False)),
    ):
        started = time.perf_counter()
        model.fit(train, y[rows])
        seconds = time.perf_counter() - started
        row[label] = probabilities(model.predict_proba(new), model.classes_, y[test])
        row[label]["seconds"] = seconds
    return row


def small_sets() -> list[str]:
    """Regression sets with few enough rows."""
    found = []
    for path in sorted((data_dir() / "uci_regression").glob("*.npz")):
        with np.load(path) as data:
            if len(data["y"]) <= MOST_ROWS:
                found.append(path.stem)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["regression", "classification"])
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--only", nargs="*")
    arguments = parser.parse_args()
    measure = {"regression": regression, "classification": classification}[arguments.task]
    names = arguments.only or (small_sets() if arguments.task == "regression" else CLASSES)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    table = results.setdefault(arguments.task, {})
    for name in names:
        for fold in range(arguments.folds):
            row = measure(name, fold) | {"cpus": os.cpu_count()}
            table[f"{name} fold {fold}"] = row
            print(name, fold, json.dumps(row), flush=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
