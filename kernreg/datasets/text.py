"""Text that stands for numbers: which number, and what else a column of text may hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

__all__ = [
    "MISSING",
    "Commas",
    "are_codes",
    "are_dates",
    "as_booleans",
    "as_numbers",
    "count_missing",
    "distinct",
    "find_commas",
    "look_like_thousands",
    "marked_text",
    "numberlike",
    "raw_text",
    "stripped",
]

Commas = Literal["decimal", "thousands"]

MISSING = frozenset(
    ("#n/a", "#na", "n/a", "na", "nan", "-nan", "null", "none", "<na>", "#n/a n/a", "1.#qnan")
)
"""What stands for a missing number, in small letters; in a column of text these are text."""

_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_THOUSANDS = r"^[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$"
_DECIMAL = r"^[+-]?(\d*|\d{1,3}(\.\d{3})+),\d+([eE][+-]?\d+)?$"
_WHOLE = r"^[+-]?\d+([eE][+-]?\d+)?$"
_CODE = r"^0\d+$"
# A number with a sign of order, a percent sign or a currency, or with groups of digits.
_MARKED = (
    r"^[<>≤≥~≈±]{0,2}=?\s*[$€£¥]?\s*[+-]?\d[\d.,]*([ '\x{00a0}\x{202f}]\d{3})*"
    r"([.,]\d+)?([eE][+-]?\d+)?\s*[%‰$€£¥*+]?$"
)
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?"
_CLOCK = r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?\s?([ap]\.?m\.?)?"
_DAY = (
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{4}[-/]\d{1,2}|\d{1,2}[-/]\d{1,2}[-/](?:\d{4}|\d{2})"
    rf"|\d{{1,2}}\.\d{{1,2}}\.\d{{4}}|\d{{1,2}}[ -]?{_MONTH}[ ,-]*(?:\d{{4}}|\d{{2}})"
    rf"|{_MONTH} ?\d{{1,2}},? \d{{4}}|{_MONTH}[ -]\d{{4}})"
)
_DATE = rf"(?i)^({_DAY}([t ]\s?{_CLOCK}(\s?(z|utc|gmt|[+-]\d{{2}}:?\d{{2}}))?)?|{_CLOCK})$"


def stripped(column: pd.Series) -> pa.ChunkedArray:
    """A column as text without spaces around it; None for what is missing or blank."""
    if not isinstance(column.dtype, pd.ArrowDtype):
        present = column.notna()
        column = column.astype(object).where(present, None)
        column = column.map(str, na_action="ignore").astype(object).where(present, None)
        text = pa.chunked_array([pa.array(column.to_numpy(object), pa.string())])
    else:
        text = raw_text(column).cast(pa.string())
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, text.type), text)


def raw_text(column: pd.Series) -> pa.ChunkedArray:
    """A column of Arrow text as it is."""
    array = pa.array(column.array)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def distinct(text: pa.ChunkedArray) -> dict[str, int]:
    """How often each value occurs, in alphabetical order, without the missing ones."""
    counts = pc.value_counts(text.drop_null())
    return dict(sorted((c["values"], c["counts"]) for c in counts.to_pylist()))


def as_numbers(text: pa.ChunkedArray, commas: Commas | None = None) -> np.ndarray | None:
    """The numbers that text stands for, NaN where it is missing; None if something is no number.

    int64 if all are whole and present, otherwise float64. A minus sign may be a typographic one.
    """
    numbers = _cast(text)
    if numbers is not None:
        return numbers
    text = _plain(text)
    if commas is not None and pc.any(pc.match_substring(text, ",")).as_py():
        known = _THOUSANDS if commas == "thousands" else _DECIMAL
        fits = pc.match_substring_regex(text, known)
        other = _NUMBER if commas == "thousands" else _WHOLE
        if not pc.all(pc.or_(fits, pc.match_substring_regex(text, other))).as_py():
            return None
        text = pc.replace_substring(text, "," if commas == "thousands" else ".", "")
        text = pc.replace_substring(text, ",", ".")
    return _cast(text)


def _cast(text: pa.ChunkedArray) -> np.ndarray | None:
    for kind in (pa.float64(),) if text.null_count else (pa.int64(), pa.float64()):
        try:
            numbers = np.asarray(pc.cast(text, kind).to_numpy())
        except pa.ArrowInvalid:
            continue
        # Arrow reads 0x1f as a whole number.
        hexadecimal = kind == pa.int64() and pc.any(pc.match_substring_regex(text, "[xX]")).as_py()
        return None if hexadecimal else numbers
    return None


def as_booleans(text: pa.ChunkedArray) -> np.ndarray | None:
    """1 for true and 0 for false in any letters, NaN where missing; None if there is other text."""
    if str(next(iter(text.drop_null()), "")).lower() not in ("true", "false"):
        return None
    lower = pc.utf8_lower(text)
    true = pc.equal(lower, "true")
    if not pc.all(pc.or_(true, pc.equal(lower, "false"))).as_py():
        return None
    return np.asarray(pc.cast(true, pa.float64()).to_numpy())


def find_commas(
    columns: dict[str, pa.ChunkedArray], *, guess: bool = True
) -> tuple[Commas | None, str | None]:
    """What commas inside of numbers mean in a whole file, and a conflict if there is one.

    A comma stands for thousands only before exactly three digits, and for decimals only once in a
    number. One column where one of the two cannot be decides for all; where none decides, commas
    stand for thousands, or for nothing without ``guess``.
    """
    found: dict[Commas | None, tuple[str, str]] = {}
    for name, text in columns.items():
        if not pc.any(pc.match_substring(text, ",")).as_py():
            continue
        text = _plain(text)
        with_comma = text.filter(pc.match_substring(text, ","))
        if len(with_comma) == 0:
            continue
        thousands = as_numbers(text, "thousands") is not None
        decimal = as_numbers(text, "decimal") is not None
        if thousands or decimal:
            kind: Commas | None = (
                None if thousands and decimal else "thousands" if thousands else "decimal"
            )
            found.setdefault(kind, (name, with_comma[0].as_py()))
    if "thousands" in found and "decimal" in found:
        (one, large), (other, small) = found["thousands"], found["decimal"]
        return None, (
            f"Commas stand for thousands in {one!r} ({large!r}) and for decimals in {other!r} "
            f"({small!r}); write numbers without thousands separators and with decimal points"
        )
    for kind in ("thousands", "decimal"):
        if kind in found:
            return kind, None
    return ("thousands" if found and guess else None), None


def numberlike(values: Iterable[str]) -> tuple[list[str], list[str]]:
    """Which of some values are plain numbers, and which are numbers with marks such as 64%."""
    text = pa.array(list(values), pa.string())
    plain = pc.replace_substring(text, "−", "-")
    numbers = pc.match_substring_regex(plain, _NUMBER)
    marked = pc.and_not(pc.match_substring_regex(plain, _MARKED), numbers)
    return text.filter(numbers).to_pylist(), text.filter(marked).to_pylist()


def are_codes(text: pa.ChunkedArray) -> bool:
    """Whether some value has leading zeros, as a code has: 01 beside 12."""
    return bool(pc.any(pc.match_substring_regex(text, _CODE)).as_py())


def look_like_thousands(text: pa.ChunkedArray) -> bool:
    """Whether every point stands before exactly three digits, as one between thousands does."""
    pointed = text.filter(pc.match_substring(text, "."))
    fits = pc.match_substring_regex(pointed, r"^[+-]?[1-9]\d{0,2}\.\d{3}$")
    return len(pointed) > 0 and bool(pc.all(fits).as_py())


def marked_text(column: pd.Series) -> pd.Series:
    """A column as text, None also for the marks of missing numbers and dates."""
    text = _plain(stripped(column))
    text = pc.if_else(pc.equal(pc.utf8_lower(text), "nat"), pa.scalar(None, text.type), text)
    return pd.Series(text.to_pylist(), dtype=object)


def count_missing(column: pd.Series) -> int:
    """How many values are missing, blank or the mark of a missing number."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return int(column.isna().sum())
    return int(_plain(stripped(column)).null_count)


def are_dates(values: dict[str, int]) -> bool:
    """Whether most values are dates or times of the day."""
    if not values:
        return False
    matches = pc.match_substring_regex(pa.array(list(values), pa.string()), _DATE)
    counts = np.fromiter(values.values(), np.int64)
    return bool(2 * counts[matches.to_numpy(zero_copy_only=False)].sum() > counts.sum())


def _plain(text: pa.ChunkedArray) -> Any:
    """With plain minus signs, and None for the marks of a missing number."""
    missing = pc.is_in(pc.utf8_lower(text), value_set=pa.array(sorted(MISSING), text.type))
    text = pc.if_else(missing, pa.scalar(None, text.type), text)
    return pc.replace_substring(text, "−", "-")
