"""The bytes of a text file as UTF-8, whatever its compression and encoding."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
from pathlib import Path

from kernreg.exceptions import InvalidInputError

__all__ = ["COMPRESSIONS", "utf8"]

COMPRESSIONS = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}
"""By the ending of a file's name."""

_MAGIC = {b"\x1f\x8b": ".gz", b"BZh": ".bz2", b"\xfd7zXZ\x00": ".xz"}
_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive, as spreadsheets and NPZ files are",
    b"PAR1": "a Parquet file",
    b"\x93NUMPY": "an NPY file",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet",
    b"%PDF": "a PDF file",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"SQLite format 3": "a SQLite data base",
}
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CHECKED = 2**20
_CONTROLS = bytes(set(range(32)) - {9, 10, 11, 12, 13, 26, 27})


def utf8(path: Path) -> tuple[bytes, list[str]]:
    """What a file holds, as UTF-8, and what was guessed on the way.

    Raises
    ------
    InvalidInputError
        If it is no text, or its encoding is unknown.
    """
    raw = path.read_bytes()
    if not raw:
        raise InvalidInputError(f"{path} is an empty file.")
    packed = next((kind for magic, kind in _MAGIC.items() if raw.startswith(magic)), None)
    packed = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else packed
    if packed is not None:
        try:
            raw = COMPRESSIONS[packed](raw)
        except Exception as error:  # decompressors fail in ways that no short list covers
            reason = str(error) or type(error).__name__
            raise InvalidInputError(f"{path} cannot be read: {reason}.") from error
    foreign = next((kind for magic, kind in _FOREIGN.items() if raw.startswith(magic)), None)
    if foreign is not None:
        raise InvalidInputError(
            f"{path} cannot be read as text: it is {foreign}. Give it the extension of its kind, "
            "or save it as CSV."
        )
    return _decoded(path, raw)


def _decoded(path: Path, raw: bytes) -> tuple[bytes, list[str]]:
    encoding = next((name for mark, name in _MARKS.items() if raw.startswith(mark)), None)
    if encoding is None and b"\x00" in raw[:1000]:
        head = raw[:1000]
        # Latin letters in UTF-16 have a zero in every other byte.
        for place, name in ((1, "utf-16-le"), (0, "utf-16-be")):
            if head[place::2].count(0) > len(head) / 4 and not head[1 - place :: 2].count(0):
                encoding = name
    if encoding == "utf-8-sig":
        raw, encoding = raw[3:], None
    if encoding is not None:
        try:
            return raw.decode(encoding).encode(), [f"its encoding is {encoding.upper()}"]
        except UnicodeDecodeError as error:
            raise InvalidInputError(
                f"{path} cannot be read as {encoding.upper()}: {error.reason} at byte "
                f"{error.start:,}."
            ) from error
    if len(raw[:_CHECKED].translate(None, _CONTROLS)) < len(raw[:_CHECKED]):
        raise InvalidInputError(f"{path} cannot be read: it is no text, it has control characters.")
    try:
        raw.decode()
    except UnicodeDecodeError as error:
        try:
            text = raw.decode("cp1252")
        except UnicodeDecodeError:
            raise InvalidInputError(
                f"{path} cannot be read: its encoding is neither UTF-8 nor Windows-1252 (byte "
                f"{error.start:,}); save it as UTF-8."
            ) from error
        guess = "it is not UTF-8 and was read as Windows-1252, which contains Latin-1"
        return text.encode(), [guess]
    return raw, []
