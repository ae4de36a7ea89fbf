"""Derivatives of kernels by the inputs, by tiles of Triton."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernreg import config
from kernreg.backends import derivatives
from kernreg.backends.derivatives import Differentiable
from kernreg.backends.reference import NEAR
from kernreg.backends.symbolic import traced
from kernreg.backends.triton.backend import launch_options, on_device
from kernreg.backends.triton.source import values_text
from kernreg.backends.triton.tuning import INTERPRETED, Tile
from kernreg.exceptions import BackendError
from kernreg.ir.graph import Value, evaluate
from kernreg.ir.program import Program
from kernreg.ir.trace import slots
from kernreg.numerics.torchmath import TorchMath

__all__ = ["DERIVATIVE_TILE", "TritonDerivatives"]

DERIVATIVE_TILE = Tile(16, 16, 16, 4, 1)
"""Without spills for three layers of Gelu in float64, whose derivatives hold many numbers."""

_MOST = 2_000
"""Values per entry; ptxas takes minutes for more."""


class TritonDerivatives(Differentiable):
    """Derivatives of entries by kernels of Triton, two of them at a time.

    Numbers of rows are worked out in float64, entries in the type that is asked for; products of
    rows without the matrix units, so that close pairs are found.

    Raises
    ------
    BackendError
        If rows are not on a GPU and Triton is not interpreted, or it cannot run the network.
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
        if X1.device.type != "cuda" and not config.triton_interpreter():
            raise BackendError("Triton computes on a GPU only")
        super().__init__(program, X1, X2, kernel, sides)
        self._dtype = torch.float32 if dtype == torch.float32 else torch.float64
        found = traced(program, self, kernel, sides)
        self._own = found.own
        product, *squares = found.ends
        pairs = [(product, squares[0]), *((v, v) for v in squares[1:])]
        self._runs = [_Run(ends, found.leaves, self._dtype) for ends in pairs]
        self._scales = [scale.to(self._dtype).contiguous() for scale in found.scales]
        self._arrays = [unit.to(self._dtype).contiguous() for unit in self.units]

    def tile(self, rows: slice, columns: slice) -> derivatives.Tile:
        """Derivatives of the entries of some rows and columns."""
        made: list[Tensor] = []
        for run in self._runs:
            made += run(self._arrays, self._scales, (rows, columns))
        return derivatives.Tile(made[0], made[1 : 1 + self._sides])

    def diagonal(self) -> Tensor:
        """Derivative of the kernel of every row of ``X1`` with itself by its mean square."""
        return self._own


class _Run:
    """Two values of every entry."""

    def __init__(
        self,
        ends: tuple[Value, Value],
        leaves: tuple[dict[str, Tensor], dict[str, Tensor]],
        dtype: torch.dtype,
    ) -> None:
        scalars, rows1, rows2, pairs = slots(ends)
        if len(pairs) > _MOST:
            raise BackendError("the network is too deep for derivatives in one pass")
        device = next(iter(leaves[0].values())).device
        constants = [float(v) for v in evaluate(scalars, {}, TorchMath)] or [0.0]
        self._constants = torch.tensor(constants, dtype=dtype, device=device)
        self._tables = [_table(values, leaves[k], dtype) for k, values in enumerate((rows1, rows2))]
        self.text = values_text(ends, str(dtype).removeprefix("torch."))

    def program(self) -> Any:
        """The generated function."""
        from kernreg.backends.triton.cache import load

        return load(self.text).program

    def __call__(
        self, units: list[Tensor], scales: list[Tensor], part: tuple[slice, slice]
    ) -> list[Tensor]:
        from kernreg.backends.triton.templates import gram

        (X, Y), (S, T) = ([v[k] for v, k in zip(vs, part, strict=True)] for vs in (units, scales))
        tables = [t[:, k] for t, k in zip(self._tables, part, strict=True)]
        outs = [X.new_empty((len(X), len(Y))) for _ in range(2)]
        t = DERIVATIVE_TILE if X.device.type == "cuda" else INTERPRETED
        tiles = -(-len(X) // t.BM) * -(-len(Y) // t.BN)
        with on_device(X.device):
            gram[(tiles,)](
                *(X, Y, *tables, S, T, self._constants, S, S, *outs),
                *(len(X), len(Y), X.shape[1], len(Y)),
                *(table.stride(0) for table in tables),
                *(out.stride(0) for out in outs),
                NEAR,
                self.program(),
                "ieee",
                False,
                True,
                True,
                t.BM,
                t.BN,
                t.BK,
                **launch_options(t),
            )
        return outs


def _table(values: tuple[Value, ...], leaves: dict[str, Tensor], dtype: torch.dtype) -> Tensor:
    """Slots of the rows of a side; one that is empty where there are none."""
    some = next(iter(leaves.values()))
    rows = [torch.zeros_like(some)] if not values else evaluate(values, dict(leaves), TorchMath)
    whole = [row if isinstance(row, Tensor) else torch.full_like(some, row) for row in rows]
    return torch.stack(whole).to(dtype)
