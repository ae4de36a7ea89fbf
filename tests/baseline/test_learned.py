"""Scales of columns that a baseline learns."""

import dataclasses

import numpy as np
import pytest

from kernreg.baseline import Settings, run
from kernreg.baseline.learned import learned_scaler
from kernreg.baseline.results import code, summary
from kernreg.baseline.scaling import Scaler
from kernreg.datasets import Column
from tests.baseline.problems import quick


@pytest.fixture(scope="module")
def one_column(regression):
    """A function of one column among eight."""
    rng = np.random.default_rng(0)
    X = 3.0 + 2.0 * rng.standard_normal((200, 8))
    columns = tuple(Column(f"x{j}") for j in range(8))
    data = dataclasses.replace(
        regression.data,
        X=X,
        y=np.sin(X[:, 2]),
        test_mask=(np.arange(200) < 60)[:, None],
        encoder=dataclasses.replace(regression.data.encoder, columns=columns),
    )
    return run(data, Settings(quick=True))


def test_learned_scales_win_where_one_column_matters(one_column):
    fold = one_column.folds[0]
    assert fold.winner.candidate.scaling == "learned"
    assert fold.model.scaler.kind == "learned"
    plain = quick(one_column.data).folds[0].scores[0].test
    assert 1 - fold.scores[0].test < 0.3 * (1 - plain)


def test_the_model_predicts_as_its_code_does(one_column):
    fold, names = one_column.folds[0], {}
    exec(code(fold), names)
    X, y = one_column.data.X, one_column.data.y
    found = names["model"].fit(X[fold.train], y[fold.train]).predict(X[fold.test])
    # Both fit the same rows at the same ridge; only the order of sums differs.
    np.testing.assert_allclose(found, fold.predicted, rtol=1e-6, atol=1e-6)


def test_a_file_keeps_the_scales(one_column, tmp_path):
    model = one_column.folds[0].model
    model.save(tmp_path / "m")
    again = type(model).load(tmp_path / "m")
    X = one_column.data.X[:5]
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    assert summary(one_column)["chosen"]["scaling"] == "learned"


def test_scales_follow_the_standard_scaling(one_column):
    X = one_column.data.X
    standard, scales = Scaler.fit(X, "standard"), np.arange(1.0, 9.0)
    found = standard.times(scales).transform(X)
    np.testing.assert_allclose(found, standard.transform(X) * scales, rtol=1e-12)


@pytest.mark.parametrize(
    ("rows", "columns", "budget"), [(20, 8, 10**9), (140, 1, 10**9), (140, 8, 10**5)]
)
def test_too_little_for_scales(one_column, rows, columns, budget):
    X, y = one_column.data.X[:rows, :columns], one_column.data.y[:rows]
    best = one_column.folds[0].rounds[0][0]
    assert learned_scaler(best, X, y, None, 0, budget, lambda *step: None, True) is None
