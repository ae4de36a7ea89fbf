"""Model files that are truncated, of others, or not there."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from kernreg import KernelRegressor


@pytest.fixture
def model(baseline_folder, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((baseline_folder / "model.safetensors").read_bytes())
    return path


def test_truncated(model, refused, tables, empty):
    whole = model.read_bytes()
    for cut in (0, 4, 20, len(whole) // 2, len(whole) - 1):
        model.write_bytes(whole[:cut])
        message = refused("predict", model, tables.prices, "--out", empty / "p.csv")
        assert message == f"{model} is not a kernreg model, or it is truncated."


@pytest.mark.parametrize(
    "content",
    [b"PK\x03\x04" + bytes(100), bytes(64), b"\x80\x04K\x01."],
    ids=["zip", "zeros", "pickle"],
)
def test_foreign(content, tmp_path, refused, tables, empty):
    (tmp_path / "file").write_bytes(content)
    message = refused("predict", tmp_path / "file", tables.prices, "--out", empty / "p.csv")
    assert "is not a kernreg model" in message


def test_safetensors_of_others(tmp_path, refused, tables, empty):
    save_file({"weight": np.ones(3)}, tmp_path / "file")
    message = refused("predict", tmp_path / "file", tables.prices, "--out", empty / "p.csv")
    assert "a safetensors file but not a kernreg model" in message


def test_bare_estimator(tmp_path, refused, tables, empty):
    KernelRegressor().fit(np.eye(4), np.arange(4.0)).save(tmp_path / "file")
    message = refused("predict", tmp_path / "file", tables.prices, "--out", empty / "p.csv")
    assert "bare estimator" in message


def test_missing(tmp_path, refused, tables, empty):
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "nothing", tmp_path / "folder"):
        message = refused("predict", path, tables.prices, "--out", empty / "p.csv")
        assert f"no model file {path}" in message


def test_the_model_is_read_before_the_data(tmp_path, refused):
    """One problem at a time, the first first."""
    assert "no model file" in refused("predict", tmp_path / "nothing", "nothing.csv")


def test_swapped(baseline_folder, model, refused, tables):
    for data in (tables.prices, "iris"):
        for place in (baseline_folder, model):
            assert refused("predict", data, place) == (
                f"{data} is no model, but {place} is one: the model comes first, kernreg predict "
                f"{place} {data}."
            )
    message = refused("predict", tables.prices, tables.prices)
    assert message == f"{tables.prices} is not a kernreg model, or it is truncated."


def test_a_model_in_place_of_the_data(model, refused):
    message = refused("predict", model, model)
    assert "is a model, not data" in message
