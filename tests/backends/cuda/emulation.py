"""CUDA kernels compiled by the host's C++ compiler and run thread by thread."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from kernreg.backends.cuda.source import csrc

__all__ = ["compiled", "launch", "needs_compiler"]

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")

_POINTERS, _SIZES = 11, 9
_ENTRY = """
extern "C" void run(int64_t blocks, int threads, void **p, const int64_t *s, double near) {
  auto in = [&](int k) { return static_cast<const double *>(p[k]); };
  auto out = [&](int k) { return static_cast<Out *>(p[k]); };
  emulate(blocks, threads, [&] {
    gram(in(0), in(1), in(2), in(3), in(4), in(5), in(6), in(7), in(8), out(9), out(10), s[0], s[1],
         s[2], s[3], s[4], s[5], s[6], s[7], s[8], near);
  });
}
"""


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="kernreg-")


@functools.cache
def compiled(text: str) -> ctypes.CDLL:
    """A library of the text of a kernel, with the emulator in the place of the device."""
    device = csrc("cuda/device.cuh")
    assert device in text
    emulator = (Path(__file__).parent / "emulator.h").read_text()
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    source = Path(_folder().name) / f"{name}.cpp"
    source.write_text(text.replace(device, emulator))
    target = source.with_suffix(".so")
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-Wno-unknown-pragmas"]
    subprocess.run([*command, str(source), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


def launch(
    text: str, device: torch.device, blocks: int, threads: int, args: Sequence[int | float]
) -> None:
    """As :func:`kernreg.backends.cuda.launch.launch`, on tensors of the CPU."""
    pointers = (ctypes.c_void_p * _POINTERS)(*args[:_POINTERS])
    sizes = (ctypes.c_int64 * _SIZES)(*args[_POINTERS:-1])
    compiled(text + _ENTRY).run(
        ctypes.c_int64(blocks), ctypes.c_int(threads), pointers, sizes, ctypes.c_double(args[-1])
    )
