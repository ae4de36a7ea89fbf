"""What every test runs under."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch

os.environ.setdefault("MPLBACKEND", "Agg")
if not torch.cuda.is_available():
    # Triton kernels run on the CPU then; it reads this when it is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")

hypothesis.settings.register_profile("kernreg", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("kernreg")


def _poisoned(empty: Callable[..., Any]) -> Callable[..., Any]:
    """``empty`` with NaN in floating-point results, so that an entry left unwritten is found."""

    @wraps(empty)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        out = empty(*args, **kwargs)
        if isinstance(out, torch.Tensor):
            return out.fill_(torch.nan) if out.is_floating_point() else out
        if type(out) is np.ndarray and out.dtype.kind == "f":
            out.fill(np.nan)
        return out

    return wrapper


@pytest.fixture(autouse=True)
def poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays that are only allocated hold NaN during tests."""
    for module in (np, torch):
        for name in ("empty", "empty_like"):
            monkeypatch.setattr(module, name, _poisoned(getattr(module, name)))


@pytest.fixture
def torch_warns_always() -> Iterator[None]:
    """Otherwise it warns of read-only arrays once in a process, perhaps in an earlier test."""
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(before)
