"""What every nonlinearity must satisfy; inherit, and set ``fn``.

The dual is checked three ways: against quadrature in NumPy that shares no code with the library,
against itself in 50-digit arithmetic (which isolates rounding), and against a wide random layer.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar
from unittest import mock

import mpmath
import numpy as np
import pytest
import scipy.special
import torch

from kernreg import nn
from kernreg.ir.pair import Moments, Pair, normalised
from kernreg.nn.base import Nonlinearity
from kernreg.numerics.torchmath import TorchMath

EPS = np.finfo(np.float64).eps
EPS32 = float(np.finfo(np.float32).eps)
GAPS = (0.0, 1e-14, 1e-9, 1e-6, 1e-3, 0.03, 0.25, 0.5, 0.75, 1.0)


class NumpyMath:
    """The primitives on NumPy arrays."""

    sqrt, exp, expm1, abs = np.sqrt, np.exp, np.expm1, np.abs
    minimum, maximum, where = np.minimum, np.maximum, np.where
    tanh, sin, cos, log1p = np.tanh, np.sin, np.cos, np.log1p
    erf, sigmoid = scipy.special.erf, scipy.special.expit


class MpMath:
    """The primitives of duals on mpmath numbers."""

    sqrt, exp, expm1, abs = mpmath.sqrt, mpmath.exp, mpmath.expm1, staticmethod(abs)
    asin = mpmath.asin
    minimum, maximum = staticmethod(min), staticmethod(max)

    @staticmethod
    def where(condition: bool, a: Any, b: Any) -> Any:
        return a if condition else b

    @staticmethod
    def arc(gap: Any) -> Any:
        return 2 * mpmath.asin(mpmath.sqrt(gap / 2))

    @staticmethod
    def lune(gap: Any) -> Any:
        a = MpMath.arc(gap)
        return (mpmath.sin(a) - a * mpmath.cos(a)) / mpmath.pi


class Symbol:
    """Stands for any value of a dual: arithmetic makes symbols, decisions are refused."""

    def _make(self, *args: Any) -> Symbol:
        assert all(isinstance(a, (Symbol, int, float)) for a in args)
        return Symbol()

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _make
    __truediv__ = __rtruediv__ = __neg__ = __abs__ = _make
    __gt__ = __lt__ = __ge__ = __le__ = _make

    def __pow__(self, power: int) -> Symbol:
        assert isinstance(power, int)
        return Symbol()

    def __bool__(self) -> bool:
        raise AssertionError("a dual may not decide on a value")

    def __float__(self) -> float:
        raise AssertionError("a dual may not turn a value into a number")


class SymbolMath:
    """The primitives a dual may use, and no other."""

    sqrt = exp = expm1 = abs = arc = lune = asin = staticmethod(lambda x: Symbol()._make(x))
    minimum = maximum = staticmethod(lambda a, b: Symbol()._make(a, b))
    where = staticmethod(lambda c, a, b: Symbol()._make(c, a, b))


def gaussian_average(f: Any, g: Any, rho: float, gap: float, s1: float, s2: float) -> float:
    """``E[f(u) g(v)]`` for functions smooth but for 0, by nested Gauss-Legendre panels.

    The outer panels shrink towards ``u = 0``, the inner ones towards ``v = 0``.
    """
    half = 13.0 * np.concatenate([[0.0], 0.5 ** np.arange(26, 3, -1), np.arange(1, 9) / 8])
    z, w = _panels(np.concatenate([-half[:0:-1], half]))
    w = w * _density(z)
    r = math.sqrt(gap * (2.0 - gap))
    if r == 0.0:
        return float(np.sum(w * f(s1 * z) * g(s2 * rho * z)))
    share, weight = _panels(
        np.concatenate([[0.0], 0.5 ** np.arange(8, 4, -1), np.arange(1, 17) / 16])
    )
    split = np.clip(-rho * z / r, -13.0, 13.0)[:, None]
    inner = np.zeros_like(z)
    for length in (13.0 - split, -13.0 - split):
        y = split + length * share
        v = s2 * (rho * z[:, None] + r * y)
        inner += np.sum(np.abs(length) * weight * _density(y) * g(v), axis=1)
    return float(np.sum(w * f(s1 * z) * inner))


def _panels(breaks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, w = np.polynomial.legendre.leggauss(16)
    middle, half = (breaks[1:] + breaks[:-1]) / 2, (breaks[1:] - breaks[:-1]) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * w).ravel()


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def correlations(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlations from -1 to 1, dense at both ends, with their gaps."""
    gap = torch.tensor(GAPS, dtype=torch.float64).to(dtype)
    rho = 1.0 - gap
    return torch.cat([rho, -rho]), torch.cat([gap, gap])


