"""Short measurements that say how long a fit will take on this machine."""

from __future__ import annotations

import functools
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray

from kernreg.exceptions import ConvergenceWarning, KernregError, StoreError
from kernreg.operators.base import Operator
from kernreg.operators.matrix import MatrixOperator
from kernreg.operators.mirrored import times_half
from kernreg.operators.panels import full_precision
from kernreg.operators.parts import read_part
from kernreg.solvers.base import Solver
from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.work import DISK, EIGH, READ, entry, flop, part, product, square

__all__ = ["Probe", "seconds"]

_ORDER = 2048
_SPECTRAL_ORDER = 768
_PANEL = (512, 2**16)
_DISK_BYTES = 2**26
# Seconds from which a measurement counts, and rows at which it starts and ends.
_LONG_ENOUGH = 0.03
_FEWEST, _MOST = 4, 4096
# What is done once for rows weighs too much among fewer, unless these take long already.
_SEVERAL, _LONG = 24, 0.5
# Of the entries that are measured or counted on at most.
_SECONDS = 10.0
# Rows and columns of a part.
_MANY, _FEW = 8192, 512


class Probe:
    """Rates of the machine and of one kernel, measured when they are asked for.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric.
    ridge : float
        Of the system that will be solved.
    kept : bool
        Whether the fit works out every entry once and keeps it.

    Notes
    -----
    Some seconds, ten at most, and memory for a problem of at most 5,000 rows.

    Examples
    --------
    >>> from kernreg import KernelOperator, nn
    >>> from kernreg.solvers import PCG
    >>> probe = Probe(KernelOperator(nn.mlp(depth=1), np.eye(100)), 0.1)
    >>> probe.rates[entry("float32")] > 0, probe.iterations(PCG()) > 0
    (True, True)
    """

    def __init__(self, operator: Operator, ridge: float, kept: bool = False) -> None:
        self._operator = operator
        self._ridge = ridge
        self.kept = kept
        self._entries: dict[str, tuple[float, float]] = {}

    def rates_for(self, solver: Solver) -> dict[str, float]:
        """:attr:`rates`, and for a solver on disk that of the disk of its folder.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        folder = solver.files
        return self.rates if folder is None else self.rates | {DISK: _disk(Path(folder))}

    @functools.cached_property
    def rates(self) -> dict[str, float]:
        """Seconds for each unit of :mod:`kernreg.solvers.work`, the disk apart."""
        own = {}
        for dtype in ("float32", "float64"):
            self._entry_seconds(dtype)
            own[entry(dtype)], own[product(dtype)] = self._entries[dtype]
            own[part(dtype)] = self._part(dtype)
        return _machine(str(self._operator.device)) | own

    def iterations(self, solver: Solver) -> int | None:
        """Iterations that a solver will take; None if that cannot be found out.

        Counted on samples of the rows. Eigenvalues of the kernel matrix grow with the number of
        rows, so a sample gets its share of the ridge: then the large ones have the same ratio to
        it, and the same rank of a preconditioner serves both. More rows have more small ones, so
        iterations grow nevertheless: as a power, taken from a sample and half of it.
        """
        n = self._operator.shape[0]
        sampled = solver.sampled(n)
        if sampled is None:
            return 0
        m, counted = sampled
        if m * m / 2 * self._entry_seconds("float32") > _SECONDS:
            return None
        try:
            found = self._counted(counted, m)
            if m == n:
                return found
            growth = np.log2(found / max(1, self._counted(counted, m // 2)))
        except KernregError:
            return None
        # Two counts make a rough power; fits of up to 64,000 rows grew by 0.7 at most.
        return round(found * (n / m) ** min(max(growth, 0.0), 0.7))

    def _counted(self, solver: Solver, m: int) -> int:
        """Iterations for m of the rows."""
        n = self._operator.shape[0]
        targets = np.random.default_rng(0).standard_normal(m)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            state = solver.init(self._operator.take(self._sample(m)), self._ridge * m / n)
            return solver.solve(state, targets).stats.iterations

    def _sample(self, m: int) -> NDArray[np.int64]:
        n = self._operator.shape[0]
        return np.sort(np.random.default_rng(0).choice(n, size=m, replace=False))

    def _entry(self, dtype: str) -> tuple[float, float]:
        """Seconds for an entry of the symmetric matrix, and for one in a product."""
        n = self._operator.shape[0]
        m = min(n, _FEWEST)
        while True:
            sampled = self._operator.take(self._sample(m)).astype(dtype)
            taken = _best(sampled.to_dense)
            enough = taken > (_LONG_ENOUGH if m >= _SEVERAL else _LONG)
            if enough or m == min(n, _MOST):
                ones = np.ones((m, 1), dtype=dtype)
                multiplied = _best(functools.partial(sampled.__matmul__, ones))
                entries = m * (m + 1) / 2
                return taken / entries, multiplied / entries
            m = min(2 * m, n, _MOST)

    def _entry_seconds(self, dtype: str) -> float:
        if dtype not in self._entries:
            self._entries[dtype] = self._entry(dtype)
        return self._entries[dtype][0]

    def _part(self, dtype: str) -> float:
        """Seconds for an entry between few rows and many."""
        n, m = min(self._operator.shape[0], _MANY), min(self._operator.shape[0], _FEW)
        most = _SECONDS / 10 / max(self._entry_seconds(dtype), 1e-12)
        if n * m > most:  # entries of images cost milliseconds
            m = max(1, min(m, int(most**0.5)))
            n = max(1, min(n, int(most / m)))
        chosen = self._sample(m)
        operator = self._operator.astype(dtype)
        buffer = np.empty((n, m), dtype=dtype)
        return _best(functools.partial(read_part, operator, slice(0, n), chosen, buffer)) / (n * m)


def seconds(counted: Mapping[str, float], rates: Mapping[str, float]) -> float:
    """Time of some work; the disk is read and written meanwhile.

    Examples
    --------
    >>> seconds({READ: 100, DISK: 10}, {READ: 0.1, DISK: 0.2})
    10.0
    """
    computing = sum(count * rates[unit] for unit, count in counted.items() if unit != DISK)
    return max(computing, counted[DISK] * rates[DISK]) if DISK in counted else computing


@functools.cache
def _machine(device: str) -> dict[str, float]:
    """Rates that no kernel has a part in."""
    rates = {}
    for dtype in ("float32", "float64"):
        rng = np.random.default_rng(0)
        dense = rng.standard_normal((_ORDER, _ORDER)).astype(dtype)
        dense += dense.T.copy()
        dense[np.diag_indices(_ORDER)] += _ORDER  # well-conditioned
        matrix = torch.from_numpy(dense).to(device)
        operator, solver = MatrixOperator(matrix), Cholesky(refine=False)
        rates[flop(dtype)] = _best(functools.partial(_multiplied, matrix)) / (2 * _ORDER**3)
        taken = _best(functools.partial(solver.init, operator, 0.0))
        narrow = max(0.0, taken - rates[flop(dtype)] * _ORDER**3 / 3)
        rates[square(dtype)] = narrow / _ORDER**2
    # A panel that no cache holds, as no cache holds the tiles of a large matrix.
    height, width = _PANEL
    panel = torch.ones((height, width), device=device)
    line = torch.ones((1, width), device=device)

    def read() -> float:
        return float(times_half([(width - height, panel)], line)[0, 0])

    rates[READ] = _best(read) / panel.nbytes
    corner = dense[:_SPECTRAL_ORDER, :_SPECTRAL_ORDER].copy()
    rates[EIGH] = _best(lambda: scipy.linalg.eigh(corner, driver="evr")) / _SPECTRAL_ORDER**3
    return rates


def _multiplied(matrix: torch.Tensor) -> float:
    """A product that is done when this returns, on a GPU too."""
    with full_precision():
        return float((matrix @ matrix)[0, 0])


def _best(action: Callable[[], Any], turns: int = 3) -> float:
    """Shortest time of a few turns: the first ones load libraries and touch memory."""
    found: list[float] = []
    while len(found) < turns and sum(found) < 1.0:
        started = time.perf_counter()
        action()
        found.append(time.perf_counter() - started)
    return min(found)


def _disk(folder: Path) -> float:
    """Seconds to bring a byte to the disk of a folder, which need not be there yet."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    data = np.random.default_rng(0).bytes(_DISK_BYTES)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            started = time.perf_counter()
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            return (time.perf_counter() - started) / _DISK_BYTES
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written: {error.strerror or error}. Take another folder."
        ) from error
