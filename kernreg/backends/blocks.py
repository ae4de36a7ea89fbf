"""Spatial programs on pairs of images: the reference, a block of positions for each pair."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.reference import NEAR, Evaluated, Evaluation, PairState
from kernreg.ir import operations as ir

__all__ = ["Blocks", "evaluate_blocks", "pixel_pairs"]


@dataclass(frozen=True)
class Blocks(Evaluation):
    """Every position of an image with every position of another, for pairs of images.

    Rows have the shape (images, *positions), pairs (blocks, positions, positions): block ``k`` is
    of images ``first[k]`` and ``second[k]``. The last ones are of each image with itself.
    """

    first: Tensor
    second: Tensor
    images: int

    @property
    def own(self) -> slice:
        """The blocks of each image with itself."""
        return slice(len(self.first) - self.images, len(self.first))

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        flat = values.reshape(self.images, -1)
        return flat[self.first][:, :, None], flat[self.second][:, None, :]

    def step(self, op: ir.Op, xs: list[Evaluated], done: list[Evaluated]) -> Evaluated:
        value = super().step(op, xs, done)
        return self._with_itself(value) if isinstance(op, ir.Dropout) else value

    def _with_itself(self, x: Evaluated) -> Evaluated:
        """Positions of one image meet themselves: dropout and rounding leave them equal."""
        p = x.pair
        parts = [t.clone() for t in (p.rho, p.gap, p.tau)]
        tau = x.row.tau.reshape(self.images, -1)
        ends = (torch.ones_like(tau), torch.zeros_like(tau), tau)
        for t, value in zip(parts, ends, strict=True):
            torch.diagonal(t[self.own], dim1=1, dim2=2)[:] = value
        return replace(x, pair=PairState(*parts))


def pixel_pairs(unit: Tensor, first: Tensor, second: Tensor) -> PairState:
    """Correlations of pixels of unit length, shape (images, pixels, channels), in blocks."""
    a, b = unit[first], unit[second]
    rho = a @ b.transpose(1, 2)
    gap = torch.clamp(1.0 - rho.abs(), min=0.0)
    close = torch.nonzero(gap < NEAR)
    for part in close.split(max(1, 2**22 // max(1, unit.shape[2]))):
        k, p, q = part.unbind(1)
        sign = torch.where(rho[k, p, q] > 0, 1.0, -1.0)
        apart = a[k, p] - sign[:, None] * b[k, q]
        gap[k, p, q] = 0.5 * (apart * apart).sum(dim=1)
        rho[k, p, q] = sign * (1.0 - gap[k, p, q])
    return PairState(rho, gap, torch.zeros_like(rho))


def evaluate_blocks(
    ops: tuple[ir.Op, ...],
    params: tuple[float, ...],
    images: Tensor,
    first: Tensor,
    second: Tensor,
) -> tuple[PairState, R.Row]:
    """Run a spatial program on pairs of images.

    Parameters
    ----------
    ops, params : tuple
        The program.
    images : Tensor of shape (images, *sizes, channels)
        All that are needed, in float64.
    first, second : Tensor of shape (blocks,)
        Which images each block is of; the last blocks must be those of each image with itself.

    Returns
    -------
    PairState, Row
        Behind the last operation: pairs of shape (blocks, positions, positions), rows of shape
        (images, *sizes).
    """
    n, channels = len(images), images.shape[-1]
    pixels = images.reshape(-1, channels)
    length = R.norms(pixels)
    row = R.input_row(pixels, length)
    unit = R.unit_rows(pixels, length).reshape(n, -1, channels)
    shape = images.shape[:-1]
    start = R.Row(row.s.reshape(shape), row.tau.reshape(shape))
    run = Blocks(params, first, second, n)
    out = run.run(ops, Evaluated(pixel_pairs(unit, first, second), start))
    return out.pair, out.row
