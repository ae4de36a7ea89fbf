"""Choose a direct solver and predict its memory before any work starts."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil
import torch

from kernreg.backends.base import CPU
from kernreg.distributed import local_processes
from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.linalg.cholesky import Cholesky
from kernreg.linalg.eigh import Eigh
from kernreg.linalg.inputs import check_device

__all__ = ["Candidate", "Plan", "memory_budget", "plan"]

# One eigendecomposition costs about as much as this many factorisations with leave-one-out.
_EIGH_PAYS = 8
# Rows of kernel entries that an operator may hold besides its output.
_TILE_ROWS = 256
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True)
class Candidate:
    """A solver that was considered: predicted bytes, and why it was or was not taken."""

    solver: str
    storage: str
    peak_bytes: int
    reason: str


@dataclass(frozen=True)
class Plan:
    """What will run; ``str()`` is a table.

    Parameters
    ----------
    solver : str
        ``"cholesky"`` or ``"eigh"``.
    storage : str
        ``"packed"`` (half the matrix) or ``"dense"``.
    block : int
        Rows of a panel.
    peak_bytes : int
        Predicted peak beyond the data.
    budget_bytes : int
        What ``peak_bytes`` had to stay under.
    reason : str
        Why this solver.
    alternatives : tuple of Candidate
        The others, with their predictions.
    """

    solver: str
    storage: str
    block: int
    peak_bytes: int
    budget_bytes: int
    reason: str
    alternatives: tuple[Candidate, ...] = ()

    def __str__(self) -> str:
        head = (
            f"solver   {self.solver}: {self.reason}\n"
            f"storage  {self.storage}, panels of {self.block} rows\n"
            f"memory   {_readable(self.peak_bytes)} predicted, "
            f"{_readable(self.budget_bytes)} allowed"
        )
        rows = [
            f"not used {other.solver} ({other.storage}, {_readable(other.peak_bytes)}): "
            f"{other.reason}"
            for other in self.alternatives
        ]
        return "\n".join([head, *rows])


def _readable(count: float) -> str:
    """Bytes with a decimal unit.

    Examples
    --------
    >>> _readable(1_500_000), _readable(12)
    ('1.5 MB', '12 B')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _enough(count: int) -> str:
    """Bytes as :func:`_readable`, but never fewer.

    Examples
    --------
    >>> _enough(6_141_000), _readable(6_141_000), _enough(12)
    ('6.15 MB', '6.14 MB', '12 B')
    """
    step = 10 ** max(0, len(str(count)) - 3)
    return _readable(-(-count // step) * step)


def memory_budget(max_memory: str | float | None = None, device: Any = None) -> int:
    """Bytes that may be used.

    Parameters
    ----------
    max_memory : str, number or None
        ``"4GB"`` (10^9), ``"4GiB"`` (2^30), a number of bytes, or None for 90 % of the memory
        that is available now, over the processes of a job that share it.
    device : device, optional
        Whose memory; that of the CPU if left out.

    Raises
    ------
    InvalidInputError
        If it cannot be read, or is not positive.

    Examples
    --------
    >>> memory_budget("1.5 GB"), memory_budget("2KiB"), memory_budget(10**6)
    (1500000000, 2048, 1000000)
    """
    if max_memory is None:
        where = check_device(device)
        if where.type == "cpu":
            return int(0.9 * psutil.virtual_memory().available / local_processes())
        # What torch keeps for its next tensors counts as free.
        kept = torch.cuda.memory_reserved(where) - torch.cuda.memory_allocated(where)
        return int(0.9 * (torch.cuda.mem_get_info(where)[0] + kept))
    if isinstance(max_memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", max_memory.lower())
        if not match or (match[3] and not match[2]):
            raise InvalidInputError(
                f"Expected max_memory like '4GB', '512MiB' or a number of bytes, "
                f"found {max_memory!r}."
            )
        count = float(match[1]) * (_BINARY if match[3] else _UNITS)[match[2]]
    else:
        count = float(max_memory)
    if not 1 <= count < np.inf:
        raise InvalidInputError(f"Expected max_memory of at least one byte, found {max_memory!r}.")
    return int(count)


def plan(
    n: int,
    d: int,
    n_outputs: int = 1,
    dtype: Any = "float32",
    solver: str | Cholesky | Eigh = "auto",
    max_memory: str | float | None = None,
    n_alphas: int = 1,
    device: Any = None,
) -> Plan:
    """Choose between the direct solvers, or check the one asked for.

    Parameters
    ----------
    n, d : int
        Rows and numbers per row of the data.
    n_outputs : int, default=1
        Right-hand sides.
    dtype : float32 or float64
        Precision of the kernel matrix.
    solver : "auto", "cholesky", "eigh", Cholesky or Eigh
        A solver object is planned with its own settings.
    max_memory : str, number or None
        See :func:`memory_budget`.
    n_alphas : int, default=1
        Ridges that will be tried; from eight on, one eigendecomposition is cheaper.
    device : device, optional
        Where the kernel is evaluated and factored; the CPU if left out.

    Returns
    -------
    Plan
        Solver and predicted peak where it keeps its matrix: Cholesky on the device, its copy of the
        data included, Eigh on the CPU. The caller's data are not counted.

    Raises
    ------
    MemoryBudgetError
        If what was asked for does not fit; nothing was allocated.
    InvalidInputError
        Unknown solver, dtype or budget.

    Examples
    --------
    >>> chosen = plan(10_000, 50, dtype="float32", max_memory="1GB")
    >>> chosen.solver, chosen.storage
    ('cholesky', 'packed')
    """
    size = np.dtype(dtype)
    if size not in (np.float32, np.float64):
        raise InvalidInputError(f"Expected dtype float32 or float64, found {size}.")
    for name, value in (("n", n), ("d", d), ("n_outputs", n_outputs), ("n_alphas", n_alphas)):
        if value < 1:
            raise InvalidInputError(f"Expected {name} >= 1, found {value}.")
    where = check_device(device)
    # A decomposition runs on the CPU, wherever the kernel is.
    homes = {"cholesky": where, "eigh": CPU}
    budgets = {name: memory_budget(max_memory, home) for name, home in homes.items()}
    direct = solver if isinstance(solver, Cholesky) else Cholesky()

    def predict(name: str, rows: int, size: np.dtype[Any]) -> int:
        if name == "cholesky":
            # The caller's copy of the data is in host memory; a GPU gets one of its own.
            copied = 0 if where == CPU else rows * d * size.itemsize
            return copied + _cholesky_bytes(direct, rows, d, n_outputs, size)
        return Eigh.peak_bytes(rows, n_outputs, n_alphas) + 8 * rows * (d + _TILE_ROWS)

    peaks = {name: predict(name, n, size) for name in ("cholesky", "eigh")}
    chosen, reason = _choose(solver, peaks, budgets, n_alphas, where.type)
    storage = {"cholesky": "packed", "eigh": "dense"}
    if peaks[chosen] > budgets[chosen]:
        tried = peaks if solver == "auto" else {chosen: peaks[chosen]}
        needs = " and ".join(f"{name} needs {_readable(peak)}" for name, peak in tried.items())
        allowed = {_readable(budgets[name]): homes[name] for name in tried}
        raise MemoryBudgetError(
            f"{needs} for n={n} in {size}, allowed are "
            + " and ".join(b + f" on {h}" * (where != CPU) for b, h in allowed.items())
            + f". {_remedies(tried, n, size, predict, budgets)}"
        )
    others = tuple(
        Candidate(
            name,
            storage[name],
            peak,
            "does not fit" if peak > budgets[name] else _why_not(name),
        )
        for name, peak in peaks.items()
        if name != chosen
    )
    block = min(direct.block, n) if chosen == "cholesky" else n
    return Plan(chosen, storage[chosen], block, peaks[chosen], budgets[chosen], reason, others)


def _cholesky_bytes(solver: Cholesky, n: int, d: int, n_outputs: int, dtype: np.dtype[Any]) -> int:
    """Predicted peak of a Cholesky fit: the solver's own, the operator's rows and its tiles."""
    rows = n * d * (dtype.itemsize + (8 if solver.products(dtype) else 0))
    return solver.peak_bytes(n, n_outputs, dtype) + rows + n * _TILE_ROWS * dtype.itemsize


def _why_not(name: str) -> str:
    return "pays from 8 ridges on" if name == "eigh" else "a factorisation for each ridge"


def _choose(
    solver: str | Cholesky | Eigh,
    peaks: dict[str, int],
    budgets: dict[str, int],
    n_alphas: int,
    where: str,
) -> tuple[str, str]:
    name = solver if isinstance(solver, str) else type(solver).__name__.lower()
    if name in peaks:
        return name, "asked for"
    if name != "auto":
        raise InvalidInputError(f"Expected solver 'auto', 'cholesky' or 'eigh', found {name!r}.")
    reasons = {
        "cholesky": f"one factorisation for each ridge ({n_alphas})",
        "eigh": f"one decomposition serves all ridges ({n_alphas})",
    }
    pays = n_alphas >= _EIGH_PAYS and where == "cpu"
    best, other = ("eigh", "cholesky") if pays else ("cholesky", "eigh")
    if peaks[best] <= budgets[best]:
        return best, reasons[best]
    if peaks[other] <= budgets[other]:
        return other, f"{reasons[other]}; {best} does not fit"
    return min(peaks, key=lambda name: peaks[name]), "least memory"


def _remedies(
    tried: Mapping[str, int],
    n: int,
    dtype: np.dtype[Any],
    predict: Callable[[str, int, np.dtype[Any]], int],
    budgets: Mapping[str, int],
) -> str:
    remedies = [f"allow {_enough(min(tried.values()))} by max_memory"]
    others = {name: predict(name, n, dtype) for name in ("cholesky", "eigh") if name not in tried}
    single = predict("cholesky", n, np.dtype(np.float32))
    remedies += [
        f"use solver={name!r} ({_readable(peak)})"
        for name, peak in others.items()
        if peak <= budgets[name]
    ]
    if len(remedies) == 1 and dtype == np.float64 and single <= budgets["cholesky"]:
        remedies.append(f"in Python use solver='cholesky', dtype='float32' ({_readable(single)})")
    fitting = bisect.bisect_left(
        range(1, n),
        True,
        key=lambda rows: all(predict(name, rows, dtype) > budgets[name] for name in tried),
    )
    if fitting:
        remedies.append(f"use at most {fitting} row{'s' * (fitting > 1)}")
    return f"Remedies: {', or '.join(remedies)}."
