"""Files that are no models, folders that cannot be written, and writes that fail half way."""

import json
import os
import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from safetensors.numpy import save_file
from sklearn.exceptions import NotFittedError

import kernreg
from kernreg import KernelClassifier, KernelRegressor, nn
from kernreg.exceptions import KernregError, ModelFileError
from kernreg.operators.store import records
from tests.permissions import unprivileged

X = np.random.default_rng(5).standard_normal((20, 3))


@pytest.fixture
def model():
    return KernelRegressor(nn.mlp(depth=1), alpha=[0.1, 1.0]).fit(X, X[:, :2])


@pytest.fixture
def saved(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def public_folder():
    """A folder that other users may look into; pytest's own may not be."""
    folder = Path(tempfile.mkdtemp(prefix="kernreg-test-"))
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def test_every_truncation_is_noticed(saved):
    whole = saved.read_bytes()
    cuts = {0, 1, 7, 8, 9, len(whole) - 1, *range(10, len(whole), len(whole) // 40)}
    for cut in sorted(cuts):
        saved.write_bytes(whole[:cut])
        with pytest.raises(ModelFileError, match=r"model\.safetensors is not a kernreg .*truncat"):
            kernreg.load(saved)
    saved.write_bytes(whole + b"\0")
    with pytest.raises(ModelFileError):
        kernreg.load(saved)


@pytest.mark.parametrize(
    "content",
    [
        b"a,b,c\n1,2,3\n4,5,6\n",
        pickle.dumps(np.ones(3)),
        b"PK\x03\x04" + bytes(200),
        b"\x93NUMPY\x01\x00" + bytes(200),
        bytes(64),
        np.random.default_rng(0).bytes(1000),
    ],
    ids=["csv", "pickle", "zip", "npy", "zeros", "noise"],
)
def test_foreign_files(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ModelFileError, match="is not a kernreg model") as caught:
        kernreg.load(tmp_path / "file")
    assert isinstance(caught.value, KernregError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"kernreg": "[1]"}, {"kernreg": '{"format": "other"}'}]
)
def test_safetensors_files_of_others(metadata, tmp_path):
    save_file({"weight": np.ones(3)}, tmp_path / "file", metadata=metadata)
    with pytest.raises(ModelFileError, match="a safetensors file but not a kernreg model"):
        kernreg.load(tmp_path / "file")


@pytest.mark.parametrize("text", ["{", "", "{'format': 1}"])
def test_damaged_header(text, tmp_path):
    save_file({"weight": np.ones(3)}, tmp_path / "file", metadata={"kernreg": text})
    with pytest.raises(ModelFileError, match="damaged header"):
        kernreg.load(tmp_path / "file")


def edit(path, header=None, arrays=None, without=()):
    """Write the model file again with some of it replaced, as somebody would who knows the hash."""
    texts, tensors, _ = records.read_record(path)
    old = json.loads(texts["kernreg"])
    tensors |= arrays or {}
    tensors = {name: array for name, array in tensors.items() if name not in without}
    old = {k: v for k, v in (old | (header or {})).items() if k not in without}
    records.write_record(path, tensors, {"kernreg": json.dumps(old)})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"version": 99}, r"format version 99.*reads version 3.*the kernreg that wrote it"),
        ({"class": "KernelOracle"}, r"class 'KernelOracle'.*knows EnsembleRegressor"),
        ({"class": ["KernelRegressor"]}, "class"),
        ({"class": "KernelClassifier"}, "damaged"),
        ({"params": {"colour": "red"}}, "damaged.*colour"),
        ({"params": [1]}, "damaged"),
        ({"fitted_network": {"layer": "Oracle"}}, "damaged.*Oracle"),
        ({"fitted_network": {"layer": "Relu"}}, "damaged|Relu"),
        ({"plan": {"class": "os", "fields": {}}}, "fitted with os, which is not known.*edited"),
        ({"status": "FINE"}, "damaged.*FINE"),
    ],
)
def test_edited_headers(header, message, saved):
    edit(saved, header)
    with pytest.raises(ModelFileError, match=message):
        kernreg.load(saved)


