"""Whether a target asks for regression or for classification."""

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import load
from kernreg.datasets.target import MAX_AUTO_CLASSES
from kernreg.exceptions import InvalidInputError

ROWS = 60
X = np.random.default_rng(3).standard_normal((ROWS, 2))


def saved(folder, y):
    pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": y}).to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def cycle(values):
    return np.resize(np.asarray(values), ROWS)


@pytest.mark.parametrize(
    ("y", "task"),
    [
        (cycle(["no", "yes"]), "classification"),
        (cycle([True, False]), "classification"),
        (cycle([0, 1]), "classification"),
        (cycle([-1.0, 1.0]), "classification"),
        (cycle(np.arange(MAX_AUTO_CLASSES)), "classification"),
        (cycle(np.arange(MAX_AUTO_CLASSES + 1)), "regression"),
        (np.arange(ROWS), "regression"),
        (cycle([0.5, 1.5]), "regression"),
        (X[:, 0], "regression"),
    ],
    ids=[
        "text",
        "booleans",
        "0 and 1",
        "whole floats",
        "20 whole numbers",
        "21 whole numbers",
        "all different",
        "two fractions",
        "reals",
    ],
)
def test_auto(y, task, tmp_path):
    data = load(saved(tmp_path, y))
    assert data.task == task
    count = len(np.unique(y))
    assert any(f"The task is {task}: the target has {count} values" in n for n in data.notes)
    assert np.array_equal(data.y.astype(y.dtype), y)


def test_few_rows_make_few_classes(tmp_path):
    """Seven whole numbers in ten rows are a quantity, in sixty rows they may be labels."""
    path = tmp_path / "t.csv"
    few = pd.DataFrame({"a": X[:10, 0], "y": [1, 2, 3, 4, 5, 6, 7, 1, 2, 3]})
    few.to_csv(path, index=False)
    assert load(path).task == "regression"
    assert load(saved(tmp_path, cycle(np.arange(7)))).task == "classification"


def test_asked_for(tmp_path):
    path = saved(tmp_path, cycle([3, 7]))
    numbers = load(path, task="regression")
    assert numbers.task == "regression"
    assert numbers.y.dtype == np.float64
    assert not any("--task" in note for note in numbers.notes)
    many = load(saved(tmp_path, cycle(np.arange(25))), task="classification")
    assert many.task == "classification"
    assert np.array_equal(many.classes, np.arange(25))


def test_whole_floats_become_whole_labels(tmp_path):
    data = load(saved(tmp_path, cycle([2.0, 5.0])))
    assert data.y.dtype == np.int64
    assert data.classes.tolist() == [2, 5]


def test_booleans_as_numbers(tmp_path):
    assert load(saved(tmp_path, cycle([True, False]))).classes.tolist() == [False, True]
    numbers = load(saved(tmp_path, cycle([True, False])), task="regression")
    assert numbers.y.tolist() == cycle([1.0, 0.0]).tolist()


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (cycle(["a", "b"]), "regression", "holds text such as 'a'; regression needs numbers"),
        (X[:, 0], "classification", "60 fractional values.*Use --task regression"),
        (np.arange(ROWS), "classification", "60 classes in 60 rows; most classes would have one"),
        (cycle([f"n{i}" for i in range(40)]), "auto", "40 classes in 60 rows"),
    ],
)
def test_target_that_does_not_suit_the_task(y, task, message, tmp_path):
    with pytest.raises(InvalidInputError, match=message):
        load(saved(tmp_path, y), task=task)


@pytest.mark.parametrize("y", [cycle(["same"]), cycle([4]), cycle([2.5]), cycle([True])])
@pytest.mark.parametrize("task", ["auto", "classification", "regression"])
def test_a_single_value(y, task, tmp_path):
    with pytest.raises(InvalidInputError, match=r"same value, .*, in all 60 rows: .*nothing"):
        load(saved(tmp_path, y), task=task)


def csv(folder, values):
    lines = [f"{a},{value}" for a, value in zip(X[:, 0], cycle(values), strict=True)]
    (folder / "t.csv").write_text("\n".join(["a,y", *lines]))
    return folder / "t.csv"


@pytest.mark.parametrize("mark", ["?", "-", "unknown", ">90", "64%", "n.k.", "12 or 13"])
@pytest.mark.parametrize("count", [5, 25])
def test_numbers_with_a_few_marks_are_no_classes(mark, count, tmp_path):
    """Neither 6 classes nor 26."""
    values = [*map(str, range(count)), mark]
    number = list(cycle(values)).count(mark)
    words = f"except for {number} of 60 values, such as {mark!r}; replace them by numbers or drop"
    with pytest.raises(InvalidInputError) as caught:
        load(csv(tmp_path, values))
    assert words in str(caught.value)
    assert "say --task classification if they are labels" in str(caught.value)
    with pytest.raises(InvalidInputError) as caught:
        load(csv(tmp_path, values), task="regression")
    assert words in str(caught.value)
    if count == 5:
        assert len(load(csv(tmp_path, values), task="classification").classes) == 6


def test_marked_numbers(tmp_path):
    with pytest.raises(InvalidInputError, match="with other marks, such as '9%', in all 60"):
        load(csv(tmp_path, [f"{i}%" for i in range(10)]))


@pytest.mark.parametrize("task", ["auto", "regression", "classification"])
def test_dates_are_no_target(task, tmp_path):
    with pytest.raises(InvalidInputError, match=r"'y' holds dates such as '2024-01-0.'"):
        load(csv(tmp_path, ["2024-01-01", "2024-01-02", "2024-01-03"]), task=task)


def test_labels_keep_their_text(tmp_path):
    """Codes, words for nothing, and numbers beside words."""
    for labels in (["01", "02"], ["EU", "NA"], ["1.50", "2.00", "std"], ["TRUE", "FALSE", "UNK"]):
        assert sorted(load(csv(tmp_path, labels)).classes.tolist()) == sorted(labels)
    many = [f"{i:03}" for i in range(MAX_AUTO_CLASSES + 1)]
    assert load(csv(tmp_path, many[:-1])).task == "classification"
    assert load(csv(tmp_path, many)).task == "regression"


def test_blank_targets_are_missing(tmp_path):
    for labels in (["a", "", "b"], ["1", " ", "2.5"], ["1", "NA", "2.5"]):
        with pytest.raises(InvalidInputError, match="'y' is missing or NaN in 20 rows"):
            load(csv(tmp_path, labels))


def test_problems_of_features_and_target_come_together(tmp_path):
    path = csv(tmp_path, ["2024-01-01", "2024-01-02"])
    path.write_text(path.read_text().replace(str(X[7, 0]), ""))
    with pytest.raises(InvalidInputError) as caught:
        load(path)
    assert str(caught.value).startswith("2 problems: (1) Missing values in 1 column: 'a' (1)")
    assert "(2) The target 'y' holds dates" in str(caught.value)
