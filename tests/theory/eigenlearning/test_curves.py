from __future__ import annotations

import numpy as np
import pytest

from benchmarks.problems import data_dir
from kernreg import gram, nn
from kernreg.exceptions import InvalidInputError, NotPositiveDefiniteError
from kernreg.theory.eigenlearning.curves import measure_learning_curve, predict_learning_curve
from kernreg.theory.eigenlearning.errors import eigenlearning
from kernreg.theory.eigenlearning.spectra import sample_spectrum

NET = nn.mlp(depth=3)
UCI = data_dir() / "uci_regression"


def digits(size=None):
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(X))[:size]
    return X[chosen] / 16.0, y[chosen]


def uci(name, size):
    file = np.load(UCI / f"{name}.npz")
    chosen = np.random.default_rng(1).permutation(len(file["X"]))[:size]
    X, y = file["X"][chosen], file["y"][chosen]
    X = X[:, X.std(axis=0) > 0]
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def ratio(X, y, n_grid, alpha, trials, **arguments):
    predicted = predict_learning_curve(NET, X, y, n_grid, alpha, **arguments)
    measured = measure_learning_curve(NET, X, y, n_grid, alpha, trials=trials)
    return predicted.test / measured.test


@pytest.mark.slow
def test_digits_over_the_whole_range():
    assert (abs(ratio(*digits(), [50, 800], 0.1, trials=6) - 1) < 0.1).all()


@pytest.mark.parametrize("alpha", [0.0, 1e-3, 0.1])
def test_digits(alpha):
    found = ratio(*digits(900), [50, 100, 200, 400], alpha, trials=8)
    assert (abs(found - 1) < 0.1).all()


@pytest.mark.skipif(not UCI.is_dir(), reason="needs the data of KERNREG_DATA")
@pytest.mark.parametrize("name", ["kin40k", "pol"])
def test_uci(name):
    X, y = uci(name, 900)
    found = ratio(X, y, [50, 200, 600], 0.1, trials=24)
    assert (abs(found - 1) < 0.1).all()


def test_the_spectrum_method_is_eigenlearning_on_the_rest():
    X, y = digits(300)
    predicted = predict_learning_curve(NET, X, y, [20, 150], 0.0, method="spectrum")
    spectrum = sample_spectrum(NET, X, y)
    for n, all_points, test in zip(predicted.n, predicted.all_points, predicted.test, strict=True):
        expected = eigenlearning(spectrum, n).test
        assert all_points == pytest.approx(expected, rel=1e-9)
        assert test == pytest.approx(expected * 300 / (300 - n), rel=1e-9)


def test_measured_by_hand():
    X, y = digits(60)
    found = measure_learning_curve(NET, X, y, [20], 0.5, trials=2, seed=3)
    K, Y = gram(NET, X, dtype="float64"), np.eye(10)[y]
    ridge, random = 0.5 * np.mean(np.diag(K)), np.random.default_rng(3)
    test, train = [], []
    for _ in range(2):
        order = random.permutation(60)
        a, b = order[:20], order[20:]
        fit = K[:, a] @ np.linalg.inv(K[np.ix_(a, a)] + ridge * np.eye(20)) @ Y[a]
        test.append(np.mean(np.sum((fit[b] - Y[b]) ** 2, axis=1)))
        train.append(np.mean(np.sum((fit[a] - Y[a]) ** 2, axis=1)))
    assert found.test[0] == pytest.approx(np.mean(test), rel=1e-10)
    assert found.train[0] == pytest.approx(np.mean(train), rel=1e-10)
    assert found.test_error[0] == pytest.approx(abs(test[0] - test[1]) / 2, rel=1e-8)
    share = 20 / 60
    assert found.all_points[0] == pytest.approx(
        share * found.train[0] + (1 - share) * found.test[0], rel=1e-14
    )


def test_labels_of_any_kind_and_matrices():
    X, y = digits(80)
    expected = predict_learning_curve(NET, X, y, [30])
    text = predict_learning_curve(NET, X, [f"class {c}" for c in y], 30)
    matrix = predict_learning_curve(gram(NET, X, dtype="float64"), None, np.eye(10)[y], [30])
    for found in (text, matrix):
        np.testing.assert_allclose(found.test, expected.test, rtol=1e-12)


def test_alpha_is_relative_to_the_diagonal():
    X, y = digits(80)
    mean = np.mean(np.diag(gram(NET, X, kernel="nngp")))
    arguments = {"kernel": "nngp"}
    for call in (predict_learning_curve, measure_learning_curve):
        relative = call(NET, X, y, [30], 0.1, **arguments)
        absolute = call(NET, X, y, [30], 0.1 * mean, alpha_scale="absolute", **arguments)
        np.testing.assert_allclose(relative.test, absolute.test, rtol=1e-12)


def test_text():
    X, y = digits(60)
    predicted = str(predict_learning_curve(NET, X, y, [5, 30]))
    assert predicted.splitlines()[0] == "predicted from the points, from a pool of 60 points"
    assert "+-" not in predicted
    measured = str(measure_learning_curve(NET, X, y, [5, 30], trials=3))
    assert measured.splitlines()[0] == "measured in 3 trials, from a pool of 60 points"
    assert measured.count("+-") == 4


@pytest.mark.parametrize("call", [predict_learning_curve, measure_learning_curve])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_grid": [10, 20]}, "between 1 and 19.*found 10 to 20"),
        ({"n_grid": [0, 5]}, "between 1 and 19"),
        ({"n_grid": [1.5]}, "whole numbers"),
        ({"n_grid": []}, "whole numbers"),
        ({"n_grid": [[1]]}, "shape"),
        ({"y": np.ones(19)}, "targets of shape"),
        ({"y": np.full(20, np.nan)}, "NaN"),
        ({"X": np.full((20, 2), np.nan)}, "NaN"),
        ({"X": None}, "X is missing"),
        ({"net": 3}, "network"),
        ({"alpha": -1.0}, "alpha"),
        ({"alpha_scale": "n"}, "alpha_scale"),
        ({"noise": -1.0}, "noise"),
        ({"kernel": "cntk"}, "kernel"),
    ],
)
def test_bad_input(call, arguments, message):
    given = {"net": NET, "X": np.eye(20), "y": np.linspace(0, 1, 20), "n_grid": [5], **arguments}
    with pytest.raises(InvalidInputError, match=message):
        call(**given)


def test_bad_method_and_trials():
    X, y = np.eye(5), np.ones(5)
    with pytest.raises(InvalidInputError, match="method"):
        predict_learning_curve(NET, X, y, [2], method="modes")
    with pytest.raises(InvalidInputError, match="trials"):
        measure_learning_curve(NET, X, y, [2], trials=1)


def test_duplicates_need_a_ridge():
    X = np.repeat(np.random.default_rng(0).normal(size=(15, 2)), 2, axis=0)
    with pytest.raises(InvalidInputError, match="alpha > 0"):
        predict_learning_curve(NET, X, X[:, 0], [20], 0.0)
    with pytest.raises(NotPositiveDefiniteError, match="raise alpha"):
        measure_learning_curve(NET, X, X[:, 0], [29], 0.0)
