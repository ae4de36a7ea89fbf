"""Files and scikit-learn sets: which columns are inputs, target and names of the rows."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from kernreg.datasets.arrays import guarded, read_npy, read_npz
from kernreg.datasets.content import COMPRESSIONS
from kernreg.datasets.delimited import UNNAMED, read_delimited
from kernreg.datasets.names import BUILTIN, file_of
from kernreg.datasets.problems import all_of
from kernreg.datasets.svmlight import SVMLIGHT, read_svmlight
from kernreg.datasets.text import (
    Commas,
    are_codes,
    as_booleans,
    as_numbers,
    find_commas,
    look_like_thousands,
    raw_text,
    stripped,
)
from kernreg.exceptions import InvalidInputError
from kernreg.wording import counted, did_you_mean, listed

__all__ = ["Source", "numbers_of", "read", "read_table"]


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
    ids : ndarray of shape (n,) or None
        Names of the rows, as they stand in the file.
    names : tuple of str
        All columns of a table, in order.
    commas : {"decimal", "thousands"} or None
        What commas in numbers mean.
    shape : tuple of int or None
        Of the images that rows hold.
    """

    name: str
    features: Any
    y: np.ndarray | None = None
    target_name: str | None = None
    test_mask: np.ndarray | None = None
    task: str | None = None
    notes: tuple[str, ...] = ()
    ids: np.ndarray | None = None
    names: tuple[str, ...] = ()
    commas: Commas | None = None
    shape: tuple[int, ...] | None = None


def read(
    data: str,
    target: str | None = None,
    *,
    drop: Sequence[str] = (),
    id_name: str | None = None,
    header: bool = True,
    need_target: bool = True,
    max_memory: int | None = None,
    features: Sequence[str] = (),
) -> Source:
    """Read a scikit-learn set by name, or a file by its extension.

    Parameters
    ----------
    data : str
        Name of a set or path of a CSV, TSV, Parquet, NPZ, NPY or svmlight file.
    target : str, optional
        Column (tables), array name (NPZ) or column number (NPY) of the target.
    drop : sequence of str
        Columns of a table to leave out, or several with commas between.
    id_name : str, optional
        Column of a table that names the rows.
    header : bool
        Whether the first line of a text file has names.
    need_target : bool
        Without it a missing target is fine, and an NPY file is returned whole. Tables are then
        read by :func:`read_table`.
    max_memory : int, optional
        Bytes that the arrays of an NPZ, NPY or svmlight file may have.
    features : sequence of str
        Those that a model knows, for an svmlight file, which does not say how many there are.

    Raises
    ------
    InvalidInputError
        If there is no such set or file, or it cannot be used.
    MemoryBudgetError
        If the arrays are larger than allowed; before they are read.
    """
    if data in BUILTIN:
        return _builtin(data, target if need_target else None, drop, id_name)
    path = file_of(data)
    suffix = _suffix(path)
    table = read_table(data, header=header)
    if table is not None:
        return _table(path, *table, target, drop, id_name)
    if drop or id_name is not None:
        raise InvalidInputError(
            f"{path} holds arrays; columns to drop or to name rows by are for tables."
        )
    if suffix in SVMLIGHT:
        if target not in (None, "label"):
            raise InvalidInputError(
                f"{path} has one target, its labels; leave out --target {target}."
            )
        rows, labels = read_svmlight(path, max_memory, features)
        return Source(path.name.split(".")[0], rows, labels, "label")
    if suffix == ".npz":
        arrays = read_npz(path, target or "y", need_target, max_memory)
        inputs: Any = arrays.X
        if arrays.names is not None and arrays.X.dtype.kind != "V":
            inputs = pd.DataFrame(arrays.X, columns=list(arrays.names))
            _check_names(path, inputs.columns)
        known = target or "y" if arrays.y is not None else None
        return Source(path.stem, inputs, arrays.y, known, arrays.test_mask, shape=arrays.shape)
    return _npy(path, target, need_target, max_memory)


