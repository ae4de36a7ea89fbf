"""The GPU that the benchmarks run on, and clocks for what is done there."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

DEVICE = "cuda"


def seconds(run: Callable[[], Any], repeat: int = 5) -> float:
    """Median time of a run on the GPU, after one that warms up."""
    run()
    times = []
    for _ in range(repeat):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def wall(run: Callable[[], Any], repeat: int = 3) -> float:
    """Median time of a run that ends when its work does, after one that warms up."""
    run()
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
