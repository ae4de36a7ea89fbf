"""What reaches the driver's binding, which itself is not run."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kernreg.backends.cuda import launch as module

core = pytest.importorskip("cuda.core")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Two GPUs, of which the second is asked for; what they are told."""
    told: list[Any] = []

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        def set_current(self) -> None:
            told.append(("device", self.number))

    @contextlib.contextmanager
    def current(device: torch.device) -> Any:
        monkeypatch.setattr(torch.cuda, "current_device", lambda: device.index)
        yield

    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, device))
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0x7F0000001230)
    )
    monkeypatch.setattr(module, "_kernel", lambda text, arch: (text, arch))
    monkeypatch.setattr(core, "Device", Device)
    monkeypatch.setattr(core, "launch", lambda *args: told.append(args))
    return told


def test_launch_on_the_stream_and_device_asked_for(driver: list[Any]) -> None:
    args = [2**40 + 8, -3, 1.5]
    module.launch("text", torch.device("cuda:1"), 2**31 - 1, 128, args)
    device, (stream, config, kernel, *given) = driver
    assert device == ("device", 1)
    assert int(stream.handle) == 0x7F0000001230
    assert (config.grid, config.block, config.shmem_size) == ((2**31 - 1, 1, 1), (128, 1, 1), 0)
    assert kernel == ("text", "sm_91")
    assert given == args


def test_arguments_are_64_bits_wide() -> None:
    """As the kernel's parameters are: pointers and sizes as int64, the last one as double."""
    import ctypes

    holder = pytest.importorskip("cuda.core._kernel_arg_handler").ParamHolder([2**40 + 8, -3, 1.5])
    at = (ctypes.c_void_p * 3).from_address(holder.ptr)
    assert [ctypes.c_int64.from_address(at[k]).value for k in (0, 1)] == [2**40 + 8, -3]
    assert ctypes.c_double.from_address(at[2]).value == 1.5
