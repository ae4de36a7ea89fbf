"""The models that the network is compared with: same rows, and what a textbook gives."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV

from kernreg import gram
from kernreg.baseline.compare import constant, evaluate, ridge
from kernreg.baseline.grid import GAUSSIAN, LAPLACE, RADIAL
from kernreg.baseline.scaling import Scaler
from kernreg.baseline.search import targets
from tests.baseline import brute
from tests.baseline.problems import quick, regression_table, saved


def decode(data, decision):
    if data.classes is None:
        return decision[:, 0]
    if len(data.classes) == 2:
        return data.classes[(decision[:, 0] > 0).astype(int)]
    return data.classes[decision.argmax(axis=1)]


def score(data, truth, predicted):
    if data.classes is not None:
        return np.mean(truth == predicted)
    return 1 - np.sum((truth - predicted) ** 2) / np.sum((truth - truth.mean()) ** 2)


def scaled(outcome, fold, kind):
    X = outcome.data.X
    scaler = Scaler.fit(X[fold.train], kind)
    return scaler.transform(X[fold.train]), scaler.transform(X[fold.test])


def test_models_and_rows(outcome):
    for fold in outcome.folds:
        assert [s.model for s in fold.scores] == [
            f"{fold.winner.candidate.family} network",
            "Gaussian kernel ridge",
            "Laplace kernel ridge",
            "ridge",
            "constant",
        ]
        assert {s.rows for s in fold.scores} == {len(fold.train)}
        assert np.intersect1d(fold.train, fold.test).size == 0
        assert np.array_equal(fold.truth, outcome.data.y[fold.test])


def test_network_on_the_rows_of_its_fold(outcome):
    """The chosen network, refitted by hand with the kernel of the reference backend."""
    data = outcome.data
    for fold in outcome.folds:
        best = fold.winner
        X, Z = scaled(outcome, fold, best.candidate.scaling)
        Y = targets(data.y[fold.train], data.classes)
        network = best.candidate.network
        K = gram(network, X, kernel=best.kernel, backend="reference")
        K_new = gram(network, Z, X, kernel=best.kernel, backend="reference")
        ridge = best.alpha * np.mean(np.diagonal(K))
        decision = brute.predict(K, K_new, Y, ridge)
        predicted = decode(data, decision)
        if data.classes is None:
            assert np.abs(fold.predicted - predicted).max() < brute.rounding(K, Y, best.alpha)
        else:
            assert np.array_equal(fold.predicted, predicted)
        assert fold.scores[0].test == pytest.approx(score(data, fold.truth, predicted), abs=1e-7)
        assert fold.scores[0].leave_one_out == best.score


@pytest.mark.parametrize("family", RADIAL)
def test_kernels_of_distances_are_searched_like_networks(family, tmp_path):
    """No bandwidth is given up on few rows that the networks would have kept."""
    (fold,) = quick(saved(regression_table(450), tmp_path, "t")).folds
    rounds = fold.radial[family]
    assert [trials[0].rows for trials in rounds] == [300, 360]
    assert [trials[0].rows for trials in fold.rounds] == [300, 360]
    bandwidths = [{trial.candidate.gamma for trial in trials} for trials in rounds]
    assert bandwidths == [{0.1, 0.4, 1.6}, {0.1, 0.4, 1.6}]


@pytest.mark.parametrize(("place", "family", "power"), [(1, GAUSSIAN, 2), (2, LAPLACE, 1)])
def test_kernels_of_distances_on_the_same_rows(place, family, power, outcome):
    data = outcome.data
    for fold in outcome.folds:
        trial = fold.radial[family][-1][0]
        X, Z = scaled(outcome, fold, trial.candidate.scaling)
        Y = targets(data.y[fold.train], data.classes)

        def kernel(A, B, gamma=trial.candidate.gamma, d=X.shape[1]):
            distances = np.sqrt(np.sum((A[:, None] - B[None]) ** 2, axis=2) / d)
            return np.exp(-gamma * distances**power)

        predicted = decode(data, brute.predict(kernel(X, X), kernel(Z, X), Y, trial.alpha))
        found = fold.scores[place]
        assert found.test == pytest.approx(score(data, fold.truth, predicted), abs=1e-7)
        assert found.leave_one_out == trial.score
        assert f"alpha = {trial.alpha:.3g}" in found.description


def test_ridge_on_the_same_rows(outcome):
    data = outcome.data
    for fold in outcome.folds:
        X, Z = scaled(outcome, fold, "standard")
        Y = targets(data.y[fold.train], data.classes)
        model = RidgeCV(alphas=len(X) * np.logspace(-8, 2, 21)).fit(X, Y)
        # The normal equations, so that the penalty is all that is taken from scikit-learn.
        centred = X - X.mean(axis=0)
        weights = np.linalg.solve(
            centred.T @ centred + model.alpha_ * np.eye(X.shape[1]), centred.T @ (Y - Y.mean(0))
        )
        predicted = decode(data, (Z - X.mean(axis=0)) @ weights + Y.mean(axis=0))
        assert fold.scores[-2].test == pytest.approx(score(data, fold.truth, predicted), abs=1e-9)


def test_ridge_leave_one_out(regression):
    """Refit for every row, on features scaled once, as scikit-learn does."""
    fold, data = regression.folds[0], regression.data
    found = ridge(data, fold.train, fold.test)
    penalty = float(found.description.split("= ")[1])
    X, _ = scaled(regression, fold, "standard")
    y = data.y[fold.train]
    errors = []
    for i in range(len(y)):
        A, b = np.delete(X, i, axis=0), np.delete(y, i)
        mean = A.mean(axis=0)
        A = A - mean
        weights = np.linalg.solve(A.T @ A + penalty * np.eye(A.shape[1]), A.T @ (b - b.mean()))
        errors.append(y[i] - b.mean() - (X[i] - mean) @ weights)
    # The penalty is known to three digits from the description.
    assert found.leave_one_out == pytest.approx(1 - np.mean(np.square(errors)) / y.var(), rel=5e-3)


def test_constant(outcome):
    data = outcome.data
    for fold in outcome.folds:
        y = data.y[fold.train]
        if data.classes is None:
            expected, word = y.mean(), "mean of the target"
        else:
            labels, counts = np.unique(y, return_counts=True)
            expected = labels[counts == counts.max()][0]
            word = f"always {expected}"
        found = fold.scores[-1]
        predicted = np.full(len(fold.test), expected)
        assert found.test == pytest.approx(score(data, fold.truth, predicted), abs=1e-12)
        assert found.description == word
        assert found.leave_one_out is None
        assert constant(data, fold.train, fold.test).test == found.test


def test_rmse(regression, classification):
    fold = regression.folds[0]
    rmse = np.sqrt(np.mean((fold.truth - fold.predicted) ** 2))
    assert fold.scores[0].rmse == pytest.approx(rmse, rel=1e-14)
    assert all(s.rmse is None for s in classification.folds[0].scores)


def test_a_network_beats_a_line_where_the_target_bends(regression):
    """A sanity check of the whole chain: |x| is not linear, and the noise is small."""
    scores = {s.model: s.test for s in regression.folds[0].scores}
    assert regression.folds[0].scores[0].test > scores["ridge"] + 0.2
    assert scores["constant"] <= 0


def test_no_variance_has_no_r2(regression):
    same = np.full(5, 2.0)
    r2, rmse = evaluate(regression.data, same, same + 1)
    assert np.isnan(r2)
    assert rmse == 1


def test_constant_columns_do_not_matter(tmp_path):
    """Standard scaling sends them to 0, which changes the number of features only."""
    frame = regression_table(30)
    frame.insert(0, "always", 7.25)
    outcome = quick(saved(frame, tmp_path, "t"), scaling="standard")
    assert outcome.folds[0].scores[0].test > 0.8
    assert "Constant columns, harmless: 1 (always)." in outcome.data.notes


def test_nothing_but_constant_columns(tmp_path):
    frame = regression_table(30).assign(size=1.0, weight=2.0, colour="red")
    fold = quick(saved(frame, tmp_path, "t")).folds[0]
    mean = regression_table(30)["price"].to_numpy()[fold.train].mean()
    # All rows are equal, so each prediction is the mean and a residual of rounding.
    assert np.abs(fold.predicted - mean).max() < 1e-6
