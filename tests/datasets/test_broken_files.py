"""Files that are truncated, damaged, or something else than their name says."""

import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pytest

from kernreg.datasets import load
from kernreg.exceptions import InvalidInputError

X = np.random.default_rng(5).standard_normal((40, 3))
FRAME = pd.DataFrame(X, columns=["a", "b", "y"])
CSV = FRAME.to_csv(index=False).encode()


def parquet(path):
    FRAME.to_parquet(path)


def npy(path):
    np.save(path, X)


def npz(path):
    np.savez(path, X=X[:, :2], y=X[:, 2])


def npz_compressed(path):
    np.savez_compressed(path, X=X[:, :2], y=X[:, 2])


BINARY = [(parquet, "parquet"), (npy, "npy"), (npz, "npz"), (npz_compressed, "npz")]
COMPRESSIONS = pytest.mark.parametrize(
    ("module", "suffix"), [(gzip, "gz"), (bz2, "bz2"), (lzma, "xz")]
)


@pytest.mark.parametrize(("write", "suffix"), BINARY)
def test_every_truncation_is_noticed(write, suffix, tmp_path):
    path = tmp_path / f"t.{suffix}"
    write(path)
    whole = path.read_bytes()
    for cut in {1, 4, 7, len(whole) - 1, *range(10, len(whole), len(whole) // 20)}:
        path.write_bytes(whole[:cut])
        with pytest.raises(InvalidInputError, match=f"t.{suffix}"):
            load(path)


@pytest.mark.parametrize(("write", "suffix"), BINARY)
def test_damage_is_an_error_that_names_the_file_or_does_no_harm(write, suffix, tmp_path):
    """Formats without checksums cannot notice every flipped bit, but none may end in a crash."""
    path = tmp_path / f"t.{suffix}"
    write(path)
    whole = path.read_bytes()
    errors = 0
    for place in range(8, len(whole) - 8, max(1, len(whole) // 30)):
        damaged = bytes(byte ^ 0x5A for byte in whole[place : place + 6])
        path.write_bytes(whole[:place] + damaged + whole[place + 6 :])
        try:
            assert np.isfinite(load(path).X).all()
        except InvalidInputError:
            errors += 1
    assert errors > 0


@COMPRESSIONS
def test_truncated_compression(module, suffix, tmp_path):
    path = tmp_path / f"t.csv.{suffix}"
    whole = module.compress(CSV)
    for share in (0.1, 0.5, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InvalidInputError, match=f"t.csv.{suffix} cannot be read"):
            load(path)


@COMPRESSIONS
def test_damaged_compression(module, suffix, tmp_path):
    path = tmp_path / f"t.csv.{suffix}"
    whole = module.compress(CSV)
    path.write_bytes(whole[:40] + bytes(40) + whole[80:])
    with pytest.raises(InvalidInputError, match=f"t.csv.{suffix} cannot be read"):
        load(path)


@COMPRESSIONS
def test_plain_text_with_the_name_of_a_compressed_file(module, suffix, tmp_path):
    path = tmp_path / f"t.csv.{suffix}"
    path.write_bytes(CSV)
    with pytest.raises(InvalidInputError, match=f"t.csv.{suffix} cannot be read"):
        load(path)


def test_truncated_text(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n1,2,3\n2,3,4\n3,4\n")
    with pytest.raises(InvalidInputError, match="line 4 has 2 values"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is an empty file"),
        (b"\n\n", "holds no rows, only blank lines"),
        (b"a,b,y\n", "has 0 rows and 3 columns"),
        (b"y\n1\n2\n", "one column, 'y', and so no inputs"),
        (b"a,b,y\n1,2,3\n1,2,3,4\n", "header has 3 names .*but line 3 has 4 values"),
        (b"a,b,y\n\x81,2,3\n", "neither UTF-8 nor Windows-1252"),
        (bytes(range(256)) * 4, "it is no text"),
        (bytes(100), "it is no text"),
    ],
    ids=["empty", "blank", "header", "one column", "ragged", "encoding", "binary", "zeros"],
)
def test_text_that_is_no_table(content, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=message) as caught:
        load(path)
    assert "t.csv" in str(caught.value)


def csv(file):
    file.write(CSV)


@pytest.mark.parametrize(
    ("write", "suffix"),
    [
        (write, suffix)
        for write in (csv, npz, npy, parquet)
        for suffix in ("npy", "npz", "parquet")
        if write.__name__ != suffix
    ],
)
def test_another_format_under_a_wrong_name(write, suffix, tmp_path):
    path = tmp_path / f"t.{suffix}"
    with path.open("wb") as file:
        write(file)
    with pytest.raises(InvalidInputError, match=f"t.{suffix}") as caught:
        load(path)
    # A table under the name of an array is not a file of Python objects.
    assert "objects" not in str(caught.value)


def test_files_of_other_types(tmp_path):
    for name in ("t.xlsx", "t", "t.json"):
        (tmp_path / name).write_bytes(CSV)
        with pytest.raises(InvalidInputError, match=r"are not read; expected \.csv"):
            load(tmp_path / name)
    with pytest.raises(InvalidInputError, match="is a folder; expected a CSV"):
        load(tmp_path)
