"""The cuda backend: kernel matrices in float64 on the tensor cores of a GPU."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from kernreg.backends.base import CPU, KERNELS, Part, Request
from kernreg.backends.cuda.compile import missing
from kernreg.backends.cuda.launch import launch
from kernreg.backends.cuda.source import module_text
from kernreg.backends.generated import GeneratedBound
from kernreg.exceptions import BackendError
from kernreg.ir.program import Program

__all__ = ["CudaBackend"]

# As in csrc/cuda/product.cuh.
_TILE, _THREADS = 64, 128


class _CudaBound(GeneratedBound):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        if self.arithmetic != np.float64:
            raise BackendError(
                "it computes in float64 only, and float32 is enough here; ask for dtype='float64'"
            )

    def text(self, kernels: Collection[str], out: str) -> str:
        """The source of what :meth:`fill` runs, see :func:`.source.module_text`."""
        return module_text(self.tiles, self.duals.found, kernels, out)

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        part.check(len(self.rows.units), len(self.columns.units), out)
        rows, columns = self.rows.part(part.i0, part.i1), self.columns.part(part.j0, part.j1)
        n, m = len(rows.units), len(columns.units)
        half = self.symmetric and (part.i0, part.i1) == (part.j0, part.j1)
        down, across = -(-n // _TILE), -(-m // _TILE)
        if down * across == 0:
            return
        some = next(iter(out.values()))
        outs = [out.get(kernel, some) for kernel in KERNELS]
        if any(o.dtype != some.dtype for o in outs):
            raise ValueError("outputs must have one type")
        tensors = (
            *(rows.units, columns.units, rows.table, columns.table, rows.scale, columns.scale),
            self.constants,
            *(self.exact[kernel][part.i0 : part.i1] for kernel in KERNELS),
            *outs,
        )
        sizes = self.sizes(rows, columns, part.i0 - part.j0)
        launch(
            self.text(out, str(some.dtype).removeprefix("torch.")),
            self.device,
            down * (down + 1) // 2 if half else down * across,
            _THREADS,
            [
                *(t.data_ptr() for t in tensors),
                *sizes,
                *(o.stride(0) for o in outs),
                int(half),
                float(self.near),
            ],
        )


class CudaBackend:
    """CUDA C++ tiles on an NVIDIA GPU, for float64 arithmetic."""

    name = "cuda"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """The rows must be on a GPU with float64 tensor cores, and the compiler installed."""
        if device.type != "cuda":
            return "it computes on an NVIDIA GPU only: use device='cuda'"
        if torch.cuda.get_device_capability(device) < (8, 0):
            return "it needs a GPU of compute capability 8.0 or newer"
        return missing() if program.axes == 0 else "it has no kernels for images yet"

    def bind(self, request: Request) -> _CudaBound:
        """Prepare a request."""
        return _CudaBound(request)
