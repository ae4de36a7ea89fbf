"""Whether products read kept tiles of a kernel matrix, or evaluate them again each time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kernreg.exceptions import InvalidInputError, MemoryBudgetError
from kernreg.operators.base import Operator
from kernreg.operators.budget import memory_budget
from kernreg.operators.packed import keep, kept_bytes, share_bytes

__all__ = ["Storage"]


@dataclass(frozen=True)
class Storage:
    """The settings ``storage`` and ``max_bytes`` of :class:`~kernreg.solvers.PCG`.

    Parameters
    ----------
    kind : {"auto", "recomputed", "packed"}
        ``"auto"``: kept if they fit, and products evaluate on the CPU.
    max_bytes : int or None
        Limit on kept tiles; for ``"auto"`` half the free memory if None.
    """

    kind: Literal["auto", "recomputed", "packed"]
    max_bytes: int | None

    def __post_init__(self) -> None:
        if self.max_bytes is not None and self.max_bytes < 0:
            raise InvalidInputError(f"expected max_bytes >= 0, found {self.max_bytes}")
        if self.kind not in ("auto", "recomputed", "packed"):
            raise InvalidInputError(
                f"expected storage 'auto', 'recomputed' or 'packed', found {self.kind!r}"
            )

    def bytes_for(self, n: int, dtype: Any) -> int:
        """Bytes that tiles of a matrix of order n will take; 0 if they are not kept.

        Examples
        --------
        >>> Storage("recomputed", None).bytes_for(1000, "float32")
        0
        """
        if self.kind == "recomputed":
            return 0
        size = share_bytes(n, dtype)
        return 0 if self.kind == "auto" and size > self._limit() else size

    def keep(self, operator: Operator, demanded: bool = False) -> tuple[Operator, int]:
        """The operator with its tiles kept, if that is wanted and they fit; and their bytes.

        Parameters
        ----------
        operator : Operator
            Symmetric.
        demanded : bool
            Whether it is an error if they do not fit although they were asked for.

        Returns
        -------
        operator, int
            The operator as it is, and 0, if tiles are not kept.

        Raises
        ------
        MemoryBudgetError
            If demanded tiles do not fit ``max_bytes``.
        """
        if self.kind == "recomputed" or operator.kept or (self.kind == "auto" and operator.fused):
            return operator, 0
        needed = kept_bytes(operator)
        limitless = self.kind == "packed" and self.max_bytes is None
        if limitless or needed <= self._limit(operator.device):
            return keep(operator), needed
        if self.kind == "packed" and demanded:
            raise MemoryBudgetError(
                f"tiles of {needed} bytes do not fit max_bytes={self.max_bytes} for "
                f"n={operator.shape[0]} in {operator.dtype}: raise max_bytes, or use "
                "storage='recomputed'"
            )
        return operator, 0

    def _limit(self, device: Any = None) -> int:
        """Bytes that kept tiles may take."""
        return memory_budget(None, device) // 2 if self.max_bytes is None else self.max_bytes
