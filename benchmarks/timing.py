"""Ratios of interleaved timings, which the speed of the machine cancels out of."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Ratio", "ratio", "seconds"]


@dataclass(frozen=True)
class Ratio:
    """Median of pairwise ratios with a 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def seconds(fn: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    fn()
    return time.perf_counter() - start


def ratio(peer: Sequence[float], candidate: Sequence[float]) -> Ratio:
    """How many times faster the candidate is; call ``i`` of both ran one after the other.

    Examples
    --------
    >>> print(ratio([2.0, 4.0, 3.0], [1.0, 2.0, 1.5]))
    2.00 [2.00, 2.00]
    """
    pairs = np.asarray(peer) / np.asarray(candidate)
    draws = np.random.default_rng(0).choice(pairs, size=(2000, len(pairs)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Ratio(float(np.median(pairs)), float(low), float(high))
