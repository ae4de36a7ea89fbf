"""The kernel of a network without closed form, by two rules of known error.

``ElementwiseNumerical(fn, deg)`` of the source is a product Gauss-Hermite rule: with ``p1``, ``p2``
the variances and ``q`` the covariance, ``x = sqrt(2 p1) u`` and
``y = q / sqrt(p1 / 2) u + sqrt(2 (p2 - q^2 / p1)) v`` at the nodes ``u``, ``v``. It converges
slowly, the more so the larger the variance, so the golden values of those cases carry the error of
the rule. :func:`converged` integrates to rounding error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tests.golden.build import Arch

Rule = Callable[["Function", float, float, float, int], tuple[float, float]]


class Function(NamedTuple):
    """A smooth nonlinearity, its derivative, and the distance of its poles from the real line."""

    phi: Callable[[np.ndarray], np.ndarray]
    derivative: Callable[[np.ndarray], np.ndarray]
    strip: float


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


FUNCTIONS = {
    "tanh": Function(np.tanh, lambda x: 1 - np.tanh(x) ** 2, np.pi / 2),
    "swish": Function(
        lambda x: x * _sigmoid(x),
        lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x))),
        np.pi,
    ),
}


def gauss_hermite(fn: Function, q: float, p1: float, p2: float, degree: int) -> tuple[float, float]:
    """``E[phi phi']`` and ``E[phi_dot phi_dot']`` as the source computes them."""
    u, w = np.polynomial.hermite.hermgauss(degree)
    x = np.sqrt(2 * p1) * u[:, None]
    y = q / np.sqrt(p1 / 2) * u[:, None] + np.sqrt(2 * max(p2 - q * q / p1, 0.0)) * u
    weight = w[:, None] * w / np.pi
    return (
        float((weight * fn.phi(x) * fn.phi(y)).sum()),
        float((weight * fn.derivative(x) * fn.derivative(y)).sum()),
    )


def converged(fn: Function, q: float, p1: float, p2: float, degree: int) -> tuple[float, float]:
    """The same to rounding error, by the trapezoid rule; ``degree`` does not matter.

    Along an axis on which the argument grows by ``s``, the integrand is analytic in a strip of
    half-width ``a = strip / s``. With the step ``h`` the rule is off by about
    ``exp(-2 pi a / h)``, and by ``exp(-2 pi^2 / h^2)`` from the Gaussian: ``h`` makes both tiny.
    """
    s1, s2 = np.sqrt(p1), np.sqrt(p2)
    rho = min(max(q / (s1 * s2), -1.0), 1.0)
    off = s2 * np.sqrt(max(1 - rho * rho, 0.0))
    u, wu = _trapezoid(fn.strip / max(s1, abs(s2 * rho)))
    v, wv = _trapezoid(fn.strip / off) if off > 0 else (np.zeros(1), np.ones(1))
    x = s1 * u
    y = (s2 * rho) * u[:, None] + off * v
    return (
        float((wu * fn.phi(x)) @ (fn.phi(y) @ wv)),
        float((wu * fn.derivative(x)) @ (fn.derivative(y) @ wv)),
    )


def _trapezoid(strip: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights for averages over a standard Gaussian."""
    step = min(0.5, 2 * np.pi * strip / np.log(1e22))
    half = int(np.ceil(8.8 / step))
    nodes = np.arange(-half, half + 1) * step
    weights = np.exp(-0.5 * nodes**2)
    return nodes, weights / weights.sum()


def kernels(arch: Arch, X1: np.ndarray, X2: np.ndarray, rule: Rule) -> dict[str, np.ndarray]:
    """NNGP and NTK of Dense and ElementwiseNumerical layers, with ``rule`` for the averages."""
    n_features = X1.shape[1]
    q, p1, p2 = (X1 @ X2.T, np.sum(X1**2, 1), np.sum(X2**2, 1))
    q, p1, p2 = q / n_features, p1 / n_features, p2 / n_features
    t = np.zeros_like(q)
    for layer in arch:
        if layer["op"] == "Dense":
            W, b = layer["W_std"] ** 2, (layer["b_std"] or 0.0) ** 2
            q, p1, p2 = W * q + b, W * p1 + b, W * p2 + b
            t = q + W * t
        else:
            fn, degree = FUNCTIONS[layer["fn"]], layer["deg"]
            pairs = [rule(fn, q[i, j], p1[i], p2[j], degree) for i, j in np.ndindex(q.shape)]
            means, slopes = np.array(pairs).T.reshape(2, *q.shape)
            q, t = means, t * slopes
            p1 = np.array([rule(fn, p, p, p, degree)[0] for p in p1])
            p2 = np.array([rule(fn, p, p, p, degree)[0] for p in p2])
    return {"nngp": q, "ntk": t}
