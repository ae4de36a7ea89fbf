"""Random networks and rows, from a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import torch

from kernreg import nn
from tests.differential.duals import gaussian_bump

__all__ = ["Case", "random_case"]

_ROWS = 4


@dataclass(frozen=True)
class Case:
    """A network and rows; ``equal`` are the pairs of rows that are the same."""

    seed: int
    net: nn.Layer
    X: np.ndarray
    equal: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        rows = [[float(v).hex() for v in row] for row in self.X]
        return f"seed {self.seed}: {self.net!r} on rows {rows}"


def random_case(seed: int) -> Case:
    """The network and the rows of a seed."""
    r = random.Random(seed)
    net = _network(r)
    X = _rows(r)
    n = len(X)
    equal = ((i, j) for i in range(n) for j in range(i + 1, n) if (X[i] == X[j]).all())
    return Case(seed, net, X, tuple(equal))


def _scale(r: random.Random) -> float:
    """Mostly ordinary, at times far from 1."""
    wide = r.random()
    if wide < 0.8:
        return round(r.uniform(0.5, 2.0), 3)
    return 10 ** round(r.uniform(-1.5, 1.5) if wide < 0.95 else r.uniform(-6, 6), 1)


def _dense(r: random.Random) -> nn.Layer:
    W = _scale(r)
    b = r.choice([None, 0.0, 0.1, round(r.uniform(0.01, 1.0), 3), _scale(r)])
    if r.random() < 0.1:
        return nn.Dense(W, b or r.choice([None, 0.3]), "standard", r.randint(1, 999))
    return nn.Dense(W, b)


def _factor(r: random.Random) -> float:
    return round(r.choice([1.0, r.uniform(0.3, 1.8), r.uniform(0.3, 1.8), r.uniform(2, 6)]), 3)


def _steady(r: random.Random) -> nn.Nonlinearity:
    """Grows no faster than its argument."""
    c = r.choice([0.0, 0.0, round(r.uniform(-1, 1), 3)])
    return r.choice(
        [
            nn.Relu(),
            nn.Abs(),
            nn.LeakyRelu(round(r.uniform(-0.9, 0.9), 3)),
            nn.ABRelu(-_factor(r), _factor(r)),
            nn.ABRelu(_factor(r), _factor(r)),
            nn.Sign(),
            nn.RectifiedMonomial(r.randint(0, 1)),
            nn.Monomial(1),
            nn.Erf(_factor(r), _factor(r), c),
            nn.Erf(_factor(r), _factor(r), c),
            nn.SigmoidLike(),
            nn.Gelu(),
            nn.Gelu(),
            nn.Sin(_factor(r), _factor(r), c),
            nn.Cos(_factor(r), _factor(r), c),
            nn.Gaussian(_factor(r), -_factor(r)),
            nn.Rbf(_factor(r)),
            nn.ExpNormalized(_factor(r)),
            nn.Gabor(),
        ]
    )


def _growing(r: random.Random) -> nn.Nonlinearity:
    coef = tuple(round(r.uniform(-1.5, 1.5), 2) for _ in range(r.randint(2, 5)))
    return r.choice(
        [
            nn.Monomial(r.randint(2, 4)),
            nn.RectifiedMonomial(r.randint(2, 3)),
            nn.Exp(_factor(r), round(r.uniform(0.2, 1.5), 2)),
            nn.Polynomial(coef),
            nn.Hermite(coef),
        ]
    )


_NUMERICAL = (
    nn.Elementwise(torch.erf),
    nn.Elementwise(torch.sin),
    nn.Elementwise(torch.cos),
    nn.Elementwise(gaussian_bump),
    nn.Elementwise(torch.relu, smooth=False),
    nn.Elementwise(torch.abs, smooth=False),
)


def _bend(r: random.Random) -> list[nn.Layer]:
    """A nonlinearity; before one that grows there is a normalisation, or nearly always."""
    norm = nn.LayerNorm(r.choice([1e-12, 1e-12, 0.1, 1e-5]))
    kind = r.random()
    if kind < 0.12:
        return [norm, _growing(r)] if r.random() < 0.9 else [_growing(r)]
    if kind < 0.16:
        return [norm, nn.Dense(round(r.uniform(0.5, 1.5), 2)), r.choice(_NUMERICAL)]
    return [norm, _steady(r)] if r.random() < 0.15 else [_steady(r)]


def _block(r: random.Random) -> nn.Layer:
    drop = [nn.Dropout(round(r.uniform(0.5, 1.0), 2))] if r.random() < 0.06 else []
    return nn.serial(*_bend(r), *drop, _dense(r))


def _branches(r: random.Random, depth: int) -> nn.Layer:
    parts = [_tree(r, depth - 1) for _ in range(r.randint(2, 3))]
    match r.choice(["sum", "product", "concat", "residual", "residual"]):
        case "residual":
            shortcut = None if r.random() < 0.7 else _dense(r)
            return nn.residual(nn.serial(parts[0], _dense(r)), shortcut)
        case "concat":
            weights = tuple(_factor(r) for _ in parts) if r.random() < 0.5 else None
            return nn.serial(nn.parallel(*parts, merge="concat", weights=weights), _dense(r))
        case merge:
            # What is added or multiplied needs weights of its own.
            parts = [nn.serial(p, _dense(r)) if p.passes() else p for p in parts]
            merged = nn.parallel(*parts, merge=merge)
            return merged if merge == "sum" else nn.serial(merged, _dense(r))


def _tree(r: random.Random, depth: int) -> nn.Layer:
    """From a Gaussian value to a Gaussian value."""
    kind = r.random()
    if depth == 0 or kind < 0.35:
        return _block(r)
    if kind < 0.65:
        return nn.serial(*(_tree(r, depth - 1) for _ in range(r.randint(2, 3))))
    if kind < 0.8:
        return _branches(r, depth)
    return nn.repeat(_block(r), r.randint(2, 6))


def _network(r: random.Random) -> nn.Layer:
    if r.random() < 0.2:  # deep and plain
        body: nn.Layer = nn.repeat(_block(r), r.randint(7, 47))
    else:
        body = _tree(r, 3)
    last = [_dense(r)] if r.random() < 0.3 else []
    return nn.serial(_dense(r), body, *last)


def _rows(r: random.Random) -> np.ndarray:
    g = np.random.default_rng(r.getrandbits(32))
    X = g.standard_normal((_ROWS, r.choice([1, 2, 3, 3, 5, 8])))
    if r.random() < 0.4:
        X *= 10 ** g.uniform(-6, 6, size=(_ROWS, 1))
    elif r.random() < 0.5:
        X *= 10 ** g.uniform(-6, 6)
    if r.random() < 0.3:
        X /= np.linalg.norm(X, axis=1, keepdims=True)
    for i in range(1, _ROWS):
        other = X[r.randrange(i)]
        match r.choice(["plain"] * 4 + ["equal", "near", "opposite", "parallel", "zero", "ulp"]):
            case "equal":
                X[i] = other
            case "near":
                step = 10 ** r.uniform(-14, -4) * np.linalg.norm(other) / X.shape[1] ** 0.5
                X[i] = other + step * g.standard_normal(X.shape[1])
            case "opposite":
                X[i] = -other * r.choice([1.0, 1.0, 1.0 + 1e-7, 3.0])
            case "parallel":
                X[i] = other * r.choice([2.0, 1e-3, 1e3, 1.0 + 1e-9, 1.7])
            case "zero":
                if r.random() < 0.3:
                    X[i] = 0.0
            case "ulp":
                X[i] = other
                X[i, -1] = np.nextafter(X[i, -1], np.inf)
    if r.random() < 0.5:
        X = X.astype(np.float32).astype(float)
    return X
