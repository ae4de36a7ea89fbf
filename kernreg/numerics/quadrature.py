"""Gaussian averages of nonlinearities that have no closed form.

In one dimension: Gauss-Legendre panels on both sides of 0, graded towards it, so that a kink at 0
and any variance are resolved. In two dimensions: the trapezoid rule in symmetric coordinates for
smooth functions, whose error falls exponentially, and graded panels in polar coordinates where
there is a kink at 0 or the variance is too large for the trapezoid rule.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from kernreg.exceptions import NetworkError
from kernreg.ir.pair import Dual, Moments

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "PANEL_NODES",
    "Rule",
    "grading_level",
    "line_values",
    "moment_table",
    "pair_moments",
    "polar",
    "row_moments",
    "trapezoid",
]

_REACH = 14.0  # standard deviations: the weight beyond is below 1e-42
PANEL_NODES = 24
_CHUNK = 1 << 20  # values held at once, per temporary
_NODES = 25_000  # nodes per pair of the cheapest rules
_STEP = 0.1125
_AGREEMENT = 1e-12  # between two rules: both are then good to rounding
_WORST = 1e-9

# Gives nodes (p, q) for pairs of unit variance, their weights, and a factor for each pair.
Rule = Callable[["Tensor", "Tensor"], Iterator["tuple[Tensor, Tensor, Tensor, Tensor]"]]


def row_moments(fn: Dual, s: Any) -> tuple[Tensor, Tensor]:
    """Mean squares of a nonlinearity and of its derivative.

    Parameters
    ----------
    fn : Dual
        The nonlinearity; only ``phi`` is used, with its derivative from autograd.
    s : array_like, shape (n,)
        Standard deviations.

    Returns
    -------
    square, slope_square : Tensor, shape (n,)
        ``E[phi(s z)^2]`` and ``E[phi'(s z)^2]`` in float64, to about 1e-14 relative.

    Examples
    --------
    >>> from kernreg import nn
    >>> square, slope = row_moments(nn.Elu(alpha=0.0), [2.0])
    >>> round(float(square), 12), round(float(slope), 12)
    (2.0, 0.5)
    """
    import torch

    # Each once: sums may differ in the last bit from row to row of a block.
    s, at = torch.unique(_as_tensor(s), return_inverse=True)
    parts = []
    for block in s.split(max(1, _CHUNK // 4096)):
        _, value, slope, weights = line_values(fn, block)
        parts.append(((value * value) @ weights, (slope * slope) @ weights))
    return _cat(parts, 0, s)[at], _cat(parts, 1, s)[at]


def line_values(fn: Dual, s: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Nodes of a rule for the standard normal, ``phi(s z)`` and ``phi'(s z)`` there, weights.

    Parameters
    ----------
    fn : Dual
        The nonlinearity.
    s : Tensor, shape (n,)
        Standard deviations.

    Returns
    -------
    nodes, value, slope, weights : Tensor
        ``value`` and ``slope`` of shape (n, nodes): some 800 nodes up to ``s = 4``, 22,000 at
        1,000.
    """
    nodes, weights = _line(s)
    value, slope = _value_and_slope(fn, s[:, None] * nodes)
    return nodes, value, slope, weights


def pair_moments(fn: Dual, rho: Any, gap: Any, s1: Any, s2: Any) -> Moments:
    """Gaussian averages over pairs of preactivations.

    Parameters
    ----------
    fn : Dual
        The nonlinearity; ``fn.smooth`` false means a kink at 0.
    rho, gap, s1, s2 : array_like
        Correlation, ``1 - |rho|`` and standard deviations; they broadcast together.

    Returns
    -------
    Moments
        ``E[phi(u) phi(v)]`` and ``E[phi'(u) phi'(v)]`` in float64, to about 1e-13 of
        ``sqrt(E[phi(u)^2] E[phi(v)^2])`` and of the same for ``phi'``, and the gap.

    Raises
    ------
    NetworkError
        If no rule integrates ``phi`` at these variances.

    Notes
    -----
    About 25,000 evaluations of ``phi`` and ``phi'`` per pair, more for large variances: a
    reference, not a fast way.

    Examples
    --------
    >>> from kernreg import nn
    >>> pair_moments(nn.Elu(alpha=0.0), 0.0, 1.0, 1.0, 1.0).kappa  # max(x, 0): 1 / (2 pi)
    tensor(0.1592, dtype=torch.float64)
    """
    import torch

    s1, s2 = _as_tensor(s1), _as_tensor(s2)
    sizes = [s1.reshape(-1), s2.reshape(-1)]
    roots = row_moments(fn, torch.cat(sizes))[0].sqrt().split([len(s) for s in sizes])
    r1, r2 = (r.reshape(s.shape) for r, s in zip(roots, (s1, s2), strict=True))
    inputs = torch.broadcast_tensors(_as_tensor(rho), _as_tensor(gap), s1, s2, r1, r2)
    shape = inputs[0].shape
    pairs = torch.stack(inputs).reshape(6, -1)
    # Pairs of like variance together: they share a grid.
    order = torch.argsort(torch.maximum(pairs[2], pairs[3]))
    moments = pairs.new_empty(3, pairs.shape[1])
    start = 0
    while start < order.numel():
        index, rule = _next_chunk(fn, pairs, order, start)
        moments[:, index] = _integrate(fn, rule, *pairs[:, index])
        start += index.numel()
    return Moments(*(m.reshape(shape) for m in moments))


def moment_table(fn: Dual, rho: Any, gap: Any, s: Any) -> Moments:
    """Gaussian averages at every correlation for every two of several standard deviations.

    Parameters
    ----------
    fn : Dual
        The nonlinearity.
    rho, gap : array_like, shape (m,)
        Correlations and ``1 - |rho|``.
    s : array_like, shape (k,)
        Standard deviations.

    Returns
    -------
    Moments
        Of shape (m, k, k), as accurate as those of :func:`pair_moments`.

    Notes
    -----
    About 50,000 m k evaluations of ``phi`` and ``phi'``, more for large variances: fewer than for
    the m k^2 pairs one by one.

    Examples
    --------
    >>> from kernreg import nn
    >>> moment_table(nn.Elu(alpha=0.0), [0.0], [1.0], [1.0, 2.0]).kappa  # s1 s2 / (2 pi)
    tensor([[[0.1592, 0.3183],
             [0.3183, 0.6366]]], dtype=torch.float64)
    """
    import torch

    rho, gap, s = _as_tensor(rho), _as_tensor(gap), _as_tensor(s)
    rule, _ = _rule(fn, float(s.max()))
    tables: list[tuple[Tensor, Tensor]] = []
    for r, g in zip(rho[:, None], gap[:, None], strict=True):
        kappa, kappa_dot = s.new_zeros(len(s), len(s)), s.new_zeros(len(s), len(s))
        for p, q, weight, factor in rule(r, g):
            value_u, slope_u = _value_and_slope(fn, s[:, None] * p)
            value_v, slope_v = _value_and_slope(fn, s[:, None] * q)
            kappa += factor * ((value_u * weight) @ value_v.T)
            kappa_dot += factor * ((slope_u * weight) @ slope_v.T)
        tables.append((kappa, kappa_dot))
    return Moments(*(torch.stack([table[i] for table in tables]) for i in (0, 1)))


def _next_chunk(fn: Dual, pairs: Tensor, order: Tensor, start: int) -> tuple[Tensor, Rule]:
    """The next pairs to integrate, few enough for memory, and the rule for them."""
    import torch

    index = order[start : start + max(1, _CHUNK // _NODES)]
    rule, cost = _rule(fn, float(torch.maximum(pairs[2], pairs[3])[index[-1]]))
    return index[: max(1, int(len(index) / cost))], rule


def _rule(fn: Dual, s: float) -> tuple[Rule, float]:
    """The cheapest rule that reproduces the row moments at ``s``, and its relative cost."""
    import torch

    level = grading_level(s)
    rules: list[tuple[Rule, float]] = []
    if fn.smooth:
        rules += [(functools.partial(trapezoid, step=_STEP / k), k * k) for k in (1, 2, 4)]
    rules.append((functools.partial(polar, level=level), (1.0 + level) ** 2 / 9.0))
    rules.sort(key=lambda item: item[1])
    size = torch.tensor([s], dtype=torch.float64)
    exact = row_moments(fn, size)
    errors = []
    for rule, cost in rules:
        one, zero = torch.ones_like(size), torch.zeros_like(size)
        found = _integrate(fn, rule, one, zero, size, size, one, one)[:2]
        parts = [
            abs(float(f) - float(e)) / (float(e) or 1.0) for f, e in zip(found, exact, strict=True)
        ]
        # A comparison with NaN would pass for agreement.
        error = max(parts) if all(map(math.isfinite, parts)) else math.inf
        if error <= _AGREEMENT:
            return rule, cost
        errors.append(error)
    if min(errors) > _WORST:
        raise NetworkError(
            f"{fn!r} cannot be integrated at standard deviation {s:.3g}: the error is "
            f"{min(errors):.1e}. It must be smooth except at 0, and must not oscillate fast or "
            "grow exponentially; scale the weights down or give it a closed form."
        )
    return rules[errors.index(min(errors))]


def _integrate(
    fn: Dual,
    rule: Rule,
    rho: Tensor,
    gap: Tensor,
    s1: Tensor,
    s2: Tensor,
    r1: Tensor,
    r2: Tensor,
) -> Tensor:
    """Both moments, and the gap as a mean square: a difference would lose it near |rho| = 1."""
    import torch

    kappa, kappa_dot, below, above = torch.zeros(4, *rho.shape, dtype=rho.dtype)
    # phi vanishes where its root mean square does.
    unit1, unit2 = (torch.where(r == 0, 1.0, r)[:, None] for r in (r1, r2))
    for p, q, weight, factor in rule(rho, gap):
        value_u, slope_u = _value_and_slope(fn, s1[:, None] * p)
        value_v, slope_v = _value_and_slope(fn, s2[:, None] * q)
        kappa += factor * ((value_u * value_v) @ weight)
        kappa_dot += factor * ((slope_u * slope_v) @ weight)
        value_u, value_v = value_u / unit1, value_v / unit2
        below += 0.5 * factor * ((value_u - value_v) ** 2 @ weight)
        above += 0.5 * factor * ((value_u + value_v) ** 2 @ weight)
    return torch.stack([kappa, kappa_dot, torch.minimum(below, above)])


def trapezoid(
    rho: Tensor, gap: Tensor, step: float
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Trapezoid rule in coordinates that treat both rows alike and are exact at rho = 1."""
    import torch

    reach = 10.0
    line = _steps(reach, step, rho)
    x, y = torch.meshgrid(line, line, indexing="ij")
    inside = x * x + y * y <= reach**2
    x, y = x[inside], y[inside]
    weight = step * step / (2.0 * math.pi) * torch.exp(-0.5 * (x * x + y * y))
    minus = torch.where(rho > 0, gap, 2.0 - gap)
    plus = torch.where(rho > 0, 2.0 - gap, gap)
    a = torch.sqrt(0.5 * plus)[:, None] * x
    b = torch.sqrt(0.5 * minus)[:, None] * y
    yield a + b, a - b, weight, torch.ones_like(rho)


def _steps(reach: float, step: float, like: Tensor) -> Tensor:
    """Multiples of ``step`` that cover [-reach, reach]."""
    import torch

    count = math.ceil(reach / step)
    return step * torch.arange(-count, count + 1, dtype=like.dtype, device=like.device)


def polar(rho: Tensor, gap: Tensor, level: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Polar coordinates: four sectors between the lines u = 0 and v = 0."""
    import torch

    acute = 2.0 * torch.asin(torch.sqrt(0.5 * gap))
    angle = torch.where(rho > 0, acute, math.pi - acute)
    other = torch.where(rho > 0, math.pi - acute, acute)
    r, radial = _panels([12.0 * b for b in _graded(level, 1.0)], rho)
    radial = radial * r * torch.exp(-0.5 * r * r) / (2.0 * math.pi)
    half = [0.5 * b for b in _graded(level, 1.0)]
    share, angular = _panels(half + [1.0 - b for b in reversed(half[:-1])], rho)
    # The second half mirrors the first: the distance to its own end is exact.
    back = share.flip(0)
    weight = (angular[:, None] * radial).reshape(-1)
    for width, sign_p, sign_q in ((other, 1, 1), (other, -1, -1), (angle, -1, 1), (angle, 1, -1)):
        p = sign_p * torch.sin(width[:, None] * share)[:, :, None] * r
        q = sign_q * torch.sin(width[:, None] * back)[:, :, None] * r
        yield p.flatten(1), q.flatten(1), weight, width


def _value_and_slope(fn: Dual, x: Tensor) -> tuple[Tensor, Tensor]:
    """``phi(x)`` and ``phi'(x)``, the latter by autograd; with a history if ``x`` has one."""
    import torch

    from kernreg.numerics.torchmath import TorchMath

    traced = x.requires_grad
    with torch.enable_grad():
        x = x if traced else x.detach().requires_grad_()
        y = fn.phi(TorchMath, x)
        (slope,) = torch.autograd.grad(y.sum(), x, create_graph=traced)
    return (y if traced else y.detach()), slope


def grading_level(s: float) -> int:
    """Halvings towards 0 until a panel is no longer than what the function can resolve."""
    return max(2, math.ceil(math.log2(max(1.0, s))) + 2)


def _graded(level: int, end: float) -> list[float]:
    """Break points 0, end/2^level, ..., end/2, end."""
    return [0.0] + [end / 2**k for k in range(level, -1, -1)]


def _line(s: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights for the standard normal, split at 0, for deviations up to ``max(s)``."""
    import torch

    largest = float(s.detach().max()) if s.numel() else 1.0
    # Away from 0 the panels shrink with 1/s, within reason, for functions that go on varying.
    width = 1.0 / min(32, max(1, math.ceil(largest / 4.0)))
    rest = [k * width for k in range(2, round(_REACH / width) + 1)]
    nodes, weights = _panels(_graded(grading_level(largest * width), width) + rest, s)
    weights = weights * torch.exp(-0.5 * nodes * nodes) / math.sqrt(2.0 * math.pi)
    return torch.cat([-nodes.flip(0), nodes]), torch.cat([weights.flip(0), weights])


def _panels(breaks: list[float], like: Tensor) -> tuple[Tensor, Tensor]:
    """Gauss-Legendre nodes and weights on consecutive panels."""
    import numpy as np
    import torch

    x, w = _gauss()
    ends = np.asarray(breaks)
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    nodes = (middle[:, None] + half[:, None] * x).reshape(-1)
    weights = (half[:, None] * w).reshape(-1)
    return torch.from_numpy(nodes).to(like), torch.from_numpy(weights).to(like)


@functools.cache
def _gauss() -> tuple[Any, Any]:
    import numpy as np

    x, w = np.polynomial.legendre.leggauss(PANEL_NODES)
    x.setflags(write=False)
    w.setflags(write=False)
    return x, w


def _as_tensor(value: Any) -> Tensor:
    import torch

    return torch.as_tensor(value, dtype=torch.float64)


def _cat(parts: list[tuple[Tensor, Tensor]], i: int, like: Tensor) -> Tensor:
    import torch

    return torch.cat([part[i] for part in parts]) if parts else like.new_zeros(0)