def read_table(data: str, *, header: bool = True) -> tuple[str, pd.DataFrame, list[str]] | None:
    """A short name, all columns, and notes for a CSV, TSV or Parquet file; else None."""
    if data in BUILTIN:
        return None
    path = file_of(data)
    suffix = _suffix(path)
    if suffix not in _TABLES:
        return None
    name = path.name.split(".")[0]
    if suffix not in _PARQUET:
        frame, notes = guarded(path, lambda: read_delimited(path, header=header))
    else:
        frame, notes = guarded(path, lambda: pd.read_parquet(path)), []
        if not isinstance(frame.index, pd.RangeIndex):
            # Levels with a name can be asked for; they are left out like others without.
            levels = frame.index.names
            plain = frame.reset_index()
            count = len(plain.columns) - len(frame.columns)
            fresh = [n or f"Unnamed: {j}" for j, n in enumerate(levels)]
            frame = plain.set_axis([*fresh, *plain.columns[count:]], axis=1)
            notes = [f"its index ({listed(fresh)}) is no input"]
            frame.attrs["index"] = fresh
        frame.columns = [str(c).strip() for c in frame.columns]
    if frame.shape[1] == 0 or len(frame) == 0:
        rows, columns = counted(len(frame), "row"), counted(frame.shape[1], "column")
        raise InvalidInputError(f"{path} has {rows} and {columns}.")
    return name, frame, notes


def numbers_of(text: pa.ChunkedArray, commas: Commas | None) -> np.ndarray | None:
    """The numbers of a column of text; None if it holds other text."""
    numbers = as_numbers(text, commas)
    return as_booleans(text) if numbers is None else numbers


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix in COMPRESSIONS:
        suffix = Path(path.stem).suffix.lower()
    if not path.is_file() and not suffix:
        return ".csv"  # a pipe of the shell
    if suffix not in (*_TABLES, *SVMLIGHT, ".npz", ".npy"):
        raise InvalidInputError(
            f"{path}: files of type {suffix or 'no extension'!r} are not read; expected .csv, "
            ".tsv, .txt, .parquet, .npz, .npy or .svm."
        )
    return suffix


def _builtin(name: str, target: str | None, drop: Sequence[str], id_name: str | None) -> Source:
    from sklearn import datasets

    if target is not None:
        raise InvalidInputError(f"The set {name!r} has its own target; leave out --target.")
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.data
    drop = _split(drop, list(frame.columns))
    for column in (*drop, *filter(None, [id_name])):
        _check_column(name, column, list(frame.columns), "column")
    y = bunch.target.to_numpy()
    task = "regression" if name == "diabetes" else "classification"
    if task == "classification":
        y = np.asarray(bunch.target_names)[y]
    ids = None if id_name is None else frame[id_name].to_numpy()
    names = tuple(frame.columns)
    frame = frame.drop(columns=list({*drop, *filter(None, [id_name])}))
    return Source(name, frame, y, "target", task=task, ids=ids, names=names)


def _table(
    path: Path,
    name: str,
    frame: pd.DataFrame,
    notes: list[str],
    target: str | None,
    drop: Sequence[str],
    id_name: str | None,
) -> Source:
    names = [str(c) for c in frame.columns]
    index = [
        n for n in dict.fromkeys(names) if UNNAMED.fullmatch(n) or n in frame.attrs.get("index", ())
    ]
    drop = _split(drop, names)
    roles = [(id_name, "id column"), (target, "target column")]
    roles += [(name, "column to drop") for name in drop]
    asked = [(name, what) for name, what in roles if name is not None]
    all_of(*(partial(_check_column, str(path), c, names, what) for c, what in asked))
    if target is not None and target in (*drop, id_name):
        raise InvalidInputError(
            f"The target {target!r} cannot be dropped or name the rows as well."
        )
    kept = [n for n in names if n not in drop and (n not in index or n in (target, id_name))]
    _check_names(path, pd.Index(kept))
    inputs = [n for n in kept if n != id_name]
    left = [n for n in names if n in index and n not in (target, id_name, *drop)]
    if left and "index" not in frame.attrs:
        which = (
            "the unnamed first column; give it a name to use it"
            if left == names[:1]
            else f"{listed(left)}, as {'it has' if len(left) == 1 else 'they have'} no name"
        )
        notes = [*notes, f"left out {which}"]
    if target is None:
        if not inputs:
            raise InvalidInputError(f"{path} has no column that could be the target.")
        target = next((c for c in _USUAL_TARGETS if c in inputs), inputs[-1])
        notes = [*notes, f"the target is the column {target!r}; choose another with --target"]
    inputs = [n for n in inputs if n != target]
    if not inputs:
        beside = " beside an index" if left else ""
        raise InvalidInputError(f"{path} has one column{beside}, {target!r}, and so no inputs.")
    texts = {n: raw_text(frame[n]) for n in (*inputs, target) if _is_raw(frame[n])}
    numbers = {n: as_numbers(text) for n, text in texts.items()}
    texts |= {n: stripped(frame[n]) for n in texts if numbers[n] is None}
    commas, conflict = find_commas({n: texts[n] for n in texts if numbers[n] is None})
    if conflict is not None:
        raise InvalidInputError(f"{path}: {conflict}.")
    numbers |= {n: numbers_of(texts[n], commas) for n in texts if numbers[n] is None}
    features = {n: frame[n] if numbers.get(n) is None else numbers[n] for n in inputs}
    y = _answers(frame[target], texts.get(target), commas)
    known = {n: texts[n] for n in texts if numbers[n] is not None}
    said = "; ".join([*notes, *_readings(known, target, commas, frame.attrs.get("separator"))])
    return Source(
        name,
        pd.DataFrame(features),
        y,
        target,
        notes=(f"{path.name}: {said}.",) if said else (),
        ids=None if id_name is None else _ids(frame[id_name]),
        names=tuple(names),
        commas=commas,
    )


