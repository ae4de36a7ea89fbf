"""NPZ and NPY files: only the arrays that are needed, and not more than memory holds."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.sizes import enough, readable
from kernreg.wording import counted

__all__ = ["Arrays", "guarded", "read_npy", "read_npz"]


@dataclass(frozen=True)
class Arrays:
    """What an NPZ file holds.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The inputs, those for training first.
    y : ndarray of shape (n,) or None
        The target.
    test_mask : ndarray of bool of shape (n, n_splits) or None
        Test rows.
    names : tuple of str or None
        Names of the columns.
    shape : tuple of int or None
        Of the images that rows hold; None if the file held rows.
    """

    X: np.ndarray
    y: np.ndarray | None
    test_mask: np.ndarray | None
    names: tuple[str, ...] | None
    shape: tuple[int, ...] | None = None


def read_npz(path: Path, target: str, need_target: bool, max_memory: int | None) -> Arrays:
    """The inputs and the target ``target`` of a file; see :func:`kernreg.datasets.load`."""
    file = guarded(path, lambda: zipfile.ZipFile(path))
    with file:
        members = [n.removesuffix(".npy") for n in file.namelist() if n.endswith(".npy")]
        # As spelled, or else in other letters: Keras writes x_train.
        spelled = {name.lower(): name for name in reversed(members)} | {n: n for n in members}
        held = ", ".join(sorted(members)) or "none"

        def find(name: str) -> str | None:
            return spelled.get(name, spelled.get(name.lower()))

        halves = [find("X_train"), find("X_test")]
        answers = [find(f"{target}_train"), find(f"{target}_test")]
        whole, answer = [find("X")], [find(target)]
        if None in halves and None in whole:
            raise InvalidInputError(
                f"{path} holds the arrays {held}; expected X and y, or X_train, y_train, X_test "
                "and y_test."
            )
        split = None not in halves
        inputs, answers = (halves, answers) if split else (whole, answer)
        if None in answers:
            if need_target:
                raise InvalidInputError(
                    f"{path} holds no target {target!r} beside {inputs[0]}; its arrays are {held}. "
                    "Name one with --target."
                )
            answers = []
        masked = None if split else find("test_mask") or find("is_test")
        labels = find("feature_names")
        wanted = [name for name in (*inputs, *answers, masked, labels) if name is not None]
        _check_size(path, file, wanted, max_memory)
        arrays = {name: guarded(path, partial(_member, file, name)) for name in wanted}
    given = _joined(path, [(n, arrays[n]) for n in inputs if n is not None])
    X, shape = _matrix(path, given), given.shape[1:] if given.ndim > 2 else None
    y = _joined(path, [(n, arrays[n]) for n in answers if n is not None]) if answers else None
    mask = arrays.get(masked) if masked is not None else None
    if split:
        mask = np.arange(len(X)) >= len(arrays[inputs[0] or ""])
    if y is not None:
        y = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
        if y.shape != (len(X),):
            raise InvalidInputError(
                f"{path}: X has {counted(len(X), 'row')}, {target} has shape {y.shape}."
            )
    names = arrays.get(labels) if labels is not None else None
    fits = names is not None and names.shape == (X.shape[1],)
    return Arrays(
        X,
        y,
        _mask(path, mask, len(X)),
        tuple(map(str, names)) if fits and names is not None else None,
        shape,
    )


def read_npy(path: Path, max_memory: int | None) -> np.ndarray:
    """The rows and columns of a file."""

    def read() -> np.ndarray:
        with path.open("rb") as file:
            shape, dtype = _header(file)
            _check_bytes(path, _bytes(shape, dtype), max_memory)
            file.seek(0)
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))

    return _matrix(path, guarded(path, read))


def guarded(path: Path, load: Callable[[], Any]) -> Any:
    """Whatever a parser objects to, as one kind of error that names the file.

    Damaged files make parsers and decompressors fail in ways that no short list covers.
    """
    try:
        return load()
    except (InvalidInputError, MemoryBudgetError, FileNotFoundError):
        raise
    except Exception as error:
        if "Object arrays" in str(error):
            raise InvalidInputError(
                f"{path} holds arrays of Python objects, which are not read because loading them "
                "can run code; save numbers or strings instead."
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidInputError(f"{path} cannot be read: {reason}.") from error


def _member(file: zipfile.ZipFile, name: str) -> np.ndarray:
    # Not np.load, which takes every file of another format for a pickle.
    with file.open(f"{name}.npy") as opened:
        return np.asarray(np.lib.format.read_array(opened, allow_pickle=False))


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    return shape, dtype


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Of the array, and of the features that small integers become."""
    return math.prod(shape) * (dtype.itemsize + (4 if dtype.itemsize <= 2 else 0))


def _check_size(
    path: Path, file: zipfile.ZipFile, names: list[str], max_memory: int | None
) -> None:
    if max_memory is None:
        return
    total = 0
    for name in names:

        def read(name: str = name) -> int:
            with file.open(f"{name}.npy") as opened:
                return _bytes(*_header(opened))

        total += guarded(path, read)
    _check_bytes(path, total, max_memory)


def _check_bytes(path: Path, count: int, max_memory: int | None) -> None:
    if max_memory is not None and count > max_memory:
        raise MemoryBudgetError(
            f"The arrays of {path} need {enough(count)} of memory; {readable(max_memory)} are "
            f"allowed. Raise --max-memory to {enough(count)}, or take fewer rows."
        )


def _joined(path: Path, parts: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """The rows for training and then those for the test."""
    if len(parts) == 1:
        return parts[0][1]
    (name, train), (other, test) = parts
    if train.ndim == 0 or train.ndim != test.ndim or train.shape[1:] != test.shape[1:]:
        raise InvalidInputError(
            f"{path}: {name} has shape {train.shape} and {other} has shape {test.shape}; they may "
            "differ in the number of rows only."
        )
    return np.asarray(guarded(path, lambda: np.concatenate([train, test])))


def _mask(path: Path, mask: np.ndarray | None, n: int) -> np.ndarray | None:
    if mask is None:
        return None
    if mask.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{path}: the test mask holds values of type {mask.dtype}; expected booleans, or 0 and "
            "1."
        )
    mask = _flat(np.atleast_1d(mask)) != 0
    if len(mask) == n and not mask.any():  # no row is set aside
        return None
    share = mask.mean(axis=0) if mask.size else np.zeros(1)
    if len(mask) != n or not ((share > 0) & (share < 1)).all():
        raise InvalidInputError(
            f"{path}: the test mask has shape {mask.shape}; expected ({n}, splits) with test and "
            "training rows in every split."
        )
    return mask


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
