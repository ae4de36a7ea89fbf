"""Kernels and their derivatives by the inputs, tile by tile.

An entry is a function of ``c = <x, x'> / d`` and of the mean squares ``q``, ``q'`` of both rows.
The state of a pair is followed forwards together with its derivatives by the correlation and by the
logarithms of both standard deviations at the input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.distinct import Distinct
from kernreg.backends.reference import Evaluated, Matrix, PairState, input_pairs
from kernreg.ir.fold import Rules
from kernreg.ir.program import Program

__all__ = ["DERIVATIVES", "Derivatives", "Differentiable", "Jet", "Partials", "Slope", "Tile"]

DERIVATIVES = Rules("derivatives by the inputs")
"""Rules ``(pass, operation, *jets) -> jet``."""

# Lengths of rows of zeros, of which derivatives are limits.
_LEAST = 1e-100


@dataclass(frozen=True)
class Slope:
    """Derivatives of correlation and tangent kernel of pairs in one direction."""

    rho: Tensor
    tau: Tensor


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


@dataclass(frozen=True)
class Partials:
    """Derivatives of what an operation makes of a pair.

    By ``rho`` and ``tau`` before it, and by ``log s`` of both rows before it.
    """

    rho_rho: Tensor
    tau_rho: Tensor
    tau_tau: Tensor
    rho_log: Sequence[Tensor | float] = (0.0, 0.0)
    tau_log: Sequence[Tensor | float] = (0.0, 0.0)


@dataclass(frozen=True)
class Derivatives(Matrix):
    """A program on pairs of rows, with derivatives."""

    rules = DERIVATIVES

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
    """Entries of part of a kernel matrix, and their derivatives, each of shape (n1, n2).

    Parameters
    ----------
    value : Tensor
        The entries.
    by_product : Tensor
        By ``c = <x, x'> / d``.
    by_square : list of Tensor
        By the mean square of the first row, and of the second where it is asked for.
    """

    value: Tensor
    by_product: Tensor
    by_square: list[Tensor]


class Differentiable:
    """A program on vectors bound to rows, of which it gives tiles with derivatives.

    Parameters
    ----------
    program : Program
        The program.
    X1, X2 : Tensor of shape (n, d)
        Rows.
    sides : {1, 2}
        Whether derivatives are by the first row of pairs only, or by both.
    """

    def __init__(self, program: Program, X1: Tensor, X2: Tensor, sides: int = 1) -> None:
        self._program, self._sides = program, sides
        self._rows: list[R.Row] = []
        self._units: list[Tensor] = []
        for X in (X1, X2):
            length = R.norms(X)
            row = R.input_row(X, length)
            self._rows.append(R.Row(row.s.clamp(min=_LEAST), row.tau))
            self._units.append(R.unit_rows(X, length))

    def tile(self, rows: slice, columns: slice, kernel: str) -> Tile:
        """Entries of some rows and columns, and their derivatives."""
        parts = zip(self._rows, (rows, columns), strict=True)
        distinct = Distinct.of(*(R.Row(r.s[k], r.tau[k]) for r, k in parts))
        pair = input_pairs(self._units[0][rows], self._units[1][columns])
        run, out = self._run(pair, distinct)
        name = "rho" if kernel == "nngp" else "tau"
        value = getattr(out.pair, name)
        by_rho, *by_log = (getattr(d, name) for d in out.slopes)
        start, end, grown = (run.sides(v) for v in (distinct.row.s, out.row.s, out.growth))
        scale = end[0] * end[1]
        squares = [
            scale * (d + g * value - pair.rho * by_rho) / (2.0 * s * s)
            for d, g, s in zip(by_log, grown, start, strict=False)
        ]
        product = (end[0] / start[0]) * (end[1] / start[1]) * by_rho
        return Tile(scale * value, product, squares)

    def diagonal(self, kernel: str) -> tuple[Tensor, Tensor]:
        """The kernel of every row of ``X1`` with itself, and its derivative by the mean square."""
        row = self._rows[0]
        one = R.Row(row.s[:1], row.tau[:1])
        distinct = Distinct.of(row, one)
        zero = torch.zeros((len(row.s), 1), dtype=torch.float64)
        _, out = self._run(PairState(zero, zero + 1.0, zero), distinct)
        s, tau, log = out.row.s, out.row.tau, 2.0 * out.growth
        value, slope = s * s, log * s * s
        if kernel == "ntk":
            value, slope = value * tau, slope * tau + s * s * out.trained
        slope = slope / (2.0 * distinct.row.s**2)
        return distinct.all(value, 0), distinct.all(slope, 0)

    def _run(self, pair: PairState, distinct: Distinct) -> tuple[Derivatives, Jet]:
        run, s = Derivatives(self._program.params, distinct), distinct.row.s
        one, zero = torch.ones_like(pair.rho), torch.zeros_like(pair.rho)
        still = Slope(zero, zero)
        slopes = (Slope(one, zero), *[still] * self._sides)
        start = Jet(pair, distinct.row, torch.ones_like(s), torch.zeros_like(s), slopes)
        return run, run.run(self._program.ops, start)  # type: ignore[return-value]
