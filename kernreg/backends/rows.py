"""What a program does to single rows: variances and the coefficients that pairs are mixed with.

The state of a row is its standard deviation ``s`` and ``tau = ntk / s^2`` on the diagonal. Every
rule here is also the source of the per-row tables of the fast backends.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernreg.exceptions import InvalidInputError
from kernreg.ir import program as ir
from kernreg.ir.pair import Dual, Pair
from kernreg.numerics.quadrature import row_moments
from kernreg.numerics.torchmath import TorchMath

__all__ = [
    "DenseCoefficients",
    "Row",
    "apply_row",
    "check_range",
    "dense_row",
    "diagonal",
    "input_row",
    "norms",
    "unit_rows",
    "walk",
]

_SMALLER = "Use a smaller W_std, fewer layers, or LayerNorm."
_LARGER = "Use a larger W_std, fewer layers, or LayerNorm."

# Of standard deviations whose variance is asked for: with room for factors in float64.
_LARGEST = 1e148

# Numbers of a block of rows: it stays in the cache of a CPU, and keeps a GPU busy.
_BLOCK = {"cpu": 1 << 16, "cuda": 1 << 24}


@dataclass(frozen=True)
class Row:
    """State of rows: standard deviation and normalised tangent kernel, each of shape (n,)."""

    s: Tensor
    tau: Tensor


@dataclass(frozen=True)
class DenseCoefficients:
    """How a dense layer mixes correlations: ``rho' = u_i u_j rho + v_i v_j``.

    ``(u, v)`` has unit length; ``v`` is None without a bias. ``g`` and ``h`` scale the kernel and
    the bias in the tangent kernel of the "standard" parameterization; both are 0 in a layer that is
    not trained, and None in all others.
    """

    u: Tensor
    v: Tensor | None
    g: Tensor | None
    h: Tensor | None

    def tables(self) -> list[Tensor]:
        """Those that exist, in the order that tile kernels expect."""
        return [t for t in (self.u, self.v, self.g, self.h) if t is not None]


def _ratio(a: Tensor, b: Tensor, otherwise: float) -> Tensor:
    """``a / b``, and ``otherwise`` where ``b`` is 0."""
    quotient = a / b
    return quotient if bool((b > 0).all()) else torch.where(b == 0, otherwise, quotient)


def dense_row(row: Row, op: ir.Dense, params: tuple[float, ...]) -> tuple[Row, DenseCoefficients]:
    """A dense layer on rows."""
    W, b = params[op.W], None if op.b is None else params[op.b]
    s, u, v = W * row.s, torch.ones_like(row.s), None
    if b is not None:
        weight, s = s, torch.hypot(s, s.new_tensor(b))
        u, v = _ratio(weight, s, 1.0), _ratio(torch.full_like(s, b), s, 0.0)
    if not op.trained:
        zero = torch.zeros_like(s)
        return Row(s, u * u * row.tau), DenseCoefficients(u, v, zero, zero)
    if op.fan_in is None:
        return Row(s, 1.0 + u * u * row.tau), DenseCoefficients(u, v, None, None)
    g = op.fan_in**0.5 / W * u
    if op.b is None:
        h = torch.zeros_like(s)
    else:
        if bool((s == 0).any()):
            raise InvalidInputError(
                "A row of zeros has variance 0 behind a Dense layer in the 'standard' "
                "parameterization with b_std=0.0; use b_std=None or b_std > 0, or drop the row."
            )
        h = 1.0 / s
        v = torch.zeros_like(s) if v is None else v
    return Row(s, g * g + h * h + u * u * row.tau), DenseCoefficients(u, v, g, h)


@functools.lru_cache(maxsize=1024)
def unit_moments(fn: Dual) -> tuple[float, float]:
    """``E[phi^2]`` and ``E[phi'^2]`` at unit variance, of a homogeneous nonlinearity."""
    one = torch.ones(1, dtype=torch.float64)
    m = fn.dual(TorchMath, Pair(one, 0.0 * one, 1.0, 1.0))
    return float(m.kappa), float(m.kappa_dot)


def apply_row(row: Row, fn: Dual) -> tuple[Row, Tensor]:
    """A nonlinearity on rows; also the factor that it puts on ``tau``."""
    s = row.s
    if not bool(torch.isfinite(s).all()):
        raise InvalidInputError(
            f"The kernel overflows before {fn!r}: a standard deviation there is beyond float64. "
            f"{_SMALLER}"
        )
    if fn.homogeneous is None and bool((s > _LARGEST).any()):
        raise InvalidInputError(
            f"The rows are too large for {fn!r}: a standard deviation before it is "
            f"{float(s.max()):.3g}, expected at most {_LARGEST:g}. Scale the rows down. {_SMALLER}"
        )
    if fn.closed_form and fn.homogeneous is not None:
        kappa, kappa_dot = unit_moments(fn)
        power = s**fn.homogeneous if fn.homogeneous else (s > 0).to(s.dtype)
        dot = torch.full_like(s, kappa_dot / kappa)
        return Row(kappa**0.5 * power, dot * row.tau), dot
    if fn.closed_form:
        m = fn.dual(TorchMath, Pair(torch.ones_like(s), torch.zeros_like(s), s, s))
        square = torch.as_tensor(m.kappa, dtype=s.dtype).expand_as(s)
        slope = torch.as_tensor(m.kappa_dot, dtype=s.dtype).expand_as(s)
    else:
        square, slope = row_moments(fn, s)
    out = torch.sqrt(square)
    ratio = _ratio(s, out, 0.0)
    dot = slope * ratio * ratio
    return Row(out, dot * row.tau), dot


def sum_row(rows: list[Row], weights: list[float]) -> tuple[Row, list[Tensor]]:
    """A weighted sum of branches; also each branch's share ``u`` of the standard deviation."""
    parts = [w**0.5 * r.s for w, r in zip(weights, rows, strict=True)]
    both = torch.stack(parts)
    top = both.amax(dim=0)  # whose square may be beyond float64
    s = top * torch.linalg.vector_norm(both / torch.where(top == 0, 1.0, top), dim=0)
    shares = [_ratio(p, s, 1.0 if i == 0 else 0.0) for i, p in enumerate(parts)]
    tau = sum((u * u * r.tau for u, r in zip(shares, rows, strict=True)), torch.zeros_like(s))
    return Row(s, tau), shares


def product_row(rows: list[Row]) -> Row:
    """A product of branches."""
    s = rows[0].s
    for r in rows[1:]:
        s = s * r.s
    return Row(s, sum((r.tau for r in rows[1:]), rows[0].tau))


def normalize_row(row: Row, eps: float) -> Row:
    """Layer normalisation; correlations and ``tau`` do not change."""
    return Row(_ratio(row.s, torch.hypot(row.s, row.s.new_tensor(eps**0.5)), 0.0), row.tau)


def walk(ops: tuple[ir.Op, ...], params: tuple[float, ...], start: Row, first: int = 0) -> Row:
    """The state of rows behind ``ops``.

    Parameters
    ----------
    ops : tuple of Op
        A program or loop body.
    params : tuple of float
        Run-time parameters.
    start : Row
        State at operation ``first``.
    first : int
        Where to begin; nothing behind it may refer to what comes before.

    Returns
    -------
    Row
    """
    values = {first: start}
    for i, op in enumerate(ops[first + 1 :], first + 1):
        match op:
            case ir.Dense():
                row, _ = dense_row(values[op.x], op, params)
            case ir.Apply():
                row, _ = apply_row(values[op.x], bound(op, params))
            case ir.Sum():
                row, _ = sum_row([values[x] for x in op.xs], sum_weights(op, params))
            case ir.Product():
                row = product_row([values[x] for x in op.xs])
            case ir.Normalize():
                row = normalize_row(values[op.x], params[op.eps])
            case ir.Dropout():
                row = Row(values[op.x].s / params[op.keep] ** 0.5, values[op.x].tau)
            case ir.Repeat():
                row = values[op.x]
                for _ in range(op.count):
                    row = walk(op.body, params, row)
            case _:
                raise TypeError(f"unexpected operation {op!r}")
        values[i] = row
    return values[len(ops) - 1]


def bound(op: ir.Apply, params: tuple[float, ...]) -> Dual:
    """The nonlinearity of ``op`` with the program's numbers."""
    return op.fn.bind(tuple(params[s] for s in op.slots))


def sum_weights(op: ir.Sum, params: tuple[float, ...]) -> list[float]:
    """The weights of a sum, 1 where it has none."""
    return [params[s] for s in op.slots] if op.slots else [1.0] * len(op.xs)


def norms(X: Tensor) -> Tensor:
    """Length of each row, in float64."""
    return torch.cat([_norm(block.to(torch.float64), X.dtype) for block in _blocks(X)])


def _norm(block: Tensor, dtype: torch.dtype) -> Tensor:
    """Length of rows that came in ``dtype``."""
    if dtype == torch.float32:  # whose squares neither overflow nor underflow
        return torch.linalg.vector_norm(block, dim=1)
    top = block.abs().amax(dim=1)
    scaled = block / torch.where(top == 0, 1.0, top)[:, None]
    return top * torch.linalg.vector_norm(scaled, dim=1)


def input_row(X: Tensor, length: Tensor | None = None) -> Row:
    """State of the data: ``s = |x| / sqrt(d)``, ``tau = 0``."""
    s = (norms(X) if length is None else length) / X.shape[1] ** 0.5
    return Row(s, torch.zeros_like(s))


def unit_rows(X: Tensor, length: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The rows over their ``length``, rounded once to ``dtype``; rows of zeros stay."""
    out, start = torch.empty(X.shape, dtype=dtype, device=X.device), 0
    divisor = torch.where(length == 0, 1.0, length)[:, None]
    for block in _blocks(X):
        stop = start + len(block)
        out[start:stop] = block.to(torch.float64) / divisor[start:stop]
        start = stop
    return out


def _blocks(X: Tensor) -> tuple[Tensor, ...]:
    return X.split(max(1, _BLOCK[X.device.type] // max(1, X.shape[1])))


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
            f"what it is divided by is beyond float64. {_LARGER}"
        )
    top = float((row.s * row.tau.clamp(min=1.0) * row.s).max())
    if not top < float(limits.max):
        found = "a standard deviation on its way is beyond float64"
        if top > 0 and math.isfinite(high):
            found = f"its largest diagonal entry is {top:.3g}"
        raise InvalidInputError(f"The kernel overflows {name}: {found}. {_SMALLER}")
    for kernel in kernels if bool((start.s > 0).any()) else ():
        # A tangent kernel of nothing that is trained is zero by right.
        trained = kernel != "ntk" or bool((row.tau > 0).any())
        if trained and np.dtype(dtype).type(float(diagonal(row, kernel).max())) == 0:
            raise InvalidInputError(
                f"The {kernel} kernel vanishes in {name}: every entry is below "
                f"{limits.smallest_subnormal:.1g} and would be 0. {_LARGER}"
            )
