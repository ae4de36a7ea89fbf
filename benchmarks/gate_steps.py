"""The steps that the gate measures, short, and the limits that they are measured by."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.images import images
from benchmarks.limit import D
from kernreg import KernelOperator, KernelRegressor, gram, nn
from kernreg.operators import PackedOperator
from kernreg.solvers import Banded, Cholesky

__all__ = ["ROWS", "STEPS", "Step", "limit"]

# Most steps take 1 to 100 ms then: long beside a clock, short enough to end now and then before
# other work interrupts them, and all of them less than a minute.
ROWS = 1000
_NARROW, _OUTPUTS = 20, 10
_ORDER, _NUMBERS, _CALLS = 800, 2**22, 2000

Action = Callable[[], Any]


@dataclass(frozen=True)
class Step:
    """One of them.

    Parameters
    ----------
    name : str
        What is done.
    limit : {"float32", "float64", "memory", "calls"}
        What holds it.
    least : float
        Operations, bytes or calls that it takes at least.
    prepare : callable
        Makes what is timed.
    """

    name: str
    limit: str
    least: float
    prepare: Callable[[], Action]


@functools.cache
def limit(name: str) -> tuple[Action, float]:
    """Something that this machine cannot do faster, and its operations, bytes or calls."""
    if name == "memory":
        a, b, c = torch.ones(3, _NUMBERS, dtype=torch.float32)
        return lambda: torch.add(b, c, alpha=2.0, out=a), 3 * 4.0 * _NUMBERS
    if name == "calls":
        x = np.ones((2, _NARROW))
        return lambda: [x @ x.T for _ in range(_CALLS)], _CALLS
    A = torch.randn(_ORDER, _ORDER, dtype=getattr(torch, name))
    return lambda: torch.mm(A, A, out=_target(name)), 2.0 * _ORDER**3


@functools.cache
def _target(name: str) -> torch.Tensor:
    return torch.empty(_ORDER, _ORDER, dtype=getattr(torch, name))


@functools.cache
def _rows(d: int, seed: int = 0, dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, d)).astype(dtype)


def _dense(net: nn.Layer, *data: np.ndarray) -> Action:
    K = KernelOperator(net, *data)
    out = np.empty(K.shape, K.dtype)
    return lambda: K.to_dense(out)


def _wide(net: nn.Layer, two: bool = False) -> Action:
    return _dense(net, *(_rows(D, seed, "float32") for seed in range(1 + two)))


def _narrow(dtype: str) -> tuple[KernelOperator, float]:
    K = KernelOperator(nn.mlp(depth=3), _rows(_NARROW), dtype=dtype)
    return K, 1e-2 * float(np.mean(K.diagonal()))


def _factor(dtype: str) -> Action:
    K, ridge = _narrow(dtype)
    return lambda: Cholesky(refine=False).init(K, ridge)


def _inverse() -> Action:
    K, ridge = _narrow("float64")
    return lambda: Cholesky(refine=False).init(K, ridge).inverse_diagonal()


def _refined() -> Action:
    solver = Cholesky()
    state = solver.init(*_narrow("float32"))
    return lambda: solver.solve(state, _rows(_OUTPUTS))


def _reduced() -> Action:
    K, _ = _narrow("float64")
    return lambda: Banded().init(K)


def _ridges() -> Action:
    band, (K, _) = Banded(), _narrow("float64")
    made, alphas = band.init(K), np.logspace(-4, 0, 13)
    return lambda: band.path(made, _rows(_OUTPUTS), alphas)


def _product(kept: bool) -> Action:
    K, _ = _narrow("float32")
    operator = PackedOperator(K) if kept else K
    v = _rows(1, 2, "float32")
    return lambda: [operator @ v for _ in range(_AGAIN)]


def _predict() -> Action:
    model = KernelRegressor(nn.mlp(depth=3), alpha=1e-2).fit(_rows(_NARROW), _rows(1)[:, 0])
    some = _rows(_NARROW, 1)
    return lambda: model.predict(some)


def _images() -> Action:
    X = images(_IMAGES, _SIDE)
    return lambda: gram(nn.cnn(3), X)


def _pair() -> Action:
    net, X = nn.mlp(depth=3), _rows(_NARROW)[:2]
    return lambda: [gram(net, X) for _ in range(_AGAIN)]


def _small_fit() -> Action:
    X, y = _rows(_NARROW)[:150], _rows(1)[:150, 0]
    model = KernelRegressor(nn.mlp(depth=3), alpha=1e-3)
    return lambda: model.fit(X, y)


_IMAGES, _SIDE, _AGAIN = 24, 12, 5
_HALF, _CUBIC = 1.0 * ROWS**2 * D, ROWS**3 / 3
_ENTRIES = 1.0 * ROWS**2 * _NARROW
_PIXELS = _IMAGES * (_IMAGES + 1) / 2 * _SIDE**4


STEPS = (
    Step("Gram, ReLU, depth 3", "float32", _HALF, lambda: _wide(nn.mlp(depth=3))),
    Step("Gram, ReLU, depth 10", "float32", _HALF, lambda: _wide(nn.mlp(depth=10))),
    Step("Gram, Erf, depth 3", "float32", _HALF, lambda: _wide(nn.mlp(3, nn.Erf()))),
    Step("Gram, Tanh, depth 3", "float32", _HALF, lambda: _wide(nn.mlp(3, nn.Tanh()))),
    Step("Gram of two sets, depth 10", "float32", 2 * _HALF, lambda: _wide(nn.mlp(10), two=True)),
    Step(
        "Gram, ReLU, depth 3, 20 columns",
        "float64",
        _ENTRIES,
        lambda: _dense(nn.mlp(depth=3), _rows(_NARROW)),
    ),
    Step("Gram of images, three convolutions", "float32", 2 * 3 * _PIXELS, _images),
    Step("factor, float32, with its Gram matrix", "float32", _CUBIC, lambda: _factor("float32")),
    Step("factor, float64, with its Gram matrix", "float64", _CUBIC, lambda: _factor("float64")),
    Step("refined solution, float32", "float64", 3 * _ENTRIES, _refined),
    Step("factor and diagonal of the inverse", "float64", 2 * _CUBIC, _inverse),
    Step("reduction to a band, with its Gram matrix", "float64", 8 * _CUBIC, _reduced),
    Step("13 ridges behind it", "float64", 13 * 192.0 * ROWS**2, _ridges),
    Step("product, tiles kept", "memory", _AGAIN * 2.0 * ROWS**2, lambda: _product(kept=True)),
    Step("product, tiles anew", "float32", _AGAIN * _ENTRIES, lambda: _product(kept=False)),
    Step("predict of 1,000 rows", "float64", 2 * _ENTRIES, _predict),
    Step("gram of one pair", "calls", _AGAIN, _pair),
    Step("fit of 150 rows", "calls", 1, _small_fit),
)
