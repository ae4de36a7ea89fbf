"""Every vector case of the golden index, on every backend, in both precisions."""

from __future__ import annotations

import numpy as np
import pytest

import kernreg
from kernreg.exceptions import BackendError
from tests.backends.compare import backends, needs_cpu, on
from tests.golden import build, exact, quadrature

KERNELS = ("nngp", "ntk")
KINKED = {"ABRelu", "Abs", "LeakyRelu", "RectifiedMonomial", "Relu", "Sign"}
NEAR = 1e-4  # 1 - |correlation| below which a pair counts as parallel or near-duplicate
VECTORS = [case for case in build.index() if not build.is_spatial(case)]
NUMERICAL = [
    case
    for case in VECTORS
    if any(
        layer["op"] == "ElementwiseNumerical" for layer in build.layers(build.index()[case]["arch"])
    )
]
CLOSED = [case for case in VECTORS if case not in NUMERICAL]
# Standard deviations from 0.1 to 38 side by side: no series is short enough.
STEEP = ["special_num_tanh_L1", "special_num_tanh_L3"]


def backend_for(case: str, backend: str) -> str:
    """What runs where ``backend`` is asked for: tiles refuse two cases, and auto goes on."""
    return "auto" if backend != "reference" and case in STEEP else backend


def skip_long_preparation(case: str, backend: str) -> None:
    """Tiles refuse the steep cases in float32 after a minute; in float64 at once, which is seen."""
    if backend_for(case, backend) != backend:
        pytest.skip("auto goes on to the reference, as in float64")


