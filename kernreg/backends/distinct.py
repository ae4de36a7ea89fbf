"""Rows that are equal, once: what is worked out for them is then equal to the last bit.

Sums over nodes and products of matrices may round differently from place to place. Two rows of one
standard deviation, in one set or one in each, must not become different by that: behind a steep
layer the difference grows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg.backends.rows import Row

__all__ = ["Distinct"]


@dataclass(frozen=True)
class Distinct:
    """The different rows among those of both sides.

    Parameters
    ----------
    row : Row
        States of the different rows.
    first : Tensor or None
        Where each first stands among all rows, those of the first side first; None if all rows
        of a symmetric matrix are different.
    at : tuple of Tensor or None
        Where the rows of each side stand in ``row``.
    """

    row: Row
    first: Tensor | None
    at: tuple[Tensor | None, Tensor | None]

    @staticmethod
    def of(row1: Row, row2: Row) -> Distinct:
        """From the rows of both sides; one object stands for a symmetric matrix."""
        if row1 is row2:
            both = row1
        else:
            both = Row(torch.cat([row1.s, row2.s]), torch.cat([row1.tau, row2.tau]))
        _, first, at = np.unique(_states(both), return_index=True, return_inverse=True)
        if row1 is row2 and len(first) == len(both.s):
            return Distinct(row1, None, (None, None))
        chosen = torch.from_numpy(first).to(both.s.device)
        index = torch.from_numpy(at).to(both.s.device)
        n1, n2 = len(row1.s), len(row2.s)
        sides = (index[:n1], index[len(index) - n2 :])
        return Distinct(Row(both.s[chosen], both.tau[chosen]), chosen, sides)

    def all(self, values: Tensor, side: int) -> Tensor:
        """Values of the different rows, for all rows of a side."""
        at = self.at[side]
        return values if at is None else values[at]

    def rows(self, row: Row, side: int) -> Row:
        """The same for states."""
        return Row(self.all(row.s, side), self.all(row.tau, side))


def _states(row: Row) -> NDArray[Any]:
    """What tells rows apart: records sort ten times as slowly as numbers."""
    s, tau = row.s.cpu().numpy(), row.tau.cpu().numpy()
    if len(tau) and (tau == tau[0]).all():
        return s
    records = np.ascontiguousarray(np.stack([s, tau], axis=1))
    return records.view([("s", "f8"), ("tau", "f8")])[:, 0]
