"""Gaussian averages over two correlated preactivations, and their derivatives in the covariance.

A pair is ``z_1 = s_1 x``, ``z_2 = s_2 y`` with x and y of unit variance and correlation rho. Its
covariance changes in three directions: the logarithms of both variances, and rho at fixed
variances. By Price's theorem and Stein's lemma the derivatives of an average <f(x) g(y)> in these
are averages of derivatives of f and g with powers of x and y as weights,

    first   (<x f' g> / 2, <f' g'>, <y f g'> / 2),
    second  log s_1^2 twice: (<x^2 f'' g> - <x f' g> + rho <f' g'>) / 4,
            log s_1^2 and rho: <x f'' g'> / 2,  rho twice: <f'' g''>,
            both logarithms: ((1 - rho^2) <f'' g''> + rho <x f'' g'> + rho <y f' g''>) / 4,

where the second ones belong to the linear change of the covariance that these directions stand
for. Nothing is divided by a determinant, so nearly parallel inputs keep their digits. A kink at 0
adds delta functions to f'', which are integrated by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kernreg.nn import Nonlinearity
from kernreg.numerics.torchmath import TorchMath
from kernreg.theory.finite_width.pair_rules import PairRule, derivatives, jumps

__all__ = [
    "NodeSource",
    "PairAverages",
    "Pairs",
    "Source",
    "TangentAverages",
    "pair_averages",
    "scaled",
]

# Below this 1 - |rho| rounding hides the difference of two inputs. The delta functions of a kink
# are then left out: together they tend to 0 like its square root.
_PARALLEL = 1e-30


@dataclass(frozen=True)
class Pairs:
    """Jointly Gaussian pairs of mean zero; every field of shape (P,).

    Parameters
    ----------
    rho, gap : Tensor
        Correlation, and ``1 - |rho|`` to all its digits.
    s1, s2 : Tensor
        Standard deviations, positive.
    """

    rho: Tensor
    gap: Tensor
    s1: Tensor
    s2: Tensor

    @property
    def k(self) -> Tensor:
        """Covariance."""
        return self.rho * self.s1 * self.s2


@dataclass(frozen=True)
class TangentAverages:
    """What the NTK needs besides :class:`PairAverages`, for ``dot = s_1 s_2 sigma'_1 sigma'_2``.

    Parameters
    ----------
    products : Tensor, shape (P, 3)
        Means of ``u^2 dot``, ``u v dot`` and ``v^2 dot``.
    covariance : Tensor, shape (P, 3)
        Of ``(u^2, w, v^2)`` with ``dot``.
    gradient, hessian : Tensor, shape (P, 3) and (P, 3, 3)
        Derivatives of ``<sigma'_1 sigma'_2>``, times ``s_1 s_2``.
    """

    products: Tensor
    covariance: Tensor
    gradient: Tensor
    hessian: Tensor


@dataclass(frozen=True)
class PairAverages:
    """Averages of ``u = c_1 sigma_1`` and ``v = c_2 sigma_2`` over pairs.

    Means are taken of ``(u^2, w, v^2)`` with ``w = u v - r (u^2 + v^2) / 2``: with c and r from
    the next layer these are what changes its variances and its correlation r.

    Parameters
    ----------
    overlap : Tensor, shape (P,)
        ``<u v>``.
    covariance : Tensor, shape (P, 3, 3)
        Of ``(u^2, w, v^2)``.
    jacobian, hessian : Tensor, shape (P, 3, 3) and (P, 3, 3, 3)
        First and second derivatives of their means; the first axis after P is that of the three.
    slopes : Tensor, shape (P,)
        ``<u' v'>``, with derivatives in x and y.
    crossed : Tensor, shape (P, 2)
        ``<x u' v>`` and ``<y u v'>``.
    tangent : TangentAverages or None
        For the NTK, if it was asked for.
    """

    overlap: Tensor
    covariance: Tensor
    jacobian: Tensor
    hessian: Tensor
    slopes: Tensor
    crossed: Tensor
    tangent: TangentAverages | None


class Source(Protocol):
    """Where averages over pairs come from."""

    def distances(self, pairs: Pairs, c1: Tensor, c2: Tensor) -> tuple[Tensor, Tensor]:
        """``<(c_1 sigma_1 - c_2 sigma_2)^2> / 2`` and the same with a plus, each (P,)."""
        ...

    def sums(
        self, pairs: Pairs, c1: Tensor, c2: Tensor, after: Pairs, *, tangent: bool
    ) -> dict[str, Tensor]:
        """Averages by name, each of shape (P,); the names are those of ``_integrands``."""
        ...


@dataclass(frozen=True)
class NodeSource:
    """Averages from nodes for each pair.

    Parameters
    ----------
    fn : Nonlinearity
        Smooth, or with a kink at 0.
    rule : PairRule
        See :func:`kernreg.theory.finite_width.pair_rules.pair_rule`.
    """

    fn: Nonlinearity
    rule: PairRule

    def distances(self, pairs: Pairs, c1: Tensor, c2: Tensor) -> tuple[Tensor, Tensor]:
        """``<(c_1 sigma_1 - c_2 sigma_2)^2> / 2`` and the same with a plus, each (P,)."""
        near, far = torch.zeros_like(c1), torch.zeros_like(c1)
        for x, y, weight, factor in self.rule(pairs.rho, pairs.gap):
            u = c1[:, None] * self.fn.phi(TorchMath, pairs.s1[:, None] * x)
            v = c2[:, None] * self.fn.phi(TorchMath, pairs.s2[:, None] * y)
            near += 0.5 * factor * ((u - v) ** 2 @ weight)
            far += 0.5 * factor * ((u + v) ** 2 @ weight)
        return near, far

    def sums(
        self, pairs: Pairs, c1: Tensor, c2: Tensor, after: Pairs, *, tangent: bool
    ) -> dict[str, Tensor]:
        """Averages by name, each of shape (P,)."""
        order = 3 if tangent else 2
        sums: dict[str, Tensor] = {}
        for x, y, weight, factor in self.rule(pairs.rho, pairs.gap):
            f, g = scaled(self.fn, x, pairs.s1, order), scaled(self.fn, y, pairs.s2, order)
            u, v = c1[:, None] * f[0], c2[:, None] * g[0]
            for name, values in _integrands(x, y, f, g, u, v, after).items():
                sums[name] = sums.get(name, 0.0) + factor * (values @ weight)
        if not self.fn.smooth:
            for name, value in _kink_terms(self.fn, pairs, tangent).items():
                sums[name] = sums[name] + value
        return sums


def pair_averages(
    source: Source, pairs: Pairs, c1: Tensor, c2: Tensor, after: Pairs, *, tangent: bool
) -> PairAverages:
    """Averages over pairs.

    Parameters
    ----------
    source : Source
        Nodes or series.
    pairs : Pairs
        P of them.
    c1, c2 : Tensor, shape (P,)
        Scales of u and v.
    after : Pairs
        What has the correlation r.
    tangent : bool
        Whether the averages for the NTK are wanted, which take the third derivative.

    Returns
    -------
    PairAverages

    Notes
    -----
    With nodes time and memory O(P nodes), some 40 arrays of that size at a time: pass few pairs
    at once.

    Examples
    --------
    >>> from kernreg import nn
    >>> from kernreg.theory.finite_width.pair_rules import pair_rule
    >>> one = torch.ones(1, dtype=torch.float64)
    >>> pairs = Pairs(0 * one, one, one, one)
    >>> source = NodeSource(nn.Relu(), pair_rule(nn.Relu(), 1.0, 1e-6, tangent=False))
    >>> found = pair_averages(source, pairs, one, one, pairs, tangent=False)
    >>> round(float(found.overlap) * 2 * math.pi, 5)
    1.0
    """
    sums = source.sums(pairs, c1, c2, after, tangent=tangent)
    return _assemble(sums, pairs, c1, c2, after.rho, tangent)


def scaled(fn: Nonlinearity, x: Tensor, s: Tensor, order: int) -> list[Tensor]:
    """``sigma(s x)`` and its derivatives in x, for x of shape (P, nodes) and s of shape (P,)."""
    found = derivatives(fn, s[:, None] * x, order)
    return [s[:, None] ** i * part for i, part in enumerate(found)]


def _integrands(
    x: Tensor,
    y: Tensor,
    f: list[Tensor],
    g: list[Tensor],
    u: Tensor,
    v: Tensor,
    after: Pairs,
) -> dict[str, Tensor]:
    """What is averaged; two digits are the orders of the derivatives of f and g."""
    uu, vv = u * u, v * v
    sign = torch.where(after.rho < 0, -1.0, 1.0)[:, None]
    gap = after.gap[:, None]
    # v - r u, u - r v and w, small to all digits where u and v are nearly the same.
    v_u = (v - sign * u) + sign * gap * u
    u_v = (u - sign * v) + sign * gap * v
    w = 0.5 * sign * (gap * (uu + vv) - (u - sign * v) ** 2)
    xf, yg = x * f[1], y * g[1]
    parts = {
        "u v": u * v,
        "u u": uu,
        "w": w,
        "v v": vv,
        "uu uu": uu * uu,
        "uu w": uu * w,
        "uu vv": uu * vv,
        "w w": w * w,
        "w vv": w * vv,
        "vv vv": vv * vv,
        "x u f1": xf * u,
        "y v g1": yg * v,
        "x2 f2 f0": x * x * f[2] * f[0],
        "y2 g2 g0": y * y * g[2] * g[0],
        "x f2 f1": xf * f[2],
        "y g2 g1": yg * g[2],
        "f1 f1": f[1] * f[1],
        "g1 g1": g[1] * g[1],
        "x f1 v_u": xf * v_u,
        "y g1 u_v": yg * u_v,
        "x2 20": x * x * f[2] * g[0],
        "x 21": x * f[2] * g[1],
        "11": f[1] * g[1],
        "22": f[2] * g[2],
        "y 12": y * f[1] * g[2],
        "y2 02": y * y * f[0] * g[2],
    }
    if len(f) > 3:
        dot = f[1] * g[1]
        parts |= {
            "uu 11": uu * dot,
            "w 11": w * dot,
            "vv 11": vv * dot,
            "uv 11": u * v * dot,
            "x2 31": x * x * f[3] * g[1],
            "x 32": x * f[3] * g[2],
            "33": f[3] * g[3],
            "y 23": y * f[2] * g[3],
            "y2 13": y * y * f[1] * g[3],
        }
    return parts


def _assemble(
    m: dict[str, Tensor], pairs: Pairs, c1: Tensor, c2: Tensor, r: Tensor, tangent: bool
) -> PairAverages:
    """The averages put in place, by the formulas at the top of this file."""
    zero = torch.zeros_like(c1)
    c = c1 * c2
    u1, v1 = c1 * m["x u f1"], c2 * m["y v g1"]
    along1, along2 = c1 * m["x f1 v_u"], c2 * m["y g1 u_v"]
    crossed1, crossed2 = along1 + r * u1, along2 + r * v1
    slopes = c * m["11"]
    jacobian = torch.stack(
        [u1, zero, zero, 0.5 * along1, slopes, 0.5 * along2, zero, zero, v1], -1
    ).reshape(-1, 3, 3)
    # Of <u^2> in log s_1^2 twice, by the same formulas: the difference is then
    # as small at every node as it is in the mean.
    alone1 = c1 * c1 * (0.5 * (m["x2 f2 f0"] + m["f1 f1"]) + m["x f2 f1"]) - 0.5 * u1
    alone2 = c2 * c2 * (0.5 * (m["y2 g2 g0"] + m["g1 g1"]) + m["y g2 g1"]) - 0.5 * v1
    first = _symmetric(alone1, zero, zero, zero, zero, zero)
    last = _symmetric(zero, zero, zero, zero, zero, alone2)
    product = _hessian(
        pairs,
        (c * m["x2 20"], crossed1, c * m["x 21"]),
        (c * m["y2 02"], crossed2, c * m["y 12"]),
        slopes,
        c * m["22"],
    )
    means = torch.stack([m["u u"], m["w"], m["v v"]], -1)
    fourth = _symmetric(m["uu uu"], m["uu w"], m["uu vv"], m["w w"], m["w vv"], m["vv vv"])
    extra = None
    if tangent:
        mixed = torch.stack([m["uu 11"], m["w 11"], m["vv 11"]], -1)
        extra = TangentAverages(
            products=torch.stack([m["uu 11"], m["uv 11"], m["vv 11"]], -1),
            covariance=mixed - means * m["11"][:, None],
            gradient=torch.stack([0.5 * m["x 21"], m["22"], 0.5 * m["y 12"]], -1),
            hessian=_hessian(
                pairs,
                (m["x2 31"], m["x 21"], m["x 32"]),
                (m["y2 13"], m["y 12"], m["y 23"]),
                m["22"],
                m["33"],
            ),
        )
    return PairAverages(
        overlap=m["u v"],
        covariance=fourth - means[:, :, None] * means[:, None, :],
        jacobian=jacobian,
        hessian=torch.stack([first, product - 0.5 * r[:, None, None] * (first + last), last], 1),
        slopes=slopes,
        crossed=torch.stack([crossed1, crossed2], -1),
        tangent=extra,
    )


def _hessian(
    pairs: Pairs,
    one: tuple[Tensor, Tensor, Tensor],
    two: tuple[Tensor, Tensor, Tensor],
    slopes: Tensor,
    bends: Tensor,
) -> Tensor:
    """Of <f g>: ``one`` is ``<x^2 f'' g>, <x f' g>, <x f'' g'>`` and ``two`` the like for y."""
    (xx1, x1, mix1), (xx2, x2, mix2) = one, two
    rho = pairs.rho
    both = pairs.gap * (2.0 - pairs.gap) * bends + rho * (mix1 + mix2)
    return _symmetric(
        0.25 * (xx1 - x1 + rho * slopes),
        0.5 * mix1,
        0.25 * both,
        bends,
        0.5 * mix2,
        0.25 * (xx2 - x2 + rho * slopes),
    )


def _symmetric(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor) -> Tensor:
    """Symmetric matrices of order 3 from their upper triangles."""
    return torch.stack([a, b, c, b, d, e, c, e, f], -1).reshape(-1, 3, 3)


def _kink_terms(fn: Nonlinearity, pairs: Pairs, tangent: bool) -> dict[str, Tensor]:
    """What the delta functions of a kink at 0 add to the averages.

    With the jumps j of f' and J of f'' at 0, ``f''`` has the extra term ``j delta`` and ``f'''``
    the extra terms ``J delta + j delta'``. Delta functions of x and y together give their joint
    density at 0, one alone gives the mean of the other factor given that its variable is 0.
    """
    _, kink, turn = jumps(fn, 2)
    j1, j2 = kink * pairs.s1, kink * pairs.s2
    J1, J2 = turn * pairs.s1**2, turn * pairs.s2**2
    there = pairs.gap > _PARALLEL
    # 1 - rho^2, made harmless where nothing is added.
    share = torch.where(there, pairs.gap * (2.0 - pairs.gap), 1.0)
    one = 1.0 / math.sqrt(2.0 * math.pi)
    both = one * one / share.sqrt()
    f2, f3, x_f3 = _conditional(fn, pairs.s1, share)
    g2, g3, y_g3 = _conditional(fn, pairs.s2, share)
    terms = {"22": one * (j1 * g2 + j2 * f2) + j1 * j2 * both}
    if tangent:
        terms["x 32"] = one * (j2 * x_f3 - j1 * g2) - j1 * j2 * both
        terms["y 23"] = one * (j1 * y_g3 - j2 * f2) - j1 * j2 * both
        # <delta'(x) g'''> is minus the slope at x = 0 of the mean of g''' given x.
        tilt = pairs.rho / share
        terms["33"] = (
            one * (J1 * g3 + J2 * f3 - tilt * (j1 * y_g3 + j2 * x_f3))
            + (J1 * J2 + tilt * j1 * j2) * both
        )
    return {name: torch.where(there, value, 0.0) for name, value in terms.items()}


def _conditional(fn: Nonlinearity, s: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means of ``f''``, ``f'''`` and ``x f'''``, kinks left out, for x of variance ``share``."""
    half, weight = np.polynomial.legendre.leggauss(64)
    half = 6.0 * (half + 1.0)
    weight = 6.0 * weight * np.exp(-0.5 * half**2) / math.sqrt(2.0 * math.pi)
    nodes = torch.from_numpy(np.concatenate([-half, half]))
    weights = torch.from_numpy(np.concatenate([weight, weight]))
    x = share.sqrt()[:, None] * nodes
    f = scaled(fn, x, s, 3)
    return f[2] @ weights, f[3] @ weights, (x * f[3]) @ weights