def evaluate(
    fn: Nonlinearity, rho: torch.Tensor, gap: torch.Tensor, s1: torch.Tensor, s2: torch.Tensor
) -> Moments:
    """The dual with its homogeneous scale put back."""
    degree = fn.homogeneous
    if degree is None:
        return fn.dual(TorchMath, Pair(rho, gap, s1, s2))
    one = torch.ones_like(rho)
    unit = fn.dual(TorchMath, Pair(rho, gap, one, one))
    size = s1 * s2
    return Moments(
        kappa=unit.kappa * size**degree,
        kappa_dot=unit.kappa_dot * size ** max(degree - 1, 0),
        gap=unit.gap,
    )


def gap_of(fn: Nonlinearity, p: Pair, m: Moments) -> torch.Tensor:
    """The gap of a dual, or what the engine forms where it has none."""
    if m.gap is not None:
        return m.gap
    one, none = torch.ones_like(p.rho), torch.zeros_like(p.rho)
    q1, q2 = (fn.dual(TorchMath, Pair(one, none, s, s)).kappa for s in (p.s1, p.s2))
    size = torch.sqrt(q1) * torch.sqrt(q2)
    return normalised(TorchMath, p, m, torch.where(size > 0, m.kappa / size, 0.0))[1]


def exact(fn: Nonlinearity, sign: int, gap: Any, s1: float, s2: float) -> tuple[Any, Any, Any]:
    """The same in 50 digits, the gap from its definition."""
    with mock.patch.object(math, "pi", +mpmath.pi):
        return _exact(fn, sign, gap, s1, s2)


def _exact(fn: Nonlinearity, sign: int, gap: Any, s1: float, s2: float) -> tuple[Any, Any, Any]:
    degree = fn.homogeneous
    fn = fn.bind(tuple(mpmath.mpf(getattr(fn, name)) for name in fn.parameters))
    gap, s1, s2 = mpmath.mpf(gap), mpmath.mpf(s1), mpmath.mpf(s2)

    def dual(sign: int, gap: Any, s1: Any, s2: Any) -> Moments:
        if degree is not None:
            one = mpmath.mpf(1)
            m = fn.dual(MpMath, Pair(sign * (1 - gap), gap, one, one))
            size = s1 * s2
            return Moments(m.kappa * size**degree, m.kappa_dot * size ** max(degree - 1, 0))
        return fn.dual(MpMath, Pair(sign * (1 - gap), gap, s1, s2))

    m = dual(sign, gap, s1, s2)
    zero = mpmath.mpf(0)
    norm = mpmath.sqrt(dual(1, zero, s1, s1).kappa * dual(1, zero, s2, s2).kappa)
    return m.kappa, m.kappa_dot, max(zero, 1 - abs(m.kappa) / norm) if norm else None


