"""How sure the winner of a baseline is, and whether that is right."""

import csv
import json

import numpy as np
import pytest

from kernreg.baseline.results import write
from kernreg.baseline.uncertainty import (
    LEVELS,
    Intervals,
    Probabilities,
    calibration_error,
    reliability,
    uncertainty,
)


def test_intervals_of_the_winner(regression, tmp_path):
    (fold,) = regression.folds
    found = fold.uncertainty
    assert isinstance(found, Intervals)
    X = regression.data.X[fold.test]
    lower, upper = fold.model.interval(X, 0.9)
    np.testing.assert_array_equal(found.lower, lower)
    np.testing.assert_array_equal(found.upper, upper)
    assert found.covered == np.mean((lower <= fold.truth) & (fold.truth <= upper))
    # 32 rows left out tell no more than 31/33.
    assert list(found.shares) == [level for level in LEVELS if level <= 32 / 33]
    assert list(found.shares.values()) == sorted(found.shares.values())
    write(regression, tmp_path, "")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["upper"]) for row in rows] == upper.tolist()
    stored = json.loads((tmp_path / "results.json").read_text())["folds"][0]["uncertainty"]
    assert stored["covered"]["0.9"] == found.covered
    assert stored["mean_width"] == pytest.approx(np.mean(upper - lower))


def test_probabilities_of_the_winner(classification, tmp_path):
    fold = classification.folds[0]
    found = fold.uncertainty
    assert isinstance(found, Probabilities)
    np.testing.assert_allclose(found.values.sum(axis=1), 1.0)
    said = np.array(found.labels)[found.values.argmax(axis=1)]
    np.testing.assert_array_equal(said, fold.predicted)
    place = [found.labels.index(str(label)) for label in fold.truth]
    expected = -np.mean(np.log(found.values[np.arange(len(place)), place]))
    assert found.log_loss == pytest.approx(expected, rel=1e-12)
    write(classification, tmp_path, "")
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [f"probability_{label}" for label in found.labels]
    np.testing.assert_array_equal([[float(r[n]) for n in names] for r in rows], found.values)


class Told:
    """A model that says what it is told to."""

    task = "classification"

    def __init__(self, classes, values):
        self.classes_, self.values = np.array(classes), np.array(values)
        self.X_fit_ = np.zeros((9, 1))
        self.estimator = self

    def probabilities(self, X):
        return tuple(map(str, self.classes_)), self.values


def test_a_label_that_no_training_row_has():
    model = Told(["a", "c"], [[0.8, 0.2], [0.5, 0.5]])
    found = uncertainty(model, np.zeros((2, 1)), np.array(["a", "b"]))
    assert found.right.tolist() == [True, False]
    assert found.log_loss == pytest.approx(-(np.log(0.8) + np.log(0.1)) / 2)


def test_too_few_rows_give_no_intervals():
    class Short:
        task = "regression"
        X_fit_ = np.zeros((8, 1))

    model = Short()
    model.estimator = model
    assert uncertainty(model, np.zeros((1, 1)), np.zeros(1)) is None


def test_calibration_error():
    # One bin of confidence 0.95 with 4 of 5 right, one of 0.5 with all right.
    confidence = np.array([0.95] * 5 + [0.5] * 5)
    right = np.array([True] * 4 + [False] + [True] * 5)
    assert calibration_error(confidence, right) == pytest.approx((0.15 + 0.5) / 2)
    said, found, counts = reliability(confidence, right)
    assert (said, found, counts) == ([0.5, pytest.approx(0.95)], [1.0, 0.8], [5, 5])
    assert calibration_error(np.ones(3), np.ones(3, dtype=bool)) == 0
