"""Gaussian averages of nonlinearities in mpmath, from their formulas in covariances.

Nothing of the engine is used: no correlations, no gaps, no normalisation, only more digits than
any cancellation here can take.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from mpmath import mp, mpf

from kernreg import nn

__all__ = ["dual", "gaussian_bump"]

Averages = tuple[Any, Any]
"""``E[phi(u) phi(v)]`` and ``E[phi'(u) phi'(v)]``."""


def gaussian_bump(x: torch.Tensor) -> torch.Tensor:
    """A smooth function for :class:`nn.Elementwise`: ``exp(-x^2)``."""
    return torch.exp(-x * x)


# Functions without a closed form as far as kernreg knows, and what they are.
_SAME: dict[Any, nn.Nonlinearity] = {
    torch.erf: nn.Erf(),
    torch.sin: nn.Sin(),
    torch.cos: nn.Cos(),
    torch.relu: nn.Relu(),
    torch.abs: nn.Abs(),
    gaussian_bump: nn.Gaussian(),
}


def dual(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    """Averages over two Gaussians of variances ``q1``, ``q2`` and covariance ``k``."""
    if isinstance(fn, nn.Elementwise):
        fn = _SAME[fn.fn]
    return _DUALS[type(fn)](fn, q1, q2, k)


def _power(x: Any) -> Any:
    """``e^x``; where its own exponent is out of reach, an error or 0."""
    if x > 10**6:
        raise OverflowError
    return mp.exp(x) if x > -(10**6) else mpf(0)


def _rectified(degree: int, q1: Any, q2: Any, k: Any) -> Any:
    """``E[max(u, 0)^p max(v, 0)^p]`` by the recursion of Cho and Saul."""
    size = mp.sqrt(q1 * q2)
    if size == 0:
        return mpf(0)
    cosine = max(mpf(-1), min(mpf(1), k / size))
    sine2 = max(mpf(0), (q1 * q2 - k * k) / (q1 * q2))
    angle = mp.atan2(mp.sqrt(sine2), cosine)
    before, now = mpf(0), mp.pi - angle
    for p in range(1, degree + 1):
        if p == 1:
            before, now = now, mp.sqrt(sine2) + now * cosine
        else:
            before, now = now, (2 * p - 1) * cosine * now + (p - 1) ** 2 * sine2 * before
    return size**degree * now / (2 * mp.pi)


def _two_slopes(a: Any, b: Any, q1: Any, q2: Any, k: Any) -> Averages:
    a, b = mpf(a), mpf(b)
    bend = (b - a) ** 2
    return (
        bend * _rectified(1, q1, q2, k) + a * b * k,
        bend * _rectified(0, q1, q2, k) + a * b,
    )


def _rectified_monomial(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    p = fn.degree
    return _rectified(p, q1, q2, k), p * p * _rectified(p - 1, q1, q2, k) if p else mpf(0)


def _sign(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    if q1 * q2 == 0:
        return mpf(0), mpf(0)
    return 4 * _rectified(0, q1, q2, k) - 1, mpf(0)


def _erf(a: Any, b: Any, c: Any, q1: Any, q2: Any, k: Any) -> Averages:
    a, b2, c = mpf(a), 2 * mpf(b) ** 2, mpf(c)
    P = (1 + b2 * q1) * (1 + b2 * q2)
    value = 2 * a * a / mp.pi * mp.asin(b2 * k / mp.sqrt(P)) + c * c
    return value, 2 * a * a * b2 / mp.pi / mp.sqrt(P - (b2 * k) ** 2)


def _gelu(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    p1, p2 = 1 + q1, 1 + q2
    D = p1 * p2 - k * k
    N = q1 * q2 + k * k - k * k * (q1 / p1 + q2 / p2)
    root, asin = mp.sqrt(D), mp.asin(k / mp.sqrt(p1 * p2))
    value = k / 4 + (k * asin + N / root) / (2 * mp.pi)
    slope = asin + k / root + 2 * k * (1 - q1 / p1 - q2 / p2) / root + N * k / root**3
    return value, mpf(1) / 4 + slope / (2 * mp.pi)


def _sine(a: Any, b: Any, c: Any, q1: Any, q2: Any, k: Any) -> Averages:
    a, b2 = mpf(a), mpf(b) ** 2
    near, far = (_power(-b2 * (q1 + q2 - sign * 2 * k) / 2) for sign in (1, -1))
    turn = mp.cos(2 * mpf(c))
    return a * a * (near - turn * far) / 2, a * a * b2 * (near + turn * far) / 2


def _exp(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    a, b2 = mpf(fn.a), mpf(fn.b) ** 2
    value = a * a * _power(b2 * (q1 + q2 + 2 * k) / 2)
    return value, b2 * value


def _gaussian(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    a, c = mpf(fn.a), -2 * mpf(fn.b)
    D = (1 + c * q1) * (1 + c * q2) - (c * k) ** 2
    value = a * a / mp.sqrt(D)
    return value, c * c * k * value / D


def _rbf(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    gamma = mpf(fn.gamma)
    value = _power(-gamma * (q1 + q2 - 2 * k))
    return value, 2 * gamma * value


def _exp_normalized(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    size, gamma = mp.sqrt(q1 * q2), mpf(fn.gamma)
    top = _power(gamma * ((k / size if size else mpf(0)) + mpf(fn.shift)))
    return size * top, gamma * top


def _gabor(fn: Any, q1: Any, q2: Any, k: Any) -> Averages:
    """From ``E[e^(-u^2 - v^2) e^(i(u - sign v))]``, a Gaussian integral, with ``k``-derivatives."""
    p1, p2 = 1 + 2 * q1, 1 + 2 * q2
    D = p1 * p2 - 4 * k * k
    m11, m22, m12 = (1 - p2 / D) / 2, (1 - p1 / D) / 2, k / D
    d11, d22, d12 = -4 * k * p2 / D**2, -4 * k * p1 / D**2, 1 / D + 8 * k * k / D**2
    near, far = _power(-(m11 + m22 - 2 * m12) / 2), _power(-(m11 + m22 + 2 * m12) / 2)
    half = 1 / (2 * mp.sqrt(D))
    value = half * (near - far)
    slope = half * (-(d11 + d22 - 2 * d12) / 2 * near + (d11 + d22 + 2 * d12) / 2 * far)
    return value, 4 * k / D * value + slope


def _polynomial(coef: Any, q1: Any, q2: Any, k: Any) -> Averages:
    """From ``E[u^m v^n] = sum_j j! C(m, j) C(n, j) (m-j-1)!! (n-j-1)!! ...`` (Isserlis)."""
    c = [mpf(x) for x in coef]
    slope = [m * x for m, x in enumerate(c)][1:]
    return tuple(_isserlis(terms, q1, q2, k) for terms in (c, slope))  # type: ignore[return-value]


def _isserlis(c: list[Any], q1: Any, q2: Any, k: Any) -> Any:
    def moments(q: Any, j: int) -> Any:
        return mp.fsum(
            c[m] * mp.binomial(m, j) * mp.fac2(m - j - 1) * q ** ((m - j) // 2)
            for m in range(j, len(c), 2)
        )

    return mp.fsum(mp.factorial(j) * moments(q1, j) * moments(q2, j) * k**j for j in range(len(c)))


def _hermite(coef: Any) -> list[Any]:
    """A sum of normalised Hermite polynomials as powers."""
    powers = [mpf(0)] * len(coef)
    before: list[Any] = []
    now = [mpf(1)]
    for n, c in enumerate(coef):
        for m, x in enumerate(now):
            powers[m] += mpf(c) * x / mp.sqrt(mp.factorial(n))
        following = [mpf(0), *now]
        for m, x in enumerate(before):
            following[m] -= n * x
        before, now = now, following
    return powers


_DUALS: dict[type, Callable[[Any, Any, Any, Any], Averages]] = {
    nn.Relu: lambda fn, *a: _two_slopes(0, 1, *a),
    nn.LeakyRelu: lambda fn, *a: _two_slopes(fn.slope, 1, *a),
    nn.ABRelu: lambda fn, *a: _two_slopes(fn.a, fn.b, *a),
    nn.Abs: lambda fn, *a: _two_slopes(-1, 1, *a),
    nn.Sign: _sign,
    nn.RectifiedMonomial: _rectified_monomial,
    nn.Erf: lambda fn, *a: _erf(fn.a, fn.b, fn.c, *a),
    # As the class defines it: (1 + erf(x / scale)) / 2.
    nn.SigmoidLike: lambda fn, *a: _erf(0.5, 1 / mpf(2.4020563531719796), 0.5, *a),
    nn.Gelu: _gelu,
    nn.Sin: lambda fn, *a: _sine(fn.a, fn.b, fn.c, *a),
    nn.Cos: lambda fn, *a: _sine(fn.a, fn.b, mpf(fn.c) + mp.pi / 2, *a),
    nn.Exp: _exp,
    nn.Gaussian: _gaussian,
    nn.Rbf: _rbf,
    nn.ExpNormalized: _exp_normalized,
    nn.Gabor: _gabor,
    nn.Monomial: lambda fn, *a: _polynomial([0] * fn.degree + [1], *a),
    nn.Polynomial: lambda fn, *a: _polynomial(fn.coef, *a),
    nn.Hermite: lambda fn, *a: _polynomial(_hermite(fn.coef), *a),
}
