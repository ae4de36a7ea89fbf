"""Iterates of a solver on disk, bound to the problem that they belong to."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from kernreg.exceptions import CheckpointError
from kernreg.operators.base import Operator, as_array
from kernreg.operators.store.disk import atomic, remove_drafts
from kernreg.operators.store.records import parse, read_record, write_record
from kernreg.solvers.pcg.conjugate import Iterates

__all__ = ["Checkpoint"]

_FORMATS = {"Iterates": "kernreg-pcg-3", "Projected": "kernreg-sketch-2"}
# Rows of the kernel that stand for all of it.
_PROBES = 4
# Float64 entries of two machines agree to 1e-10 of sqrt(K_ii K_jj) by contract.
_SAME = 1e-8
# Where the header of a checkpoint says what it is.
_OURS, _HEAD = re.compile(rb"kernreg-(pcg|sketch)-\d"), 2**16


class Checkpoint:
    """A file with the iterates of one problem.

    Parameters
    ----------
    path : path-like
        The file; its folder must exist.
    operator : Operator of dtype float64
        The kernel; its diagonal and four rows are compared with those in the file.
    profile, levels, rhs : ndarray
        Ridge and right-hand sides; they must be equal to the last bit.
    settings : str
        What the iterates depend on besides.
    record : dataclass
        Of the iterates: arrays, numbers, and a list named ``history``, of numbers or of as long
        lists of them.

    Raises
    ------
    FileNotFoundError
        If there is no folder for the file.

    Notes
    -----
    A file is complete or absent: it is written beside its place and moved there. What a process
    that was killed in a write left beside it is removed, so one process may use the file at a time.
    It takes ``8 n (4 t + 5)`` bytes. A hash over all of it finds damage.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        operator: Operator,
        profile: NDArray[np.float64],
        levels: NDArray[np.float64],
        rhs: NDArray[np.float64],
        settings: str,
        record: type = Iterates,
    ) -> None:
        self.path = Path(path)
        self._record = record
        self._format = _FORMATS[record.__name__]
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"Cannot write the checkpoint {self.path}: there is no folder {self.path.parent}."
            )
        remove_drafts(self.path.parent, self.path.name)
        n = len(rhs)
        index = np.unique(np.linspace(0, n - 1, _PROBES).astype(np.int64))
        self._index = index
        self._probe = {
            "probe_rows": as_array(operator.rows(index)),
            "probe_diagonal": as_array(operator.diagonal()),
        }
        digest = hashlib.sha256(json.dumps([list(rhs.shape)]).encode())
        for part in (profile, levels, rhs):
            digest.update(np.ascontiguousarray(part).tobytes())
        self._problem = digest.hexdigest()
        self._shape = rhs.shape
        self._settings = settings

    def save(self, at: Any) -> None:
        """Write the iterates.

        Raises
        ------
        CheckpointError
            If the file cannot be written; an earlier one is left as it was.
        """
        arrays = dict(self._probe)
        header: dict[str, Any] = {}
        for field in fields(at):
            value = getattr(at, field.name)
            if isinstance(value, np.ndarray):
                arrays[field.name] = np.ascontiguousarray(value)
            elif isinstance(value, list):
                arrays[field.name] = np.array(value)
            else:
                header[field.name] = value
        header |= {
            "format": self._format,
            "problem": self._problem,
            "settings": self._settings,
        }
        try:
            with atomic(self.path) as draft:
                write_record(draft, arrays, {"kernreg": json.dumps(header)})
        except (OSError, SafetensorError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(
                f"cannot write the checkpoint {self.path}: {reason}. Free space or give another "
                "path; the last complete checkpoint is unharmed."
            ) from error

    def load(self) -> tuple[Any, bool] | None:
        """The iterates in the file, and whether the settings are the same; None without a file.

        Raises
        ------
        CheckpointError
            If the file is damaged, or is of another problem.
        """
        if not self.path.exists():
            return None
        header, arrays = self._read()
        if header["problem"] != self._problem:
            raise self._foreign("its ridge or right-hand sides are others")
        self._compare(arrays)
        names = [field.name for field in fields(self._record)]
        values = {name: self._value(name, header, arrays) for name in names}
        return self._record(**values), header["settings"] == self._settings

    def _value(self, name: str, header: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
        """A field of the record, a list or a number or an array of a shape that fits."""
        value = arrays[name] if name in arrays else header.get(name)
        if name == "history" and isinstance(value, np.ndarray):
            return value.tolist()
        plain = isinstance(value, bool | int | float)
        shapes = (self._shape, self._shape[1:])
        if plain or (
            isinstance(value, np.ndarray)
            and (value.shape in shapes or value.shape[1:] == self._shape)
            and np.isfinite(value).all()
        ):
            return value
        raise self._damaged(f"{name} does not fit")

    def _read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        try:
            texts, arrays, hashed = read_record(self.path)
            header = parse(texts["kernreg"])
            if header["format"] != self._format or not hashed:
                raise ValueError("another format")
            if not isinstance(header["problem"], str) or "settings" not in header:
                raise ValueError("parts are missing")
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise self._damaged(error) from error
        return header, arrays

    def _damaged(self, reason: object) -> CheckpointError:
        """What to do depends on whether the file, or what is left of it, was written by kernreg."""
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            if _OURS.search(file.read(_HEAD)):
                return CheckpointError(
                    f"the checkpoint {self.path} is damaged or no checkpoint of this version "
                    f"({reason}): delete it to start from the beginning, or give another path"
                )
        return CheckpointError(
            f"{self.path} is no checkpoint of kernreg, or what is left of one ({reason}): give "
            "another path"
        )

    def _compare(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Raise CheckpointError if the kernel in the file is another one."""
        root = np.sqrt(np.abs(self._probe["probe_diagonal"]))
        scales = {"probe_rows": root[self._index][:, None] * root, "probe_diagonal": root**2}
        for name, own in self._probe.items():
            found = arrays.get(name, np.empty(0))
            if found.shape != own.shape or (np.abs(found - own) > _SAME * scales[name]).any():
                raise self._foreign("its kernel matrix is another")

    def _foreign(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint {self.path} belongs to another problem ({reason}): give another path, "
            "or delete the file if it is no longer needed"
        )
