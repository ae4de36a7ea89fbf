"""The kernel recursion of a network in covariances, with 60 digits, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mpmath import mp, mpf

from kernreg import nn
from kernreg.nn.combinators import Parallel, Repeat, Residual, Serial
from tests.differential.duals import dual

__all__ = ["DIGITS", "Kernels", "exact_kernels"]

DIGITS = 60


@dataclass
class Kernels:
    """Both kernels of all pairs ``i <= j``, and the range of the variances on the way."""

    nngp: dict[tuple[int, int], Any]
    ntk: dict[tuple[int, int], Any]
    low: Any
    high: Any

    def size(self, kernel: str, i: int, j: int) -> Any:
        """``sqrt(K_ii K_jj)``, which errors are measured by."""
        K = getattr(self, kernel)
        return mp.sqrt(K[i, i] * K[j, j])


Rounding = Callable[[], Any]
"""Relative errors, one for each call."""


def exact_kernels(net: nn.Layer, X: list[list[Any]], rounding: Rounding | None = None) -> Kernels:
    """Both kernels of a network on rows ``X`` of mpmath numbers; call it within ``DIGITS``.

    With ``rounding`` every layer errs by that share of what it holds: standard deviations, gaps
    and the tangent kernel.
    """
    d, n = len(X[0]), len(X)
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    k = {(i, j): mp.fsum(a * b for a, b in zip(X[i], X[j], strict=True)) / d for i, j in pairs}
    state = Kernels(k, dict.fromkeys(pairs, mpf(0)), mp.inf, mpf(0))
    return _through(net, state, rounding)


def _through(layer: Any, x: Kernels, rounding: Rounding | None) -> Kernels:
    match layer:
        case Serial(layers):
            for inner in layers:
                x = _through(inner, x, rounding)
            return x
        case Repeat(block, n):
            for _ in range(n):
                x = _through(block, x, rounding)
            return x
        case Residual(block, shortcut):
            return _weighted([_through(part, x, rounding) for part in (block, shortcut)], [1, 1])
        case Parallel(layers, merge, weights):
            branches = [_through(inner, x, rounding) for inner in layers]
            if merge == "product":
                return _product(branches)
            shares = [mpf(w) for w in weights or [1] * len(branches)]
            total = mp.fsum(shares) if merge == "concat" else 1
            return _weighted(branches, [w / total for w in shares])
        case nn.Identity():
            return x
        case nn.Dense():
            out = _dense(layer, x)
        case nn.LayerNorm():
            eps = mpf(layer.eps)
            factor = {
                (i, j): 1 / mp.sqrt((eps + x.nngp[i, i]) * (eps + x.nngp[j, j]))
                if eps or x.nngp[i, i] * x.nngp[j, j]
                else mpf(0)
                for i, j in x.nngp
            }
            out = _scaled(x, factor)
        case nn.Dropout():
            out = _scaled(x, {(i, j): 1 / mpf(layer.keep_prob) if i == j else 1 for i, j in x.nngp})
        case _:
            found = {
                (i, j): dual(layer, x.nngp[i, i], x.nngp[j, j], k) for (i, j), k in x.nngp.items()
            }
            ntk = {pair: x.ntk[pair] * slope for pair, (_, slope) in found.items()}
            out = Kernels({pair: value for pair, (value, _) in found.items()}, ntk, x.low, x.high)
    if rounding is not None:
        out = _rounded(out, rounding)
    variances = [v for (i, j), v in out.nngp.items() if i == j and v != 0]
    return Kernels(out.nngp, out.ntk, min([out.low, *variances]), max([out.high, *variances]))


def _rounded(x: Kernels, rounding: Rounding) -> Kernels:
    """Standard deviations, gaps and the tangent kernel, each with an error of its own."""
    share = {i: 1 + rounding() for i, j in x.nngp if i == j}
    nngp, ntk = {}, {}
    for (i, j), k in x.nngp.items():
        gap = mp.sqrt(x.nngp[i, i] * x.nngp[j, j]) - abs(k)
        error = mp.sign(k) * rounding() * gap if i != j else 0
        nngp[i, j] = share[i] * share[j] * (k + error)
        ntk[i, j] = x.ntk[i, j] * (1 + rounding())
    return Kernels(nngp, ntk, x.low, x.high)


def _dense(layer: nn.Dense, x: Kernels) -> Kernels:
    W2, bias = mpf(layer.W_std) ** 2, mpf(layer.b_std or 0) ** 2
    nngp = {pair: W2 * k + bias for pair, k in x.nngp.items()}
    if layer.parameterization == "ntk":
        ntk = {pair: nngp[pair] + W2 * t for pair, t in x.ntk.items()}
    else:
        trained = 0 if layer.b_std is None else 1
        ntk = {p: layer.fan_in * x.nngp[p] + trained + W2 * t for p, t in x.ntk.items()}
    return Kernels(nngp, ntk, x.low, x.high)


def _scaled(x: Kernels, factor: dict[tuple[int, int], Any]) -> Kernels:
    scaled = ({pair: factor[pair] * v for pair, v in K.items()} for K in (x.nngp, x.ntk))
    return Kernels(*scaled, x.low, x.high)


def _weighted(xs: list[Kernels], weights: list[Any]) -> Kernels:
    def mean(name: str) -> dict[tuple[int, int], Any]:
        return {
            pair: mp.fsum(w * getattr(x, name)[pair] for w, x in zip(weights, xs, strict=True))
            for pair in xs[0].nngp
        }

    return Kernels(mean("nngp"), mean("ntk"), min(x.low for x in xs), max(x.high for x in xs))


def _product(xs: list[Kernels]) -> Kernels:
    nngp, ntk = xs[0].nngp, xs[0].ntk
    for x in xs[1:]:
        ntk = {p: t * x.nngp[p] + nngp[p] * x.ntk[p] for p, t in ntk.items()}
        nngp = {p: k * x.nngp[p] for p, k in nngp.items()}
    return Kernels(nngp, ntk, min(x.low for x in xs), max(x.high for x in xs))
