"""A nonlinearity that the library does not have, defined by a user at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest

import kernreg
from kernreg import nn
from kernreg.ir.pair import Moments, Pair
from kernreg.ir.trace import trace_dual
from kernreg.nn.base import check_number
from tests.backends.compare import KERNELS, backends, hard_rows, needs_cpu, on, relative_error, rows
from tests.contracts.nonlinearity import NonlinearityContract


@dataclass(frozen=True, repr=False)
class Wavelet(nn.Nonlinearity):
    """First derivative of a Gaussian: ``phi(x) = x exp(-b x^2 / 2)``."""

    b: float = 1.0

    parameters: ClassVar[tuple[str, ...]] = ("b",)

    def __post_init__(self) -> None:
        check_number("Wavelet", "b", self.b, low=0.0)

    def phi(self, xp: Any, x: Any) -> Any:
        """A wave of one period."""
        return x * xp.exp(-0.5 * self.b * x * x)

    def dual(self, xp: Any, p: Pair) -> Moments:
        """``kappa = k D^(-3/2)`` with ``D = (1 + b q1)(1 + b q2) - b^2 k^2``, without overflow.

        With ``a_i = 1 / (1 + b q_i)`` and ``t_i = 1 - a_i`` it is ``E = D a_1 a_2`` that is formed.
        """
        a1, a2 = 1.0 / (1.0 + self.b * p.q1), 1.0 / (1.0 + self.b * p.q2)
        t1, t2 = self.b * p.q1 * a1, self.b * p.q2 * a2
        E = a1 + a2 - a1 * a2 + t1 * t2 * p.gap * (2.0 - p.gap)
        root = xp.sqrt(E * xp.sqrt(E))
        w1, w2 = a1 * xp.sqrt(a1) / root, a2 * xp.sqrt(a2) / root
        # Price's theorem: kappa_dot is the derivative of kappa in k.
        slope = w1 * w2 * (1.0 + 3.0 * t1 * t2 * p.rho * p.rho / E)
        return Moments(kappa=p.rho * ((p.s1 * w1) * (p.s2 * w2)), kappa_dot=slope)


class TestDual(NonlinearityContract):
    """What every nonlinearity of the library is tested for."""

    fn = Wavelet()

    def test_is_a_value(self) -> None:
        assert eval(repr(Wavelet(0.5)), globals()) == Wavelet(0.5)
        assert nn.from_json(nn.to_json(Wavelet(0.5))) == Wavelet(0.5)


NET = nn.serial(nn.Dense(1.5, 0.2), Wavelet(0.7), nn.Dense(1.3, 0.1))


def gauss_hermite(X: np.ndarray, Y: np.ndarray) -> dict[str, np.ndarray]:
    """Both kernels of ``NET`` by 150 x 150 nodes, from the definition of the layers.

    ``phi`` has no singularity, and its Hermite series converges by ``(c / (1 + c))^(1/2)`` per
    term with ``c = b q < 10``: 300 terms, which the rule integrates exactly, leave 1e-6^2.
    """
    z, w = np.polynomial.hermite_e.hermegauss(150)
    w = w / np.sqrt(2 * np.pi)

    def covariance(A: np.ndarray, B: np.ndarray) -> np.ndarray:
        return 1.5**2 * A @ B.T / A.shape[1] + 0.2**2

    def phi(x: np.ndarray) -> np.ndarray:
        return x * np.exp(-0.35 * x**2)

    def slope(x: np.ndarray) -> np.ndarray:
        return (1 - 0.7 * x**2) * np.exp(-0.35 * x**2)

    k = covariance(X, Y)
    kappa, kappa_dot = np.empty_like(k), np.empty_like(k)
    for i, j in np.ndindex(k.shape):
        s1 = np.sqrt(covariance(X[i : i + 1], X[i : i + 1]).item())
        q2 = covariance(Y[j : j + 1], Y[j : j + 1]).item()
        along = k[i, j] / s1
        across = np.sqrt(max(0.0, q2 - along**2))
        u, v = s1 * z, along * z[:, None] + across * z
        kappa[i, j] = (w * phi(u)) @ (phi(v) @ w)
        kappa_dot[i, j] = (w * slope(u)) @ (slope(v) @ w)
    nngp = 1.3**2 * kappa + 0.1**2
    return {"nngp": nngp, "ntk": nngp + 1.3**2 * k * kappa_dot}


@backends
@pytest.mark.parametrize(("dtype", "bound"), [("float64", 1e-10), ("float32", 5e-6)])
@pytest.mark.parametrize("symmetric", [True, False])
def test_every_backend_runs_it(symmetric: bool, dtype: str, bound: float, backend: str) -> None:
    """No compiler, no registration: one ``dual`` is enough. The bounds are the contract's."""
    X, Y = rows(5), rows(4, seed=1)
    want = gauss_hermite(X, X if symmetric else Y)
    got = kernreg.gram(NET, X, None if symmetric else Y, kernel=KERNELS, dtype=dtype, **on(backend))
    for kernel in KERNELS:
        row, col = (kernreg.diag(NET, A, kernel) for A in (X, X if symmetric else Y))
        error = np.abs(getattr(got, kernel) - want[kernel]) / np.sqrt(np.outer(row, col))
        assert getattr(got, kernel).dtype == dtype
        assert error.max() <= bound


@backends
def test_at_b_0_it_is_the_identity(backend: str) -> None:
    net = nn.serial(nn.Dense(1.5, 0.2), Wavelet(0.0), nn.Dense(1.3, 0.1))
    linear = nn.serial(nn.Dense(1.5, 0.2), nn.Dense(1.3, 0.1))
    for kernel in KERNELS:
        got = kernreg.gram(net, rows(), kernel=kernel, **on(backend))
        want = kernreg.gram(linear, rows(), kernel=kernel, **on(backend))
        np.testing.assert_allclose(got, want, rtol=1e-13)


@needs_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_deep_inside_other_layers(dtype: str) -> None:
    """In loops, beside compiled nonlinearities, on duplicates and rows of zeros."""
    block = nn.residual(nn.serial(Wavelet(0.4), nn.Dense(1.2, 0.1)))
    net = nn.serial(nn.Dense(1.5), nn.repeat(block, 6), nn.Erf(), nn.Dense())
    bound = 1e-10 if dtype == "float64" else 2e-5
    X = hard_rows()
    assert relative_error(net, X, None, backend="cpu", dtype=dtype) <= bound
    assert relative_error(net, X, X, backend="cpu", dtype=dtype) <= bound


@needs_cpu
def test_it_is_not_compiled_in() -> None:
    from kernreg import _core

    assert trace_dual(Wavelet()).signature not in _core.signatures()
    # The parameter is data: all values run the same code.
    assert trace_dual(Wavelet(0.3)).signature == trace_dual(Wavelet(2.0)).signature
