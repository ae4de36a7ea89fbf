"""The instructions of the tile engine: one list for Python, C++ and the writers of GPU text."""

from __future__ import annotations

import zlib

__all__ = ["CODES", "DUAL", "JET", "LINEAR", "NONNEGATIVE", "POSITIVE", "checksum", "instructions"]

_OF_STATES = (
    "loop", "next", "dense", "sum", "product", "dropout", "series", "angles", "profile",
    "jet_dense",
)  # fmt: skip
_PRIMITIVES = (
    "rowx", "rowy", "scalar", "add", "sub", "mul", "div", "min", "max", "gt", "ge", "where",
    "sqrt", "exp", "expm1", "abs", "arc", "lune", "asin", "copy",
)  # fmt: skip

_OF_PLANES = ("pixels", "landed", "box", "mix", "reset", "land", "readout")

DUAL, JET = 1000, 2000
"""The number of a compiled dual, without and with derivatives, is added to these."""

CODES = {name: k for k, name in enumerate((*_OF_STATES, *_PRIMITIVES, *_OF_PLANES))} | {
    "dual": DUAL,
    "jet": JET,
}
"""Number of every instruction by its name."""


NONNEGATIVE, POSITIVE, LINEAR = 1, 2, 4
"""Flags of a dual's instruction: no correlation behind it, or before it, is negative; what comes
out scales with what comes in."""


def checksum() -> int:
    """Of the list: an extension that was built with another one must not run."""
    return zlib.crc32(repr((CODES, NONNEGATIVE, POSITIVE, LINEAR)).encode()) >> 1


def instructions() -> str:
    """The list as enumerations of C++, whose names begin with ``op_`` and ``flag_``.

    Examples
    --------
    >>> print(instructions()[:51])
    enum Op : int32_t {
      op_loop = 0,
      op_next = 1,
    """
    numbers = "".join(f"  op_{name} = {number},\n" for name, number in CODES.items())
    flags = f"flag_nonnegative = {NONNEGATIVE}, flag_positive = {POSITIVE}"
    flags += f", flag_linear = {LINEAR}"
    return (
        f"enum Op : int32_t {{\n{numbers}}};\n\nenum Sign : int32_t {{ {flags} }};\n\n"
        f"constexpr int32_t kInstructions = {checksum()};  // of this list\n"
    )
