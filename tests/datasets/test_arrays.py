"""NPZ and NPY files."""

import numpy as np
import pytest

from kernreg.datasets import load
from kernreg.exceptions import InvalidInputError

rng = np.random.default_rng(2)
X, Y = rng.standard_normal((30, 4)), rng.standard_normal(30)


def npz(folder, **arrays):
    np.savez(folder / "t.npz", **arrays)
    return folder / "t.npz"


def npy(folder, array):
    np.save(folder / "t.npy", array)
    return folder / "t.npy"


def test_npz(tmp_path):
    data = load(npz(tmp_path, X=X, y=Y))
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.y, Y)
    assert (data.name, data.target_name) == ("t", "y")
    assert data.feature_names == ("x0", "x1", "x2", "x3")
    assert data.test_mask is None


def test_npz_target_of_another_name_and_shape(tmp_path):
    path = npz(tmp_path, X=X, y=Y, y2=Y[:, None] + 1)
    data = load(path, target="y2")
    assert np.array_equal(data.y, Y + 1)
    assert data.target_name == "y2"
    with pytest.raises(InvalidInputError, match=r"no target 'z' beside X; its arrays are X, y, y2"):
        load(path, target="z")


@pytest.mark.parametrize("name", ["test_mask", "is_test"])
@pytest.mark.parametrize("splits", [None, 1, 3])
def test_npz_test_rows(name, splits, tmp_path):
    mask = rng.random((30,) if splits is None else (30, splits)) < 0.3
    data = load(npz(tmp_path, X=X, y=Y, **{name: mask}))
    assert np.array_equal(data.test_mask, mask.reshape(30, -1))
    # Some tools write 0 and 1.
    data = load(npz(tmp_path, X=X, y=Y, **{name: mask.astype(np.int8)}))
    assert np.array_equal(data.test_mask, mask.reshape(30, -1))


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros(30, bool),
        np.ones(30, bool),
        np.arange(29) < 5,
        np.arange(31) < 5,
        np.stack([np.arange(30) < 5, np.arange(30) < 30], axis=1),
        np.array(True),
    ],
    ids=["no test rows", "no training rows", "short", "long", "one split without", "scalar"],
)
def test_npz_masks_that_do_not_fit(mask, tmp_path):
    with pytest.raises(InvalidInputError, match="test mask has shape"):
        load(npz(tmp_path, X=X, y=Y, test_mask=mask))


def test_npz_with_training_and_test_arrays(tmp_path):
    data = load(npz(tmp_path, X_train=X[:20], y_train=Y[:20], X_test=X[20:], y_test=Y[20:]))
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.y, Y)
    assert np.array_equal(data.test_mask, (np.arange(30) >= 20)[:, None])


@pytest.mark.parametrize(
    "arrays",
    [
        {"X_test": X[20:, :3], "y_test": Y[20:]},
        {"X_test": X[20:], "y_test": Y[21:]},
        {"X_test": X[20:], "y_test": Y[20:, None]},
    ],
    ids=["other columns", "other rows", "other shape"],
)
def test_npz_parts_that_do_not_fit(arrays, tmp_path):
    with pytest.raises(InvalidInputError, match=r"t\.npz"):
        load(npz(tmp_path, X_train=X[:20], y_train=Y[:20], **arrays))


def test_npz_feature_names(tmp_path):
    data = load(npz(tmp_path, X=X, y=Y, feature_names=np.array(["p", "q", "r", "s"])))
    assert data.feature_names == ("p", "q", "r", "s")
    assert np.array_equal(data.X, X)
    # Names that do not fit say nothing.
    data = load(npz(tmp_path, X=X, y=Y, feature_names=np.array(["p"])))
    assert data.feature_names == ("x0", "x1", "x2", "x3")


def test_npz_feature_names_that_occur_twice(tmp_path):
    with pytest.raises(InvalidInputError, match="twice"):
        load(npz(tmp_path, X=X, y=Y, feature_names=np.array(["p", "q", "p", "s"])))


def test_images_are_flattened(tmp_path):
    images = rng.integers(0, 255, (30, 3, 2, 2)).astype(np.uint8)
    data = load(npz(tmp_path, X=images, y=Y))
    assert np.array_equal(data.X, images.reshape(30, 12))
    assert data.X.dtype == np.float32


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.float64, np.float64),
        (np.float32, np.float32),
        (np.uint8, np.float32),
        (np.int16, np.float32),
        # float32 holds whole numbers up to 2^24 only.
        (np.int32, np.float64),
        (bool, np.float32),
    ],
)
def test_types(dtype, expected, tmp_path):
    values = (10 * X).astype(dtype)
    data = load(npz(tmp_path, X=values, y=Y))
    assert data.X.dtype == expected
    assert np.array_equal(data.X, values)


def test_arrays_without_the_right_names(tmp_path):
    with pytest.raises(InvalidInputError, match=r"holds the arrays inputs, outputs; expected X"):
        load(npz(tmp_path, inputs=X, outputs=Y))
    with pytest.raises(InvalidInputError, match="no target 'y' beside X; its arrays are X"):
        load(npz(tmp_path, X=X))


@pytest.mark.parametrize(("target", "column"), [(None, 3), ("0", 0), ("2", 2), ("-1", 3)])
def test_npy(target, column, tmp_path):
    data = load(npy(tmp_path, X), target)
    assert np.array_equal(data.y, X[:, column])
    assert np.array_equal(data.X, np.delete(X, column, axis=1))
    assert data.target_name == f"column {column}"
    assert any("see --target" in note for note in data.notes) == (target is None)


@pytest.mark.parametrize("target", ["4", "-5", "y", "1.0", ""])
def test_npy_target_that_is_not_there(target, tmp_path):
    with pytest.raises(InvalidInputError, match=r"no target column .*its columns are 0, 1, 2, 3"):
        load(npy(tmp_path, X), target)


@pytest.mark.parametrize("array", [X[:, 0], np.float64(3)], ids=["vector", "scalar"])
def test_npy_needs_rows_and_columns(array, tmp_path):
    with pytest.raises(InvalidInputError, match=r"expected an array of shape \(rows, columns\)"):
        load(npy(tmp_path, array))
    with pytest.raises(InvalidInputError, match="one column, the target, and so no inputs"):
        load(npy(tmp_path, X[:, :1]))
