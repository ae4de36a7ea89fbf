"""CSV and its relatives as columns of text: separator, header, and rows that do not fit."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from pandas import ArrowDtype

from kernreg.datasets.content import utf8
from kernreg.exceptions import InvalidInputError
from kernreg.wording import counted, is_number, listed

__all__ = ["UNNAMED", "read_delimited"]

UNNAMED = re.compile(r"Unnamed: \d+(\.\d+)?(_level_\d+)?")
"""What pandas, and this module, call a column whose name is blank."""

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
_SNIFFED_ROWS = 100
_SNIFFED_BYTES = 2**20
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def read_delimited(path: Path, *, header: bool = True) -> tuple[pd.DataFrame, list[str]]:
    """Read a file of delimited text.

    Parameters
    ----------
    path : Path
        The file.
    header : bool
        Whether the first line has the names of the columns; they are 0, 1, ... if not.

    Returns
    -------
    frame : DataFrame of str
        All values as they stand in the file; ``attrs["separator"]`` is what stood between them.
    notes : list of str
        What was guessed, as parts of a sentence.

    Raises
    ------
    InvalidInputError
        For binary files, unknown encodings, a first line that holds data, and rows with more or
        fewer values than there are names.
    """
    raw, notes = utf8(path)
    skipped, comments = _preface(raw)
    separator = _separator(_lines(raw, skipped))
    if separator == " ":
        raw = _single_spaces(raw)
    usual = "\t" if path.name.lower().split(".")[-1] == "tsv" else ","
    if separator == " " or (separator != usual and usual == "\t"):
        notes.append(f"its columns are separated by {_SEPARATORS[separator]}")
    rows = list(islice(_rows(_lines(raw, skipped), separator), _SNIFFED_ROWS))
    if not rows:
        raise InvalidInputError(f"{path} holds no rows, only blank lines or comments.")
    width = Counter(len(row) for _, row in rows[header:]).most_common(1)
    wide = width[0][0] if width else len(rows[0][1])
    names = [name.strip() for name in rows[0][1]] if header else [str(j) for j in range(wide)]
    first = skipped
    behind = _names_behind_a_hash(comments[-1], names, separator) if comments and header else None
    if behind is not None:
        names, header = behind, False
        notes.append("the names of its columns stand behind '#'")
    elif comments:
        notes.append(f"left out {counted(len(comments), 'line')} that start with '#'")
    if header:
        _check_header(path, names, notes)
        first = skipped + rows[0][0]
    unfit = [(skipped + line, len(row)) for line, row in rows[header:] if len(row) != wide]
    if not unfit:
        frame, unfit = _parsed(raw, separator, first, wide)
    torn = raw.count(b'"') % 2 == 1
    if unfit:
        # Lines are counted anew, as the parser counts rows.
        body = islice(_rows(_lines(raw, 0, whole=True), separator, skipped), int(header), None)
        unfit = [(line, len(row)) for line, row in body if len(row) != wide]
        _refuse(path, names, unfit, separator, torn)
    if torn and any(frame[name].str.contains("\n", regex=False).any() for name in frame):
        raise InvalidInputError(f"{path} has a quotation mark that is never closed.")
    if len(names) != wide:
        names = _row_names(path, names, frame, separator)
        notes.append("its header lacks a name for the first column, which names the rows")
    frame = frame.set_axis(_all_named(names), axis=1)
    frame.attrs["separator"] = separator
    return frame, notes


def _all_named(names: list[str]) -> list[str]:
    """With names as pandas gives them for those that are blank."""
    taken = set(names)
    free = [f"Unnamed: {j}" for j in range(len(names))]
    free = [f"{name}.1" if name in taken else name for name in free]
    return [name or other for name, other in zip(names, free, strict=True)]


def _preface(raw: bytes) -> tuple[int, list[str]]:
    """How many lines stand before the table, and those that are comments."""
    comments, count = [], 0
    for line in _LINE.finditer(raw[:_SNIFFED_BYTES].decode(errors="replace")):
        text = line[0].strip()
        if text.startswith("#"):
            comments.append(text)
        elif text and not (count == 0 and re.fullmatch("sep=.", text)):
            break
        count += 1
    return count, comments


def _lines(raw: bytes, skipped: int, *, whole: bool = False) -> list[str]:
    """The first lines of the table, or all."""
    limit = len(raw) if whole else max(_SNIFFED_BYTES, raw.find(b"\n", _SNIFFED_BYTES) + 1)
    lines = _LINE.findall(raw[:limit].decode(errors="replace"))
    # The last one may be cut.
    return lines[skipped:] if limit >= len(raw) or len(lines) < 3 else lines[skipped:-1]


def _rows(
    lines: Sequence[str], separator: str, skipped: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Number of the last line and values of every row that is not blank."""
    reader = csv.reader(islice(lines, skipped, None), delimiter=separator)
    csv.field_size_limit(2**31 - 1)
    try:
        for row in reader:
            if row:
                yield skipped + reader.line_num, row
    except csv.Error as error:
        raise InvalidInputError(f"The text cannot be split into columns: {error}.") from error


