"""The ladder of jitters: what is added to a diagonal until the matrix has a Cholesky factor."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from kernreg.exceptions import JitterWarning, NotPositiveDefiniteError
from kernreg.operators.panels import Breakdown

__all__ = ["Ladder"]

logger = logging.getLogger(__name__)

Factor = TypeVar("Factor")


@dataclass(frozen=True)
class Ladder:
    """No jitter, then ``eps`` times the mean diagonal, then ten times more at each attempt.

    Parameters
    ----------
    mean : float
        Mean of the diagonal, ridge included.
    eps : float
        Rounding of the factorisation.
    dtype : dtype
        Of the matrix.
    max_jitter : float or None
        Largest jitter over ``mean``; ``sqrt(eps)`` if None.

    Examples
    --------
    >>> list(Ladder(2.0, 1e-4, np.dtype("float32"), None).rungs())
    [0.0, 0.0002, 0.002, 0.02]
    """

    mean: float
    eps: float
    dtype: np.dtype[Any]
    max_jitter: float | None

    @property
    def limit(self) -> float:
        """Largest jitter over the mean diagonal."""
        return self.eps**0.5 if self.max_jitter is None else self.max_jitter

    def rungs(self) -> Iterator[float]:
        """The jitters, from none up."""
        yield 0.0
        relative = self.eps
        while self.mean > 0 and relative <= self.limit:
            yield relative * self.mean
            relative *= 10

    def climb(self, attempt: Callable[[float], Factor]) -> tuple[Factor, float]:
        """The factor of the first attempt without a :class:`Breakdown`, and its jitter.

        Raises
        ------
        NotPositiveDefiniteError
            If the largest jitter did not help.

        Warns
        -----
        JitterWarning
            If a jitter was needed.
        """
        row = 0
        for jitter in self.rungs():
            try:
                factor = attempt(jitter)
            except Breakdown as failure:
                row = failure.row
                logger.info("breakdown at row %d with jitter %.3g", row, jitter)
                continue
            logger.info("factored with jitter %.3g", jitter)
            if jitter:
                warnings.warn(
                    f"the kernel matrix is not positive definite in {self.dtype}: added a jitter "
                    f"of {jitter:.3g} ({jitter / self.mean:.1e} of the mean diagonal); "
                    f"{' or '.join(['raise alpha', *self._others()])}",
                    JitterWarning,
                    stacklevel=4,
                )
            return factor, jitter
        raise NotPositiveDefiniteError(self._failure(row))

    def _failure(self, row: int) -> str:
        limit = self.limit * max(self.mean, 0.0)
        text = (
            f"the kernel matrix has no Cholesky factor: no positive pivot in row {row}, even with "
            f"{limit:.3g} added to the diagonal. "
        )
        if self.mean <= 0:
            return text + (
                f"Its mean diagonal is {self.mean:.3g}, not positive: raise alpha, or check data "
                "and network."
            )
        ridge = 10 * max(limit, self.eps**0.5 * self.mean)
        remedies = [f"raise alpha so that the ridge is at least {ridge:.3g}", *self._others()]
        return f"{text}Remedies: {', or '.join(remedies)}."

    def _others(self) -> list[str]:
        """Remedies beside a larger ridge."""
        wider = ["use dtype float64"] if self.dtype == np.float32 else []
        return [*wider, "remove duplicate rows"]
