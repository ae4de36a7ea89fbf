"""What is behind the readouts: a program on vectors, on the matrix of pairs of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kernreg.backends import rows as R
from kernreg.backends.planes.stages import Plan
from kernreg.backends.reference import Evaluated, Evaluation, PairState
from kernreg.ir import operations as ir
from kernreg.ir.fold import Pass, Rules

__all__ = ["COVARIANCES", "Covariance", "Tail"]

COVARIANCES = Rules("covariances alone")
"""Rules ``(tail, operation, *covariances) -> covariance`` of those that need no variances."""


@dataclass(frozen=True)
class Covariance:
    """Both kernels of pairs of images."""

    k: Tensor
    t: Tensor


@dataclass
class _Covariances(Pass[Covariance | None]):
    params: tuple[float, ...]
    given: dict[int, Covariance]
    rules = COVARIANCES

    def step(self, op: ir.Op, xs: list[Covariance | None], done: list) -> Covariance | None:
        if id(op) in self.given:
            return self.given[id(op)]
        return None if xs and xs[0] is None else super().step(op, xs, done)


@dataclass(frozen=True)
class _Pairs(Evaluation):
    """Rows of both sides in one vector, those of the first side first."""

    given: dict[int, Evaluated]
    split: int

    def sides(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return values[: self.split, None], values[None, self.split :]

    def step(self, op: ir.Op, xs: list[Evaluated], done: list[Evaluated]) -> Evaluated:
        if id(op) in self.given:
            return self.given[id(op)]
        return xs[0] if xs and xs[0] is None else super().step(op, xs, done)


@dataclass(frozen=True)
class Tail:
    """The vector part of a plan."""

    plan: Plan
    params: tuple[float, ...]

    @property
    def linear(self) -> bool:
        """Whether kernels of pairs follow without those of either image with itself."""
        vectors = [
            op
            for i, op in enumerate(self.plan.ops)
            if self.plan.stage[i] is None and i not in self.plan.readouts
        ]
        return all(
            type(op) in COVARIANCES or isinstance(op, ir.Repeat)
            for op in ir.all_ops(vectors)
            if not isinstance(op, ir.Carry)
        )

    def covariance(self, given: list[Covariance]) -> Covariance:
        """Behind the program, from those of the readouts."""
        ops = self.plan.ops
        found = {id(ops[i]): g for i, g in zip(self.plan.readouts, given, strict=True)}
        out = _Covariances(self.params, found).run(ops, None)
        assert out is not None
        return out

    def rows(self, given: list[R.Row]) -> R.Row:
        """States of images behind the program, from those of the readouts."""
        one = [
            Evaluated(PairState(*(torch.zeros(len(r.s), 0, dtype=r.s.dtype),) * 3), r)
            for r in given
        ]
        return self._run(one, len(given[0].s)).row

    def pairs(self, given: list[Evaluated], split: int) -> tuple[PairState, R.Row]:
        """Pairs and rows behind the program; the first ``split`` rows are those of one side."""
        out = self._run(given, split)
        return out.pair, out.row

    def _run(self, given: list[Evaluated], split: int) -> Evaluated:
        ops = self.plan.ops
        found = {id(ops[i]): g for i, g in zip(self.plan.readouts, given, strict=True)}
        return _Pairs(self.params, found, split).run(ops, None)  # type: ignore[arg-type]
