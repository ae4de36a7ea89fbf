"""Iterates of a solver on disk, bound to the problem that they belong to."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from kernreg.exceptions import CheckpointError
from kernreg.linalg.conjugate import Iterates
from kernreg.linalg.disk import atomic, remove_drafts
from kernreg.linalg.preconditioners.lowrank import as_array

__all__ = ["Checkpoint"]

_FORMATS = {"Iterates": "kernreg-pcg-3", "Projected": "kernreg-sketch-1"}
# Rows of the kernel that stand for all of it.
_PROBES = 4
# Float64 entries of two machines agree to 1e-10 of sqrt(K_ii K_jj) by contract.
_SAME = 1e-8


class Checkpoint:
    """A file with the iterates of one problem.

    Parameters
    ----------
    path : path-like
        The file; its folder must exist.
    operator : operator of dtype float64
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
    It takes ``8 n (4 t + 5)`` bytes. A hash over its arrays finds damage.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        operator: Any,
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
            "hash": _hash(arrays),
        }
        try:
            with atomic(self.path) as draft:
                save_file(arrays, draft, metadata={"kernreg": json.dumps(header)})
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
        values: dict[str, Any] = {}
        for field in fields(self._record):
            value = arrays[field.name] if field.name in arrays else header[field.name]
            values[field.name] = value.tolist() if field.name == "history" else value
        return self._record(**values), header["settings"] == self._settings

    def _read(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        try:
            with safe_open(self.path, framework="numpy") as file:
                header = json.loads((file.metadata() or {})["kernreg"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header["format"] != self._format or header["hash"] != _hash(arrays):
                raise ValueError("format or hash differ")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"the checkpoint {self.path} is damaged or no checkpoint of this version "
                f"({error}): delete it to start from the beginning, or give another path"
            ) from error
        return header, arrays

    def _compare(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Raise CheckpointError if the kernel in the file is another one."""
        root = np.sqrt(np.abs(self._probe["probe_diagonal"]))
        scales = {"probe_rows": root[self._index][:, None] * root, "probe_diagonal": root**2}
        for name, own in self._probe.items():
            found = arrays[name]
            if found.shape != own.shape or (np.abs(found - own) > _SAME * scales[name]).any():
                raise self._foreign("its kernel matrix is another")

    def _foreign(self, reason: str) -> CheckpointError:
        return CheckpointError(
            f"the checkpoint {self.path} belongs to another problem ({reason}): give another path, "
            "or delete the file if it is no longer needed"
        )


def _hash(arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()
