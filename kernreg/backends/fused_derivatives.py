"""Derivatives by the C++ tile engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernreg import config
from kernreg.backends.cpu import instruction_set, load_extension
from kernreg.backends.derivatives import Differentiable, Tile
from kernreg.backends.graph_code import Writer
from kernreg.backends.reference import NEAR
from kernreg.backends.symbolic import traced
from kernreg.exceptions import BackendError
from kernreg.ir.program import Program

__all__ = ["FusedDerivatives"]


class FusedDerivatives(Differentiable):
    """Derivatives of both sides' entries in one pass of the tile engine.

    Numbers of rows are worked out in float64, entries in the type that is asked for.

    Raises
    ------
    BackendError
        If the extension is not there, rows are on another device, or it cannot run the network.
    """

    def __init__(
        self,
        program: Program,
        X1: Tensor,
        X2: Tensor,
        kernel: str,
        sides: int = 1,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        core, missing = load_extension()
        if core is None or X1.device.type != "cpu":
            raise BackendError(missing or "the tile engine computes on the CPU only")
        super().__init__(program, X1, X2, kernel, sides)
        self._dtype = np.float32 if dtype == torch.float32 else np.float64
        self._fill = core.fill
        compiled = {signature: k for k, signature in enumerate(core.slopes())}
        # The engine's instructions are for both sides.
        found = traced(program, self, kernel, 2, compiled)
        writer = Writer(core.REGISTERS, found.leaves, found.jets, [len(X1), len(X2)])
        self._code, self._consts, tables = writer.write(*found.ends[: 1 + sides])
        self._tables = [self._as_dtype(t) for t in tables]
        self._own = found.own
        self._scales = [np.ascontiguousarray(scale.numpy()) for scale in found.scales]
        self._arrays = [self._as_dtype(unit.numpy()) for unit in self.units]

    def _as_dtype(self, values: NDArray[np.float64]) -> NDArray[Any]:
        with np.errstate(over="ignore"):  # whoever asks for float32 sees to that
            return np.ascontiguousarray(values, dtype=self._dtype)

    def tile(self, rows: slice, columns: slice) -> Tile:
        """Derivatives of the entries of some rows and columns."""
        i0, i1, _ = rows.indices(len(self._arrays[0]))
        j0, j1, _ = columns.indices(len(self._arrays[1]))
        shape = (i1 - i0, j1 - j0)
        found = [np.empty(shape, self._dtype) for _ in range(1 + self._sides)]
        self._fill(
            instruction_set(),
            self._arrays[0],
            self._tables[0],
            self._scales[0],
            self._arrays[1],
            self._tables[1],
            self._scales[1],
            False,
            NEAR,
            self._code,
            self._consts,
            found,
            self._scales[0],
            self._scales[0],
            [i0, i1, j0, j1],
            config.num_threads(),
            None,
        )
        product, *squares = (torch.from_numpy(values) for values in found)
        return Tile(product, squares)

    def diagonal(self) -> Tensor:
        """Derivative of the kernel of every row of ``X1`` with itself by its mean square."""
        return self._own
