"""Probabilities of classes, learned from rows that were left out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.calibration import CalibratedClassifierCV
from sklearn.metrics import log_loss

from kernreg import GaussianProcessClassifier, KernelClassifier, gram, load, nn
from kernreg.estimators.calibration import Calibration, calibrated
from kernreg.exceptions import InvalidInputError
from kernreg.operators.store import records
from kernreg.solvers import PCG, Restricted

NET = nn.mlp(depth=1, b_std=0.3)
MODELS = {
    "kernel": KernelClassifier(NET),
    "alphas": KernelClassifier(NET, alpha=[1e-3, 0.1]),
    "one alpha": KernelClassifier(NET, alpha=0.05, solver="cholesky"),
    "process": GaussianProcessClassifier(NET, optimizer=None, alpha=0.05),
}


def check(model: Any, rows: np.ndarray) -> np.ndarray:
    found = model.predict_proba(rows)
    assert found.shape == (len(rows), len(model.classes_))
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-14)
    assert ((found > 0) & (found < 1)).all()
    assert np.array_equal(model.predict_log_proba(rows), np.log(found))
    # Scores may be equal to the last digit, which the map need not keep apart.
    best = found[np.arange(len(rows)), np.searchsorted(model.classes_, model.predict(rows))]
    assert (best >= found.max(axis=1) * (1 - 1e-14)).all()
    return found


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25)
@given(
    classes=st.integers(2, 6),
    seed=st.integers(0, 10_000),
    weighted=st.booleans(),
    balanced=st.booleans(),
    size=st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_are_probabilities(
    name: str, classes: int, seed: int, weighted: bool, balanced: bool, size: float
) -> None:
    rng = np.random.default_rng(seed)
    X = size * rng.standard_normal((20, 2))
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 20 - classes)])
    weights = rng.uniform(0.1, 5.0, 20) if weighted else None
    model = MODELS[name]
    if isinstance(model, KernelClassifier):
        model = KernelClassifier(**model.get_params(deep=False))
        model.set_params(class_weight="balanced" if balanced else None)
    model.fit(X, labels, sample_weight=weights)
    check(model, np.vstack([X, size * rng.standard_normal((20, 2)), np.zeros((1, 2))]))


@pytest.mark.parametrize("name", MODELS)
def test_classes_that_are_far_apart(name: str) -> None:
    """Nothing is certain: of n rows, none says that something rarer than 1 / n cannot be."""
    labels = np.arange(60) % 3
    X = 5 * np.eye(3)[labels] + 0.1 * np.random.default_rng(0).standard_normal((60, 3))
    model = MODELS[name].fit(X, np.array(["c", "a", "b"])[labels])
    found = check(model, X)
    assert model.classes_.tolist() == ["a", "b", "c"]
    assert np.array_equal(model.classes_[found.argmax(axis=1)], np.array(["c", "a", "b"])[labels])
    assert found.max(axis=1).min() > 0.9
    assert found.min() >= 1 / 3 / 61 * (1 - 1e-12)


def truth(X: np.ndarray, classes: int) -> np.ndarray:
    logits = np.column_stack([2 * X[:, 0], -2 * X[:, 0], X[:, 1]])[:, :classes]
    shares = np.exp(logits)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def drawn(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, 2))
    edges = truth(X, classes).cumsum(axis=1)
    return X, (rng.random(n)[:, None] > edges[:, :-1]).sum(axis=1)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", MODELS)
def test_come_near_those_that_labels_are_drawn_from(name: str, classes: int) -> None:
    n = 500
    X, labels = drawn(n, classes, 1)
    model = MODELS[name].fit(X, labels)
    rows, seen = drawn(5000, classes, 2)
    found, known = check(model, rows), truth(rows, classes)
    # k numbers that are learned from n labels cost k / 2n of log-loss, and as much for the noise
    # that this has itself; those of the fit are counted by its trace, of the calibration three.
    K = gram(NET, X, kernel=model.kernel_)
    ridge = model.alpha_ * np.mean(K.diagonal()) * np.eye(n)
    size = (np.trace(np.linalg.solve(K + ridge, K)) + 3) * (classes - 1)
    best = float(-np.mean(np.sum(known * np.log(known), axis=1)))
    excess = float(-np.mean(np.sum(known * np.log(found), axis=1))) - best
    assert 0 <= excess < size / n
    # Log-loss exceeds its least by twice the squared error at least.
    assert np.mean((found - known) ** 2) < size / n / 2
    # Among rows with nearly equal probabilities, that share has the class; each fifth was learned
    # from 100 labels.
    for label in range(classes):
        order = np.argsort(found[:, label])
        for part in np.array_split(order, 5):
            error = np.sqrt(0.25 / 100 + 0.25 / len(part))
            share, said = np.mean(seen[part] == label), found[part, label].mean()
            assert abs(share - said) < 3 * error


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("cls", [KernelClassifier, GaussianProcessClassifier])
def test_are_better_than_scores(cls: Any, classes: int) -> None:
    """Of a model that follows every label, whose scores as estimates are far too sure."""
    X, labels = drawn(300, classes, 1)
    settings = {"alpha": 1e-4, "kernel": "ntk"}
    if cls is GaussianProcessClassifier:
        settings["optimizer"] = None
    model = cls(NET, **settings).fit(X, labels)
    rows, seen = drawn(3000, classes, 2)
    scores = model.decision_function(rows)
    raw = (1 + (np.column_stack([-scores, scores]) if classes == 2 else scores)) / 2
    raw = np.clip(raw, 1e-3, 1)
    raw /= raw.sum(axis=1, keepdims=True)
    assert log_loss(seen, check(model, rows)) < log_loss(seen, raw) - 0.05
    # The shares of the classes are what one can say without looking at a row.
    shares = np.tile(np.bincount(labels) / 300, (3000, 1))
    assert log_loss(seen, check(model, rows)) < log_loss(seen, shares)


def test_calibration_is_the_best_of_its_kind() -> None:
    """No change of one of its numbers lowers the log-loss of the rows left out by much."""
    X, labels = drawn(300, 2, 3)
    model = KernelClassifier(NET, alpha=[0.01, 0.1]).fit(X, labels)
    loo, found = model.loo_, model.calibration_
    assert found == calibrated(loo.predictions[:, None], loo.targets[:, None], loo.weights)

    def loss(calibration: Calibration) -> float:
        return float(log_loss(labels, calibration.probabilities(loo.predictions)))

    # What draws the numbers to usual ones is worth one row or so.
    for factor in (0.5, 0.8, 1.25, 2.0):
        assert loss(found) < loss(replace(found, power=factor * found.power)) + 3 / 300
        assert loss(found) < loss(replace(found, sharpness=factor * found.sharpness)) + 3 / 300
    usual = Calibration(float(np.exp(0.5)), float(np.exp(1.0)), 0.0, 300)
    assert loss(found) <= loss(usual) + 1e-9


def test_pure_noise_gives_shares() -> None:
    rng = np.random.default_rng(4)
    X, labels = rng.standard_normal((400, 2)), (rng.random(400) < 0.25).astype(int)
    found = KernelClassifier(NET).fit(X, labels).predict_proba(rng.standard_normal((200, 2)))
    # The share is known to 0.02, and each probability to some 0.1.
    assert abs(found[:, 1].mean() - 0.25) < 0.08
    assert found[:, 1].max() < 0.5


@pytest.mark.parametrize("solver", [PCG(), Restricted(centres=40), "sketch"])
def test_solvers_that_leave_nothing_out(solver: Any) -> None:
    X, labels = drawn(80, 3, 5)
    one = KernelClassifier(NET, alpha=0.05, solver=solver).fit(X, labels)
    other = KernelClassifier(NET, alpha=0.05, solver="cholesky").fit(X, labels)
    # Both leave rows out of the same matrix.
    assert one.calibration_ == other.calibration_
    check(one, X)


@pytest.mark.parametrize("name", MODELS)
def test_in_files(name: str, tmp_path: Any) -> None:
    X, labels = drawn(40, 3, 6)
    model = MODELS[name].fit(X, np.array(["x", "y", "z"])[labels])
    expected = model.predict_proba(X + 0.1)
    model.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.calibration_ == model.calibration_
    np.testing.assert_allclose(again.predict_proba(X + 0.1), expected, rtol=0, atol=1e-12)


def test_a_file_from_before_there_were_probabilities(tmp_path: Any) -> None:
    X, labels = drawn(40, 3, 6)
    path = tmp_path / "model"
    model = KernelClassifier(NET).fit(X, labels)
    model.save(path)
    texts, arrays, _ = records.read_record(path)
    header = json.loads(texts["kernreg"])
    del header["calibration"]
    records.write_record(path, arrays, texts | {"kernreg": json.dumps(header)})
    again = load(path)
    assert np.array_equal(again.predict(X), model.predict(X))
    for call in (again.predict_proba, again.predict_log_proba):
        with pytest.raises(InvalidInputError, match="gave no probabilities: fit it again"):
            call(X)
    again.save(path)
    assert load(path).calibration_ is None


def test_scikit_learn_can_calibrate_in_its_own_way() -> None:
    X, labels = drawn(60, 3, 7)
    found = CalibratedClassifierCV(KernelClassifier(NET, alpha=0.05), cv=3).fit(X, labels)
    assert found.predict_proba(X).shape == (60, 3)


@pytest.mark.parametrize("classes", [2, 3])
def test_few_rows(classes: int) -> None:
    X = np.eye(classes)
    found = check(KernelClassifier(NET).fit(X, np.arange(classes)), X)
    assert np.array_equal(found.argmax(axis=1), np.arange(classes))