@pytest.mark.parametrize("name", ["X_fit", "dual_coef", "y_mean", "loo_alphas", "plan", "params"])
def test_parts_that_are_missing(name, saved):
    edit(saved, without=(name,))
    with pytest.raises(ModelFileError, match=f"damaged.*{name}"):
        kernreg.load(saved)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("X_fit", X[:5]),
        ("X_fit", X[:, 0].copy()),
        ("dual_coef", np.ones((21, 2))),
        ("y_mean", np.ones(3)),
        ("dual_coef", np.ones((20, 3))),
    ],
)
def test_arrays_that_do_not_belong_together(name, array, saved):
    edit(saved, arrays={name: array})
    with pytest.raises(ModelFileError, match="damaged"):
        kernreg.load(saved)


def test_wrong_class_says_how_to_load_it(saved):
    with pytest.raises(ModelFileError, match=r"KernelRegressor, not a KernelClassifier; load it"):
        KernelClassifier.load(saved)
    assert isinstance(KernelRegressor.load(saved), KernelRegressor)


def test_missing_files(tmp_path, model):
    with pytest.raises(FileNotFoundError, match=r"no model file .*nothing"):
        kernreg.load(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="no model file"):
        kernreg.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*missing"):
        model.save(tmp_path / "missing" / "model")
    assert not (tmp_path / "missing").exists()


def test_a_model_that_is_not_fitted_is_not_saved(tmp_path):
    with pytest.raises(NotFittedError):
        KernelRegressor().save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_read_only_folder(model, public_folder):
    model.save(public_folder / "model")
    old = (public_folder / "model").read_bytes()
    public_folder.chmod(0o555)
    with unprivileged(), pytest.raises(OSError, match=r"Cannot save to .*model: Permission denied"):
        model.save(public_folder / "model")
    assert [path.name for path in public_folder.iterdir()] == ["model"]
    assert (public_folder / "model").read_bytes() == old


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="needs POSIX permissions")
def test_unreadable_file(model, public_folder):
    model.save(public_folder / "model")
    (public_folder / "model").chmod(0)
    with unprivileged(), pytest.raises(OSError, match="Permission denied"):
        kernreg.load(public_folder / "model")


def fails_at_once(arrays, name, metadata):
    raise SafetensorError("no room")


def fails_half_way(arrays, name, metadata):
    Path(name).write_bytes(b"half a mod")
    raise OSError(28, "No space left on device")


def is_interrupted(arrays, name, metadata):
    Path(name).write_bytes(b"half a mod")
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("write", "error", "message"),
    [
        (fails_at_once, OSError, "no room. Nothing was written"),
        (fails_half_way, OSError, "No space left on device. Nothing was written"),
        (is_interrupted, KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_a_failed_write_leaves_everything_as_it_was(
    write, error, message, exists, model, tmp_path, monkeypatch
):
    path = tmp_path / "model"
    if exists:
        model.save(path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    monkeypatch.setattr(records, "save_file", write)
    with pytest.raises(error, match=message):
        model.save(path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_a_failed_move_leaves_everything_as_it_was(model, saved, monkeypatch):
    def fail(source, target):
        assert saved.parent in Path(source).parents
        raise PermissionError(13, "Permission denied")

    before = saved.read_bytes()
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="Permission denied"):
        KernelRegressor().fit(X, X[:, 0]).save(saved)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert saved.read_bytes() == before


def test_the_file_appears_whole(model, tmp_path, monkeypatch):
    """A reader at any time finds the old file or the new one."""
    path, seen = tmp_path / "model", []
    write = records.save_file

    def spy(arrays, name, metadata):
        seen.append(path.exists())
        write(arrays, name, metadata)
        seen.append(path.exists())

    monkeypatch.setattr(records, "save_file", spy)
    model.save(path)
    assert seen == [False, False]
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_saving_replaces_a_file_but_not_a_folder(model, saved):
    other = KernelRegressor().fit(X, X[:, 0])
    other.save(saved)
    assert np.array_equal(kernreg.load(saved).predict(X), other.predict(X))
    with pytest.raises(OSError, match="Cannot save to"):
        model.save(saved.parent)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
