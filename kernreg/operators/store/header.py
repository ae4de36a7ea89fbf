"""The header of a tile store: what Zarr needs, what kernreg adds, and a hash over both."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
import warnings
from pathlib import Path
from typing import Any

from kernreg.exceptions import InvalidInputError, StoreError
from kernreg.operators.store.records import MOST_TEXT, Damaged, header_digest, parse
from kernreg.operators.store.tiles import KINDS_ON_DISK

__all__ = ["FORMAT", "HEADER", "VERSION", "check_tiles", "has_header", "publish", "read_header"]

FORMAT, VERSION = "kernreg-gram", 2
HEADER = "zarr.json"
# Stores of version 1 are the same but for the hash.
_WITHOUT_HASH = 1
# Their numbers are a list in memory, some 100 MB, and each has a file.
_MOST_TILES = 2**20


def has_header(folder: Path) -> bool:
    """Whether there is a store, or something that Zarr takes for one."""
    try:
        return (folder / HEADER).is_file()
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror or error}.") from error


def check_tiles(shape: tuple[int, int], tile: int) -> None:
    """Raise InvalidInputError for more tiles than a store may have."""
    height, width = (-(-n // tile) for n in shape)
    if height * width > _MOST_TILES:
        raise InvalidInputError(
            f"a matrix of {shape[0]} x {shape[1]} has {height * width} tiles of {tile} rows, a "
            f"store has at most {_MOST_TILES}: take a larger tile"
        )


def publish(folder: Path, shape: tuple[int, int], tile: int, header: dict[str, Any]) -> None:
    """Write the header of a new store, unless another process was faster.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    import zarr
    import zarr.codecs
    import zarr.storage

    with tempfile.TemporaryDirectory() as room:
        zarr.create_array(
            store=zarr.storage.LocalStore(room),
            shape=shape,
            chunks=(tile, tile),
            dtype=KINDS_ON_DISK[header["dtype"]][0],
            fill_value=0,
            compressors=[zarr.codecs.Crc32cCodec()],
            filters=None,
            attributes={"kernreg": header},
        )
        found = json.loads((Path(room) / HEADER).read_text(encoding="utf-8"))
    found["attributes"]["kernreg"]["hash"] = header_digest(found)
    text = json.dumps(found, indent=2)
    if len(text) > MOST_TEXT:
        raise InvalidInputError(f"the note of a store has at most {MOST_TEXT} characters")
    draft = folder / f"{HEADER}.{secrets.token_hex(6)}.partial"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _appear(draft, folder / HEADER)
    finally:
        draft.unlink(missing_ok=True)


def _appear(draft: Path, path: Path) -> None:
    """Give a draft its name if nothing has it."""
    # A process that is alone in a store removes drafts: then there is a header.
    with contextlib.suppress(FileExistsError, FileNotFoundError):
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # a disk without links
            os.replace(draft, path)
    if not path.exists():
        raise FileNotFoundError(f"{path} cannot be written: its folder was removed")


def read_header(folder: Path) -> dict[str, Any]:
    """What kernreg keeps in the header of a store; nothing else of it is believed unchecked.

    Raises
    ------
    StoreError
        If the header is damaged, of another program or version, or not as kernreg writes it.

    Warns
    -----
    UserWarning
        If the store was written before headers had a hash.
    """
    try:
        found = parse(_text(folder / HEADER))
        if not isinstance(found, dict):
            raise Damaged("it is no object")
        # A store of Zarr as any other has no such attribute.
        kept = found["attributes"].get("kernreg")
    except (Damaged, AttributeError, KeyError) as error:
        raise StoreError(f"{folder} has a damaged header: {error}.") from error
    if not isinstance(kept, dict) or kept.get("format") != FORMAT:
        raise StoreError(f"{folder} is a Zarr array but no kernreg store.")
    version = kept.get("version")
    if isinstance(version, bool) or version not in (_WITHOUT_HASH, VERSION):
        raise StoreError(
            f"{folder} has format version {version!r}, this version of kernreg reads {VERSION}: "
            "read it with the kernreg that wrote it."
        )
    hashed = kept.pop("hash", None)
    if hashed is None and version == _WITHOUT_HASH:
        warnings.warn(
            f"{folder} was written before headers of stores had a hash: damage of its header "
            "would not be noticed",
            UserWarning,
            stacklevel=4,
        )
    elif hashed != header_digest(found):
        raise StoreError(f"{folder} has a damaged header: its hash is another than it says.")
    try:
        _check(found, kept)
    except (Damaged, InvalidInputError, LookupError, TypeError, AttributeError) as error:
        raise StoreError(f"{folder} has a damaged header: {error}.") from error
    return kept


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MOST_TEXT:
            raise Damaged(f"it has more than {MOST_TEXT} bytes")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(str(error)) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror or error}.") from error


def _check(found: dict[str, Any], kept: dict[str, Any]) -> None:
    """Raise Damaged unless Zarr will read tiles as kernreg writes them, of bounded number."""
    dtype, symmetric = kept["dtype"], kept["symmetric"]
    texts = (dtype, kept["fingerprint"], kept["operator"])
    _expect(all(isinstance(text, str) for text in texts), "texts", texts)
    _expect(dtype in KINDS_ON_DISK, f"one of {', '.join(KINDS_ON_DISK)}", dtype)
    _expect(isinstance(symmetric, bool), "symmetric true or false", symmetric)
    _expect(isinstance(kept.get("note", {}), dict), "a note of names", kept.get("note"))
    kind = (found["zarr_format"], found["node_type"], found["data_type"], found["fill_value"])
    _expect(kind == (3, "array", KINDS_ON_DISK[dtype][0], 0), "a Zarr array of that type", kind)
    shape, chunk = found["shape"], found["chunk_grid"]["configuration"]["chunk_shape"]
    for sizes in (shape, chunk):
        fits = isinstance(sizes, list) and len(sizes) == 2
        fits = fits and all(type(n) is int and n > 0 for n in sizes)
        _expect(fits, "two sizes of at least 1", sizes)
    _expect(found["chunk_grid"]["name"] == "regular", "a regular grid", found["chunk_grid"])
    _expect(chunk[0] == chunk[1] <= max(shape), f"square tiles within {shape}", chunk)
    _expect(shape[0] == shape[1] or not symmetric, "a square matrix", shape)
    check_tiles((shape[0], shape[1]), chunk[0])
    names = found["chunk_key_encoding"]
    wanted = {"name": "default", "configuration": {"separator": "/"}}
    _expect(names == wanted, "tiles in folders c/row/column", names)
    codecs = [codec["name"] for codec in found["codecs"]]
    _expect(codecs == ["bytes", "crc32c"], "tiles with a checksum", codecs)
    order = found["codecs"][0].get("configuration", {}).get("endian", "little")
    _expect(order == "little", "bytes in little-endian order", order)
    _expect(not found.get("storage_transformers"), "no transformers", found)


def _expect(holds: bool, what: str, found: Any) -> None:
    if not holds:
        raise Damaged(f"expected {what}, found {str(found)[:80]}")
