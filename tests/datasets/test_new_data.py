"""Rows for a model that is fitted already: its columns, and the truth where the data hold it."""

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import load, new_rows
from kernreg.exceptions import InvalidInputError

rng = np.random.default_rng(6)
X, Y = rng.standard_normal((20, 3)), rng.standard_normal(20)


def features_for(encoder, path, target=None):
    rows = new_rows(encoder, path, target)
    return rows.X, rows.y


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


def written(folder, lines, name="new.csv"):
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


def rows(data, path, **options):
    return new_rows(data.encoder, path, data.target_name, data.layout, **options)


@pytest.fixture
def shops(tmp_path):
    """Codes with zeros, words that look like booleans, numbers with commas, labels of digits."""
    lines = ["shop;code;open;area;y"]
    for i in range(24):
        code, is_open = ("01", "7", "B2", "007")[i % 4], ("TRUE", "FALSE", "?")[i % 3]
        lines.append(f"s{i};{code};{is_open};{i % 7},{i:03};{('01', '2', 'x')[i % 3]}")
    return load(written(tmp_path, lines, "t.csv"), id_name="shop"), lines


@pytest.mark.parametrize("picked", [slice(0, 1), slice(1, 2), slice(5, 9), slice(None)])
def test_text_is_what_it_was_whatever_else_the_file_holds(picked, shops, tmp_path):
    data, lines = shops
    new = rows(data, written(tmp_path, [lines[0], *lines[1:][picked]]))
    assert np.array_equal(new.X, data.X[picked])
    assert new.y.tolist() == data.y[picked].tolist()
    assert new.ids.tolist() == data.ids[picked].tolist()
    assert new.id_name == "shop"


def test_a_file_with_points_for_a_model_of_commas(shops, tmp_path):
    data, lines = shops
    plain = [line.replace(",", ".").replace(";", ",") for line in lines]
    assert np.array_equal(rows(data, written(tmp_path, plain)).X, data.X)


def test_parquet_for_a_model_of_text(tmp_path):
    """Whole numbers there are the categories that digits were in the text."""
    lines = ["code,n,y", *(f"{('1', '2', 'A')[i % 3]},{i},{i % 5}.5" for i in range(15))]
    data = load(written(tmp_path, lines))
    frame = pd.DataFrame({"code": [1, 2, 1], "n": ["3", " 4", "5.5"], "y": [1.0, np.nan, 2.0]})
    for codes in (frame["code"], frame["code"].astype(float), frame["code"].astype("Int64")):
        frame.assign(code=codes).to_parquet(tmp_path / "new.parquet")
        new = rows(data, str(tmp_path / "new.parquet"))
        assert np.array_equal(new.X, [[1, 0, 0, 3], [0, 1, 0, 4], [1, 0, 0, 5.5]])
        assert np.array_equal(new.y, [1, np.nan, 2], equal_nan=True)


def test_truth_that_is_missing_or_of_another_kind(tmp_path):
    lines = ["a,y", *(f"{i},{i * 0.3}" for i in range(9))]
    data = load(written(tmp_path, lines))
    found = rows(data, written(tmp_path, ["a,y", "1,2.5", "2,", "3,NA"])).y
    assert np.array_equal(found, [2.5, np.nan, np.nan], equal_nan=True)
    assert rows(data, written(tmp_path, ["a,y", "1,2.5", "2,high"])).y.tolist() == ["2.5", "high"]


def test_notes(shops, tmp_path):
    data, lines = shops
    extra = [f"{line};{'note;why' if i == 0 else '1;2'}" for i, line in enumerate(lines)]
    new = rows(data, written(tmp_path, extra))
    assert new.notes == ("new: ignored 2 columns that the model does not know (note, why).",)
    new = rows(data, written(tmp_path, [line.split(";", 1)[1] for line in lines]))
    assert new.ids is None
    assert new.notes == ("new: there is no id column 'shop', so rows are numbered.",)
    assert rows(data, written(tmp_path, lines)).notes == ()
    new = rows(data, written(tmp_path, lines), id_name="code")
    assert new.ids.tolist() == [line.split(";")[1] for line in lines[1:]]
    with pytest.raises(InvalidInputError, match="no id column 'coda'"):
        rows(data, written(tmp_path, lines), id_name="coda")


def test_names_that_occur_twice_matter_where_they_are_used(shops, tmp_path):
    data, lines = shops
    twice = [f"{line};{'note;note' if i == 0 else '1;2'}" for i, line in enumerate(lines)]
    assert np.array_equal(rows(data, written(tmp_path, twice)).X, data.X)
    twice = [f"{line};{'area' if i == 0 else i}" for i, line in enumerate(lines)]
    with pytest.raises(InvalidInputError, match="column names occur twice: area"):
        rows(data, written(tmp_path, twice))


def test_files_without_names(tmp_path):
    lines = [f"{i},{i % 3},{'u' if i % 2 else 'v'},{i * 0.3}" for i in range(9)]
    data = load(written(tmp_path, lines), header=False, drop=["1"])
    assert data.feature_names == ("0", "2=u", "2=v")
    assert np.array_equal(rows(data, written(tmp_path, lines[2:4])).X, data.X[2:4])
    new = rows(data, written(tmp_path, [line.rsplit(",", 1)[0] for line in lines]))
    assert new.y is None
    assert np.array_equal(new.X, data.X)
    used = [",".join(line.split(",")[:3:2]) for line in lines]
    assert np.array_equal(rows(data, written(tmp_path, used)).X, data.X)
    named = ["p,q,r,s", *lines]
    assert np.array_equal(rows(data, written(tmp_path, named), header=True).X, data.X)
    with pytest.raises(InvalidInputError, match="1 column without names; expected 4 as in the"):
        rows(data, written(tmp_path, ["1", "2"]))
