"""The Cholesky factor as a staircase of row panels: half the memory of a square matrix.

Panel I holds rows [i0, i1) and columns [0, i1) of L in one C-contiguous array, so n x n takes
n^2/2 + n*block/2 numbers. The factor is built from the top, one panel at a time ("bordering" in
blocks of rows): a new panel needs all panels above it and is overwritten in place.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kernreg.exceptions import InvalidInputError
from kernreg.operators.outputs import KINDS

__all__ = [
    "Breakdown",
    "Staircase",
    "eliminate",
    "factor_corner",
    "full_precision",
    "panel_bounds",
    "require_finite",
]

# Width of the strips in which the triangle of a diagonal block is updated: wide enough for GEMM
# speed, and only strip/2 of each row is computed for nothing.
_STRIP = 128
# A pivot below this many eps times its diagonal entry is rounding noise, whatever its sign: it is
# what remains of a sum of squares as large as the entry. As a preconditioner such a factor is
# worse than one with ten times the jitter.
_NOISE = 16.0


class Breakdown(Exception):
    """A pivot was not positive beyond rounding: internal signal to the jitter ladder."""

    def __init__(self, row: int) -> None:
        super().__init__(f"no positive pivot in row {row}")
        self.row = row


class _Precision:
    """The setting of the process, and who needs which: the strictest holds, the last restores."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.needs: list[str] = []
        self.before = ""

    def enter(self, need: str) -> None:
        with self.lock:
            if not self.needs:
                self.before = torch.get_float32_matmul_precision()
            self.needs.append(need)
            self.apply()

    def leave(self, need: str) -> None:
        with self.lock:
            self.needs.remove(need)
            self.apply()

    def apply(self) -> None:
        wanted = min(self.needs, key=["highest", "high"].index, default=self.before)
        if torch.get_float32_matmul_precision() != wanted:
            torch.set_float32_matmul_precision(wanted)


_precision = _Precision()


@contextlib.contextmanager
def full_precision(mixed: bool = False) -> Iterator[None]:
    """Keep float32 products in float32: a caller may have allowed bfloat16 for a network.

    With ``mixed`` they may be rounded to tf32 on the matrix units of a GPU. The setting is one of
    the whole process, so threads that work at the same time have it together.
    """
    need = "high" if mixed else "highest"
    _precision.enter(need)
    try:
        yield
    finally:
        _precision.leave(need)


