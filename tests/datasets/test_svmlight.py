"""Files of labels and features that are not 0."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.datasets import dump_svmlight_file

from kernreg.datasets import load
from kernreg.datasets.new_data import new_rows
from kernreg.exceptions import InvalidInputError, MemoryBudgetError


def written(path: Path, n: int = 40, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = sp.random(n, d, 0.4, format="csr", rng=rng).toarray().round(3)
    X[:, -1] = 0.5
    y = np.where(X[:, 0] > X[:, 1], 1.0, -1.0)
    dump_svmlight_file(X, y, str(path), zero_based=False)
    return X, y


@pytest.mark.parametrize("ending", [".svm", ".libsvm", ".svmlight"])
def test_rows_and_labels(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"data{ending}"
    X, y = written(path)
    data = load(str(path))
    np.testing.assert_array_equal(data.X, X)
    np.testing.assert_array_equal(data.y, y)
    assert (data.task, data.target_name) == ("classification", "label")


def test_compressed(tmp_path: Path) -> None:
    X, _ = written(tmp_path / "data.svm")
    packed = tmp_path / "data.svm.gz"
    packed.write_bytes(gzip.compress((tmp_path / "data.svm").read_bytes()))
    np.testing.assert_array_equal(load(str(packed)).X, X)


def test_new_rows_may_lack_the_last_features(tmp_path: Path) -> None:
    path, new = tmp_path / "data.svm", tmp_path / "new.svm"
    written(path)
    data = load(str(path))
    new.write_text("1 2:0.5\n-1 1:1.5 3:2\n")
    rows = new_rows(data.encoder, str(new), data.target_name, data.layout)
    assert rows.X.tolist() == [[0, 0.5, 0, 0, 0, 0], [1.5, 0, 2, 0, 0, 0]]
    assert rows.y is not None
    assert rows.y.tolist() == [1.0, -1.0]
    new.write_text("1 7:0.5\n")
    with pytest.raises(InvalidInputError, match="the model was fitted to 1 to 6"):
        new_rows(data.encoder, str(new), data.target_name, data.layout)


def test_where_numbers_begin_is_known_from_the_fit(tmp_path: Path) -> None:
    """Feature 0 may be 0 in all of few new rows."""
    path, new = tmp_path / "data.svm", tmp_path / "new.svm"
    path.write_text("1 0:1 1:2 2:3\n2 0:2 1:1\n3.5 2:1\n")
    new.write_text("1 1:5\n2 2:7\n")
    data = load(str(path))
    assert data.X.tolist() == [[1, 2, 3], [2, 1, 0], [0, 0, 1]]
    assert data.feature_names == ("0", "1", "2")
    rows = new_rows(data.encoder, str(new), data.target_name, data.layout)
    assert rows.X.tolist() == [[0, 5, 0], [0, 0, 7]]


def test_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.svm"
    written(path)
    with pytest.raises(MemoryBudgetError, match=r"with its zeros.*sparse rows as they are"):
        load(str(path), max_memory=1000)
    with pytest.raises(InvalidInputError, match="leave out --target y"):
        load(str(path), "y")
    path.write_text("this is no such file\n")
    with pytest.raises(InvalidInputError, match=r"data\.svm"):
        load(str(path))