class NonlinearityContract:
    """Inherit for a nonlinearity with a closed form."""

    fn: ClassVar[Nonlinearity]
    sizes: ClassVar[tuple[tuple[float, float], ...]] = ((1.0, 1.0), (0.5, 2.0), (1e-3, 0.7))
    jump: ClassVar[bool] = False  # kappa_dot leaves the delta out
    has_phi: ClassVar[bool] = True
    bounded: ClassVar[bool] = True  # otherwise moments grow with more than the variances
    # Error of a float32 evaluation in units of its rounding.
    float32_ulps: ClassVar[float] = 16.0

    def average(self, rho: float, gap: float, s1: float, s2: float) -> float:
        def phi(x: np.ndarray) -> np.ndarray:
            return self.fn.phi(NumpyMath, x)

        return gaussian_average(phi, phi, rho, gap, s1, s2)

    def norms(self, s1: float, s2: float) -> tuple[float, float]:
        """``sqrt(kappa11 kappa22)`` and the same for ``kappa_dot``."""
        out = []
        for s in (s1, s2):
            t = torch.tensor([s], dtype=torch.float64)
            m = evaluate(self.fn, torch.ones_like(t), torch.zeros_like(t), t, t)
            out.append((float(m.kappa), float(m.kappa_dot)))
        return math.sqrt(out[0][0] * out[1][0]), math.sqrt(out[0][1] * out[1][1])

    def table(self, s1: float, s2: float, dtype: torch.dtype = torch.float64) -> Any:
        rho, gap = correlations(dtype)
        return rho, gap, torch.full_like(rho, s1), torch.full_like(rho, s2)

    def test_dual_is_the_gaussian_average(self) -> None:
        if not self.has_phi:
            pytest.skip("no elementwise function is known")
        for s1, s2 in self.sizes:
            rho, gap, t1, t2 = (t[[0, 3, 5, 7, 9, 10, 12, 14, 16]] for t in self.table(s1, s2))
            kappa = evaluate(self.fn, rho, gap, t1, t2).kappa.numpy()
            found = [
                self.average(float(r), float(g), s1, s2) for r, g in zip(rho, gap, strict=True)
            ]
            # The test's quadrature is good to about 1e-13 of the norm.
            np.testing.assert_allclose(kappa, found, rtol=0, atol=3e-13 * self.norms(s1, s2)[0])

    def test_kappa_dot_is_the_derivative_of_kappa(self) -> None:
        """Price's theorem; in 50 digits a central difference of step h errs by O(h^2)."""
        if self.jump:
            pytest.skip("the derivative of a jump is left out")
        with mpmath.workdps(50):
            h = mpmath.mpf(10) ** -14
            for s1, s2 in self.sizes:
                for gap in (1e-6, 0.1, 0.5, 0.9):
                    for sign in (1, -1):
                        ends = [exact(self.fn, sign, gap + d, s1, s2)[0] for d in (-h, h)]
                        slope = sign * (ends[0] - ends[1]) / (2 * h * s1 * s2)
                        found = exact(self.fn, sign, gap, s1, s2)[1]
                        # kappa''' grows like gap^(-5/2) at most (ABRelu), so h^2 times 1e15.
                        assert abs(slope - found) <= 1e-12 * self.norms(s1, s2)[1]

    def test_float64_rounding(self) -> None:
        """All three outputs to a few units in the last place, at both ends alike."""
        with mpmath.workdps(50):
            for s1, s2 in self.sizes:
                m = evaluate(self.fn, *self.table(s1, s2))
                norm, norm_dot = self.norms(s1, s2)
                for i, gap in enumerate(GAPS * 2):
                    kappa, kappa_dot, left = exact(self.fn, 1 if i < len(GAPS) else -1, gap, s1, s2)
                    assert abs(m.kappa[i].item() - kappa) <= 16 * EPS * norm
                    assert abs(m.kappa_dot[i].item() - kappa_dot) <= 32 * EPS * norm_dot
                    if m.gap is not None and left is not None:
                        bound = 64 * EPS * left + 4 * EPS * abs(s1 - s2) * left**0.5 + 1e-30
                        assert abs(m.gap[i].item() - left) <= bound, (gap, s1, s2)

    def test_equal_rows_have_no_gap(self) -> None:
        """Exactly none, at any variance and in either precision: later layers would grow it."""
        for dtype in (torch.float64, torch.float32):
            s = torch.logspace(-6, 6, 97, dtype=torch.float64).to(dtype)
            if not self.bounded or self.fn.homogeneous is not None:
                s = s.clamp(min=0.1, max=3.0)
            p = Pair(torch.ones_like(s), torch.zeros_like(s), s, s)
            m = evaluate(self.fn, p.rho, p.gap, p.s1, p.s2)
            assert m.gap is not None or not type(self.fn).__module__.startswith("kernreg")
            assert bool((gap_of(self.fn, p, m) == 0).all())

    def test_extreme_variances(self) -> None:
        """Moments of rows that saturate, or nearly vanish, beside ordinary ones are finite."""
        if self.fn.homogeneous is not None:
            return  # it is asked for at unit variance only
        sizes = (1e-140, 1e-70, 1.0, 1e70, 1e100)
        for s1 in sizes:
            for s2 in sizes:
                if self.bounded or max(s1, s2) <= 1.0:
                    p = Pair(*self.table(s1, s2))
                    m = evaluate(self.fn, p.rho, p.gap, p.s1, p.s2)
                    gap = gap_of(self.fn, p, m)
                    for part in (m.kappa, m.kappa_dot, gap):
                        assert bool(torch.isfinite(part).all()), (s1, s2)
                    assert bool(((gap >= 0) & (gap <= 1 + 4 * EPS)).all())

    def test_float32_rounding(self) -> None:
        for s1, s2 in self.sizes:
            table = self.table(s1, s2, torch.float32)
            low = evaluate(self.fn, *table)
            gap = table[1].double()
            rho = torch.sign(table[0].double()) * (1.0 - gap)
            high = evaluate(self.fn, rho, gap, table[2].double(), table[3].double())
            norm, norm_dot = self.norms(s1, s2)
            bound = self.float32_ulps * EPS32
            assert low.kappa.dtype == torch.float32
            assert float((low.kappa - high.kappa).abs().max()) <= bound * norm
            assert float((low.kappa_dot - high.kappa_dot).abs().max()) <= bound * norm_dot
            if low.gap is not None:
                assert float((low.gap - high.gap).abs().max()) <= bound

    def test_swap(self) -> None:
        for s1, s2 in self.sizes:
            rho, gap, t1, t2 = self.table(s1, s2)
            one, two = evaluate(self.fn, rho, gap, t1, t2), evaluate(self.fn, rho, gap, t2, t1)
            assert torch.equal(one.kappa, two.kappa)
            assert torch.equal(one.kappa_dot, two.kappa_dot)
            assert one.gap is None or torch.equal(one.gap, two.gap)

    def test_gram_is_positive_semidefinite(self) -> None:
        rng = np.random.default_rng(0)
        X = rng.standard_normal((24, 3))
        X[1], X[2], X[3] = X[0] * 1.5, -X[0], X[0] + 1e-7 * X[4]
        s = np.linalg.norm(X, axis=1)
        U = X / s[:, None]
        minus = 0.5 * np.sum((U[:, None] - U) ** 2, axis=-1)
        plus = 0.5 * np.sum((U[:, None] + U) ** 2, axis=-1)
        gap = torch.from_numpy(np.minimum(np.minimum(minus, plus), 1.0))
        rho = torch.where(torch.from_numpy(minus <= plus), 1.0 - gap, gap - 1.0)
        s1 = torch.from_numpy(0.5 * s)[:, None].expand_as(rho)
        kappa = evaluate(self.fn, rho, gap, s1, s1.T).kappa
        values = torch.linalg.eigvalsh(kappa)
        # Entries err by 16 eps of their norm, the eigenvalue solver by a few eps of the largest.
        assert float(values[0]) >= -64 * EPS * float(kappa.diagonal().sum())

    def test_zero_variance(self) -> None:
        """A zero row is the constant phi(0); nothing divides by its norm."""
        rho = torch.zeros(2, dtype=torch.float64)
        s1, s2 = torch.zeros_like(rho), torch.tensor([0.0, 1.3], dtype=torch.float64)
        m = evaluate(self.fn, rho, rho + 1.0, s1, s2)
        for part in (m.kappa, m.kappa_dot) if m.gap is None else (m.kappa, m.kappa_dot, m.gap):
            assert bool(torch.isfinite(part).all())
        if self.has_phi:
            if self.fn.homogeneous is not None:
                assert float(self.fn.phi(NumpyMath, np.zeros(1))[0]) == 0.0
                return
            for i, s in enumerate((0.0, 1.3)):
                expected = self.average(0.0, 1.0, 0.0, s)
                assert float(m.kappa[i]) == pytest.approx(expected, rel=1e-12, abs=1e-13)

    def test_wide_random_layer(self) -> None:
        if not self.has_phi:
            pytest.skip("no elementwise function is known")
        generator = torch.Generator().manual_seed(5)
        W = torch.randn(400_000, 2, generator=generator, dtype=torch.float64)
        rho, s1, s2 = -0.6, 0.9, 0.6
        u = s1 * W[:, 0]
        v = s2 * (rho * W[:, 0] + math.sqrt(1 - rho * rho) * W[:, 1])
        product = self.fn.phi(TorchMath, u) * self.fn.phi(TorchMath, v)
        t = [torch.tensor([x], dtype=torch.float64) for x in (rho, 1 - abs(rho), s1, s2)]
        kappa = float(evaluate(self.fn, *t).kappa)
        error = float(product.std()) / math.sqrt(len(W))
        assert abs(float(product.mean()) - kappa) <= 5 * error

    def test_is_a_pure_expression(self) -> None:
        """Inputs and run-time parameters stay symbols through the dual."""
        bound = self.fn.bind(tuple(Symbol() for _ in self.fn.parameters))
        one = 1.0 if self.fn.homogeneous is not None else Symbol()
        m = bound.dual(SymbolMath, Pair(Symbol(), Symbol(), one, one))
        assert isinstance(m.kappa, Symbol)
        assert isinstance(m.kappa_dot, Symbol)
        assert m.gap is None or isinstance(m.gap, Symbol)

    def test_bind_gives_the_same_dual(self) -> None:
        values = tuple(float(getattr(self.fn, name)) for name in self.fn.parameters)
        s1, s2 = self.sizes[0]
        table = self.table(s1, s2)
        one, two = evaluate(self.fn, *table), evaluate(self.fn.bind(values), *table)
        assert torch.equal(one.kappa, two.kappa)
        assert self.fn.bind(values).structure() == self.fn.structure()
        assert hash(self.fn.structure()) == hash(self.fn.bind(values).structure())

    def test_is_a_value(self) -> None:
        copy = eval(repr(self.fn), vars(nn))
        assert copy == self.fn
        assert hash(copy) == hash(self.fn)
        assert nn.from_json(nn.to_json(self.fn)) == self.fn
