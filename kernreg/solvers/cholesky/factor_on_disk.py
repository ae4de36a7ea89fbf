"""The staircase of a Cholesky factor with its panels in files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import StoreError
from kernreg.operators.panels import Staircase, eliminate, factor_corner, panel_bounds
from kernreg.operators.store.disk import file_bytes, pages, read_rows, write_rows

__all__ = ["FactorOnDisk"]

logger = logging.getLogger(__name__)


class _Beside:
    """One thread beside this one; its work is done here where the system allows no other."""

    def __init__(self) -> None:
        self.pool: ThreadPoolExecutor | None = ThreadPoolExecutor(1)

    def __enter__(self) -> _Beside:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown()

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Begin some work, or do it."""
        if self.pool is not None:
            try:
                return self.pool.submit(work, *arguments)
            except RuntimeError:
                # The pool keeps what it could not begin: it must never get a thread.
                self.pool = None
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


class FactorOnDisk(Staircase):
    """The staircase of :class:`~kernreg.operators.panels.Staircase` with one file per panel.

    Panels pass through two buffers of ``block * n`` numbers: the next one is read, and its checksum
    checked, while the current one is used.

    Parameters
    ----------
    folder : Path
        Where the files are.
    n, block : int
        Order of the matrix, rows of a panel.
    group : int
        Rows that are factored at once, a multiple of ``block``.
    dtype : dtype
        float32 or float64.
    """

    def __init__(self, folder: Path, n: int, block: int, group: int, dtype: np.dtype[Any]) -> None:
        super().__init__(n, block, dtype)
        self.folder = folder
        self.group = group
        self.groups = panel_bounds(n, group)
        self._diagonal = np.full(n, np.nan)

    @property
    def device(self) -> torch.device:
        """Where panels pass through."""
        return torch.device("cpu")

    def path(self, index: int) -> Path:
        """File of a panel."""
        return self.folder / f"panel-{index:06d}.bin"

    def panels_of(self, rows: tuple[int, int]) -> range:
        """Numbers of the panels in a group of rows."""
        block = self.bounds[0][1]
        return range(rows[0] // block, -(-rows[1] // block))

    def views(
        self, start: int = 0, reverse: bool = False, stop: int | None = None
    ) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Panels from ``start`` up to ``stop``; each is gone when the next is asked for."""
        order = list(range(start, len(self.bounds) if stop is None else stop))
        if reverse:
            order.reverse()
        if not order:
            return
        size = max((i1 - i0) * i1 for i0, i1 in (self.bounds[index] for index in order))
        buffers = [pages(size, self.dtype) for _ in range(min(2, len(order)))]

        def load(turn: int) -> tuple[int, int, torch.Tensor]:
            i0, i1 = self.bounds[order[turn]]
            panel = buffers[turn % 2][: (i1 - i0) * i1].reshape(i1 - i0, i1)
            read_rows(self.path(order[turn]), panel)
            return i0, i1, torch.from_numpy(panel)

        with _Beside() as reader:
            coming = reader.submit(load, 0)
            for turn in range(len(order)):
                current = coming.result()
                if turn + 1 < len(order):
                    coming = reader.submit(load, turn + 1)
                yield current

    def diagonal(self) -> NDArray[np.float64]:
        """Diagonal of L, shape (n,)."""
        return self._diagonal

    def sweeps(self) -> Iterator[tuple[int, int, int]]:
        """Columns in groups: the whole factor is read for each."""
        yield from ((self.panels_of(rows)[0], *rows) for rows in self.groups)

    def intact(self, rows: tuple[int, int]) -> bool:
        """Whether all panels of a group are on disk and whole; reads them."""
        for index in self.panels_of(rows):
            i0, i1 = self.bounds[index]
            panel = pages((i1 - i0) * i1, self.dtype).reshape(i1 - i0, i1)
            try:
                read_rows(self.path(index), panel)
            except StoreError as error:
                if self.path(index).exists():
                    logger.warning("%s Its rows are factored again.", error)
                return False
            self._diagonal[i0:i1] = panel[:, i0:].diagonal()
        return True

    def bytes_of(self, rows: tuple[int, int]) -> int:
        """Bytes on disk of a group."""
        shapes = [self.bounds[index] for index in self.panels_of(rows)]
        return sum(file_bytes(i1 - i0, i1, self.dtype) for i0, i1 in shapes)

    def factor(
        self, rows: tuple[int, int], matrix: torch.Tensor, finished: Callable[[int], None]
    ) -> None:
        """Factor a group of rows in place and write its panels; all groups above are on disk.

        Parameters
        ----------
        rows : (int, int)
            Range of the group.
        matrix : Tensor of shape (i1 - i0, i1)
            These rows of the matrix.
        finished : callable
            Called with the number of each panel that is on disk.

        Raises
        ------
        Breakdown
            If a pivot is not positive beyond rounding.
        """
        top = rows[0]
        own = self.panels_of(rows)
        for _, _, above in self.views(stop=own[0]):
            eliminate(matrix, above)
        writes = []
        with _Beside() as writer:
            for index in own:
                i0, i1 = self.bounds[index]
                panel = matrix[i0 - top : i1 - top, :i1]
                factor_corner(panel)
                self._diagonal[i0:i1] = panel[:, i0:].diagonal().numpy()
                writes.append(writer.submit(write_rows, self.path(index), panel.numpy()))
                eliminate(matrix[i1 - top :], panel)
            for index, write in zip(own, writes, strict=True):
                write.result()
                finished(index)
