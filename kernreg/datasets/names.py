"""What data are called on the command line: a set of scikit-learn, or a file that is there."""

from __future__ import annotations

from pathlib import Path

from kernreg.exceptions import InvalidInputError
from kernreg.wording import did_you_mean

__all__ = ["BUILTIN", "file_of"]

BUILTIN = ("breast_cancer", "diabetes", "digits", "iris", "wine")
"""Sets of scikit-learn."""


def file_of(data: str) -> Path:
    """The file of that name.

    Raises
    ------
    InvalidInputError
        If there is none, or it is a folder or empty.
    """
    path = Path(data)
    if not path.exists():
        raise InvalidInputError(
            f"There is no file {data!r} and no scikit-learn set of that name; the sets are "
            f"{', '.join(BUILTIN)}.{did_you_mean(data, BUILTIN)}"
        )
    if path.is_dir():
        raise InvalidInputError(
            f"{data} is a folder; expected a CSV, Parquet, NPZ, NPY or svmlight file."
        )
    if path.is_file() and path.stat().st_size == 0:
        raise InvalidInputError(f"{data} is an empty file.")
    return path