def _readings(
    texts: dict[str, pa.ChunkedArray], target: str, commas: Commas | None, separator: str | None
) -> list[str]:
    """How text was taken for numbers where that was not clear, as parts of a sentence."""
    meant = "decimal marks" if commas == "decimal" else "thousands separators"
    found: dict[str, list[str]] = {}
    for name, text in texts.items():
        if are_codes(text) and name != target:
            found.setdefault("numbers with leading zeros are numbers", []).append(name)
        if pc.any(pc.match_substring(text, ",")).as_py():
            found.setdefault(f"commas are {meant}", []).append(name)
        elif separator == ";" and look_like_thousands(text):
            found.setdefault("points are decimal marks", []).append(name)
        elif as_booleans(text) is not None and name != target:
            found.setdefault("true and false are 1 and 0", []).append(name)
    return [f"{what} in {listed(map(repr, names))}" for what, names in found.items()]


def _is_raw(column: pd.Series) -> bool:
    """Whether a column is text of a file without types."""
    return isinstance(column.dtype, pd.ArrowDtype) and pa.types.is_string(
        column.dtype.pyarrow_dtype
    )


def _ids(column: pd.Series) -> np.ndarray:
    return column.astype(object).where(column.notna(), "").to_numpy()


def _answers(column: pd.Series, text: Any, commas: Commas | None) -> np.ndarray:
    """The target: numbers where text stands for them, but codes such as 01 stay text."""
    if text is not None:
        numbers = as_numbers(text, commas)
        if numbers is not None and not are_codes(text):
            return numbers
        return np.array(text.to_pylist(), dtype=object)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_numeric_dtype(column) and column.isna().any():
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = column.to_numpy()
    return values if values.dtype.kind in "biufc" else column.astype(object).to_numpy()


def _npy(path: Path, target: str | None, need_target: bool, max_memory: int | None) -> Source:
    array = read_npy(path, max_memory)
    name, columns = path.stem, array.shape[1]
    if not need_target:
        return Source(name, array)
    try:
        index = range(columns)[int(target if target is not None else -1)]
    except (ValueError, IndexError):
        known = [str(i) for i in range(columns)]
        raise InvalidInputError(
            _no_column(str(path), str(target), known, "target column")
        ) from None
    if columns < 2:
        raise InvalidInputError(f"{path} has one column, the target, and so no inputs.")
    notes = () if target else (f"The target is column {index}, the last; see --target.",)
    y = array[:, index]
    return Source(name, np.delete(array, index, axis=1), y, f"column {index}", notes=notes)


def _split(drop: Sequence[str], names: Sequence[str]) -> list[str]:
    """Names of columns, several in one text where commas stand between them."""
    parts = [[text] if text in names else next(csv.reader([text]), []) for text in drop]
    return [part.strip() for several in parts for part in several]


def _check_names(path: Path, names: pd.Index) -> None:
    double = names[names.duplicated()].unique()
    if len(double):
        raise InvalidInputError(
            f"{path}: column names occur twice: {', '.join(double)}. Rename them, or leave them "
            f"out by --drop {double[0]}."
        )


def _check_column(place: str, column: str, columns: list[str], what: str) -> None:
    if column not in columns:
        raise InvalidInputError(_no_column(place, column, columns, what))


def _no_column(place: str, column: str, columns: list[str], what: str) -> str:
    hint = did_you_mean(column, columns)
    return f"{place} has no {what} {column!r}; its columns are {listed(columns, 12)}.{hint}"