def _separator(lines: Sequence[str]) -> str:
    """What splits most rows into the same number of columns, at best into that of the header."""
    best, chosen = (False, 0.0, 1), ","
    candidates = {s: [len(r) for _, r in islice(_rows(lines, s), 100)] for s in ",;\t|"}
    spaced = [" ".join(line.split()) for line in lines[:100]]
    candidates[" "] = [len(row) for _, row in _rows(spaced, " ")]
    for separator, widths in candidates.items():
        if not widths:
            continue
        body = widths[1:] or widths
        width, count = Counter(body).most_common(1)[0]
        if separator == " " and (best[2] > 1 or widths[0] != width or count < len(body)):
            continue
        score = (widths[0] == width and 2 * count > len(body), count / len(body), width)
        if width > 1 and score > best:
            best, chosen = score, separator
    return chosen


def _single_spaces(raw: bytes) -> bytes:
    text = re.sub(r'("[^"]*")|[ \t]+', lambda found: found[1] or " ", raw.decode())
    return re.sub("(?m)^ | (?=\r?$)", "", text).encode()


def _names_behind_a_hash(comment: str, first: list[str], separator: str) -> list[str] | None:
    """The names that ``numpy.savetxt`` writes as a comment, where the next line holds numbers."""
    names = [n.strip() for n in next(csv.reader([comment.lstrip("# ")], delimiter=separator), [])]
    fits = len(names) == len(first) and not any(map(is_number, names))
    return names if fits and any(map(is_number, first)) else None


def _check_header(path: Path, names: list[str], notes: list[str]) -> None:
    numbers = [name for name in names if is_number(name)]
    if not numbers:
        return
    steps = set()
    if all(re.fullmatch(r"\d+", name) for name in numbers):
        values = [int(name) for name in numbers]
        steps = {b - a for a, b in pairwise(values)}
    # Pixels and years are numbered steadily; measurements are not.
    if len(steps) > 1 or (steps and max(steps) <= 0) or (not steps and len(names) > 1):
        raise InvalidInputError(
            f"{path}: the first line holds numbers ({listed(names, 5)}) where names are expected; "
            "add a line of names, or say --no-header if the file has none."
        )
    notes.append(
        f"the names of its columns are numbers ({listed(numbers, 3)}); say --no-header if the "
        "first line holds data"
    )


def _parsed(
    raw: bytes, separator: str, first: int, width: int
) -> tuple[pd.DataFrame, list[tuple[int, int]]]:
    unfit: list[tuple[int, int]] = []

    def note(row: Any) -> str:
        unfit.append((0, row.actual_columns))
        return "skip"

    names = [str(j) for j in range(width)]
    longest = max(map(len, _LINE.findall(raw[:_SNIFFED_BYTES].decode(errors="replace"))), default=1)
    reading = pa.csv.ReadOptions(
        column_names=names,
        skip_rows=first,
        use_threads=False,
        block_size=min(max(2**22, 16 * longest), 2**30),
    )
    parsing = pa.csv.ParseOptions(
        delimiter=separator, newlines_in_values=b'"' in raw, invalid_row_handler=note
    )
    types = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[], strings_can_be_null=False
    )
    try:
        table = pa.csv.read_csv(io.BytesIO(raw), reading, parsing, types)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise InvalidInputError(f"The text cannot be split into columns: {reason}") from error
    return table.to_pandas(types_mapper=ArrowDtype), unfit


def _refuse(
    path: Path, names: list[str], unfit: list[tuple[int, int]], separator: str, torn: bool
) -> None:
    by = _SEPARATORS[separator]
    shown = [f"line {line:,} has {count:,}" for line, count in unfit[:3]]
    more = f" and {len(unfit) - 3:,} more lines differ" if len(unfit) > 3 else ""
    raise InvalidInputError(
        f"{path}: the header has {counted(len(names), 'name')} ({listed(names, 5)}) separated by "
        f"{by}, but {', '.join(shown)} values{more}. "
        + ("There is a quotation mark that is never closed. " if torn else "")
        + "Quote values that contain a separator, and give every line one value for each name."
    )


def _row_names(path: Path, names: list[str], frame: pd.DataFrame, separator: str) -> list[str]:
    """The names with one for row names in front, if the first column holds such."""
    by, width = _SEPARATORS[separator], frame.shape[1]
    problem = (
        f"{path}: the header has {counted(len(names), 'name')} ({listed(names, 5)}) separated by "
        f"{by}, but line 2 and {counted(len(frame) - 1, 'other line')} have {width:,} values"
    )
    if width == len(names) + 1:
        if not frame[str(width - 1)].str.strip().astype(bool).any():
            raise InvalidInputError(
                f"{problem}, the last of them blank: every line but the header ends with a "
                "separator. Remove it, or add one to the header."
            )
        first, second = frame["0"].str.strip(), frame["1"]
        counts = [str(j) for j in range(len(first) + 1)]
        numbered = first.tolist() in (counts[:-1], counts[1:])
        textual = first.is_unique and not any(map(is_number, first))
        # "Berlin, DE" without quotation marks is no name of a row.
        if (numbered or textual) and not second.str.startswith(" ").any():
            return ["", *names]
    raise InvalidInputError(
        f"{problem}. Name every column, and quote values that contain a separator."
    )
