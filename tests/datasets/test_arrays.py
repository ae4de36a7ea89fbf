"""NPZ and NPY files."""

import numpy as np
import pytest

from kernreg.datasets import load
from kernreg.exceptions import InvalidInputError, MemoryBudgetError

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
        np.ones(30, bool),
        np.arange(29) < 5,
        np.arange(31) < 5,
        np.stack([np.arange(30) < 5, np.arange(30) < 30], axis=1),
        np.array(True),
    ],
    ids=["no training rows", "short", "long", "one split without", "scalar"],
)
def test_npz_masks_that_do_not_fit(mask, tmp_path):
    with pytest.raises(InvalidInputError, match="test mask has shape"):
        load(npz(tmp_path, X=X, y=Y, test_mask=mask))


def test_npz_mask_that_sets_nothing_aside(tmp_path):
    """Collections of tables have it where a table has no test rows of its own."""
    assert load(npz(tmp_path, X=X, y=Y, is_test=np.zeros(30, np.uint8))).test_mask is None


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


@pytest.mark.parametrize("letters", [str.lower, str.upper, str.title])
def test_npz_names_in_other_letters(letters, tmp_path):
    """As Keras and others spell them."""
    names = ("X_train", "y_train", "X_test", "y_test")
    parts = (X[:20], Y[:20, None], X[20:], Y[20:, None])
    path = npz(tmp_path, **{letters(n): part for n, part in zip(names, parts, strict=True)})
    data = load(path)
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.y, Y)
    assert data.test_mask.sum() == 10
    data = load(npz(tmp_path, **{letters("X"): X, letters("y"): Y}))
    assert np.array_equal(data.X, X)
    # The usual spelling comes first.
    data = load(npz(tmp_path, x=X + 1, X=X, Y=Y + 1, y=Y))
    assert np.array_equal(data.X, X)
    assert np.array_equal(data.y, Y)


def test_npz_reads_only_what_it_needs(tmp_path):
    """Others may be objects, damaged, or large."""
    others = {f"z{i}": np.array([{}, None]) for i in range(3)} | {"y_other": np.array([{}])}
    assert np.array_equal(load(npz(tmp_path, X=X, y=Y, **others)).X, X)
    with pytest.raises(InvalidInputError, match="Python objects, which are not read"):
        load(tmp_path / "t.npz", target="y_other")


def test_npz_larger_than_memory(tmp_path):
    """Sizes are known before anything is unpacked; small integers become float32."""
    zeros = np.zeros((500, 1000), np.uint8)
    zeros[0] = 1
    np.savez_compressed(tmp_path / "t.npz", X=zeros, y=np.arange(500.0), Z=np.zeros((2000, 2000)))
    assert (tmp_path / "t.npz").stat().st_size < 100_000
    needed = 500 * 1000 * 5 + 4000
    assert load(tmp_path / "t.npz", max_memory=needed).X.shape == (500, 1000)
    with pytest.raises(MemoryBudgetError, match=r"t\.npz need 2\.51 MB .*Raise --max-memory to"):
        load(tmp_path / "t.npz", max_memory=needed - 1)
    np.save(tmp_path / "t.npy", zeros[:, :3])
    assert load(tmp_path / "t.npy", max_memory=7_500).X.shape == (500, 2)
    with pytest.raises(MemoryBudgetError, match=r"t\.npy need 7\.5 kB"):
        load(tmp_path / "t.npy", max_memory=7_499)


def test_training_rows(tmp_path):
    whole = load(npz(tmp_path, X_train=X[:20], y_train=Y[:20], X_test=X[20:], y_test=Y[20:]))
    part = whole.training()
    assert np.array_equal(part.X, X[:20])
    assert np.array_equal(part.y, Y[:20])
    assert part.test_mask is None
    assert part.notes[-1] == "Only the 20 rows for training are used; t holds 10 test rows as well."
    assert load(npz(tmp_path, X=X, y=Y)).training().X.shape == X.shape
    masks = rng.random((30, 2)) < 0.3
    one = load(npz(tmp_path, X=X, y=Y, is_test=masks[:, 0])).training()
    assert np.array_equal(one.X, X[~masks[:, 0]])
    two = load(npz(tmp_path, X=X, y=Y, test_mask=masks)).training()
    assert np.array_equal(two.X, X)
    assert two.notes[-1] == "All rows are used: t has 2 test splits, none of them chosen."


@pytest.mark.parametrize("option", [{"drop": ["x0"]}, {"id_name": "x0"}])
def test_options_for_tables(option, tmp_path):
    with pytest.raises(InvalidInputError, match="holds arrays; columns to drop or to name rows"):
        load(npz(tmp_path, X=X, y=Y), **option)
    assert "mean radius" not in load("breast_cancer", drop=["mean radius"]).feature_names
    data = load("wine", id_name="ash")
    assert data.ids[0] == 2.43
    assert "ash" not in data.feature_names


def test_imputed_arrays(tmp_path):
    gaps = np.where(np.arange(4) == np.arange(30)[:, None] % 9, np.nan, X)
    data = load(npz(tmp_path, X=gaps, y=Y), impute="mean")
    expected = np.where(np.isnan(gaps), np.nanmean(gaps, axis=0), gaps)
    np.testing.assert_allclose(data.X, expected, rtol=1e-15)
    assert any("Missing numbers were filled in: 'x0' (4 by" in note for note in data.notes)
