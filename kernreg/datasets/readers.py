"""Files and scikit-learn sets as they are, before any decision about columns."""

from __future__ import annotations

import csv
import math
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kernreg._wording import counted, did_you_mean, listed
from kernreg.exceptions import InvalidInputError

__all__ = ["BUILTIN", "Source", "read"]

BUILTIN = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Names of the sets that scikit-learn carries."""

_PARQUET = (".parquet", ".pq")
_TABLES = (".csv", ".tsv", ".txt", *_PARQUET)
_USUAL_TARGETS = ("target", "y", "label", "class")


@dataclass(frozen=True)
class Source:
    """What a file or a set holds.

    Parameters
    ----------
    name : str
        Short name for messages and file names.
    features : DataFrame or ndarray of shape (n, d)
        The inputs.
    y : ndarray of shape (n,) or None
        The target; None if the source has none.
    target_name : str or None
        What the target is called.
    test_mask : ndarray of bool of shape (n, n_splits) or None
        Test rows of each split that the source prescribes.
    task : {"regression", "classification"} or None
        None if the source does not say.
    notes : tuple of str
        Decisions that the user should see.
    """

    name: str
    features: Any
    y: np.ndarray | None = None
    target_name: str | None = None
    test_mask: np.ndarray | None = None
    task: str | None = None
    notes: tuple[str, ...] = ()


def read(data: str, target: str | None = None, *, need_target: bool = True) -> Source:
    """Read a scikit-learn set by name, or a file by its extension.

    Parameters
    ----------
    data : str
        Name of a set or path of a CSV, TSV, Parquet, NPZ or NPY file.
    target : str, optional
        Column (tables), array name (NPZ) or column number (NPY) of the target.
    need_target : bool
        Without it a missing target is fine, and no column of a table is taken for one unless
        ``target`` names it; an NPY file is returned whole.

    Raises
    ------
    InvalidInputError
        If there is no such set or file, or it cannot be used.
    """
    if data in BUILTIN:
        return _builtin(data, target if need_target else None)
    path = Path(data)
    if not path.exists():
        raise InvalidInputError(
            f"There is no file {data!r} and no scikit-learn set of that name; the sets are "
            f"{', '.join(BUILTIN)}.{did_you_mean(data, BUILTIN)}"
        )
    if path.is_dir():
        raise InvalidInputError(f"{data} is a folder; expected a CSV, Parquet, NPZ or NPY file.")
    if path.stat().st_size == 0:
        raise InvalidInputError(f"{data} is an empty file.")
    suffix = Path(path.stem).suffix if path.suffix in (".gz", ".bz2", ".xz") else path.suffix
    if suffix in _TABLES:
        return _table(path, suffix, target, need_target)
    if suffix == ".npz":
        return _npz(path, target, need_target)
    if suffix == ".npy":
        return _npy(path, target, need_target)
    raise InvalidInputError(
        f"{data}: files of type {suffix or 'no extension'!r} are not read; expected .csv, .tsv, "
        ".parquet, .npz or .npy."
    )


def _builtin(name: str, target: str | None) -> Source:
    from sklearn import datasets

    if target is not None:
        raise InvalidInputError(f"The set {name!r} has its own target; leave out --target.")
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    y = bunch.target.to_numpy()
    task = "regression" if name == "diabetes" else "classification"
    if task == "classification":
        y = np.asarray(bunch.target_names)[y]
    return Source(name, bunch.data, y, "target", task=task)


def _table(path: Path, suffix: str, target: str | None, need_target: bool) -> Source:
    frame = _guarded(path, lambda: _frame(path, suffix))
    frame.columns = [str(c).strip() for c in frame.columns]
    _check_names(path, frame.columns)
    if frame.shape[1] == 0 or len(frame) == 0:
        rows, columns = counted(len(frame), "row"), counted(frame.shape[1], "column")
        raise InvalidInputError(f"{path} has {rows} and {columns}.")
    name = path.name.split(".")[0]
    notes: tuple[str, ...] = ()
    if target is None and not need_target:
        return Source(name, frame)
    if target is None:
        target = next((c for c in _USUAL_TARGETS if c in frame.columns), frame.columns[-1])
        notes = (f"The target is the column {target!r}; choose another with --target.",)
    if target not in frame.columns:
        if not need_target:
            return Source(name, frame)
        raise InvalidInputError(_no_column(path, target, list(frame.columns)))
    index = _index(frame, target) if need_target and suffix not in _PARQUET else []
    if index:
        frame = frame.drop(columns=index)
        notes += (
            "Left out the unnamed first column, whose whole numbers differ in all rows as an index "
            "does; give it a name to use it.",
        )
    if frame.shape[1] == 1:
        beside = " beside an index" if index else ""
        raise InvalidInputError(f"{path} has one column{beside}, {target!r}, and so no inputs.")
    return Source(name, frame.drop(columns=target), _column(frame[target]), target, notes=notes)


def _index(frame: pd.DataFrame, target: str) -> list[str]:
    """The columns that ``DataFrame.to_csv`` wrote in front, one each time that it was called."""
    found: list[str] = []
    for name in frame.columns.drop(target):
        # What pandas calls columns without a name on the way back.
        unnamed = re.fullmatch(r"Unnamed: 0(\.\d+)?", name)
        column = frame[name]
        if not (unnamed and pd.api.types.is_integer_dtype(column) and column.is_unique):
            break
        found.append(name)
    return found


def _frame(path: Path, suffix: str) -> pd.DataFrame:
    if suffix in _PARQUET:
        return pd.read_parquet(path)
    separator = "\t" if suffix == ".tsv" else _separator(path)
    frame = pd.read_csv(path, sep=separator)
    if separator != "," and any(_decimal_commas(frame[name]) for name in frame.columns):
        return pd.read_csv(path, sep=separator, decimal=",")
    return frame


def _separator(path: Path) -> str:
    """What stands between the column names; the comma if nothing does."""
    whole = {"sep": "\x01", "header": None, "nrows": 1, "quoting": csv.QUOTE_NONE, "dtype": str}
    header = re.sub('"[^"]*"', "", str(pd.read_csv(path, **whole).iloc[0, 0]))
    return max(",;\t|", key=header.count)


def _decimal_commas(column: pd.Series) -> bool:
    """Whether a column of text holds numbers such as 1,5 only."""
    if pd.api.types.is_numeric_dtype(column):
        return False
    text = column.dropna().astype(str)
    return bool(text.str.fullmatch(r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?").all()) and len(text) > 0


def _column(column: pd.Series) -> np.ndarray:
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_numeric_dtype(column) and column.isna().any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = column.to_numpy()
    return values if values.dtype.kind in "biufc" else column.astype(object).to_numpy()


def _npz(path: Path, target: str | None, need_target: bool) -> Source:
    name, target = path.stem, target or "y"
    arrays = _guarded(path, lambda: _arrays(path, target))
    X, y = _joined(path, arrays, "X"), _joined(path, arrays, target)
    if X is not None:
        X, mask = _matrix(path, X), np.arange(len(X)) >= len(arrays["X_train"])
    elif "X" in arrays:
        X, y = _matrix(path, arrays["X"]), arrays.get(target)
        mask = arrays.get("test_mask", arrays.get("is_test"))
    else:
        raise InvalidInputError(
            f"{path} holds the arrays {', '.join(sorted(arrays)) or 'none'}; expected X and y, or "
            "X_train, y_train, X_test and y_test."
        )
    if y is None and need_target:
        raise InvalidInputError(
            f"{path} holds no target {target!r} beside X; its arrays are "
            f"{', '.join(sorted(arrays))}. Name one with --target."
        )
    if y is not None:
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != (len(X),):
            raise InvalidInputError(
                f"{path}: X has {counted(len(X), 'row')}, {target} has shape {y.shape}."
            )
    names = arrays.get("feature_names")
    features = X
    if names is not None and names.shape == (X.shape[1],) and X.dtype.kind != "V":
        features = pd.DataFrame(X, columns=[str(c) for c in names])
        _check_names(path, features.columns)
    return Source(name, features, y, target if y is not None else None, _mask(path, mask, len(X)))


def _arrays(path: Path, target: str) -> dict[str, np.ndarray]:
    # Not np.load, which takes every file of another format for a pickle.
    wanted = {"X", "X_train", "X_test", "test_mask", "is_test", "feature_names"}
    with zipfile.ZipFile(path) as file:
        names = [n.removesuffix(".npy") for n in file.namelist() if n.endswith(".npy")]
        return {
            name: np.lib.format.read_array(file.open(f"{name}.npy"), allow_pickle=False)
            for name in names
            if name in wanted or name.startswith(("y", target)) or len(names) < 9
        }


def _joined(path: Path, arrays: dict[str, np.ndarray], name: str) -> np.ndarray | None:
    """The rows for training and then those for the test; None unless the file has both."""
    train, test = arrays.get(f"{name}_train"), arrays.get(f"{name}_test")
    if train is None or test is None:
        return None
    if train.ndim == 0 or train.ndim != test.ndim or train.shape[1:] != test.shape[1:]:
        raise InvalidInputError(
            f"{path}: {name}_train has shape {train.shape} and {name}_test has shape "
            f"{test.shape}; they may differ in the number of rows only."
        )
    return np.asarray(_guarded(path, lambda: np.concatenate([train, test])))


def _mask(path: Path, mask: np.ndarray | None, n: int) -> np.ndarray | None:
    if mask is None:
        return None
    if mask.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{path}: the test mask holds values of type {mask.dtype}; expected booleans, or 0 and "
            "1."
        )
    mask = _flat(np.atleast_1d(mask)) != 0
    share = mask.mean(axis=0) if mask.size else np.zeros(1)
    if len(mask) != n or not ((share > 0) & (share < 1)).all():
        raise InvalidInputError(
            f"{path}: the test mask has shape {mask.shape}; expected ({n}, splits) with test and "
            "training rows in every split."
        )
    return mask


def _npy(path: Path, target: str | None, need_target: bool) -> Source:
    array = _matrix(path, _guarded(path, lambda: _array(path)))
    name, columns = path.stem, array.shape[1]
    if not need_target:
        return Source(name, array)
    try:
        index = range(columns)[int(target if target is not None else -1)]
    except (ValueError, IndexError):
        known = [str(i) for i in range(columns)]
        raise InvalidInputError(_no_column(path, str(target), known)) from None
    if columns < 2:
        raise InvalidInputError(f"{path} has one column, the target, and so no inputs.")
    notes = () if target else (f"The target is column {index}, the last; see --target.",)
    y = array[:, index]
    return Source(name, np.delete(array, index, axis=1), y, f"column {index}", notes=notes)


def _array(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _matrix(path: Path, array: np.ndarray) -> np.ndarray:
    if array.ndim < 2:
        raise InvalidInputError(
            f"{path}: expected an array of shape (rows, columns), found shape {array.shape}."
        )
    if 0 in array.shape[1:]:
        raise InvalidInputError(f"{path}: the array of shape {array.shape} has no columns.")
    return _flat(array)


def _flat(array: np.ndarray) -> np.ndarray:
    return array.reshape(len(array), math.prod(array.shape[1:]))


def _check_names(path: Path, names: pd.Index) -> None:
    double = names[names.duplicated()].unique()
    if len(double):
        raise InvalidInputError(f"{path}: column names occur twice: {', '.join(double)}.")


def _no_column(path: Path, target: str, columns: list[str]) -> str:
    hint = did_you_mean(target, columns)
    return f"{path} has no target column {target!r}; its columns are {listed(columns, 12)}.{hint}"


def _guarded(path: Path, load: Callable[[], Any]) -> Any:
    """Whatever a parser objects to, as one kind of error that names the file.

    Damaged files make parsers and decompressors fail in ways that no short list covers.
    """
    try:
        return load()
    except Exception as error:
        if "Object arrays" in str(error):
            raise InvalidInputError(
                f"{path} holds arrays of Python objects, which are not read because loading them "
                "can run code; save numbers or strings instead."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInputError(f"{path} cannot be read: {reason}.") from error
