"""Training and test rows."""

import dataclasses

import numpy as np
import pytest

from kernreg.baseline import Settings, splits
from kernreg.exceptions import InvalidInputError
from tests.baseline.problems import classification_table, regression_table, saved


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    return saved(regression_table(50), tmp_path_factory.mktemp("data"), "t")


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return saved(classification_table(60), tmp_path_factory.mktemp("data"), "t")


def test_one_split_holds_out_a_fifth(real):
    ((train, test),) = splits(real, Settings())
    assert (len(train), len(test)) == (40, 10)
    assert sorted([*train, *test]) == list(range(50))
    assert np.array_equal(train, np.sort(train))
    assert np.array_equal(test, np.sort(test))


@pytest.mark.parametrize("folds", [2, 5])
def test_folds_cover_every_row_once(real, folds):
    pairs = splits(real, Settings(folds=folds))
    assert len(pairs) == folds
    assert sorted(np.concatenate([test for _, test in pairs])) == list(range(50))
    for train, test in pairs:
        assert sorted([*train, *test]) == list(range(50))


@pytest.mark.parametrize("folds", [1, 4])
def test_classes_have_equal_shares(labels, folds):
    for train, test in splits(labels, Settings(folds=folds)):
        counts = np.unique(labels.y[test], return_counts=True)[1]
        assert counts.max() - counts.min() <= 1
        assert np.unique(labels.y[train]).tolist() == labels.classes.tolist()


def test_a_class_of_one_row_does_not_fail(labels):
    y = np.array(["a"] * 30 + ["b"] * 29 + ["rare"])
    data = dataclasses.replace(labels, y=y, classes=np.unique(y))
    ((train, test),) = splits(data, Settings())
    assert (len(train), len(test)) == (48, 12)


def test_seed(real):
    def rows(seed):
        return splits(real, Settings(seed=seed, max_rows=20))[0]

    assert np.array_equal(rows(3)[0], rows(3)[0])
    assert np.array_equal(rows(3)[1], rows(3)[1])
    assert not np.array_equal(rows(3)[1], rows(4)[1])


def test_prescribed_test_rows(real):
    mask = np.zeros((50, 2), bool)
    mask[:7, 0] = mask[20:30, 1] = True
    data = dataclasses.replace(real, test_mask=mask)
    for seed in (0, 1):
        first, second = splits(data, Settings(folds=2, seed=seed))
        assert first[1].tolist() == list(range(7))
        assert first[0].tolist() == list(range(7, 50))
        assert second[1].tolist() == list(range(20, 30))
    with pytest.raises(InvalidInputError, match=r"prescribes 2 test splits; found --folds 3"):
        splits(data, Settings(folds=3))


def test_max_rows(real):
    everything = splits(real, Settings())[0]
    train, test = splits(real, Settings(max_rows=15))[0]
    assert len(train) == 15
    assert set(train) < set(everything[0])
    assert np.array_equal(test, everything[1])
    assert len(splits(real, Settings(max_rows=1000))[0][0]) == 40


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (9, {}, "has 9 rows; a baseline needs at least 10"),
        (20, {"folds": 0}, "at least 1 fold, found 0"),
        (20, {"folds": 11}, "11 folds are too many for 20 rows"),
        (20, {"max_rows": 1}, "fewer than 2 different targets"),
    ],
)
def test_too_little_for_what_is_asked(real, rows, settings, message):
    data = dataclasses.replace(real, X=real.X[:rows], y=real.y[:rows])
    with pytest.raises(InvalidInputError, match=message):
        splits(data, Settings(**settings))


def test_training_rows_of_one_class(labels):
    """The test rows hold the only other label."""
    y = np.array(["a"] * 55 + ["b"] * 5)
    mask = (np.arange(60) >= 55)[:, None]
    data = dataclasses.replace(labels, y=y, classes=np.unique(y), test_mask=mask)
    with pytest.raises(InvalidInputError, match="55 training rows have fewer than 2 different"):
        splits(data, Settings())
