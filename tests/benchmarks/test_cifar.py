"""``benchmarks.cifar``: accuracies, ridges and growing matrices beside plain sums."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cifar
from kernreg import gram
from kernreg.operators import KernelOperator, TileStore

FLAT, POOLED = "flat", "averaged"


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Images of 4 x 4 whose class is the brighter channel."""
    random = np.random.default_rng(0)
    X = random.integers(0, 200, size=(60, 4, 4, 3)).astype(np.uint8)
    y = random.integers(0, 3, size=60)
    X[np.arange(60), :, :, y] += 50
    np.savez(tmp_path / "some.npz", X_train=X[:40], y_train=y[:40], X_test=X[40:], y_test=y[40:])
    networks = {
        FLAT: ('cnn(2, readout="flatten")', "nngp"),
        POOLED: ("flip_augmented(cnn(2))", "ntk"),
    }
    made = cifar.Task("some.npz", (12, 24), 20, networks)
    monkeypatch.setattr(cifar, "TASKS", {"cifar10": made})
    monkeypatch.setattr(cifar, "RESULTS", tmp_path / "cifar.jsonl")
    monkeypatch.setattr(cifar, "KERNELS", tmp_path / "kernels")
    monkeypatch.setattr(cifar, "TILE", 8)
    monkeypatch.setenv("KERNREG_DATA", str(tmp_path))


def test_ridge_and_accuracy_by_hand() -> None:
    """Every row left out in turn, and the ridge kept when it is."""
    (X, y, Z, z), scaler = cifar.images("cifar10", 24, 20)
    A, B = (scaler.transform(part).reshape(len(part), -1) for part in (X, Z))
    K, K_new = A @ A.T / 48 + 0.1, B @ A.T / 48 + 0.1
    targets = np.eye(3)[y] - 1 / 3
    errors = []
    for alpha in cifar.ALPHAS:
        ridge, wrong = alpha * K.diagonal().mean(), 0.0
        for i in range(24):
            rest = np.delete(np.arange(24), i)
            inner = K[np.ix_(rest, rest)] + ridge * np.eye(23)
            wrong += np.sum((targets[i] - K[i, rest] @ np.linalg.solve(inner, targets[rest])) ** 2)
        errors.append(wrong)
    best = cifar.ALPHAS[np.argmin(errors)]
    weights = np.linalg.solve(K + best * K.diagonal().mean() * np.eye(24), targets)
    expected = np.mean((K_new @ weights).argmax(axis=1) == z)
    assert cifar.accuracy(K, y, K_new, z) == pytest.approx((expected, best))
    assert expected > 0.5


@pytest.mark.parametrize("symmetric", [True, False])
def test_matrices_grow(symmetric: bool, tmp_path: Path) -> None:
    """Leading parts are those of the whole, and only new tiles are worked out."""
    (X, _, Z, _), _ = cifar.images("cifar10", 24, 20)
    rows = (X / 255.0,) if symmetric else (Z / 255.0, X / 255.0)
    operator = KernelOperator("cnn(2)", *rows)
    store = TileStore.create(tmp_path / "tiles", operator, tile=8)
    whole = gram("cnn(2)", *rows)
    height = 24 if symmetric else 20
    # 12 columns need two of three tiles: 3 of 6 in the lower half, else 6 of 9, 20 rows by 16.
    for columns, entries in ((12, 3 * 64), (24, 3 * 64)) if symmetric else ((12, 320), (24, 160)):
        first = columns if symmetric else height
        found, worked = cifar.leading(store, operator, first, columns)
        np.testing.assert_array_equal(found, whole[:first, :columns])
        assert worked == entries
    assert cifar.leading(store, operator, 8, 8)[1] == 0


def test_lines_are_those_of_whole_matrices() -> None:
    (X, y, Z, z), scaler = cifar.images("cifar10", 24, 20)
    # Of all 40 training images, whatever number of them is trained on.
    assert scaler.transform(np.load(cifar.data_dir() / "some.npz")["X_train"]).mean() == (
        pytest.approx(0, abs=1e-9)
    )
    found = list(cifar.growing("cifar10", POOLED, (12, 24), 24, 20))
    A, B = (scaler.transform(part).astype(np.float32) for part in (X, Z))
    for line, n in zip(found, (12, 24), strict=True):
        own, new = (gram("flip_augmented(cnn(2))", *r) for r in ((A[:n],), (B, A[:n])))
        score, alpha = cifar.accuracy(own.astype(float), y[:n], new.astype(float), z)
        assert (line["train"], line["accuracy"], line["alpha"]) == (n, score, alpha)
        assert line["cpu_ms_per_entry"] > 0


def test_runs_go_on() -> None:
    models = [*cifar.BASELINES, FLAT, POOLED]
    cifar.run("cifar10", (12, 24), 20, [FLAT])
    assert [(r["train"], r["model"]) for r in cifar.lines()] == [(12, FLAT), (24, FLAT)]
    cifar.run("cifar10", (24,), 20, models)
    first, names = cifar.RESULTS.read_text(), [r["model"] for r in cifar.lines()]
    new = cifar.lines()[2:]
    assert {r["train"] for r in new} == {24}
    assert {r["model"] for r in new} == {*cifar.BASELINES, POOLED}
    # The classes differ in brightness, which every kernel sees: guessing has 1/3 +- 0.11.
    assert all(r["accuracy"] > 0.6 for r in new)
    cifar.run("cifar10", (24,), 20, models)
    assert cifar.RESULTS.read_text() == first
    cifar.RESULTS.write_text(first[:-30])
    cifar.run("cifar10", (24,), 20, models)
    assert [r["model"] for r in cifar.lines()] == names


def test_table_by_hand(capsys: pytest.CaptureFixture[str]) -> None:
    common = {"data": "cifar10", "test": 25, "threads": "1"}
    for line in (
        {"train": 12, "model": POOLED, "accuracy": 0.2, "cpu_ms_per_entry": 9.0},
        {"train": 24, "model": POOLED, "accuracy": 0.5, "cpu_ms_per_entry": 2.0},
        {"train": 24, "model": "Gaussian", "accuracy": 0.8},
    ):
        cifar.append(cifar.RESULTS, common | line)
    cifar.show("cifar10")
    out = capsys.readouterr().out
    out = out.replace("\N{NO-BREAK SPACE}", " ")
    assert "| averaged | 20.0 ± 8.0 | 50.0 ± 10.0 | 2 |" in out
    assert "| Gaussian |  | 80.0 ± 8.0 |  |" in out
    # 50,000 x 50,001 / 2 + 50,000 x 10,000 entries of 2 ms each.
    assert "averaged: 41 days" in out
    assert "2003.02237" in out
