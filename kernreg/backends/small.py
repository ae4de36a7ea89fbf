"""Small problems, whose row passes are recorded when a program comes for the second time."""

from __future__ import annotations

import threading
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.backends.analysis import profile_pays
from kernreg.backends.base import Request
from kernreg.backends.recorded import NotRecordable, Recording, record
from kernreg.backends.rows import Row, check_range
from kernreg.backends.tiles import Machine, TileProgram
from kernreg.ir import operations as ir
from kernreg.ir.program import Program

__all__ = ["small_problem"]

_ROWS = 1024
"""Most rows of a small problem: beyond, tables and entries take longer than calls."""

_NUMBERS = 2**20
"""Most rows times operations, as a recording holds all that is between."""

_KEPT = 256
_RECORDINGS: dict[Program, Recording | None] = {}
_LOCK = threading.Lock()


def small_problem(
    request: Request, rows: tuple[Row, Row], machine: Machine, core: ModuleType
) -> tuple[TileProgram, float] | None:
    """The translation for a few rows by a recording, and the gap of near pairs.

    Parameters
    ----------
    request : Request
        What is wanted.
    rows : tuple of Row
        Rows at the input; one object twice for a symmetric matrix.
    machine : Machine
        What the extension offers.
    core : module
        The extension.

    Returns
    -------
    tuple of TileProgram and float, or None
        None where the problem is no small one, or its rules cannot be recorded.

    Raises
    ------
    BackendError
        If the program does not fit the machine.
    InvalidInputError
        If a kernel overflows or vanishes.

    Notes
    -----
    A recording is made when a program, its numbers included, is met for the second time; it gives
    the same bits as the rules.
    """
    n1, n2 = len(rows[0].s), len(rows[1].s)
    if max(n1, n2) > _ROWS or request.dtype != np.float64:  # float32 must bound its rounding first
        return None
    row = rows[0]
    if rows[1] is not row:
        row = Row(torch.cat([r.s for r in rows]), torch.cat([r.tau for r in rows]))
    found = _recorded(request.program, row, machine, core)
    if found is None:
        return None
    recording, out = found
    if not request.exact and profile_pays(recording.flops, n1 * n2) and _alike(recording, out):
        return None
    first, second = recording.tables
    end = Row(*map(torch.from_numpy, out[first + second : first + second + 2]))
    if not _ordinary(end):
        check_range(end, request.dtype, row, request.kernels)
    if rows[1] is rows[0]:
        tables, ends = (out[:first], out[first : first + second]), (end, end)
    else:
        parts = out[:first, :n1], out[first : first + second, n1:]
        tables = np.ascontiguousarray(parts[0]), np.ascontiguousarray(parts[1])
        ends = Row(end.s[:n1], end.tau[:n1]), Row(end.s[n1:], end.tau[n1:])
    return TileProgram(recording.code, recording.constants, tables, ends), recording.near


def _recorded(
    program: Program, row: Row, machine: Machine, core: ModuleType
) -> tuple[Recording, NDArray[np.float64]] | None:
    """A recording whose guards hold, and its outputs."""
    s = row.s.numpy()
    with _LOCK:
        seen, known = program in _RECORDINGS, _RECORDINGS.get(program)
        if not seen:  # a search meets most programs once, and recording takes as long as a pass
            _keep(program, None)
    if not seen or len(s) * _operations(program.ops) > _NUMBERS:
        return None
    out = None if known is None else known.run(s, core)
    if known is not None and out is not None:
        return known, out
    try:
        made = record(program, row, machine, core.ROW_OPS)
    except NotRecordable:
        return None
    out = made.run(s, core)
    if out is None:  # NaN, of which no rule said a word
        return None
    with _LOCK:
        _keep(program, made)
    return made, out


def _keep(program: Program, recording: Recording | None) -> None:
    """Remember a program, and its recording if there is one."""
    while len(_RECORDINGS) >= _KEPT:
        del _RECORDINGS[next(iter(_RECORDINGS))]
    _RECORDINGS[program] = recording


def _operations(ops: tuple[ir.Op, ...]) -> int:
    return sum(op.count * _operations(op.body) if isinstance(op, ir.Repeat) else 1 for op in ops)


def _alike(recording: Recording, out: NDArray[np.float64]) -> bool:
    """Whether rows may differ by so little that a profile takes the place of layers."""
    heads = (out[low:high] for low, high in recording.heads)
    ends = [(h.min(axis=1), h.max(axis=1)) for h in heads]
    return any(bool((high - low <= 1e-9 * np.maximum(high, -low)).all()) for low, high in ends)


def _ordinary(end: Row) -> bool:
    """Whether the states at the output are far from every limit."""
    s, tau = end.s.numpy(), end.tau.numpy()
    return bool(s.min() > 1e-12 and s.max() < 1e12 and tau.min() > 1e-6 and tau.max() < 1e6)
