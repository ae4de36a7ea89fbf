"""One solver for many processes: rank 0 runs it, all evaluate the kernel."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg import distributed as job
from kernreg.exceptions import DistributedError, StoreError
from kernreg.operators.agreement import require_same
from kernreg.operators.base import Operator
from kernreg.operators.packed import PackedPanels, shares
from kernreg.operators.store.store import TileStore

__all__ = ["DistributedOperator", "led", "write_store"]

Result = TypeVar("Result")


class _Member:
    """What one process does for a symmetric operator that all processes hold.

    It sees to rows ``[start, stop)`` of the lower triangle, whose areas are equal in all processes.
    """

    def __init__(self, operator: Operator) -> None:
        self.operators = {np.dtype(operator.dtype): operator}
        # Whether all processes have left, each with an error.
        self.over = self.warned = False
        self.kept: PackedPanels | None = None
        self.count = operator.shape[0]
        self.rows_of = shares(self.count, job.processes())[job.rank()]

    def operator(self, dtype: np.dtype[Any]) -> Operator:
        """The operator in another type."""
        if dtype not in self.operators:
            self.operators[dtype] = next(iter(self.operators.values())).astype(dtype)
        return self.operators[dtype]

    def take_part(self, name: str, dtype: np.dtype[Any], operand: Any) -> Any:
        """Do the part of this process in a command; the result counts on rank 0 only.

        Raises
        ------
        DistributedError
            If another process failed, and its own error in the one that did.
        """
        error, result = None, torch.empty(0)
        try:
            result = getattr(self, name)(self.operator(dtype), operand)
        except Exception as found:
            error = found
        self.over = True
        job.agree(error, name)
        self.over = False
        if name == "times":
            job.total(result)
        elif name == "rows":
            job.join(result)
        elif name == "over_rows":
            result = _collected(result, self.count, joined=operand[2])
        return result

    def times(self, operator: Operator, lines: NDArray[Any]) -> Tensor:
        """What the own rows, and by symmetry the columns of theirs, give to ``lines @ K``."""
        if self.kept is not None and self.kept.dtype == operator.dtype:
            return self.kept.times(torch.from_numpy(lines))
        return operator.lower_times(torch.from_numpy(lines), self.rows_of)

    def keep(self, operator: Operator, _: None) -> None:
        """Keep the own part of the entries, in the place of what was kept before."""
        self.kept = None
        self.kept = PackedPanels(operator, self.rows_of)

    def rows(self, operator: Operator, index: NDArray[Any]) -> Tensor:
        """Whole rows by number; the own share of them is filled."""
        start, stop = job.share(len(index))
        block = np.empty((len(index), operator.shape[1]), dtype=operator.dtype)
        if start < stop:
            found = operator.rows(index[start:stop])
            block[start:stop] = found.cpu() if isinstance(found, Tensor) else found
        return torch.from_numpy(block)

    def over_rows(self, operator: Operator, operand: tuple[Any, ...]) -> Tensor:
        """A function on the own share of the rows."""
        work, arguments, _, *callback = operand
        return torch.from_numpy(work(operator, *job.share(self.count), *arguments, *callback))

    def serve(self) -> Any:
        """Take part in what rank 0 does until it is done; returns its result."""
        while True:
            name, *rest = job.tell()
            if name == "result":
                return rest[0]
            if name == "error":
                raise DistributedError(rest[0])
            dtype, operand = rest
            self.take_part(name, dtype, (*operand, None) if name == "over_rows" else operand)


def _collected(part: Tensor, count: int, joined: bool) -> Tensor:
    """On rank 0 the sum of what the processes have, or all rows of it."""
    if not joined:
        part = part.contiguous()
        job.total(part)
        return part
    result = torch.empty((count, *part.shape[1:]), dtype=part.dtype)
    start, stop = job.share(count)
    result[start:stop] = part
    job.join(result)
    return result


class DistributedOperator(Operator):
    """A symmetric operator whose products and rows are evaluated by all processes of a job.

    Given to the function that :func:`led` runs on rank 0; the other processes serve it.

    Parameters
    ----------
    member : object
        The part of rank 0.
    dtype : dtype
        Of the entries.

    Notes
    -----
    A product sends its operand of shape (n, t) to every process and sums as many numbers from each;
    a process evaluates n^2/2p entries, or reads as many where they are kept: then memory of
    n^2/2p numbers each. Rows by number are evaluated by all, and collected; loops over all rows, as
    those of SketchAndProject and Restricted, are shared. Tiles, panels, parts and the diagonal are
    evaluated on rank 0 alone: so Cholesky and Eigh run as in one process.

    Examples
    --------
    >>> from kernreg import KernelOperator
    >>> K = KernelOperator("mlp(depth=1)", np.eye(4))
    >>> led(K, lambda operator: type(operator).__name__)  # among several: DistributedOperator
    'KernelOperator'
    """

    symmetric = True

    def __init__(self, member: _Member, dtype: Any) -> None:
        self._member = member
        self.dtype = np.dtype(dtype)
        self._own = member.operator(self.dtype)
        own, self.processes = self._own, job.processes()
        self.shape, self.device = own.shape, own.device
        self.fused, self.streamed = own.fused, own.streamed
        self.reevaluates = own.reevaluates

    def __repr__(self) -> str:
        return f"<DistributedOperator on {job.processes()} processes of {self._own!r}>"

    @property
    def rounding(self) -> float:
        """That of the operator of one process."""
        return self._own.rounding

    def times(self, columns: Tensor) -> Tensor:
        """The product with columns of shape (n, t), a part of it by each process."""
        lines = np.ascontiguousarray(columns.T.cpu().numpy())
        return self._ask("times", lines).T.to(columns.dtype).contiguous()

    def rows(self, index: Any) -> NDArray[Any]:
        """Whole rows by number, of shape (m, n)."""
        return np.asarray(self._ask("rows", np.asarray(index).reshape(-1)).numpy())

    def keep(self) -> DistributedOperator:
        """Itself, with all entries kept by the processes, each a part, until others are kept."""
        self._ask("keep", None)
        return self

    def over_rows(
        self, work: Any, *arguments: Any, joined: bool = False, callback: Any = None
    ) -> Any:
        """``work`` on all rows, a share of them by each process."""
        operand = (work, arguments, joined)
        job.tell(("over_rows", self.dtype, operand))
        return self._member.take_part("over_rows", self.dtype, (*operand, callback)).numpy()

    def part(self, rows: Any, columns: Any, out: Any = None) -> Any:
        """Entries between rows and columns by number, evaluated on rank 0."""
        return self._own.part(rows, columns, out)

    def take(self, index: Any) -> Operator:
        """The operator of some rows alone, which rank 0 evaluates."""
        return self._own.take(index)

    def _ask(self, name: str, operand: Any) -> Any:
        job.tell((name, self.dtype, operand))
        return self._member.take_part(name, self.dtype, operand)

    def astype(self, dtype: Any) -> DistributedOperator:
        """The same operator with entries of another type."""
        return DistributedOperator(self._member, dtype)

    def tile(self, rows: slice, cols: slice, out: Any = None) -> Any:
        """A rectangular part, evaluated on rank 0."""
        return self._own.tile(rows, cols, out)

    def lower_panel(self, i0: int, i1: int, out: Any = None) -> Any:
        """Rows ``[i0, i1)`` up to and including the block on the diagonal, by rank 0."""
        self._warn()
        return self._own.lower_panel(i0, i1, out)

    def diagonal(self) -> Any:
        """The diagonal, by rank 0."""
        return self._own.diagonal()

    def to_dense(self, out: Any = None) -> Any:
        """The whole matrix, by rank 0."""
        self._warn()
        return self._own.to_dense(out)

    def _warn(self) -> None:
        if not self._member.warned:
            self._member.warned = True
            warnings.warn(
                "Panels and whole matrices are evaluated on rank 0 alone while the other processes "
                "wait: Cholesky and Eigh, as solvers or preconditioners, are not distributed.",
                stacklevel=4,
            )

    def fingerprint(self) -> str:
        """That of the operator of one process."""
        return self._own.fingerprint()


def led(operator: Operator, work: Callable[[Operator], Result]) -> Result:
    """``work(operator)``, which rank 0 runs while all processes evaluate the kernel for it.

    Parameters
    ----------
    operator : KernelOperator
        Symmetric, on the same data in every process.
    work : callable
        Given an operator; what it returns is sent to every process, bit by bit the same.

    Returns
    -------
    object
        What ``work`` returned.

    Raises
    ------
    DistributedError
        In all processes but the one whose error it was, if one of them failed; in all others, if
        one was lost.

    Notes
    -----
    Only rank 0 decides, warns, calls back and writes: so processors that round in other ways can
    neither diverge nor wait for each other for ever. In one process this is ``work(operator)``.

    Examples
    --------
    >>> import numpy as np
    >>> from kernreg import KernelOperator, nn
    >>> from kernreg.solvers import PCG
    >>> def solve(operator):
    ...     return PCG().solve(PCG().init(operator, 1e-3), np.ones(4))
    >>> led(KernelOperator(nn.mlp(depth=1), np.eye(4)), solve).ok
    True
    """
    if not job.is_distributed():
        return work(operator)
    require_same(operator)
    member = _Member(operator)
    if job.rank():
        result: Result = member.serve()
        return result
    try:
        result = work(DistributedOperator(member, operator.dtype))
    except BaseException as error:
        with contextlib.suppress(DistributedError):
            if not member.over:
                job.tell(("error", job.described(error)))
        raise
    job.tell(("result", result))
    return result


def write_store(
    path: str | os.PathLike[str],
    operator: Operator,
    *,
    dtype: str | None = None,
    tile: int | None = None,
    callback: Callable[[int, int], None] | None = None,
) -> tuple[TileStore, int]:
    """Write a tile store, all processes of a job together.

    Parameters
    ----------
    path : path-like
        A folder that all processes see; a store that is there is completed.
    operator : KernelOperator
        On the same data in every process.
    dtype, tile : optional
        See :meth:`TileStore.create`.
    callback : callable, optional
        Called as ``callback(step, total)`` after each tile of this process; the step counts the
        tiles that were handed out to all.

    Returns
    -------
    store : TileStore
        Complete.
    written : int
        How many tiles the job wrote; the others were there.

    Raises
    ------
    DistributedError
        If another process failed or was lost; what :meth:`TileStore.write` raises in the one that
        did.

    Notes
    -----
    Each process asks for its next tile when it is done with one, so slow ones take fewer.

    Examples
    --------
    >>> import tempfile
    >>> from kernreg import KernelOperator
    >>> K = KernelOperator("mlp(depth=1)", np.eye(4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store, written = write_store(folder, K, tile=2)
    ...     written, write_store(folder, K, tile=2)[1]
    (3, 0)
    """

    def create() -> TileStore:
        return TileStore.create(path, operator, dtype=dtype, tile=tile)

    job.from_first(lambda: create().fingerprint)
    written, error, position = 0, None, 0
    try:
        store = create()
    except Exception as found:
        error = found
    job.agree(error, f"writes a store of {operator.shape} entries")
    places = store.tiles()

    def queue(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        nonlocal position
        for position in numbers:
            yield places[position]

    def after(step: int, count: int) -> None:
        if callback is not None:
            callback(position + 1, count)

    try:
        with job.handed_out(len(places)) as numbers:
            written = store.write(operator, after, queue(numbers))
    except DistributedError:
        raise
    except Exception as found:
        error = found
    job.agree(error)
    try:
        store.require_complete()
    except StoreError as found:
        error = found
    job.agree(error)
    count = torch.tensor([written])
    job.total(count)
    return store, int(job.tell(int(count)))
