"""Rows for a model that is fitted already: its columns, and the truth where the data hold it."""

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import features_for, load
from kernreg.exceptions import InvalidInputError

rng = np.random.default_rng(6)
X, Y = rng.standard_normal((20, 3)), rng.standard_normal(20)


def table(folder, name="t.csv"):
    frame = pd.DataFrame(X, columns=["a", "b", "c"]).assign(kind=["u", "v"] * 10, price=Y)
    frame.to_csv(folder / name, index=False)
    return folder / name, frame


def test_table(tmp_path):
    path, _ = table(tmp_path)
    data = load(path)
    features, truth = features_for(data.encoder, path, data.target_name)
    assert np.array_equal(features, data.X)
    assert np.array_equal(truth, data.y)


def test_table_without_the_target(tmp_path):
    path, frame = table(tmp_path)
    data = load(path)
    frame.drop(columns="price").to_csv(path, index=False)
    features, truth = features_for(data.encoder, path, data.target_name)
    assert np.array_equal(features, data.X)
    assert truth is None


def test_one_row_and_other_columns_are_fine(tmp_path):
    path, frame = table(tmp_path)
    data = load(path)
    frame[["kind", "c", "b", "a"]].assign(note="new")[:1].to_csv(path, index=False)
    features, _ = features_for(data.encoder, path, data.target_name)
    assert np.array_equal(features, data.X[:1])


def test_bad_rows(tmp_path):
    path, frame = table(tmp_path)
    data = load(path)
    frame.assign(b=np.nan).to_csv(path, index=False)
    with pytest.raises(InvalidInputError, match=r"Missing values in 1 column: 'b' \(20\)"):
        features_for(data.encoder, path, "price")
    frame.drop(columns="b").to_csv(path, index=False)
    with pytest.raises(InvalidInputError, match="lack 1 of the columns"):
        features_for(data.encoder, path, "price")


@pytest.mark.parametrize("target", ["0", "1", "3"])
def test_npy_with_its_target(target, tmp_path):
    """The file that the model was fitted on gives the features of the fit, wherever y stands."""
    np.save(tmp_path / "t.npy", np.column_stack([X, Y]))
    data = load(tmp_path / "t.npy", target)
    features, truth = features_for(data.encoder, tmp_path / "t.npy", data.target_name)
    assert np.array_equal(features, data.X)
    assert np.array_equal(truth, data.y)


def test_npy_without_its_target(tmp_path):
    np.save(tmp_path / "t.npy", np.column_stack([X, Y]))
    data = load(tmp_path / "t.npy")
    np.save(tmp_path / "new.npy", X[:5])
    features, truth = features_for(data.encoder, tmp_path / "new.npy", data.target_name)
    assert np.array_equal(features, X[:5])
    assert truth is None
    np.save(tmp_path / "new.npy", X[:, :2])
    with pytest.raises(InvalidInputError, match=r"Expected 3 columns, .*found 2"):
        features_for(data.encoder, tmp_path / "new.npy", data.target_name)


@pytest.mark.parametrize("target", ["y", "y2"])
def test_npz_compares_with_the_target_of_the_model(target, tmp_path):
    np.savez(tmp_path / "t.npz", X=X, y=Y + 100, y2=Y)
    data = load(tmp_path / "t.npz", target)
    features, truth = features_for(data.encoder, tmp_path / "t.npz", data.target_name)
    assert np.array_equal(features, X)
    assert np.array_equal(truth, data.y)


def test_npz_without_the_target(tmp_path):
    np.savez(tmp_path / "t.npz", X=X, y=Y)
    data = load(tmp_path / "t.npz")
    np.savez(tmp_path / "new.npz", X=X[:4])
    features, truth = features_for(data.encoder, tmp_path / "new.npz", data.target_name)
    assert np.array_equal(features, X[:4])
    assert truth is None


def test_set_by_name():
    data = load("iris")
    features, truth = features_for(data.encoder, "iris", data.target_name)
    assert np.array_equal(features, data.X)
    assert np.array_equal(truth, data.y)
