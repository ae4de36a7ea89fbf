"""Model files of somebody who knows the hash: refused in bounded time and memory, in one line."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

import kernreg
from kernreg import (
    EnsembleRegressor,
    GaussianProcessClassifier,
    GaussianProcessRegressor,
    KernelClassifier,
    KernelRegressor,
    nn,
)
from kernreg.exceptions import InvalidInputError, ModelFileError, NetworkError
from kernreg.operators.store import records
from kernreg.solvers import Restricted

X = np.random.default_rng(1).standard_normal((15, 3))


def changed(path, model, header=None, arrays=None, texts=None):
    """The file of a model with parts replaced and the right hash; None removes a part."""
    model.save(path)
    old, found, _ = records.read_record(path)
    state = json.loads(old["kernreg"]) | (header or {})
    old["kernreg"] = json.dumps({k: v for k, v in state.items() if v is not Ellipsis})
    found = {k: v for k, v in (found | (arrays or {})).items() if v is not None}
    records.write_record(path, found, old | (texts or {}))


@pytest.fixture
def regressor():
    return KernelRegressor(nn.mlp(depth=1), alpha=[0.1, 1.0]).fit(X, X[:, 0])


@pytest.fixture
def classifier():
    return KernelClassifier(nn.mlp(depth=1)).fit(X, np.array(["a", "b", "c"])[np.arange(15) % 3])


def refused(path, match="damaged"):
    """The error of :func:`kernreg.load`, of one line, in less than 20 MB."""
    tracemalloc.start()
    with pytest.raises(ModelFileError, match=match) as caught:
        kernreg.load(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    assert len(str(caught.value)) < 600
    assert "\n" not in str(caught.value)


DENSE = {"layer": "Dense"}


def nested(depth):
    value = DENSE
    for _ in range(depth):
        value = {"layer": "Serial", "layers": [value]}
    return value


@pytest.mark.parametrize(
    "network",
    [
        nested(101),
        nested(400),
        {"layer": "Mlp", "depth": 10**6},
        {"layer": "Mlp", "depth": 10**300},
        {"layer": "Mlp", "depth": 1e300},
        {"layer": "Repeat", "n": 10**9, "block": DENSE},
        {"layer": "Repeat", "n": 10**4, "block": {"layer": "Repeat", "n": 10**4, "block": DENSE}},
        {"layer": "Serial", "layers": [DENSE, {"layer": "Monomial", "degree": 10**7}]},
        {"layer": "Serial", "layers": [DENSE, {"layer": "Hermite", "coef": 10_000 * [1.0]}]},
        {"layer": "Dense", "W_std": 10**400},
        [[[[DENSE]]]],
        {"layer": {}},
        3,
    ],
    ids=lambda network: str(network)[:50],
)
@pytest.mark.parametrize("place", ["network", "fitted_network"])
def test_networks_without_end(network, place, regressor, tmp_path):
    changed(tmp_path / "model", regressor, {place: network})
    refused(tmp_path / "model")


@pytest.mark.parametrize(
    "text",
    [
        '{"format": "kernreg-model", "x": ' + 600 * "[" + 600 * "]" + "}",
        100_000 * "[",
        "9" * 10_000,
        '{"format": "kernreg-model", "version": 2, "class": "KernelRegressor"}',
    ],
    ids=["nested", "open", "digits", "bare"],
)
def test_headers_that_are_none(text, regressor, tmp_path):
    changed(tmp_path / "model", regressor, texts={"kernreg": text})
    refused(tmp_path / "model", "damaged")


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("<U500000000", ["a", "b", "c"]),
        ("<U100000", ["a", "b", "c"]),
        ("<c16", [1.0, 2.0, 3.0]),
        ("<M8[s]", [1, 2, 3]),
        ("|V100000000", ["a", "b", "c"]),
        ("|S500000000", ["a", "b", "c"]),
        ("object, object", ["a", "b", "c"]),
        ("<U1", ["a", "b", "ccc"]),
        ("|i1", [1, 2, 300]),
        ("|b1", ["a", "b", "c"]),
        ("<i8", ["a", "b", "c"]),
        ("<U1", ["a", "b", "b"]),
        ("<U1", ["a", "b"]),
        ("<U1", ["a", "b", "c", "d"]),
        ("|O", [["a"], ["b"], ["c"]]),
        ("|O", [None, "b", "c"]),
        ("|O", "abc"),
        ("nonsense", ["a", "b", "c"]),
        (["<U1"], ["a", "b", "c"]),
    ],
    ids=str,
)
def test_labels(dtype, values, classifier, tmp_path):
    changed(tmp_path / "model", classifier, {"classes": {"dtype": dtype, "values": values}})
    refused(tmp_path / "model")


def test_labels_of_a_wide_type(tmp_path):
    """An array may be made for longer texts than it holds."""
    labels = np.array(["yes", "no"], dtype="<U300")[np.arange(15) % 2]
    KernelClassifier(nn.mlp(depth=1)).fit(X, labels).save(tmp_path / "model")
    assert kernreg.load(tmp_path / "model").classes_.dtype == np.dtype("<U300")
    labels = labels.astype("<U100000")
    KernelClassifier(nn.mlp(depth=1)).fit(X, labels).save(tmp_path / "model")
    assert kernreg.load(tmp_path / "model").classes_.tolist() == ["no", "yes"]


@pytest.mark.parametrize(
    "arrays",
    [
        {"X_fit": np.full((15, 3), np.nan)},
        {"X_fit": np.ones((15, 3), dtype=np.int64)},
        {"X_fit": np.ones((15, 3), dtype=np.float16)},
        {"X_fit": np.ones((0, 3))},
        {"X_fit": np.ones((15, 0))},
        {"dual_coef": np.full(15, np.inf)},
        {"dual_coef": np.ones(14)},
        {"dual_coef": np.ones((15, 1, 1))},
        {"y_mean": np.array(np.nan)},
        {"y_mean": np.array(3)},
        {"solution": np.ones(7)},
        {"solution": None},
        {"loo_alphas": np.ones(3)},
        {"loo_squared_error": np.ones((2, 2))},
        {"loo_squared_error": np.ones(2, dtype=np.int8)},
    ],
    ids=lambda arrays: f"{next(iter(arrays))} {next(iter(arrays.values()))!s:.30}",
)
def test_arrays(arrays, regressor, tmp_path):
    changed(tmp_path / "model", regressor, arrays=arrays)
    refused(tmp_path / "model")


@pytest.mark.parametrize(
    "header",
    [
        {"feature_names": ["a", "b"]},
        {"feature_names": ["a", "b", 3]},
        {"feature_names": "abc"},
        {"alpha": float("nan")},
        {"alpha": -1.0},
        {"alpha": "large"},
        {"loo_best": 2},
        {"loo_best": -1},
        {"loo_best": "first"},
        {"status": ["OK"]},
        {"stats": {"class": "Plan", "fields": {"many": 1}}},
        {"params": {"network": DENSE}},
        {"params": {"device": ["cpu"]}},
        {"params": {"kernel": "gauss"}},
        {"params": {"dtype": 3}},
        {"params": {"backend": {"name": "cpu"}}},
    ],
    ids=str,
)
def test_headers(header, regressor, tmp_path):
    changed(tmp_path / "model", regressor, header)
    refused(tmp_path / "model")


FIXED = {"optimizer": None, "alpha": 0.1}
SPREADS = {
    "process": GaussianProcessRegressor(nn.mlp(depth=1), **FIXED),
    "centres": GaussianProcessRegressor(nn.mlp(depth=1), solver=Restricted(centres=9), **FIXED),
    "classes": GaussianProcessClassifier(nn.mlp(depth=1), **FIXED),
    "ensemble": EnsembleRegressor(nn.mlp(depth=1)),
}


def spread(name):
    return SPREADS[name].fit(X, np.arange(15) % 2 if name == "classes" else X[:, 0])


@pytest.mark.parametrize("name", SPREADS)
@pytest.mark.parametrize(
    "arrays",
    [
        {"targets": None},
        {"targets": np.ones(15)},
        {"targets": np.ones((15, 2))},
        {"targets": np.full((15, 1), np.nan)},
        {"targets": np.ones((15, 1), dtype=np.float32)},
        {"weights": None},
        {"weights": np.ones(14)},
        {"weights": np.zeros(15)},
        {"weights": np.full(15, np.inf)},
        {"weights": np.ones((15, 1))},
        {"X_fit": np.ones((14, 3))},
        {"dual_coef": np.full(15, np.nan)},
    ],
    ids=lambda arrays: f"{next(iter(arrays))} {next(iter(arrays.values()))!s:.30}",
)
def test_arrays_of_spreads(name, arrays, tmp_path):
    changed(tmp_path / "model", spread(name), arrays=arrays)
    refused(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("process", {"held_out": np.ones(15)}),
        ("process", {"held_out": np.ones((15, 2))}),
        ("process", {"held_out": np.arange(15.0)[::-1, None]}),
        ("process", {"held_out": np.full((15, 1), np.nan)}),
        ("centres", {"features": None}),
        ("centres", {"features": np.ones((8, 9))}),
        ("centres", {"features": np.ones(9)}),
        ("centres", {"features": np.full((9, 9), np.inf)}),
    ],
    ids=str,
)
def test_arrays_of_processes(name, arrays, tmp_path):
    changed(tmp_path / "model", spread(name), arrays=arrays)
    refused(tmp_path / "model")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("process", {"noise": -1.0}),
        ("process", {"noise": float("nan")}),
        ("process", {"noise": float("inf")}),
        ("process", {"noise": "loud"}),
        ("process", {"noise": Ellipsis}),
        ("process", {"log_likelihood": "high"}),
        ("process", {"log_likelihood": Ellipsis}),
        ("process", {"params": {"optimizer": "adam"}}),
        ("process", {"params": {"alpha": "auto"}}),
        ("classes", {"calibration": {}}),
        ("classes", {"calibration": 3}),
        ("ensemble", {"largest_learning_rate": "fast"}),
        ("ensemble", {"largest_learning_rate": Ellipsis}),
        ("ensemble", {"params": {"loss": "hinge"}}),
        ("ensemble", {"params": {"momentum": 2.0}}),
        ("ensemble", {"params": {"store": "folder"}}),
    ],
    ids=str,
)
def test_headers_of_spreads(name, header, tmp_path):
    changed(tmp_path / "model", spread(name), header)
    refused(tmp_path / "model")


@pytest.mark.parametrize("name", ["power", "sharpness", "shrinkage", "rows"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "many", None, [1.0]], ids=str)
@pytest.mark.parametrize("model", ["classifier", "process"])
def test_calibrations(model, name, value, classifier, tmp_path):
    model = classifier if model == "classifier" else spread("classes")
    numbers = {"power": 1.0, "sharpness": 1.0, "shrinkage": 0.0, "rows": 15}
    changed(tmp_path / "model", model, {"calibration": numbers | {name: value}})
    refused(tmp_path / "model")


@pytest.mark.parametrize("device", ["cuda:999", "cuda:128", "cuda:99999999999", "cuda:5"])
def test_devices_that_are_not_there(device, regressor, tmp_path):
    expected = regressor.predict(X)
    regressor.set_params(device=device).save(tmp_path / "model")
    with pytest.warns(UserWarning, match=f"device={device!r}, which is not there"):
        found = kernreg.load(tmp_path / "model")
    assert np.array_equal(found.predict(X), expected)


@pytest.mark.parametrize("device", ["tpu", "mps:3", "cuda:999"])
def test_devices_of_another_kind(device, regressor):
    with pytest.raises(InvalidInputError, match="device"):
        regressor.set_params(device=device).fit(X, X[:, 0])


def test_a_file_without_its_hash(regressor, tmp_path):
    path = tmp_path / "model"
    regressor.save(path)
    texts, arrays, _ = records.read_record(path)
    records.save_file(arrays, path, metadata=texts)
    refused(path, "damaged or was edited: it has no hash")


def test_a_file_of_the_first_version(regressor, tmp_path):
    path = tmp_path / "model"
    regressor.save(path)
    texts, arrays, _ = records.read_record(path)
    old = json.loads(texts["kernreg"]) | {"version": 1}
    records.save_file(arrays, path, metadata={"kernreg": json.dumps(old)})
    with pytest.warns(UserWarning, match="before model files had a hash.*save the model again"):
        found = kernreg.load(path)
    assert np.array_equal(found.predict(X), regressor.predict(X))


def test_a_file_from_before_scales(regressor, tmp_path):
    path = tmp_path / "model"
    regressor.save(path)
    texts, arrays, _ = records.read_record(path)
    old = json.loads(texts["kernreg"]) | {"version": 2}
    del old["params"]["scale"]
    records.write_record(path, arrays, {"kernreg": json.dumps(old)})
    found = kernreg.load(path)
    assert found.scale is None
    assert np.array_equal(found.predict(X), regressor.predict(X))


def test_what_cannot_be_read_again_is_not_saved(regressor, tmp_path):
    regressor.network_ = nn.mlp(depth=10**6)
    with pytest.raises(NetworkError, match="at most 50000 can be read"):
        regressor.save(tmp_path / "model")
    regressor.network_ = nn.mlp(depth=1)
    regressor.dual_coef_ = np.full(15, np.nan)
    with pytest.raises(InvalidInputError, match=r"cannot be saved.*NaN or infinity in dual_coef"):
        regressor.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
