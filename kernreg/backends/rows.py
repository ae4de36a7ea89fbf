"""What a program does to single rows: variances and the coefficients that pairs are mixed with.

The state of a row is its standard deviation ``s`` and ``tau = ntk / s^2`` on the diagonal. Every
rule here is also the source of the per-row tables of the fast backends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernreg.backends.sparse import AnyRows, SparseRows
from kernreg.exceptions import InvalidInputError
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules
from kernreg.ir.program import Program

__all__ = [
    "LARGER",
    "ROWS",
    "SMALLER",
    "Row",
    "check_range",
    "diagonal",
    "hypot",
    "input_row",
    "norms",
    "ratio",
    "row_behind",
    "unit_rows",
    "walk",
]

SMALLER = "Use a smaller W_std, fewer layers, or LayerNorm."
LARGER = "Use a larger W_std, fewer layers, or LayerNorm."

# Numbers of a block of rows: it stays in the cache of a CPU, and keeps a GPU busy.
_BLOCK = {"cpu": 1 << 16, "cuda": 1 << 24}


@dataclass(frozen=True)
class Row:
    """State of rows: standard deviation and normalised tangent kernel, each of shape (n,)."""

    s: Tensor
    tau: Tensor


ROWS = Rules("single rows")
"""Rules ``(params, operation, *rows) -> (row, numbers)``: the state of rows behind an operation,
and the numbers by which it differs from row to row."""


@dataclass(frozen=True)
class _Rows(Pass[Row]):
    params: tuple[float, ...]
    rules = ROWS

    def step(self, op: ir.Op, xs: list[Row], done: list[Row]) -> Row:
        if isinstance(op, ir.Repeat):
            return self.repeat(op, xs[0])
        return row_behind(op, self.params, *xs)


def row_behind(op: ir.Op, params: tuple[float, ...], *rows: Row) -> Row:
    """The state of rows behind one operation that is no loop."""
    row: Row = ROWS.find(op)(params, op, *rows)[0]
    return row


def walk(program: Program, start: Row) -> Row:
    """The state of rows behind a program."""
    return _Rows(program.params).run(program.ops, start)


def ratio(a: Tensor, b: Tensor, otherwise: float) -> Tensor:
    """``a / b``, and ``otherwise`` where ``b`` is 0."""
    quotient = a / b
    return quotient if bool((b > 0).all()) else torch.where(b == 0, otherwise, quotient)


def hypot(s: Tensor, b: float) -> Tensor:
    """``sqrt(s^2 + b^2)``; squares are taken where none of them can be out of range."""
    if b == 0:
        return s
    if 1e-150 < b < 1e150 and bool((s < 1e150).all()):
        return torch.sqrt(s * s + b * b)
    return torch.hypot(s, s.new_tensor(b))


def norms(X: AnyRows) -> Tensor:
    """Length of each row, in float64."""
    if isinstance(X, SparseRows):
        return X.lengths()
    found = [_norm(block.to(torch.float64), X.dtype) for block in _blocks(X)]
    return found[0] if len(found) == 1 else torch.cat(found)


def _norm(block: Tensor, dtype: torch.dtype) -> Tensor:
    """Length of rows that came in ``dtype``."""
    if dtype == torch.float32:  # whose squares neither overflow nor underflow
        return torch.linalg.vector_norm(block, dim=1)
    top = block.abs().amax(dim=1)
    scaled = block / torch.where(top == 0, 1.0, top)[:, None]
    return top * torch.linalg.vector_norm(scaled, dim=1)


def input_row(X: AnyRows, length: Tensor | None = None) -> Row:
    """State of the data: ``s = |x| / sqrt(d)``, ``tau = 0``."""
    s = (norms(X) if length is None else length) / X.shape[1] ** 0.5
    return Row(s, torch.zeros_like(s))


def unit_rows(X: AnyRows, length: Tensor, dtype: torch.dtype = torch.float64) -> AnyRows:
    """The rows over their ``length``, rounded once to ``dtype``; rows of zeros stay."""
    if isinstance(X, SparseRows):
        return X.over(length, dtype)
    divisor = torch.where(length == 0, 1.0, length)[:, None]
    blocks = _blocks(X)
    if len(blocks) == 1:
        return (X.to(torch.float64) / divisor).to(dtype).contiguous()
    out, start = torch.empty(X.shape, dtype=dtype, device=X.device), 0
    for block in blocks:
        stop = start + len(block)
        out[start:stop] = block.to(torch.float64) / divisor[start:stop]
        start = stop
    return out


def _blocks(X: Tensor) -> tuple[Tensor, ...]:
    rows = max(1, _BLOCK[X.device.type] // max(1, X.shape[1]))
    return (X,) if rows >= X.shape[0] else X.split(rows)


def diagonal(row: Row, kernel: str) -> Tensor:
    """The kernel of each row with itself."""
    return row.s * row.s if kernel == "nngp" else row.s * row.tau * row.s


def check_range(row: Row, dtype: np.dtype, start: Row, kernels: tuple[str, ...]) -> None:
    """Raise InvalidInputError if the kernels of rows cannot be told in ``dtype``.

    Parameters
    ----------
    row : Row
        States at the output.
    dtype : dtype
        Of the entries.
    start : Row
        States at the input.
    kernels : tuple of str
        What is wanted, "nngp", "ntk" or both.

    Raises
    ------
    InvalidInputError
        If an entry overflows, or all of a kernel vanish though the rows do not.
    """
    name, limits = np.dtype(dtype).name, np.finfo(dtype)
    low, high = (float(v) for v in torch.aminmax(row.s))
    if math.isfinite(high) and not bool(torch.isfinite(row.tau).all()) and low < 1e-100:
        raise InvalidInputError(
            f"The tangent kernel is lost: a standard deviation at the output is {low:.3g}, and "
            f"what it is divided by is beyond float64. {LARGER}"
        )
    top = float((row.s * row.tau.clamp(min=1.0) * row.s).max())
    if not top < float(limits.max):
        found = "a standard deviation on its way is beyond float64"
        if top > 0 and math.isfinite(high):
            found = f"its largest diagonal entry is {top:.3g}"
        raise InvalidInputError(f"The kernel overflows {name}: {found}. {SMALLER}")
    for kernel in kernels if bool((start.s > 0).any()) else ():
        # A tangent kernel of nothing that is trained is zero by right.
        trained = kernel != "ntk" or bool((row.tau > 0).any())
        if trained and np.dtype(dtype).type(float(diagonal(row, kernel).max())) == 0:
            raise InvalidInputError(
                f"The {kernel} kernel vanishes in {name}: every entry is below "
                f"{limits.smallest_subnormal:.1g} and would be 0. {LARGER}"
            )
