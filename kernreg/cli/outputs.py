"""What a command may write to: nothing that it reads, and nothing that is not its own result."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from kernreg.exceptions import InvalidInputError

__all__ = [
    "CHECKPOINT",
    "FACTOR",
    "MODEL",
    "NUMBERS",
    "NUMBERS_MARK",
    "PICTURE",
    "PICTURE_MARK",
    "PREDICTIONS",
    "RESULTS",
    "STORE",
    "Kind",
    "Output",
    "check_outputs",
    "is_model",
    "is_stream",
    "place",
    "write_text",
]

# Of a file that is read to see whether it is ours.
_HEAD = 4096
_LARGEST_PICTURE = 2**26
NUMBERS_MARK = '{\n "format": "kernreg-theory"'
"""How a file of numbers begins."""
PICTURE_MARK = "drawn by kernreg"
"""What a picture holds in its metadata."""


@dataclass(frozen=True)
class Kind:
    """A kind of result.

    Parameters
    ----------
    name : str
        For messages, with its article.
    ours : callable, optional
        Whether a file or folder that is there is one; without it the writer finds out.
    tidy : callable, optional
        Removes what killed runs left of a result; of a file, its drafts if left out.
    folder : bool
        Whether it is a folder.
    stream : bool
        Whether it can be written to a pipe.
    resumed : bool
        Whether a run goes on with what is there.
    files : tuple of str
        What is written in a folder.
    """

    name: str
    ours: Callable[[Path], bool] | None = None
    tidy: Callable[[Path], None] | None = None
    folder: bool = False
    stream: bool = False
    resumed: bool = False
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Output:
    """A place that the user named, by which option, and what will be written there."""

    option: str
    path: Path | None
    kind: Kind


def check_outputs(
    outputs: Iterable[Output],
    inputs: Iterable[tuple[str, str | Path | None]],
    overwrite: bool = False,
) -> None:
    """Find out before the work whether its results can be stored, and what that would destroy.

    Drafts that killed runs left of the same outputs are removed.

    Parameters
    ----------
    outputs : iterable of Output
        What will be written; those without a path are left out.
    inputs : iterable of (str, path)
        What is read, and what it is called; what does not exist is left out.
    overwrite : bool
        Whether earlier results may be replaced.

    Raises
    ------
    InvalidInputError
        If an output is an input or another output, exists and is of another kind, is an earlier
        result without ``overwrite``, or cannot be written.
    """
    wanted = [(o.option, o.path, o.kind) for o in outputs if o.path is not None]
    read = [(what, file) for what, path in inputs for file in _files_of(path)]
    for number, (option, path, kind) in enumerate(wanted):
        if is_stream(path) and not path.is_file():
            continue
        for written in (path, *(path / name for name in kind.files)):
            for what, file in read:
                if _same(written, file):
                    raise InvalidInputError(
                        f"{option} is {path}, and {what} is {file}, which would be lost: name "
                        f"another {_noun(kind)}."
                    )
        for other, taken, _ in wanted[:number]:
            if _same(path, taken):
                raise InvalidInputError(f"{option} and {other} are both {path}: name two places.")
    for option, path, kind in wanted:
        _check_place(option, path, kind, overwrite)


def _check_place(option: str, path: Path, kind: Kind, overwrite: bool) -> None:
    from kernreg.operators.store.disk import check_writable

    if is_stream(path):
        if kind.stream:
            return
        raise InvalidInputError(
            f"{option} is {path}, a device or a pipe, which cannot hold {kind.name}: name a "
            f"{_noun(kind)}."
        )
    if kind.ours is None:
        return
    if not kind.folder and path.is_dir():
        raise InvalidInputError(f"{path} is a folder; name a file with {option}.")
    (kind.tidy or _remove_drafts)(path)
    if _holds_something(path):
        if not kind.ours(path):
            raise InvalidInputError(
                f"{path} exists and is not {kind.name}: name another {_noun(kind)} with {option}."
            )
        if not (overwrite or kind.resumed):
            raise InvalidInputError(
                f"{path} exists and is {kind.name}: add --overwrite to replace it, or name "
                f"another {_noun(kind)} with {option}."
            )
    if kind.folder:
        return
    try:
        check_writable(place(path))
    except OSError as error:
        raise InvalidInputError(
            f"{path} cannot be written: {error.strerror or error}. Name another file with {option}."
        ) from error


def _remove_drafts(path: Path) -> None:
    from kernreg.operators.store.disk import remove_drafts

    target = place(path)
    remove_drafts(target.parent, target.name)


def place(path: Path) -> Path:
    """Where a result is written: what a symbolic link points to."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path.absolute()


