"""Compile CUDA C++ text for a GPU, which need not be there."""

from __future__ import annotations

import functools
import importlib.util
import re
from dataclasses import dataclass
from io import StringIO

from kernreg.exceptions import BackendError

__all__ = ["Binary", "Resources", "compile_text", "missing"]

_RESOURCES = re.compile(
    r"(?P<stores>\d+) bytes spill stores, "
    r"(?P<loads>\d+) bytes spill loads.*?Used (?P<registers>\d+) registers"
    r"(?:.*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Resources:
    """What a thread and a block of a kernel take.

    Parameters
    ----------
    registers : int
        Of each thread.
    shared : int
        Bytes of shared memory of a block.
    spilled : int
        Bytes of registers stored to and loaded from memory for want of room.
    """

    registers: int
    shared: int
    spilled: int


@dataclass(frozen=True)
class Binary:
    """Machine code of the kernel ``gram`` and what the compiler said of it.

    Examples
    --------
    >>> log = "0 bytes stack frame, 8 bytes spill stores, 8 bytes spill loads; Used 32 registers"
    >>> Binary(b"", log).resources()
    Resources(registers=32, shared=0, spilled=16)
    """

    code: bytes
    log: str

    def resources(self) -> Resources:
        """As the compiler reports them."""
        found = _RESOURCES.search(self.log)
        if found is None:
            raise ValueError(f"no resources in {self.log!r}")
        numbers = {name: int(value or 0) for name, value in found.groupdict().items()}
        spilled = numbers["stores"] + numbers["loads"]
        return Resources(numbers["registers"], numbers["shared"], spilled)


@functools.cache
def missing() -> str | None:
    """What the compiler needs and is not installed, or None."""
    for module, package in (("cuda.bindings", "cuda-bindings"), ("cuda.core", "cuda-core")):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"{package} is not installed; pip install {package} nvidia-cuda-nvrtc"
    from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

    try:
        load_nvidia_dynamic_lib("nvrtc")
    except DynamicLibNotFoundError:
        return "NVRTC is not installed; pip install nvidia-cuda-nvrtc"
    return None


@functools.lru_cache(maxsize=64)
def compile_text(text: str, arch: str) -> Binary:
    """Machine code for a compute capability.

    Parameters
    ----------
    text : str
        See :func:`kernreg.backends.cuda.source.module_text`.
    arch : str
        Such as "sm_90".

    Returns
    -------
    Binary

    Raises
    ------
    BackendError
        If the compiler is not installed or refuses the text.
    """
    reason = missing()
    if reason is not None:
        raise BackendError(reason)
    from cuda.core import Program, ProgramOptions

    log = StringIO()
    options = ProgramOptions(name="gram.cu", std="c++17", arch=arch, ptxas_options="-v")
    try:
        code = Program(text, "c++", options).compile("cubin", logs=log).code
    except Exception as error:
        raise BackendError(f"NVRTC cannot compile a kernel for {arch}: {error}") from error
    return Binary(bytes(code), log.getvalue())
