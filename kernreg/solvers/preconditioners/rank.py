"""How large the rank of a preconditioner may become."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kernreg.exceptions import InvalidInputError

__all__ = ["Ranked", "rank_limit"]


@dataclass(frozen=True)
class Ranked:
    """Settings of a preconditioner of low rank.

    Parameters
    ----------
    rank : int or "auto", default="auto"
        Columns of the factor.
    max_bytes : int, default=2 GiB
        Limit of memory on the rank.
    seed : int, default=0
        Of what is drawn.
    """

    rank: int | Literal["auto"] = "auto"
    max_bytes: int = 2**31
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rank != "auto" and not (isinstance(self.rank, int) and self.rank >= 1):
            raise InvalidInputError(f"expected rank 'auto' or a number >= 1, found {self.rank!r}")
        if self.max_bytes < 1:
            raise InvalidInputError(f"expected max_bytes >= 1, found {self.max_bytes}")


def rank_limit(n: int, rank: int | Literal["auto"], max_bytes: int) -> int:
    """Largest rank for n rows: the one asked for, or ``10 sqrt(n)``, within the memory.

    Examples
    --------
    >>> rank_limit(10_000, "auto", 2**31), rank_limit(10_000, 300, 2**31)
    (1000, 300)
    >>> rank_limit(1_000_000, "auto", 2**31), rank_limit(50, 300, 2**31)
    (89, 50)
    """
    asked = round(10 * n**0.5) if rank == "auto" else int(rank)
    # Factor, orthonormal basis and eigenvectors, all n x rank in float64.
    return max(1, min(n, asked, max_bytes // (24 * n)))
