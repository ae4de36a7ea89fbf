"""Products with a symmetric matrix of which the lower half is at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from kernreg.backends.half import multiplies, multiply_half
from kernreg.operators.panels import full_precision

__all__ = ["add_half", "tiles_of", "times_half"]

Tile = tuple[int, int, Any]
"""First row, first column, and the entries from there on."""

# Columns of a tile: it stays in the cache while both its products are taken.
_COLUMNS = 1024


def tiles_of(panel: Tensor, i0: int) -> Iterator[Tile]:
    """Tiles of rows from ``i0`` on, up to and including the square on the diagonal.

    Examples
    --------
    >>> import torch
    >>> [(i, j, tuple(tile.shape)) for i, j, tile in tiles_of(torch.ones(2, 1502), 1500)]
    [(1500, 0, (2, 1024)), (1500, 1024, (2, 476)), (1500, 1500, (2, 2))]
    """
    for j0 in range(0, i0, _COLUMNS):
        yield i0, j0, panel[:, j0 : min(j0 + _COLUMNS, i0)]
    yield i0, i0, panel[:, i0:]


def add_half(
    tiles: Iterable[Tile],
    source: Any,
    target: Any,
    *,
    mirrored: bool = True,
    add: Callable[[Any, Any, Any], Any] = Tensor.addmm_,
) -> Any:
    """Add to ``target`` what tiles, and their mirror images, give to ``source @ K``.

    Parameters
    ----------
    tiles : iterable of (int, int, array of shape (a, b))
        The lower half of a symmetric matrix, each entry below the diagonal once. A square on the
        diagonal, whole, is at the right end of a tile or at its top, and has no mirror image.
    source, target : array of shape (t, n)
        Of the type of the tiles. Few long rows times a tile run several times faster than a tile
        times few columns.
    mirrored : bool, default=True
        Without it the tiles make up the whole matrix ``K``, and ``source @ K^T`` is added.
    add : callable, default=Tensor.addmm_
        ``add(C, A, B)`` adds ``A B`` to C in place.

    Returns
    -------
    array of shape (t, n)
        ``target``.

    Examples
    --------
    >>> import torch
    >>> K, v = torch.tensor([[1.0, 2.0], [2.0, 5.0]]), torch.tensor([[1.0, 10.0]])
    >>> add_half([(0, 0, K[:1, :1]), (1, 0, K[1:])], v, torch.zeros(1, 2))
    tensor([[21., 52.]])
    """
    with full_precision():
        for i0, j0, tile in tiles:
            i1, j1 = i0 + tile.shape[0], j0 + tile.shape[1]
            add(target[:, i0:i1], source[:, j0:j1], tile.T)
            if mirrored and j0 < i0:
                end = min(j1, i0)
                add(target[:, j0:end], source[:, i0:i1], tile[:, : end - j0])
            elif mirrored and j1 < i1:
                add(target[:, j0:j1], source[:, j1:i1], tile[j1 - i0 :])
            del tile  # gone before the next one is made
    return target


def times_half(panels: Iterable[tuple[int, Tensor]], lines: Tensor) -> Tensor:
    """What panels of the lower half of a symmetric matrix, and their mirror images, give.

    Parameters
    ----------
    panels : iterable of (int, Tensor)
        First row, and rows from there on up to and including the square on the diagonal.
    lines : Tensor of shape (t, n)
        Vectors.

    Returns
    -------
    Tensor of shape (t, n)
        ``lines @ K`` in the type of ``lines``; sums of a few vectors are in float64 on the CPU.

    Examples
    --------
    >>> import torch
    >>> K = torch.tensor([[1.0, 2.0], [2.0, 5.0]])
    >>> times_half([(0, K[:1, :1]), (1, K[1:])], torch.tensor([[1.0, 10.0]]))
    tensor([[21., 52.]])
    """
    if multiplies(lines):
        return multiply_half(panels, lines).to(lines.dtype)
    tiles = (tile for i0, panel in panels for tile in tiles_of(panel.to(lines.dtype), i0))
    return add_half(tiles, lines, torch.zeros_like(lines))