def is_stream(path: Path) -> bool:
    """Whether a path is written to as it is: a pipe, a device, an open file of this process."""
    if _descriptor(path) is not None:
        return True
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_text(path: Path, text: str) -> None:
    """Write a text file that is complete or absent, or to a pipe."""
    from kernreg.operators.store.disk import atomic

    number = _descriptor(path)
    if number is not None:
        # What is open goes on where it stands; opened anew a file would lose what it holds.
        with os.fdopen(os.dup(number), "w", encoding="utf-8") as file:
            file.write(text)
    elif is_stream(path):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    else:
        with atomic(place(path)) as draft:
            draft.write_text(text, encoding="utf-8")


def _descriptor(path: Path) -> int | None:
    """Number of the open file that a path such as /dev/stdout stands for."""
    text = os.path.normpath(path)
    named = {"/dev/stdout": 1, "/dev/stderr": 2}
    found = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", text)
    return int(found[1]) if found else named.get(text)


def _files_of(path: str | Path | None) -> list[Path]:
    """The file that an input is, or the folder and the files that are in it."""
    if path is None or not _exists(Path(path)):
        return []
    where = Path(path)
    return [where, *(sorted(where.iterdir()) if where.is_dir() else ())]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # code of a network that is too long for a name
        return False


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _holds_something(path: Path) -> bool:
    if not _exists(path):
        return False
    return any(path.iterdir()) if path.is_dir() else path.stat().st_size > 0


def _noun(kind: Kind) -> str:
    return "folder" if kind.folder else "file"


def _head(path: Path, count: int = _HEAD) -> bytes:
    with open(path, "rb") as file:
        return file.read(count)


def _format(path: Path) -> str:
    """The ``format`` that kernreg notes in its files of arrays; empty for others."""
    import json

    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})["kernreg"])["format"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return ""


def _is_predictions(path: Path) -> bool:
    """Whether the first line names predictions where `kernreg predict` writes them."""
    names = _head(path).split(b"\n")[0].decode("utf-8", "replace").split(",")
    return any(name.strip('"').startswith("predicted") for name in names[:3])


def is_model(path: Path) -> bool:
    """Whether a file is a model, or a folder the results of a baseline."""
    return _is_results(path) if path.is_dir() else _format(path) == "kernreg-model"


def _is_results(folder: Path) -> bool:
    from kernreg.baseline.results import is_results

    return is_results(folder)


def _remove_leftovers(folder: Path) -> None:
    from kernreg.baseline.results import remove_leftovers

    remove_leftovers(folder)


def _is_numbers(path: Path) -> bool:
    return _head(path).startswith(NUMBERS_MARK.encode())


def _is_picture(path: Path) -> bool:
    """Whether a picture names the program that drew it."""
    return PICTURE_MARK.encode() in _head(path, _LARGEST_PICTURE)


MODEL = Kind("a model of kernreg", is_model)
CHECKPOINT = Kind(
    "a checkpoint of kernreg",
    lambda path: _format(path).startswith(("kernreg-pcg", "kernreg-sketch")),
    resumed=True,
)
PREDICTIONS = Kind("predictions of kernreg", _is_predictions, stream=True)
NUMBERS = Kind("numbers of kernreg theory", _is_numbers, stream=True)
PICTURE = Kind("a picture of kernreg", _is_picture)
RESULTS = Kind(
    "the results of a baseline",
    _is_results,
    _remove_leftovers,
    folder=True,
    files=(
        "model.safetensors",
        "predictions.csv",
        "report.html",
        "results.csv",
        "results.json",
    ),
)
STORE = Kind("a tile store", folder=True, files=("zarr.json", "lock"))
FACTOR = Kind("a factor", folder=True, files=("factor.json", "lock"))
