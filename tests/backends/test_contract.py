"""Every backend keeps the contract of backends."""

from __future__ import annotations

import pytest

from kernreg.backends.cpu import CpuBackend
from kernreg.backends.cuda import backend as cuda
from kernreg.backends.torch_backend import ReferenceBackend
from kernreg.backends.triton.backend import TritonBackend
from tests.backends.compare import TRITON_DEVICE, needs_cpu, needs_triton
from tests.backends.cuda import emulation
from tests.contracts.backend import BackendContract


class TestReference(BackendContract):
    backend = ReferenceBackend()
    elsewhere = None  # it computes wherever torch does


@needs_cpu
class TestCpu(BackendContract):
    backend = CpuBackend()
    elsewhere = "cuda"


@needs_triton
class TestTriton(BackendContract):
    backend = TritonBackend()
    device = TRITON_DEVICE


@emulation.needs_compiler
class TestCuda(BackendContract):
    """The text of its kernels on the host, thread by thread."""

    backend = cuda.CudaBackend()
    dtypes = ("float64",)

    @pytest.fixture(autouse=True)
    def emulated(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda, "launch", emulation.launch)
