"""A nonlinearity without closed form as a dual for few rows: its series, summed in torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from kernreg.ir.pair import Dual, Moments, Pair
from kernreg.numerics.angle import AngleSeries
from kernreg.numerics.hermite import hermite_coefficients
from kernreg.numerics.quadrature import row_moments
from kernreg.numerics.torchmath import TorchMath

__all__ = ["SeriesDual", "chebyshev_sum", "chebyshev_variable"]


@dataclass(frozen=True)
class SeriesDual:
    """What the fast backends compute for a nonlinearity, as a dual in closed form.

    Parameters
    ----------
    fn : Dual
        The nonlinearity.
    expansion : int or AngleSeries
        Length of the Hermite series, or a series in the angle.
    """

    fn: Dual
    expansion: int | AngleSeries

    homogeneous: ClassVar[int | None] = None
    closed_form: ClassVar[bool] = True

    def dual(self, xp: Any, p: Pair) -> Moments:
        """Both moments at pairs of rows; ``xp`` is torch."""
        s1, at1 = torch.unique(p.s1, return_inverse=True)
        s2, at2 = torch.unique(p.s2, return_inverse=True)
        rule = self._angles if isinstance(self.expansion, AngleSeries) else self._powers
        return rule(p, s1, s2, at1, at2)

    def _powers(self, p: Pair, s1: Tensor, s2: Tensor, at1: Tensor, at2: Tensor) -> Moments:
        assert isinstance(self.expansion, int)
        a, b = (hermite_coefficients(self.fn, s, self.expansion).coefficients for s in (s1, s2))
        kappa, slope = torch.zeros_like(p.rho), torch.zeros_like(p.rho)
        for j in range(a.shape[1] - 1, -1, -1):
            c = (a[:, j, None] * b[:, j])[at1, at2]
            kappa = kappa * p.rho + c
            slope = slope * p.rho + j * c if j else slope
        return Moments(kappa, _over(slope, p))

    def _angles(self, p: Pair, s1: Tensor, s2: Tensor, at1: Tensor, at2: Tensor) -> Moments:
        series = self.expansion
        assert isinstance(series, AngleSeries)
        w1, w2 = (torch.from_numpy(series.weights(s.numpy())) for s in (s1, s2))
        c = torch.einsum("xi,rmij,yj->rmxy", w1, torch.from_numpy(series.coefficients), w2)
        x = chebyshev_variable(p.rho, p.gap)
        rho, slope, growth = (chebyshev_sum(part[:, at1, at2], x) for part in c)
        size1, size2 = (row_moments(self.fn, s)[0].sqrt() for s in (s1, s2))
        size, gap = size1[at1] * size2[at2], None
        if not self.fn.smooth:
            inner = torch.from_numpy(series.embedding).T
            apart = 0.5 * (((w1 @ inner)[:, None] - (w2 @ inner)[None]) ** 2).sum(-1)[at1, at2]
            below = apart + torch.clamp(growth, min=0.0) * p.gap
            positive = (p.rho > 0) & (rho > 0)
            gap = torch.where(positive, below, torch.clamp(1.0 - rho.abs(), min=0.0))
            rho = torch.where(positive, 1.0 - below, rho)
        return Moments(size * rho, _over(size * slope, p), gap)


def _over(slope: Tensor, p: Pair) -> Tensor:
    """``slope / (s1 s2)``, and 0 for rows of zeros."""
    size = p.s1 * p.s2
    return torch.where(size > 0, slope / torch.where(size > 0, size, 1.0), 0.0)


def chebyshev_variable(rho: Tensor, gap: Tensor) -> Tensor:
    """``1 - 2 theta / pi`` of the angle ``theta`` between two rows."""
    angle = TorchMath.arc(gap)
    return 1.0 - 2.0 / math.pi * torch.where(rho > 0, angle, math.pi - angle)


def chebyshev_sum(c: Tensor, x: Tensor) -> Tensor:
    """``sum_m c_m T_m(x)``; each ``c_m`` is a number or has the shape of ``x``."""
    one, two = torch.zeros_like(x), torch.zeros_like(x)
    for part in reversed(c[1:].unbind()):
        one, two = part + 2.0 * x * one - two, one
    return c[0] + x * one - two