class Case:
    """One entry of the index with what the tests compare."""

    def __init__(self, case: str) -> None:
        self.entry = build.index()[case]
        self.arch = self.entry["arch"]
        self.data = build.arrays(case)
        self.X1, self.X2 = self.data["x1"], self.data["x2"]
        self.net = build.network(self.arch, in_features=self.X1.shape[1])

    def near(self, cross: bool) -> np.ndarray:
        """Pairs that the first layer maps to almost parallel vectors, the diagonal included."""
        first = next(layer for layer in build.layers(self.arch) if layer["op"] == "Dense")
        b_std = first["b_std"] or 0.0

        def unit(X: np.ndarray) -> np.ndarray:
            weighted = first["W_std"] * X / np.sqrt(X.shape[1])
            full = np.hstack([weighted, np.full((len(X), 1), b_std)])
            return full / np.maximum(np.linalg.norm(full, axis=1, keepdims=True), 1e-300)

        A = unit(self.X1)
        B = unit(self.X2) if cross else A
        near = 1 - np.abs(A @ B.T) < NEAR
        return near if cross else near | np.eye(len(A), dtype=bool)

    def scale(self, kernel: str, cross: bool) -> np.ndarray:
        """``sqrt(K_ii K_jj)`` of the float64 kernel."""
        rows = np.sqrt(kernreg.diag(self.net, self.X1, kernel))
        cols = np.sqrt(kernreg.diag(self.net, self.X2, kernel)) if cross else rows
        return rows[:, None] * cols

    def expected(self, case: str, kernel: str, cross: bool) -> tuple[np.ndarray, np.ndarray]:
        """The expected matrix, and the relative error that it may have in each entry."""
        want = self.data[f"{kernel}_x" if cross else kernel].copy()
        error, near = np.full(want.shape, 1e-10), self.near(cross)
        ops = [layer["op"] for layer in build.layers(self.arch)]
        if "ExpNormalized" in ops:
            # The source takes 1e-15 for the scale of a row of zeros; without biases it is 0.
            want[self.scale(kernel, cross) == 0] = 0.0
        if build.exact(case) or not KINKED.intersection(ops):
            return want, error
        if exact.covers(self.arch):
            X2 = self.X2 if cross else self.X1
            for i, j in np.argwhere(near):
                want[i, j], error[i, j] = self.exact_pair(kernel, self.X1[i], X2[j])
            return want, error
        error[near] = 1e-7
        return want, error

    def exact_pair(self, kernel: str, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        """The kernel in 60 digits, and 1e-10 or what rounding of the angle does to it."""
        # A row is equal to itself however it is rounded.
        turn = 0.0 if np.array_equal(x, y) else exact.ROUNDING
        low, want, high = (
            exact.kernel_of_pair(self.arch, x, y, t)[kernel] for t in (-turn, 0.0, turn)
        )
        spread = max(abs(low - want), abs(high - want))
        return want, 1e-10 + spread / max(abs(want), 1e-300)


def assert_within(got: np.ndarray, want: np.ndarray, bound: np.ndarray) -> None:
    """``|got - want| <= bound`` in every entry where the source is finite."""
    assert np.isfinite(got).all()
    finite = np.isfinite(want)
    excess = np.where(finite, np.abs(got - np.where(finite, want, 0)) - bound, -np.inf)
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[worst] <= 0, (
        f"entry {tuple(map(int, worst))}: {got[worst]!r}, expected {want[worst]!r} within "
        f"{bound[worst]:.3g}; {np.count_nonzero(excess > 0)} of {excess.size} entries are off"
    )


@backends
@pytest.mark.parametrize("case", CLOSED)
def test_float64(case: str, backend: str) -> None:
    """1e-10 of ``sqrt(K_ii K_jj)``, and of the entry itself where that is not small beside it."""
    c = Case(case)
    gram = kernreg.gram(c.net, c.X1, kernel=KERNELS, dtype="float64", **on(backend))
    cross = kernreg.gram(c.net, c.X1, c.X2, kernel=KERNELS, dtype="float64", **on(backend))
    for kernel in KERNELS:
        for got, is_cross in ((getattr(gram, kernel), False), (getattr(cross, kernel), True)):
            want, error = c.expected(case, kernel, is_cross)
            scale = c.scale(kernel, is_cross)
            size = np.where(np.abs(want) > 0.01 * scale, np.abs(want), scale)
            assert_within(got, want, error * size)


@needs_cpu
@pytest.mark.parametrize("case", STEEP)
def test_refused_rather_than_less_exact(case: str) -> None:
    c = Case(case)
    with pytest.raises(BackendError, match="needs too long a series"):
        kernreg.gram(c.net, c.X1, backend="cpu")


@backends
@pytest.mark.parametrize("case", [*CLOSED, *NUMERICAL])
def test_float32(case: str, backend: str) -> None:
    """The contract: 5e-6 of ``sqrt(K_ii K_jj)``, 2e-5 for near-duplicates.

    Both precisions get the same float32 inputs, since rounding moves a near-duplicate.
    """
    skip_long_preparation(case, backend)
    c = Case(case)
    c.X1, c.X2 = (X.astype(np.float32).astype(np.float64) for X in (c.X1, c.X2))
    for X2, is_cross in ((None, False), (c.X2, True)):
        double = kernreg.gram(c.net, c.X1, X2, kernel=KERNELS, dtype="float64", **on(backend))
        single = kernreg.gram(c.net, c.X1, X2, kernel=KERNELS, dtype="float32", **on(backend))
        bound = np.where(c.near(is_cross), 2e-5, 5e-6)
        for kernel in KERNELS:
            got, want = getattr(single, kernel), getattr(double, kernel)
            assert got.dtype == np.float32
            assert_within(got, want, bound * c.scale(kernel, is_cross))


@backends
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [*CLOSED, *NUMERICAL])
def test_bit_for_bit(case: str, dtype: str, backend: str) -> None:
    """A Gram matrix is its own transpose, and its diagonal is ``diag()``."""
    if dtype == "float32":
        skip_long_preparation(case, backend)
    c, backend = Case(case), backend_for(case, backend)
    X = c.X1.astype(dtype)
    gram = kernreg.gram(c.net, X, kernel=KERNELS, dtype=dtype, **on(backend))
    for kernel in KERNELS:
        K = getattr(gram, kernel)
        np.testing.assert_array_equal(K, K.T)
        np.testing.assert_array_equal(np.diagonal(K), kernreg.diag(c.net, X, kernel))


@pytest.mark.parametrize("case", NUMERICAL)
def test_source_rule(case: str) -> None:
    """What the golden value of these cases is: the source's own quadrature rule."""
    c = Case(case)
    for X2, suffix in ((c.X1, ""), (c.X2, "_x")):
        rule = quadrature.kernels(c.arch, c.X1, X2, quadrature.gauss_hermite)
        for kernel in KERNELS:
            want = c.data[kernel + suffix]
            assert_within(rule[kernel], want, 1e-9 * np.max(np.abs(want)) * np.ones_like(want))


@backends
@pytest.mark.parametrize("case", NUMERICAL)
def test_numerical(case: str, backend: str) -> None:
    """kernreg has the integral, and is off the golden value by the error of the source's rule."""
    c, backend = Case(case), backend_for(case, backend)
    for X2, is_cross in ((None, False), (c.X2, True)):
        got = kernreg.gram(c.net, c.X1, X2, kernel=KERNELS, dtype="float64", **on(backend))
        integral = quadrature.kernels(
            c.arch, c.X1, c.X1 if X2 is None else X2, quadrature.converged
        )
        for kernel in KERNELS:
            scale = 1e-10 * c.scale(kernel, is_cross)
            value = getattr(got, kernel)
            assert_within(value, integral[kernel], scale)
            golden = c.data[kernel + ("_x" if is_cross else "")]
            assert_within(value, golden, np.abs(golden - integral[kernel]) + scale)
