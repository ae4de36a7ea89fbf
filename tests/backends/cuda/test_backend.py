"""What the backend says of itself where it cannot run."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from kernreg import nn
from kernreg.backends.cuda import compile as compiler
from kernreg.backends.cuda.backend import CudaBackend
from kernreg.exceptions import BackendError

PROGRAM = nn.mlp(depth=1).program()


@pytest.fixture
def without_binding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    compiler.missing.cache_clear()
    yield
    compiler.missing.cache_clear()


def test_rows_on_the_cpu_are_refused() -> None:
    assert "NVIDIA GPU only" in str(CudaBackend().supports(PROGRAM))


@pytest.mark.parametrize(("capability", "runs"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_older_gpus_are_refused(
    capability: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    reason = CudaBackend().supports(PROGRAM, torch.device("cuda"))
    assert reason == compiler.missing() if runs else "8.0" in str(reason)


@pytest.mark.usefixtures("without_binding")
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    reason = CudaBackend().supports(PROGRAM, torch.device("cuda"))
    assert reason is not None
    assert "pip install cuda-" in reason
    with pytest.raises(BackendError, match="cuda-bindings"):
        compiler.compile_text("", "sm_90")
