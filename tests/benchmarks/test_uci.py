"""``benchmarks.uci``: its statistics, its kernels, and that no test row has a say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.svm import SVC

from benchmarks import uci


def test_statistics_by_hand() -> None:
    """Shares of the best, row by row: 1, .95, .9; 1, 1, .875; 5/6, 1, .9; .95, 1, .75."""
    accuracies = np.array(
        [[1.0, 0.95, 0.90], [0.8, 0.8, 0.7], [0.5, 0.6, 0.54], [0.76, 0.80, 0.60]]
    )
    first, second, third = uci.statistics(accuracies)
    expected = {
        "average": (76.5, 78.75, 68.5),
        "p90": (75.0, 100.0, 50.0),
        "p95": (75.0, 100.0, 0.0),
        "pma": (100 * (1 + 1 + 5 / 6 + 0.95) / 4, 98.75, 85.625),
        "rank": ((1 + 1.5 + 3 + 2) / 4, (2 + 1.5 + 1 + 1) / 4, (3 + 3 + 2 + 3) / 4),
    }
    for name, values in expected.items():
        found = [getattr(s, name) for s in (first, second, third)]
        assert found == pytest.approx(values), name
    # Squares of the differences from .765: .055225, .001225, .070225, .000025.
    assert first.deviation == pytest.approx(100 * (0.1267 / 3) ** 0.5)


def test_kernels_are_the_recursion() -> None:
    """x . z, then ReLU layers whose weights have variance 1/width; rows of zeros stay zero."""
    X = np.random.default_rng(0).standard_normal((7, 3))
    X[2] = 0
    found = {tuple(settings.values()): K for settings, K in uci.ntk_kernels(X)}
    assert len(found) == 15
    for fixed in range(5):
        covariance = X @ X.T
        tangent = np.zeros_like(covariance)
        for depth in range(1, 6):
            if depth > 1:
                norms = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
                cosine = np.clip(covariance / np.where(norms > 0, norms, 1), -1, 1)
                angle = np.arccos(cosine)
                tangent = tangent * (np.pi - angle) / (2 * np.pi)
                covariance = norms * (np.sin(angle) + (np.pi - angle) * cosine) / (2 * np.pi)
            if depth > fixed:
                tangent = tangent + covariance
                # The recursion in cosines loses half the digits where rows are parallel.
                np.testing.assert_allclose(found[depth, fixed], tangent, rtol=0, atol=1e-7)


def problem(rows: int = 60) -> uci.Problem:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((rows, 4))
    y = (np.abs(X[:, 0]) + 0.5 * X[:, 1] > 0.8).astype(int) + (X[:, 2] > 1)
    order = rng.permutation(rows)
    folds = []
    for _ in range(4):
        mixed = rng.permutation(rows)
        folds.append((mixed[: 3 * rows // 4], mixed[3 * rows // 4 :]))
    return uci.Problem("made up", X, y, (order[: rows // 2], order[rows // 2 :]), tuple(folds))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uci, "RESULTS", tmp_path / "uci.jsonl")
    monkeypatch.setattr(uci, "TREES", 5)


@pytest.mark.parametrize("protocol", ["paper", "nested"])
def test_accuracy_is_that_of_an_svm_by_hand(protocol: str) -> None:
    data = problem()
    line = next(r for r in uci.measure(data, "ntk", protocol) if r["model"] == uci.NTK_SVM)
    kernels = {tuple(settings.values()): K for settings, K in uci.ntk_kernels(data.X)}
    for k, (train, test) in enumerate(data.folds):
        first, second = data.halves
        if protocol == "nested":
            first = np.array([i for i in first if i not in test])
            second = np.array([i for i in second if i not in test])
        best, chosen = -1.0, None
        for settings, K in kernels.items():
            for C in uci.COSTS:
                model = SVC(kernel="precomputed", C=C).fit(K[first][:, first], data.y[first])
                score = model.score(K[second][:, first], data.y[second])
                if score > best:
                    best, chosen = score, (*settings, C)
        index = k if protocol == "nested" else 0
        assert tuple(line["chosen"][index].values()) == chosen
        assert line["held_out"][index] == best
        assert chosen is not None
        K = kernels[chosen[:2]]
        model = SVC(kernel="precomputed", C=chosen[2]).fit(K[train][:, train], data.y[train])
        assert line["folds"][k] == model.score(K[test][:, train], data.y[test])
    assert line["accuracy"] == pytest.approx(np.mean(line["folds"]))


def test_ridge_is_that_of_the_normal_equations() -> None:
    data = problem()
    (_, K), (train, test) = list(uci.ntk_kernels(data.X))[4], data.folds[0]
    found, _ = next(uci.ridge(K, (train, test), data.y, [0.1]))
    targets = np.eye(3)[data.y[train]] - 1 / 3
    weights = np.linalg.solve(K[train][:, train] + 0.1 * np.eye(len(train)), targets)
    np.testing.assert_array_equal(found, (K[test][:, train] @ weights).argmax(axis=1))


@pytest.mark.parametrize("family", uci.FAMILIES)
def test_labels_of_test_rows_do_not_matter_to_nested_choices(family: str) -> None:
    """With other labels on the test rows of fold 0 its choice and predictions are the same."""
    data = problem()
    _, test = data.folds[0]
    other = data.y.copy()
    other[test] = 2 - other[test]
    for a, b in zip(
        uci.measure(data, family, "nested"),
        uci.measure(replace(data, y=other), family, "nested"),
        strict=True,
    ):
        assert a["chosen"][0] == b["chosen"][0]
        assert a["held_out"][0] == b["held_out"][0]
    for split, (of_train, of_test) in zip(
        uci.splits_to_choose_on(data, "nested"), data.folds, strict=True
    ):
        for part in split:
            assert np.isin(part, of_train).all()
            assert not np.isin(part, of_test).any()


def test_runs_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is not run again, and a line that a kill cut off is."""
    monkeypatch.setattr(uci, "problems", lambda most_rows: [problem(40)])
    monkeypatch.setattr(uci, "DEPTHS", (1, 2))
    uci.run("paper", 100, None)
    text = uci.RESULTS.read_text()
    assert [json.loads(line)["model"] for line in text.splitlines()] == [
        uci.NTK_SVM,
        uci.NTK_RIDGE,
        uci.GAUSSIAN,
        uci.FOREST,
    ]
    uci.run("paper", 100, None)
    assert uci.RESULTS.read_text() == text
    uci.RESULTS.write_text(text[:-30])
    uci.run("paper", 100, None)
    assert [line["model"] for line in uci.lines()] == [
        json.loads(x)["model"] for x in text.splitlines()
    ]
    uci.run("nested", 100, None)
    assert len(uci.lines()) == 8


def test_an_svm_that_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = problem()
    K = data.X @ data.X.T
    assert [ended for _, ended in uci.svm(K, data.folds[0], data.y, [1.0])] == [True]
    monkeypatch.setattr(uci, "MOST_STEPS", 3)
    assert [ended for _, ended in uci.svm(K, data.folds[0], data.y, [1.0])] == [False]
