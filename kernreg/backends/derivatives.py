"""Derivatives of kernels by the inputs, tile by tile.

An entry is a function of ``c = <x, x'> / d`` and of the mean squares ``q``, ``q'`` of both rows.
The state of a pair is followed forwards together with its derivatives by the correlation and by the
logarithms of both standard deviations at the input.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.distinct import Distinct
from kernreg.backends.reference import Evaluated, Matrix, PairState, input_pairs
from kernreg.ir.derivative import SlopesCode
from kernreg.ir.fold import Rules
from kernreg.ir.operations import Apply, all_ops
from kernreg.ir.pair import Dual
from kernreg.ir.program import Program
from kernreg.numerics.torchmath import TorchMath

__all__ = [
    "DERIVATIVES",
    "Derivatives",
    "Differentiable",
    "Jet",
    "OfPairs",
    "Partials",
    "Slope",
    "Tile",
    "diagonal_slope",
    "differentiated",
    "over_scale",
    "traced_diagonal",
    "traced_tile",
]

DERIVATIVES = Rules("derivatives by the inputs")
"""Rules ``(pass, operation, *jets) -> jet``."""

# Lengths of rows of zeros, of which derivatives are limits.
_LEAST = 1e-100


@dataclass(frozen=True)
class Slope:
    """Derivatives of correlation and tangent kernel of pairs in one direction."""

    rho: Any
    tau: Any


@dataclass(frozen=True)
class Jet(Evaluated):
    """A value of the program with its derivatives.

    Parameters
    ----------
    growth, trained : Tensor
        Derivatives of ``log s`` and of ``tau`` of rows by ``log s`` of the input.
    slopes : tuple of Slope
        Those of pairs by the correlation of the input, by ``log s`` of the first row and, where it
        is asked for, by that of the second.
    """

    growth: Tensor
    trained: Tensor
    slopes: tuple[Slope, ...]


OfPairs = tuple[PairState, tuple[Slope, ...]]
"""The part of a jet that belongs to pairs."""


@dataclass(frozen=True)
class Partials:
    """Derivatives of what an operation makes of a pair.

    By ``rho`` and ``tau`` before it, and by ``log s`` of both rows before it.
    """

    rho_rho: Any
    tau_rho: Any
    tau_tau: Any
    rho_log: Sequence[Any] = (0.0, 0.0)
    tau_log: Sequence[Any] = (0.0, 0.0)


@dataclass(frozen=True)
class Derivatives(Matrix):
    """A program on pairs of rows, with derivatives.

    Pairs are tensors, or values of a graph of which code is made.
    """

    xp: Any = TorchMath
    rules = DERIVATIVES

    def full(self, *values: Any) -> tuple[Any, ...]:
        """Results of a dual, which may be plain numbers, as numbers of pairs."""
        like = next(v for v in values if isinstance(v, Tensor))
        tensors = [torch.as_tensor(v, dtype=torch.float64, device=like.device) for v in values]
        return torch.broadcast_tensors(*tensors)

    def of_torch(self, fn: Dual, value: Callable[[], PairState]) -> PairState:
        """What only torch works out."""
        return value()

    def nonlinearity(
        self, x: Jet, code: SlopesCode, leaves: Mapping[str, Tensor]
    ) -> OfPairs | None:
        """Pairs behind a nonlinearity, where compiled code does all of it in one pass."""
        return None

    def dense(self, x: Jet, tables: tuple[Tensor, ...]) -> OfPairs | None:
        """The same behind a dense layer with these coefficients of rows."""
        return None

    def chained(
        self,
        x: Jet,
        pair: PairState,
        row: R.Row,
        growth: Tensor,
        trained: Tensor,
        partials: Partials,
    ) -> Jet:
        """The jet behind an operation of one value."""
        p, grown = partials, (0.0, *self.sides(x.growth))
        slopes = []
        for k, d in enumerate(x.slopes):
            rho, tau = p.rho_rho * d.rho, p.tau_rho * d.rho + p.tau_tau * d.tau
            if k:
                rho = rho + p.rho_log[k - 1] * grown[k]
                tau = tau + p.tau_log[k - 1] * grown[k]
            slopes.append(Slope(rho, tau))
        return Jet(pair, row, growth, trained, tuple(slopes))


@dataclass(frozen=True)
class Tile:
    """Derivatives of part of a kernel matrix, each of shape (n1, n2).

    Parameters
    ----------
    by_product : Tensor
        By ``c = <x, x'> / d``.
    by_square : list of Tensor
        By the mean square of the first row, and of the second where it is asked for.
    """

    by_product: Tensor
    by_square: list[Tensor]


class Differentiable:
    """A program on vectors bound to rows, of which it gives derivatives by tiles.

    Parameters
    ----------
    program : Program
        The program.
    X1, X2 : Tensor of shape (n, d)
        Rows.
    kernel : str
        "ntk" or "nngp".
    sides : {1, 2}
        Whether derivatives are by the first row of pairs only, or by both.
    """

    def __init__(
        self, program: Program, X1: Tensor, X2: Tensor, kernel: str, sides: int = 1
    ) -> None:
        self._program, self._kernel, self._sides = program, kernel, sides
        both = [_input(X1)]
        both.append(both[0] if X2 is X1 else _input(X2))
        self.rows = [row for row, _ in both]
        self.units = [unit for _, unit in both]

    def tile(self, rows: slice, columns: slice) -> Tile:
        """Derivatives of the entries of some rows and columns."""
        parts = zip(self.rows, (rows, columns), strict=True)
        distinct = Distinct.of(*(R.Row(r.s[k], r.tau[k]) for r, k in parts))
        pair = input_pairs(self.units[0][rows], self.units[1][columns])
        return _tile(self._program, self._kernel, self._sides, distinct, pair)

    def diagonal(self) -> Tensor:
        """Derivative of the kernel of every row of ``X1`` with itself by its mean square."""
        row = self.rows[0]
        distinct = Distinct.of(row, R.Row(row.s[:1], row.tau[:1]))
        return _diagonal(self._program, self._kernel, distinct)


def _input(X: Tensor) -> tuple[R.Row, Tensor]:
    """States of rows, and the rows at unit length."""
    length = R.norms(X)
    row = R.input_row(X, length)
    return R.Row(row.s.clamp(min=_LEAST), row.tau), R.unit_rows(X, length)


def _tile(program: Program, kernel: str, sides: int, distinct: Distinct, pair: PairState) -> Tile:
    run = Derivatives(program.params, distinct)
    one, zero = torch.ones_like(pair.rho), torch.zeros_like(pair.rho)
    out = differentiated(run, program, pair, distinct, one, zero, sides)
    product, *squares = over_scale(run, pair, distinct, out, kernel)
    first, second = run.sides(out.row.s / distinct.row.s)
    scale = first * second
    return Tile(scale * product, [scale * square for square in squares])


def _diagonal(program: Program, kernel: str, distinct: Distinct) -> Tensor:
    """Derivative of the kernel of every row of the first side with itself by its mean square."""
    run = Derivatives(program.params, distinct)
    zero = torch.zeros_like(distinct.all(distinct.row.s, 0))[:, None]
    pair = PairState(zero, zero + 1.0, zero)
    out = differentiated(run, program, pair, distinct, zero + 1.0, zero, 1)
    return diagonal_slope(out, distinct, kernel)


def diagonal_slope(out: Jet, distinct: Distinct, kernel: str) -> Tensor:
    """The same from the jet behind a program, of which it needs what belongs to rows."""
    s, tau, log = out.row.s, out.row.tau, 2.0 * out.growth
    slope = log * s * s
    if kernel == "ntk":
        slope = slope * tau + s * s * out.trained
    return distinct.all(slope / (2.0 * distinct.row.s**2), 0)


def traced_tile(program: Program, A: Tensor, B: Tensor, kernel: str) -> tuple[Tile, Tensor]:
    """Derivatives by both rows of all pairs, through which torch can go back; slow.

    Where a kink meets equal rows nothing can go back: the derivatives there are those of rows at
    right angles. Also returns which pairs these are.
    """
    distinct, (unit1, unit2) = _traced(A, B)
    pair = input_pairs(unit1, unit2)
    # Torch takes means of both sides where formulas have a kink at 0, one here and one there.
    right = pair.rho == 0
    rho = torch.where(right, pair.rho + _LEAST, pair.rho)
    pair = PairState(rho, torch.where(right, 1.0 - rho, pair.gap), pair.tau)
    lost = pair.gap <= 0
    if all(op.fn.smooth for op in all_ops(program.ops) if isinstance(op, Apply)):
        lost = torch.zeros_like(lost)
    pair = PairState(torch.where(lost, 0.0, pair.rho), torch.where(lost, 1.0, pair.gap), pair.tau)
    return _tile(program, kernel, 2, distinct, pair), lost


def traced_diagonal(program: Program, A: Tensor, kernel: str) -> Tensor:
    """The same of :meth:`Differentiable.diagonal`."""
    return _diagonal(program, kernel, _traced(A, A[:1])[0])


def _traced(A: Tensor, B: Tensor) -> tuple[Distinct, list[Tensor]]:
    """Every row for itself, as a function of the rows; and the rows in unit length."""
    lengths = [torch.linalg.vector_norm(X, dim=1) for X in (A, B)]
    units = [X / torch.clamp(v, min=_LEAST)[:, None] for X, v in zip((A, B), lengths, strict=True)]
    s = torch.cat(lengths) / A.shape[1] ** 0.5
    row = R.Row(s.clamp(min=_LEAST), torch.zeros_like(s))
    places = torch.arange(len(s), device=s.device)
    return Distinct(row, places, (places[: len(A)], places[len(A) :])), units


def differentiated(
    run: Derivatives,
    program: Program,
    pair: PairState,
    distinct: Distinct,
    one: Any,
    zero: Any,
    sides: int,
) -> Jet:
    """The jet behind a program; ``one`` and ``zero`` are those of pairs."""
    s, still = distinct.row.s, Slope(zero, zero)
    slopes = (Slope(one, zero), *[still] * sides)
    start = Jet(pair, distinct.row, torch.ones_like(s), torch.zeros_like(s), slopes)
    return run.run(program.ops, start)  # type: ignore[return-value]


def over_scale(
    run: Derivatives, pair: PairState, distinct: Distinct, out: Jet, kernel: str
) -> list[Any]:
    """Derivatives by the product and by squares, over ``s`` behind and before of both rows."""
    name = "rho" if kernel == "nngp" else "tau"
    value = getattr(out.pair, name)
    by_rho, *by_log = (getattr(d, name) for d in out.slopes)
    s, grown = run.sides(distinct.row.s), run.sides(out.growth)
    found = [by_rho]
    for k, d in enumerate(by_log):
        found.append(0.5 * (s[1 - k] / s[k]) * (d + grown[k] * value - pair.rho * by_rho))
    return found
