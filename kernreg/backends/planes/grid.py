"""How the positions of images are laid out in cells, and which displacements are needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Grid", "Sizes2", "behind_window", "planes_of"]

Sizes2 = tuple[int, int]

_BEYOND = 16
"""``kBeyond`` of the engine, which refuses tables of another length."""


@dataclass(frozen=True)
class Grid:
    """Positions of one size of images as cells, line by line.

    Parameters
    ----------
    sizes : tuple of int
        Lines, and positions in each.
    ring : tuple of int
        How far filters reach beyond the edge along both axes.
    span : tuple of int
        How far they reach from a cell, the dead ones included.
    circular : bool
        Whether positions wrap around: lines hold copies of their ends, else dead cells follow.
    align : tuple of int
        Numbers of lines, and of cells in each, are multiples of these, so that displacements by
        multiples of a stride are planes of their own.
    """

    sizes: Sizes2
    ring: Sizes2 = (0, 0)
    span: Sizes2 = (0, 0)
    circular: bool = False
    align: Sizes2 = (1, 1)

    @property
    def lines(self) -> int:
        """Number of lines, dead ones included."""
        return self.sizes[0] if self.circular else _up(self.sizes[0] + self.ring[0], self.align[0])

    @property
    def line(self) -> int:
        """Cells of a line."""
        if self.circular:
            return self.sizes[1] + 2 * self.ring[1]
        return _up(self.sizes[1] + self.ring[1], self.align[1])

    @property
    def cells(self) -> int:
        """Number of cells."""
        return self.lines * self.line

    @property
    def table(self) -> int:
        """Length of a table of cells, which stand there twice.

        There is room behind them, as loops go on to the end of a vector.
        """
        return 2 * self.cells + _BEYOND

    @property
    def origin(self) -> int:
        """Cell of the first position."""
        return self.ring[1] if self.circular else 0

    @property
    def halo(self) -> int:
        """Cells that filters read beyond either end."""
        return self.span[0] * self.line + self.span[1]

    def offset(self, lines: int, places: int) -> int:
        """How many cells on a displacement leads."""
        return lines * self.line + places

    def scatter(
        self, tables: list[NDArray[np.floating]], images: int, dtype: np.dtype
    ) -> NDArray[np.floating]:
        """Tables, each of shape (images, height, width), as the engine reads them.

        Positions that are not given are dead.
        """
        out = np.zeros((images, len(tables), self.table), dtype)
        twice = out[:, :, : 2 * self.cells]
        view = twice.reshape(images, len(tables), 2, self.lines, self.line)
        columns = np.arange(-self.ring[1], self.sizes[1] + self.ring[1]) % self.sizes[1]
        for k, table in enumerate(tables):
            given = table[:, :, columns] if self.circular else table
            view[:, k, :, : given.shape[1], : given.shape[2]] = given[:, None]
        return out


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


Displacements = NDArray[np.bool_]
"""Which displacements are needed, of shape (2 height - 1, 2 width - 1), none in the middle."""


def behind_window(
    needed: Displacements, sizes: Sizes2, window: Sizes2, strides: Sizes2
) -> Displacements:
    """Displacements of ``sizes`` positions that those behind a window are made of."""
    out = np.zeros((2 * sizes[0] - 1, 2 * sizes[1] - 1), dtype=bool)
    middle = (np.array(needed.shape) - 1) // 2
    for at in np.argwhere(needed):
        low = [s * int(d) for s, d in zip(strides, at - middle, strict=True)]
        part = tuple(
            slice(max(0, d - w + 1 + n - 1), max(0, d + w + n - 1))
            for d, w, n in zip(low, window, sizes, strict=True)
        )
        out[part] = True
    return out


def planes_of(grid: Grid, needed: Displacements) -> NDArray[np.int64]:
    """The planes that hold displacements: how far lines are turned, and the shift of cells."""
    height, width = ((n + 1) // 2 for n in needed.shape)
    dy, dx = (np.argwhere(needed) - (height - 1, width - 1)).T
    if grid.circular:
        turned, lines = dx % grid.sizes[1], dy % grid.sizes[0]
        found = turned * grid.lines + lines
        turned, lines = np.divmod(np.unique(found), grid.lines)
        return np.stack([turned, lines * grid.line], axis=1).astype(np.int64)
    shift = np.unique((dy * grid.line + dx) % grid.cells)
    return np.stack([np.zeros_like(shift), shift], axis=1).astype(np.int64)
