"""Models of other libraries, on the same rows, as those libraries make them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestRegressor

from kernreg.baseline.competitors import COMPETITORS, Competitor, available, score_competitor
from tests.baseline.problems import classification_table, quick, regression_table, saved

NAMES = [c.name for c in available()]


def named(name):
    return next(c for c in COMPETITORS if c.name == name)


def split(data):
    rows = np.arange(len(data.X))
    return rows[rows % 4 > 0], rows[rows % 4 == 0]


def test_forest_is_that_of_scikit_learn(tmp_path):
    data = saved(regression_table(80), tmp_path, "t")
    train, test = split(data)
    found = score_competitor(named("random forest"), data, train, test, seed=3)
    model = RandomForestRegressor(random_state=3).fit(data.X[train], data.y[train])
    assert found.test == pytest.approx(model.score(data.X[test], data.y[test]), abs=1e-12)
    assert (found.rows, found.description) == (len(train), "its own settings")


def test_boosting_knows_labels(tmp_path):
    data = saved(classification_table(120), tmp_path, "t")
    train, test = split(data)
    found = score_competitor(named("histogram gradient boosting"), data, train, test, seed=1)
    model = HistGradientBoostingClassifier(random_state=1).fit(data.X[train], data.y[train])
    assert found.test == model.score(data.X[test], data.y[test])
    assert found.rmse is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("table", [regression_table, classification_table])
def test_every_one_learns_something(name, table, tmp_path):
    data = saved(table(160), tmp_path, "t")
    train, test = split(data)
    found = score_competitor(named(name), data, train, test)
    # A constant has R2 of 0 at most, and a third of the labels.
    assert found.test > (0.3 if data.classes is None else 0.45)


class Constant:
    """Predicts its setting."""

    def __init__(self, classify, seed, settings):
        self.value = settings.get("value", 0.0)

    def fit(self, X, y):
        self.rows = len(X)

    def predict(self, X):
        return np.full(len(X), self.value)


def test_a_light_search_goes_by_rows_held_out(tmp_path):
    data = saved(regression_table(60), tmp_path, "t")
    train, test = split(data)
    middle = float(np.mean(data.y[train]))
    made = Competitor("constant", "numpy", Constant, ({"value": 99.0}, {"value": middle}))
    found = score_competitor(made, data, train, test, light=True)
    assert found.description == f"value = {middle:.3g}"
    assert -0.5 < found.leave_one_out <= 0
    assert score_competitor(made, data, train, test).description == "its own settings"


class Failing(Constant):
    def fit(self, X, y):
        raise RuntimeError("no such\nthing")


def test_a_library_that_fails_has_no_score(tmp_path):
    data = saved(regression_table(60), tmp_path, "t")
    found = score_competitor(Competitor("none", "numpy", Failing), data, *split(data))
    assert np.isnan(found.test)
    assert found.description == "failed: RuntimeError: no such thing"


def test_one_label_that_occurs_once(tmp_path):
    """Boosting splits its rows by label then, and cannot."""
    data = saved(classification_table(160), tmp_path, "t")
    y = data.y.copy()
    y[1] = "alone"
    data = replace(data, y=y, classes=np.unique(y))
    for competitor in available():
        found = score_competitor(competitor, data, *split(data), light=True)
        assert found.test > 0.45 or found.description.startswith("failed: ")


def test_rows_at_most(tmp_path):
    data = saved(regression_table(60), tmp_path, "t")
    few = replace(named("random forest"), most_rows=20)
    assert score_competitor(few, data, *split(data)).rows == 20


def test_they_are_part_of_a_baseline(tmp_path):
    data = saved(regression_table(40), tmp_path, "t")
    (fold,) = quick(data, competitors=True).folds
    names = [score.model for score in fold.scores]
    assert names[3 : 3 + len(NAMES)] == NAMES
    assert names[-2:] == ["ridge", "constant"]
