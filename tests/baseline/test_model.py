"""The model file of a baseline: raw data in, the same predictions out."""

import json

import numpy as np
import pytest
from safetensors import SafetensorError

import kernreg
from kernreg import KernelRegressor
from kernreg.baseline import TableModel
from kernreg.datasets import load
from kernreg.exceptions import InvalidInputError, ModelFileError
from kernreg.operators.store import records
from tests.baseline.problems import regression_table


@pytest.fixture
def path(outcome, tmp_path):
    outcome.folds[0].model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def file(regression, tmp_path):
    regression.folds[0].model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_predictions_are_those_of_the_run(outcome, path):
    again = TableModel.load(path)
    fold = outcome.folds[0]
    assert np.array_equal(again.predict(outcome.data.X[fold.test]), fold.predicted)
    assert again.task == outcome.data.task
    assert again.target_name == outcome.data.target_name
    assert again.encoder == outcome.data.encoder


def test_everything_in_the_file_is_what_was_saved(outcome, path):
    before, after = outcome.folds[0].model, TableModel.load(path)
    assert after.scaler.kind == before.scaler.kind
    assert np.array_equal(after.scaler.mean, before.scaler.mean)
    assert np.array_equal(after.scaler.scale, before.scaler.scale)
    assert after.estimator.network_ == before.estimator.network_
    assert np.array_equal(after.estimator.dual_coef_, before.estimator.dual_coef_)
    after.save(path.with_name("again"))
    X = outcome.data.X
    assert np.array_equal(TableModel.load(path.with_name("again")).predict(X), before.predict(X))


def test_raw_rows(regression, file, tmp_path):
    """Text columns are encoded and all columns scaled on the way."""
    frame = regression_table()
    frame.drop(columns="price").to_csv(tmp_path / "new.csv", index=False)
    predicted, truth = TableModel.load(file).predict_data(str(tmp_path / "new.csv"))
    assert truth is None
    assert np.array_equal(predicted, regression.folds[0].model.predict(regression.data.X))
    frame.to_parquet(tmp_path / "new.parquet")
    again, truth = TableModel.load(file).predict_data(str(tmp_path / "new.parquet"))
    assert np.array_equal(again, predicted)
    assert np.array_equal(truth, regression.data.y)
    frame[:0].to_parquet(tmp_path / "new.parquet")
    with pytest.raises(InvalidInputError, match="0 rows"):
        TableModel.load(file).predict_data(str(tmp_path / "new.parquet"))


def test_the_estimator_alone(regression, file):
    estimator = kernreg.load(file)
    fold = regression.folds[0]
    inputs = fold.model.scaler.transform(regression.data.X[fold.test])
    assert np.array_equal(estimator.predict(inputs), fold.predicted)


def test_a_bare_estimator_is_told_apart(tmp_path):
    KernelRegressor().fit(np.eye(3), np.arange(3.0)).save(tmp_path / "bare")
    with pytest.raises(ModelFileError, match=r"bare estimator.*kernreg\.load.*kernreg fit"):
        TableModel.load(tmp_path / "bare")


def test_truncated(file):
    whole = file.read_bytes()
    for cut in (0, 5, 9, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        with pytest.raises(ModelFileError, match="not a kernreg model, or it is truncated"):
            TableModel.load(file)


@pytest.mark.parametrize(
    "change",
    [
        {"version": 4},
        {"columns": "size"},
        {"columns": [{"name": "size"}]},
        {"columns": [["size", None, None]]},
        {"columns": [{"name": "size", "fill": float("inf")}] * 4},
        {"columns": [{"name": 7}] * 4},
        {"columns": [{"name": "size", "categories": [1, 2]}] * 2},
        {"columns": [{"name": "size", "date": 3}] * 4},
        {"columns": [{"name": "size", "shape": 3}] * 4},
        {"commas": "swiss"},
        {"names": "size"},
        {"names": [1, 2]},
        {"id": 3},
        {"scale": [1.0]},
        {"mean": [0.0, 1.0]},
        {"scale": "large"},
        {"scale": [0.0, 0.0, 0.0, 0.0]},
        {"mean": [float("nan")] * 4},
        {"scaling": "strange"},
        {"task": "ranking"},
    ],
    ids=lambda change: str(change)[:40],
)
def test_edited(change, file):
    """A part that does not fit is noticed when the file is read, not half way through the work."""
    metadata, arrays, _ = records.read_record(file)
    state = json.loads(metadata["kernreg.table"]) | change
    records.write_record(file, arrays, metadata | {"kernreg.table": json.dumps(state)})
    with pytest.raises(ModelFileError, match="damaged"):
        TableModel.load(file)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "null"])
def test_damaged_header(text, file):
    metadata, arrays, _ = records.read_record(file)
    records.write_record(file, arrays, metadata | {"kernreg.table": text})
    with pytest.raises(ModelFileError, match="damaged"):
        TableModel.load(file)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SafetensorError("no room")]
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_failed_write_leaves_everything_as_it_was(
    error, exists, regression, tmp_path, monkeypatch
):
    """safetensors reports a full disk by an error of its own."""
    path = tmp_path / "model"
    if exists:
        regression.folds[0].model.save(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fail(arrays, name, metadata):
        raise error

    monkeypatch.setattr(records, "save_file", fail)
    with pytest.raises(OSError, match=r"No space left|no room"):
        regression.folds[0].model.save(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_missing_folder_is_named(regression, tmp_path):
    with pytest.raises(OSError, match="missing") as caught:
        regression.folds[0].model.save(tmp_path / "missing" / "model")
    # The user never asked for the hidden draft beside it.
    assert ".tmp" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_unreadable_names(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model file"):
        TableModel.load(tmp_path / "nothing")
    load("iris").X.tofile(tmp_path / "raw")
    with pytest.raises(ModelFileError, match="not a kernreg model"):
        TableModel.load(tmp_path / "raw")
