"""Run compiled kernels on torch's current stream."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch

from kernreg.backends.cuda.compile import compile_text

__all__ = ["launch"]


@functools.lru_cache(maxsize=64)
def _kernel(text: str, arch: str) -> Any:
    from cuda.core import ObjectCode

    return ObjectCode.from_cubin(compile_text(text, arch).code).get_kernel("gram")


def launch(
    text: str, device: torch.device, blocks: int, threads: int, args: Sequence[int | float]
) -> None:
    """Compile ``gram`` for a device where that has not happened yet, and launch it.

    Parameters
    ----------
    text : str
        See :func:`kernreg.backends.cuda.source.module_text`.
    device : device
        A CUDA device of torch.
    blocks, threads : int
        Blocks of the grid, and threads of each.
    args : sequence of int or float
        Passed as 64-bit integers, pointers among them, and as double.

    Raises
    ------
    BackendError
        If the kernel cannot be compiled.
    """
    from cuda.core import Device, LaunchConfig, Stream
    from cuda.core import launch as launch_kernel

    with torch.cuda.device(device):
        current = torch.cuda.current_device()
        Device(current).set_current()
        major, minor = torch.cuda.get_device_capability(current)
        kernel = _kernel(text, f"sm_{major}{minor}")
        config = LaunchConfig(grid=blocks, block=threads)
        # By its handle: streams of torch before 2.8 do not know the protocol of the binding.
        stream = Stream.from_handle(torch.cuda.current_stream().cuda_stream)
        launch_kernel(stream, config, kernel, *args)
