"""The triton backend: kernel matrices on a GPU, or interpreted on the CPU to check the code."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernreg import config
from kernreg.backends.base import CPU, KERNELS, Part, Request
from kernreg.backends.generated import GeneratedBound, Side
from kernreg.backends.triton.source import module_text
from kernreg.backends.triton.tuning import INTERPRETED, Tile, tile
from kernreg.ir.program import Program

__all__ = ["TritonBackend", "launch_options", "on_device"]

# Columns of a product at once, without and with symmetry: more would spill registers, as more than
# half of the first do in float32 without matrix units.
_MAX_COLUMNS = {False: 128, True: 32}
# Addresses inside a tile have 32 bits; rows of an output that are further apart go by strips.
_REACH, _STRIP = 2**31, 2**20
# Programs that a product is cut into at least, so that a large GPU has work.
_MIN_PROGRAMS = 1024


class _TritonBound(GeneratedBound):
    def __init__(self, request: Request) -> None:
        super().__init__(request)
        # The interpreter multiplies in the type of the operands, whatever the policy.
        plain = self.arithmetic == np.float64 or request.device == CPU
        self._precision = "ieee" if plain else request.precision
        if self._precision == "tf32":
            # Its errors of about 1e-3 would hide which pairs are close.
            self.near = max(self.near, 0.02)
        self.text = module_text(self.tiles, self.duals.found, self.arithmetic.name)

    def fill(self, part: Part, out: Mapping[str, Tensor]) -> None:
        part.check(len(self.rows.units), len(self.columns.units), out)
        from kernreg.backends.triton.templates import gram

        rows, columns = self.rows.part(part.i0, part.i1), self.columns.part(part.j0, part.j1)
        half = self.symmetric and (part.i0, part.i1) == (part.j0, part.j1)
        t = self._tile("gram")
        down, across = -(-len(rows.units) // t.BM), -(-len(columns.units) // t.BN)
        tiles = t.BM // t.BN * (down * (down + 1) // 2) if half else down * across
        some = next(iter(out.values()))
        outs = [out.get(kernel, some) for kernel in KERNELS]
        if max(o.stride(0) for o in outs) * max(t.BM, t.BN) >= _REACH:
            self._fill_strips(part, out)
            return
        with on_device(self.device):
            gram[(tiles,)](
                *self._data(rows, columns),
                *(self.exact[kernel][part.i0 : part.i1] for kernel in KERNELS),
                *outs,
                *self.sizes(rows, columns, part.i0 - part.j0),
                *(o.stride(0) for o in outs),
                self.near,
                self.program(),
                self._precision,
                half,
                "nngp" in out,
                "ntk" in out,
                t.BM,
                t.BN,
                t.BK,
                **launch_options(t),
            )

    def _fill_strips(self, part: Part, out: Mapping[str, Tensor]) -> None:
        """Fill a part whose rows are too far apart for a tile."""
        for j0 in range(part.j0, part.j1, _STRIP):
            j1 = min(part.j1, j0 + _STRIP)
            strip = {k: o.new_empty((part.i1 - part.i0, j1 - j0)) for k, o in out.items()}
            self.fill(Part(part.i0, part.i1, j0, j1), strip)
            for kernel, values in strip.items():
                out[kernel][:, j0 - part.j0 : j1 - part.j0] = values

    def multiply(self, kernel: str, V: Tensor) -> Tensor:
        from kernreg.backends.triton.templates import multiply

        n, m = len(self.rows.units), len(self.columns.units)
        t = self._tile("multiply_half" if self.symmetric else "multiply")
        down = -(-n // t.BM)
        splits = max(1, min(-(-_MIN_PROGRAMS // down), -(-m // t.BN)))
        scalar = self._precision == "ieee" and self.arithmetic == np.float32
        most = min(_MAX_COLUMNS[self.symmetric], 64 if scalar else 128)
        results = []
        for block in V.to(self.columns.units).split(most, dim=1):
            width = block.shape[1]
            sums = 1 if self.symmetric else splits
            result = block.new_zeros((sums, n, width))
            with on_device(self.device):
                multiply[(down, splits)](
                    *self._data(self.rows, self.columns),
                    self.exact[kernel],
                    block.contiguous(),
                    result,
                    *self.sizes(self.rows, self.columns, 0),
                    width,
                    self.near,
                    self.program(),
                    self._precision,
                    self.symmetric,
                    kernel == "ntk",
                    max(16, 1 << (width - 1).bit_length()),
                    t.BM,
                    t.BN,
                    t.BK,
                    **launch_options(t),
                )
            results.append(result.sum(dim=0))
        return torch.cat(results, dim=1)

    def _data(self, rows: Side, columns: Side) -> tuple[Tensor, ...]:
        return (
            *(rows.units, columns.units, rows.table, columns.table, rows.scale, columns.scale),
            self.constants,
        )

    def program(self) -> Any:
        """The generated kernel program as a Triton function."""
        from kernreg.backends.triton.cache import load

        return load(self.text).program

    def _tile(self, template: str) -> Tile:
        device = self.rows.units.device
        if device == CPU:
            return INTERPRETED
        major, minor = torch.cuda.get_device_capability(device)
        precision = "float64" if self.arithmetic == np.float64 else self._precision
        narrow = any(code.two_ways for _, code in self.duals.found.values())
        return tile(template, precision, 10 * major + minor, narrow)


def launch_options(t: Tile) -> dict[str, Any]:
    """How a kernel is compiled; sums of products are fused, which the error bounds allow."""
    return {"num_warps": t.warps, "num_stages": t.stages, "enable_fp_fusion": True}


def on_device(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Launch on this GPU, whichever is the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


class TritonBackend:
    """Triton tiles on NVIDIA GPUs; with ``TRITON_INTERPRET=1`` also on the CPU, slowly."""

    name = "triton"

    def supports(self, program: Program, device: torch.device = CPU) -> str | None:
        """Triton must be there, and a GPU; what else may fail depends on the data."""
        if importlib.util.find_spec("triton") is None:
            return "the package triton is not installed"
        if device.type != "cuda" and not (device == CPU and config.triton_interpreter()):
            return "it computes on a GPU only: use device='cuda'"
        return None if program.axes == 0 else "it has no kernels for images yet"

    def bind(self, request: Request) -> _TritonBound:
        """Prepare a request."""
        return _TritonBound(request)
