"""Cholesky out of core: the factor in files, in memory a few rows of it at a time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError, MemoryBudgetError, StoreError
from kernreg.operators.base import Operator, symmetric_order
from kernreg.operators.budget import TILE_ROWS
from kernreg.operators.panels import Breakdown, full_precision, require_finite
from kernreg.operators.store.disk import (
    atomic,
    check_ours,
    checked_space,
    full_disk,
    locked,
    pages,
    remove_drafts,
    writable_folder,
)
from kernreg.operators.store.records import header_digest, parse
from kernreg.sizes import readable
from kernreg.solvers.base import Problem
from kernreg.solvers.cholesky.factor_on_disk import FactorOnDisk
from kernreg.solvers.cholesky.factored import CholeskyState, Factoring
from kernreg.solvers.refine import product_tile
from kernreg.solvers.work import DISK, READ

__all__ = ["OutOfCoreCholesky"]

logger = logging.getLogger(__name__)

_FORMAT, _VERSION = "kernreg-factor", 2
_HEADER = "factor.json"
# How a header begins, by which a folder is known to be ours.
_MARK = f'{{"format": "{_FORMAT}"'.encode()
_FILES = r"panel-\d{6}\.bin|factor\.json"
# At least this many groups of rows: a killed run loses one of them, and reads of the factor, about
# n^2/6 numbers per group, still take less time than the products they feed.
_GROUPS = 16


@dataclass(frozen=True)
class OutOfCoreCholesky(Factoring):
    """Cholesky factorisation with the factor on disk, within a limit of memory.

    Parameters
    ----------
    folder : path-like
        Where the factor is kept; made if missing. A run that was interrupted goes on there.
    block : int, default=256
        Rows of a panel, which is a file.
    max_bytes : int, default=2**30
        Memory that the solver may hold, the operator's own apart.
    refine : "auto", bool or int, default="auto"
        As for :class:`~kernreg.solvers.Cholesky`: refinement of float32 with float64 tiles.
    max_jitter : float, optional
        As for :class:`~kernreg.solvers.Cholesky`.

    Notes
    -----
    Cost: half a Gram matrix, n^3/3 operations, ``n^2/2`` numbers on disk. Rows are factored in
    groups, left-looking: the kernel's rows of a group are generated, what stands above them is
    read once from disk and eliminated, and the finished rows are written. A group has as many
    rows as ``max_bytes`` allows, at most n/16; with g groups about g n^2/6 numbers are read.

    Memory: a group and two panels, that is ``(group + 2 block) n`` numbers, or in refinement the
    panels and a tile. The leave-one-out diagonal takes the same memory as the factorisation,
    n^3/3 operations and as many reads.

    A panel is a file that is complete or absent, with a checksum. A run that is killed goes on
    at the first group that is not complete, and ends with the same bits (given the same number of
    threads). The folder remembers operator, ridge and settings, and refuses others. A factor that
    is complete is used as it is.

    References
    ----------
    Toledo, A survey of out-of-core algorithms in numerical linear algebra, 1999, section 3.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> X = np.random.default_rng(0).standard_normal((40, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     solver = OutOfCoreCholesky(folder, block=16)
    ...     state = solver.init(KernelOperator(nn.mlp(depth=2), X), 0.1)
    ...     solution = solver.solve(state, X[:, 0])
    >>> solution.ok
    True
    """

    name = "out_of_core"
    runs_on = ("cpu",)
    leave_one_out = False
    drawback = "needs a folder: ask for it"

    folder: str | os.PathLike[str]
    block: int = 256
    max_bytes: int = 2**30
    refine: Literal["auto"] | bool | int = "auto"
    max_jitter: float | None = None

    @classmethod
    def within(cls, problem: Problem, budget: int, **settings: Any) -> Self:
        """One that takes the memory of a budget, or the least that it can work with.

        Without a folder it is one for plans only.

        Examples
        --------
        >>> problem = Problem(100_000, 9, dtype="float32")
        >>> OutOfCoreCholesky.within(problem, 4 * 10**9).group(100_000, "float32")
        6400
        """
        made = cls(**{"folder": ""} | settings)
        room = budget - made.operator_bytes(problem)
        return replace(made, max_bytes=max(made.least_bytes(problem.n, problem.dtype), room))

    @property
    def files(self) -> str | os.PathLike[str]:
        """The folder."""
        return self.folder

    def columns_at_once(self, n: int) -> int:
        """As many as memory allows: the factor is read for each time."""
        return max(1, self.max_bytes // (4 * 8 * n))

    def stored(self, problem: Problem) -> str:
        """All of the factor, in files."""
        return "disk"

    def operator_bytes(self, problem: Problem) -> int:
        """Rows, in both precisions, and entries that an operator holds."""
        size = problem.dtype.itemsize
        return problem.n * (problem.d * (size + 8) + TILE_ROWS * size)

    def work(self, problem: Problem) -> dict[str, float]:
        """As in memory; the factor is written, read for each group, and twice in each solve."""
        total = super().work(problem)
        n, size = problem.n, problem.dtype.itemsize
        groups = -(-n // self.group(n, problem.dtype))
        reads = (1 + problem.leave_one_out) * groups * n * n / 6 * size
        total[DISK] = problem.n_ridges * (n * n / 2 * size + reads) + total[READ]
        return total

    def group(self, n: int, dtype: Any) -> int:
        """Rows that are factored at once.

        Raises
        ------
        MemoryBudgetError
            If not even one panel fits.

        Examples
        --------
        >>> OutOfCoreCholesky("unused").group(40_000, "float32")
        2560
        """
        block = min(self.block, n)
        size = int(np.dtype(dtype).itemsize)
        # Per row of a group: itself, and its columns of one panel, twice in a triangular solve.
        rows = (self.max_bytes - self._panels_bytes(n, size)) // (size * (n + 2 * block))
        if rows < block:
            raise MemoryBudgetError(
                f"a factorisation of {n} rows in panels of {block} holds "
                f"{readable(self.least_bytes(n, dtype))}, max_bytes allows "
                f"{readable(self.max_bytes)}: raise max_bytes or take a smaller block"
            )
        most = -(-n // (_GROUPS * block))
        return block * int(min(rows // block, most))

    def least_bytes(self, n: int, dtype: Any) -> int:
        """The smallest ``max_bytes`` for n rows.

        Examples
        --------
        >>> solver = OutOfCoreCholesky("unused")
        >>> least = solver.least_bytes(40_000, "float32")
        >>> OutOfCoreCholesky("unused", max_bytes=least).group(40_000, "float32")
        256
        """
        block, size = min(self.block, n), int(np.dtype(dtype).itemsize)
        return self._panels_bytes(n, size) + block * size * (n + 2 * block)

    def _panels_bytes(self, n: int, size: int) -> int:
        return 2 * min(self.block, n) * n * size + 4 * 8 * n

    def _product_tile(self, n: int, n_outputs: int) -> tuple[int, int]:
        rows, columns = product_tile(n)
        # Beside the panels that the preconditioner reads and the vectors of the recurrences.
        room = self.max_bytes - self._panels_bytes(n, 8) - 88 * n * n_outputs
        return rows, max(1, min(columns, room // (12 * rows)))

    def peak_bytes(self, problem: Problem) -> int:
        """Bytes of memory held at once by rows, panels and vectors.

        Examples
        --------
        >>> OutOfCoreCholesky("unused").peak_bytes(Problem(40_000, dtype="float32")) < 2**30
        True
        """
        n, dtype = problem.n, problem.dtype
        size = int(dtype.itemsize)
        factoring = self.group(n, dtype) * size * (n + 2 * min(self.block, n))
        solving = self._solving_bytes(n, problem.n_outputs, dtype)
        return self._panels_bytes(n, size) + max(factoring, solving)

    def init(
        self,
        operator: Operator,
        ridge: float | NDArray[Any],
        callback: Callable[[int, int], None] | None = None,
    ) -> CholeskyState:
        """Generate and factor ``K + diag(ridge)``, or go on with what the folder holds.

        Parameters
        ----------
        operator : Operator
            Symmetric, of dtype float32 or float64.
        ridge : float or ndarray of shape (n,)
            Added to the diagonal, not negative.
        callback : callable, optional
            Called as ``callback(step, total)`` after each panel that is on disk; starts again
            with a new jitter.

        Returns
        -------
        CholeskyState
            The factor; it reads from the folder.

        Raises
        ------
        InvalidInputError
            Operator not symmetric, bad ridge, or NaN or infinity among the kernel's entries.
        MemoryBudgetError
            If ``max_bytes`` is too little.
        DiskSpaceError
            If the disk is too small, or ran full; what is finished stays.
        StoreError
            If the folder cannot be written, is in use, or holds another factor.
        NotPositiveDefiniteError
            If the largest jitter did not help.

        Warns
        -----
        JitterWarning
            If a jitter was needed.
        """
        n = symmetric_order(operator)
        identity = operator.fingerprint()  # an error if there is none; costs a pass over the data
        if operator.device.type != "cpu":
            raise InvalidInputError(
                f"OutOfCoreCholesky runs on the CPU, found an operator on {operator.device}: make "
                "it with device='cpu', or use Cholesky or PCG on the GPU"
            )
        group = self.group(n, operator.dtype)
        folder = Path(self.folder)

        def attempt(shift: NDArray[np.float64], jitter: float) -> FactorOnDisk:
            factor = FactorOnDisk(folder, n, min(self.block, n), group, operator.dtype)
            with full_precision():
                _Run(factor, operator, identity, shift, jitter).finish(callback)
            return factor

        self._check_folder()
        writable_folder(folder)
        with locked(folder), full_disk(folder):
            self._check_folder()
            eps = float(np.finfo(operator.dtype).eps)
            return self._factored(operator, ridge, attempt, eps)

    def _check_folder(self) -> None:
        check_ours(Path(self.folder), _HEADER, _MARK, "a factor", _FILES)


class _Run:
    """One rung of the ladder: what the folder holds, and the rest of the work."""

    def __init__(
        self,
        factor: FactorOnDisk,
        operator: Operator,
        identity: str,
        shift: NDArray[np.float64],
        jitter: float,
    ) -> None:
        self.factor = factor
        self.operator = operator
        self.shift = shift + jitter
        self.jitter = jitter
        self.identity = {
            "format": _FORMAT,
            "version": _VERSION,
            "network or data": identity,
            "ridge": hashlib.sha256(shift.data).hexdigest(),
            "dtype": factor.dtype.name,
            "rows": factor.n,
            "block": factor.bounds[0][1],
            "group of rows (from max_bytes)": factor.group,
        }

    def finish(self, callback: Callable[[int, int], None] | None) -> None:
        """Factor the groups that are not on disk."""
        self._enter()
        factor = self.factor
        total = len(factor.bounds)
        todo = [rows for rows in factor.groups if not factor.intact(rows)]
        checked_space(factor.folder, sum(factor.bytes_of(rows) for rows in todo))
        logger.info("%d of %d groups to do in %s", len(todo), len(factor.groups), factor.folder)
        buffer = pages(max(((i1 - i0) * i1 for i0, i1 in todo), default=0), factor.dtype)
        done = total - sum(len(factor.panels_of(rows)) for rows in todo)

        def finished(index: int) -> None:
            nonlocal done
            done += 1
            if callback is not None:
                callback(done, total)

        for i0, i1 in todo:
            matrix = buffer[: (i1 - i0) * i1].reshape(i1 - i0, i1)
            self.operator.lower_panel(i0, i1, matrix)
            rows = torch.from_numpy(matrix)
            require_finite(rows, i0)
            diagonal = rows[:, i0:].diagonal()
            diagonal.copy_(diagonal.double() + torch.from_numpy(self.shift[i0:i1]))
            try:
                factor.factor((i0, i1), rows, finished)
            except Breakdown as failure:
                self._write({"jitter": self.jitter, "failed": failure.row})
                raise

    def _enter(self) -> None:
        """Check what the folder holds, and note what it will hold."""
        path = self.factor.folder / _HEADER
        if not path.exists():
            self._remove_drafts()
            self._write({"jitter": self.jitter})
            return
        found = _read_header(path)
        other = [k for k, v in self.identity.items() if found.get(k) != v]
        if other:
            raise StoreError(
                f"{self.factor.folder} holds a factor with another {', '.join(other)}: take "
                "another folder."
            )
        self._remove_drafts()
        if self.jitter < found["jitter"] or (self.jitter == found["jitter"] and "failed" in found):
            raise Breakdown(int(found.get("failed", 0)))
        if self.jitter > found["jitter"]:
            self._write({"jitter": self.jitter, "clear": True})
            found["clear"] = True
        if found.get("clear"):
            self._clear()
            self._write({"jitter": self.jitter})

    def _clear(self) -> None:
        for index in range(len(self.factor.bounds)):
            self.factor.path(index).unlink(missing_ok=True)

    def _remove_drafts(self) -> None:
        remove_drafts(self.factor.folder, f"({_FILES})", pattern=True)

    def _write(self, state: dict[str, Any]) -> None:
        header = self.identity | state
        with atomic(self.factor.folder / _HEADER) as draft:
            draft.write_text(json.dumps(header | {"hash": header_digest(header)}), encoding="utf-8")


def _read_header(path: Path) -> dict[str, Any]:
    try:
        found = dict(parse(path.read_text(encoding="utf-8")))
        noted = found.pop("hash", None)
        # Another version is refused by its number.
        if found["version"] == _VERSION and noted != header_digest(found):
            raise ValueError("its hash is another")
        float(found["jitter"])
    except (ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is damaged: restore the file, or start again in another folder."
        ) from error
    return found
