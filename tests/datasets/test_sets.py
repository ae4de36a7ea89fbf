"""The sets that scikit-learn carries, by name."""

import numpy as np
import pytest
from sklearn import datasets

from kernreg.datasets import load
from kernreg.datasets.names import BUILTIN
from kernreg.exceptions import InvalidInputError


@pytest.mark.parametrize("name", BUILTIN)
def test_is_what_scikit_learn_loads(name):
    data = load(name)
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    assert np.array_equal(data.X, X)
    assert data.X.dtype == np.float64
    assert len(data.feature_names) == X.shape[1]
    assert data.test_mask is None
    if name == "diabetes":
        assert data.task == "regression"
        assert data.classes is None
        assert np.array_equal(data.y, y)
    else:
        assert data.task == "classification"
        names = np.asarray(getattr(datasets, f"load_{name}")().target_names)
        assert np.array_equal(data.y, names[y])
        assert np.array_equal(data.classes, np.unique(names))


def test_the_task_may_be_set():
    data = load("digits", task="regression")
    assert data.task == "regression"
    assert data.y.dtype == np.float64
    assert np.array_equal(np.unique(data.y), np.arange(10.0))
    with pytest.raises(InvalidInputError, match="holds text such as 'setosa'; regression needs"):
        load("iris", task="regression")
    with pytest.raises(InvalidInputError, match="Unknown task 'ranking'; expected auto"):
        load("iris", task="ranking")


@pytest.mark.parametrize(("name", "near"), [("digitss", "digits"), ("Iris", "iris")])
def test_unknown_name_lists_what_is_known(name, near):
    with pytest.raises(InvalidInputError) as caught:
        load(name)
    message = str(caught.value)
    assert f"no file {name!r} and no scikit-learn set" in message
    assert all(known in message for known in BUILTIN)
    assert f"Did you mean {near!r}?" in message


def test_unknown_name_far_from_all_others():
    with pytest.raises(InvalidInputError, match="no scikit-learn set") as caught:
        load("qqq")
    assert "Did you mean" not in str(caught.value)


def test_target_belongs_to_the_set():
    with pytest.raises(InvalidInputError, match="'iris' has its own target; leave out --target"):
        load("iris", target="petal length (cm)")