def panel_bounds(n: int, block: int) -> list[tuple[int, int]]:
    """Row ranges of the panels.

    Examples
    --------
    >>> panel_bounds(5, 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + block, n)) for start in range(0, n, block)]


def _solve_lower(lower: torch.Tensor, rhs: torch.Tensor, transpose: bool = False) -> None:
    """Overwrite ``rhs`` with ``lower^-1 rhs`` or ``lower^-T rhs``."""
    matrix = lower.T if transpose else lower
    rhs.copy_(torch.linalg.solve_triangular(matrix, rhs, upper=transpose))


def require_finite(panel: torch.Tensor, i0: int, j0: int = 0) -> None:
    """Raise InvalidInputError for NaN or infinity in a part of the matrix from (i0, j0) on."""
    # The sum is one pass without a mask; it can overflow, so only the slow test may raise.
    if torch.isfinite(panel.sum()):
        return
    bad = torch.nonzero(~torch.isfinite(panel))
    if len(bad):
        row, column = int(bad[0, 0]) + i0, int(bad[0, 1]) + j0
        raise InvalidInputError(
            f"the kernel matrix contains NaN or infinity (first in row {row}, column {column}): "
            "check the input for NaN and huge values, or use dtype float64"
        )


def eliminate(rows: torch.Tensor, above: torch.Tensor) -> None:
    """Finish the columns of ``rows`` that belong to the diagonal block of the panel ``above``.

    Parameters
    ----------
    rows : Tensor of shape (m, at least j1)
        Rows further down; columns before ``j0`` are finished, those from ``j0`` on are not.
    above : Tensor of shape (j1 - j0, j1)
        A factored panel.
    """
    j1 = above.shape[1]
    j0 = j1 - above.shape[0]
    target = rows[:, j0:j1]
    if j0:
        target.addmm_(rows[:, :j0], above[:, :j0].T, alpha=-1)
    _solve_lower(above[:, j0:], target.T)


def factor_corner(rows: torch.Tensor) -> None:
    """Factor the diagonal block of a panel, of shape (i1 - i0, i1), whose other columns are done.

    Raises
    ------
    Breakdown
        If a pivot is not positive beyond rounding.
    """
    size, i1 = rows.shape
    i0 = i1 - size
    corner = rows[:, i0:]
    scale = corner.diagonal().clone()
    if i0:
        for top in range(0, size, _STRIP):
            end = min(top + _STRIP, size)
            corner[top:end, :end].addmm_(rows[top:end, :i0], rows[:end, :i0].T, alpha=-1)
    lower, info = torch.linalg.cholesky_ex(corner)
    failed = int(info)
    pivots = lower.diagonal()[: failed - 1 if failed else size] ** 2
    noise = _NOISE * torch.finfo(rows.dtype).eps * scale[: len(pivots)]
    weak = torch.nonzero(~(pivots > noise))
    if len(weak) or failed:
        raise Breakdown(i0 + (int(weak[0]) if len(weak) else failed - 1))
    corner.copy_(lower)


class Staircase:
    """Lower Cholesky factor of a symmetric matrix, stored and built by row panels.

    Parameters
    ----------
    n : int
        Order of the matrix.
    block : int
        Rows of a panel.
    dtype : float32 or float64
        Precision of the factor; its panels may be on any device.

    Notes
    -----
    Backward stable like LAPACK's potrf: the diagonal blocks are solved with, never inverted.
    Cost n^3/3 in GEMMs of (block x k) with (k x block), plus n^2 block / 2 in triangular solves.
    """

    def __init__(self, n: int, block: int, dtype: np.dtype[Any]) -> None:
        self.n = n
        self.dtype = np.dtype(dtype)
        self.bounds = panel_bounds(n, block)
        self.panels: list[torch.Tensor] = []

    def __getstate__(self) -> dict[str, Any]:
        # Panels are views of one piece, which each of them would take along as a whole.
        return vars(self) | {"panels": [panel.clone() for panel in self.panels]}

    @staticmethod
    def numbers(n: int, block: int) -> int:
        """How many numbers the complete staircase holds."""
        return sum((i1 - i0) * i1 for i0, i1 in panel_bounds(n, block))

    @property
    def nbytes(self) -> int:
        """Bytes held by the panels so far."""
        return sum(panel.nbytes for panel in self.panels)

    @property
    def device(self) -> torch.device:
        """Where the panels are."""
        return self.panels[0].device

    def views(
        self, start: int = 0, reverse: bool = False
    ) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Row range and numbers of each panel so far, from panel ``start`` on or from the last."""
        order = range(start, len(self.panels))
        for index in reversed(order) if reverse else order:
            yield (*self.bounds[index], self.panels[index])

    def append(self, new: torch.Tensor) -> None:
        """Factor the next panel in place and keep it.

        Parameters
        ----------
        new : Tensor of shape (i1 - i0, i1)
            The next rows of the matrix; entries above the diagonal are ignored.

        Raises
        ------
        Breakdown
            If a pivot is not positive beyond rounding.
        """
        for _, _, above in self.views():
            eliminate(new, above)
        factor_corner(new)
        self.panels.append(new)

    def forward(self, V: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Overwrite V of shape (n, t) with L^-1 V; rows before panel ``start`` must be zero."""
        first = self.bounds[start][0]
        for i0, i1, panel in self.views(start):
            rows = V[i0:i1]
            if i0 > first:
                rows.addmm_(panel[:, first:i0], V[first:i0], alpha=-1)
            _solve_lower(panel[:, i0:], rows)
        return V

    def backward(self, V: torch.Tensor) -> torch.Tensor:
        """Overwrite V of shape (n, t) with L^-T V."""
        for i0, i1, panel in self.views(reverse=True):
            rows = V[i0:i1]
            _solve_lower(panel[:, i0:], rows, transpose=True)
            if i0:
                V[:i0].addmm_(panel[:, :i0].T, rows, alpha=-1)
        return V

    def diagonal(self) -> NDArray[np.float64]:
        """Diagonal of L, shape (n,)."""
        parts = [panel[:, i0:].diagonal() for i0, _, panel in self.views()]
        return torch.cat(parts).to("cpu", torch.float64).numpy()

    def sweeps(self) -> Iterator[tuple[int, int, int]]:
        """First panel and row range of the columns that :meth:`inverse_diagonal` holds at once."""
        yield from ((index, *rows) for index, rows in enumerate(self.bounds))

    def inverse_diagonal(self) -> NDArray[np.float64]:
        """Diagonal of (L L^T)^-1, shape (n,), at n^3/3 operations and n*block numbers of memory.

        Column i of L^-1 starts at row i, and its squared norm is entry i.
        """
        result = np.empty(self.n)
        sweeps = list(self.sweeps())
        width = max(i1 - i0 for _, i0, i1 in sweeps)
        room = torch.empty(self.n * width, dtype=KINDS[self.dtype.name], device=self.device)
        for start, i0, i1 in sweeps:
            columns = room[: self.n * (i1 - i0)].view(self.n, i1 - i0).zero_()
            columns[i0:i1].fill_diagonal_(1)
            self.forward(columns, start=start)
            norms = torch.linalg.vector_norm(columns[i0:], dim=0, dtype=torch.float64)
            result[i0:i1] = norms.cpu().numpy() ** 2
        return result
