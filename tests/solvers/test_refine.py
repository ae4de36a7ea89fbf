"""Refinement by itself: its norm, when it stops, and which iterate it returns."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.exceptions import JitterWarning
from kernreg.solvers.cholesky.in_memory import Cholesky
from kernreg.solvers.refine import (
    MEANINGFUL,
    Coarse,
    SymmetricProduct,
    backward_target,
    refine,
)
from kernreg.solvers.solution import Status
from tests.contracts.solver import gaussian_points, kernel_matrix
from tests.operators.dense import DenseOperator

EPS = np.finfo(np.float64).eps


class Fused(DenseOperator):
    fused = True


class Noisy:
    """Products of a matrix with an error that grows with the number of products."""

    def __init__(self, A, error=0.0, first=10**9):
        self.A, self.error, self.first = A, error, first
        self.count, self.norm = 0, float(np.linalg.norm(A, 2))
        self.rng = np.random.default_rng(0)

    def __call__(self, V):
        self.count += 1
        image = self.A @ V
        if self.count >= self.first:
            image += self.error * np.linalg.norm(image) * self.rng.standard_normal(image.shape)
        return image


def system(n=60, ridge=0.5, seed=0):
    A = kernel_matrix(n, seed=seed) + ridge * np.eye(n)
    return A, gaussian_points(n, 2, seed=seed + 1)


def rough(A, share):
    """An inverse that is wrong by a share, symmetric."""
    E = gaussian_points(len(A), len(A), seed=5)
    inverse = np.linalg.inv(A * (1 + share * (E + E.T) / 2))
    return lambda R: inverse @ R


@pytest.mark.parametrize("operator", [DenseOperator, Fused])
@pytest.mark.parametrize("tile", [None, (7, 5), (60, 60), (1, 1)])
def test_product_and_norm(operator, tile):
    """Sum of squares over trace, or the image of ones: both are lower bounds, and near."""
    K, V = kernel_matrix(60), gaussian_points(60, 3)
    shift = np.linspace(1.0, 5.0, 60)
    product = SymmetricProduct(operator(K), shift, tile)
    A = K + np.diag(shift)
    for repeat in range(2):
        np.testing.assert_allclose(product(V), A @ V, rtol=1e-12, atol=1e-10)
        assert product.count == repeat + 1
    values = np.linalg.eigvalsh(A)
    expected = np.sum(values**2) / np.sum(values)
    if operator is Fused:
        expected = np.linalg.norm(A @ np.ones(60)) / 60**0.5
    assert product.norm == pytest.approx(expected, rel=1e-12)
    assert 0.3 * values[-1] < product.norm <= values[-1] * (1 + 1e-12)


@pytest.mark.parametrize("scale", [0.0, 2.0**-20, 2.0**20])
def test_the_norm_has_the_scale_of_the_matrix(scale):
    """Exactly, as powers of two do not round; a matrix of zeros has the norm 0."""
    V = gaussian_points(60, 3)
    norms = []
    for factor in (1.0, scale):
        product = SymmetricProduct(DenseOperator(factor * kernel_matrix(60)), 0.0)
        product(V)
        norms.append(product.norm)
    assert norms[1] == scale * norms[0]


@pytest.mark.parametrize("share", [1e-7, 0.3])
def test_residuals_are_relative(share):
    """To the right-hand side, however large it is."""
    A, rhs = system()
    histories = [
        refine(Noisy(A), rough(A, share), size * rhs, max_products=40).residuals
        for size in (1.0, 2.0**30)
    ]
    assert histories[0] == histories[1]


def test_a_good_inverse_needs_two_products():
    """The second one's recurred residual is believed, as the path to it is short."""
    A, rhs = system()
    product = Noisy(A)
    found = refine(product, rough(A, 1e-7), rhs, max_products=40)
    assert found.converged.all()
    assert product.count <= 3
    left = np.linalg.norm(rhs - A @ found.value, axis=0)
    scale = np.linalg.norm(A, 2) * np.linalg.norm(found.value, axis=0)
    assert (left <= 16 * EPS * (scale + np.linalg.norm(rhs, axis=0))).all()
    # What is reported is no less than what there is.
    assert found.residuals[-1] >= np.max(left / np.linalg.norm(rhs, axis=0))


def worst(A, share):
    """Products as wrong as they say, in a direction of their own each time, and their number."""
    calls, rng = [], np.random.default_rng(2)
    error = share * np.linalg.norm(A, 2)

    def times(V):
        calls.append(1)
        noise = rng.standard_normal(V.shape)
        noise *= error * np.linalg.norm(V, axis=0) / np.linalg.norm(noise, axis=0)
        return A @ V + noise

    return Coarse(times, error), calls


@pytest.mark.parametrize("quality", [1e-4, 1e-5, 1e-7])
@pytest.mark.parametrize("share", [1e-10, 1e-7, 1e-5])
def test_short_steps_take_coarse_products(quality, share):
    """They do not spoil the solution, and save a product where it is near."""
    A, rhs = system()
    product, (coarse, calls) = Noisy(A), worst(A, share)
    found = refine(product, rough(A, quality), rhs, max_products=40, coarse=coarse)
    alone = Noisy(A)
    assert refine(alone, rough(A, quality), rhs, max_products=40).converged.all()
    assert found.converged.all()
    left = np.linalg.norm(rhs - A @ found.value, axis=0)
    scale = np.linalg.norm(A, 2) * np.linalg.norm(found.value, axis=0)
    assert (left <= 16 * EPS * (scale + np.linalg.norm(rhs, axis=0))).all()
    assert found.residuals[-1] >= np.max(left / np.linalg.norm(rhs, axis=0))
    if share == 1e-10:
        assert calls
        assert product.count < alone.count


def test_coarse_products_are_for_short_steps_only():
    A, rhs = system(ridge=1e-3)
    coarse, calls = worst(A, 1e-3)
    found = refine(Noisy(A), rough(A, 1e-3), rhs, max_products=40, coarse=coarse)
    assert found.residuals == refine(Noisy(A), rough(A, 1e-3), rhs, max_products=40).residuals
    assert not calls


def test_coarse_products_that_lead_nowhere_end():
    A, rhs = system(ridge=1e-3)
    coarse, calls = worst(A, 0.0)
    found = refine(Noisy(A), lambda R: R.copy(), rhs, max_products=5, coarse=coarse)
    assert not found.converged.any()
    assert 0 < len(calls) <= 5 * 5


def test_a_long_path_is_not_believed():
    """Steps far longer than the solution leave rounding that no recurrence sees."""
    A, rhs = system(40, ridge=1e-9)
    inverse = np.linalg.inv(A)

    def started_far_away(R):
        calls.append(1)
        first = len(calls) == 1
        return inverse @ R + (1e12 * gaussian_points(40, 2, seed=8) if first else 0.0)

    calls = []
    product = Noisy(A)
    found = refine(product, started_far_away, rhs, max_products=40)
    left = np.linalg.norm(rhs - A @ found.value, axis=0)
    scale = product.norm * np.linalg.norm(found.value, axis=0) + np.linalg.norm(rhs, axis=0)
    assert (left[found.converged] <= 17 * EPS * scale[found.converged]).all()


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_products_are_limited(limit):
    A, rhs = system(ridge=1e-3)
    product = Noisy(A)
    found = refine(product, lambda R: R.copy(), rhs, max_products=limit)
    assert product.count <= limit
    assert not found.converged.any()


def test_the_better_iterate_is_kept():
    """Of each column: later cycles whose products are noise do not spoil it."""
    A, rhs = system(ridge=1e-2)
    worse = rough(A, 1e-2)
    clean = refine(Noisy(A), worse, rhs, max_products=3)
    spoiled = refine(Noisy(A, error=1e3, first=2), worse, rhs, max_products=12)
    first = np.linalg.norm(rhs - A @ worse(rhs), axis=0)
    assert (np.linalg.norm(rhs - A @ spoiled.value, axis=0) <= first * (1 + 1e-12)).all()
    assert not spoiled.converged.any()
    assert (np.linalg.norm(rhs - A @ clean.value, axis=0) < first).all()


def test_a_step_that_is_too_long_is_taken_back():
    """The product within the cycle is a thousandth of what it should be, the others are right."""
    A, rhs = system(ridge=1.0)
    inverse = rough(A, 1e-3)

    class Short(Noisy):
        def __call__(self, V):
            image = super().__call__(V)
            return image / 1000 if self.count == 2 else image

    found = refine(Short(A), inverse, rhs, max_products=3)
    np.testing.assert_array_equal(found.value, inverse(rhs))
    first = np.max(np.linalg.norm(rhs - A @ inverse(rhs), axis=0) / np.linalg.norm(rhs, axis=0))
    np.testing.assert_allclose(found.residuals, first, rtol=1e-6)


def test_history_falls():
    A, rhs = system(ridge=1.0)
    found = refine(Noisy(A), rough(A, 1e-3), rhs, max_products=40)
    assert found.converged.all()
    assert found.residuals[0] > found.residuals[-1]
    assert (np.diff(found.residuals) <= 0).all()


def test_target():
    rounding, norm_b = np.array([1e-3, 1e-9, 0.0]), np.array([1.0, 1.0, 2.0])
    assert backward_target(rounding, norm_b, False).tolist() == [16e-3, 16e-9, 0.0]
    assert backward_target(rounding, norm_b, True).tolist() == [MEANINGFUL, 16e-9, 0.0]


def test_zero_columns_are_solved():
    A, rhs = system()
    rhs[:, 1] = 0
    found = refine(Noisy(A), rough(A, 1e-6), rhs, max_products=40)
    assert found.converged.all()
    assert not found.value[:, 1].any()


@pytest.mark.parametrize("tile", [None, (7, 5), (60, 60), (1, 1)])
def test_rough_products(tile):
    """They are those of the entries as the other operator gives them."""
    K, V = kernel_matrix(60), gaussian_points(60, 3)
    rough = DenseOperator(K.astype(np.float32))
    product = SymmetricProduct(DenseOperator(K), 2.0, tile, rough)
    expected = K.astype(np.float32).astype(np.float64) @ V + 2.0 * V
    np.testing.assert_allclose(product.roughly(V), expected, rtol=1e-13, atol=1e-12)
    assert product.count == 0
    np.testing.assert_allclose(product(V), K @ V + 2.0 * V, rtol=1e-13, atol=1e-12)


def test_a_step_that_was_taken_back_does_not_say_what_is_done():
    """The length of a rejected solution is no measure of the rounding of the one that is kept.

    Half of the eigenvalues are those of rounding, along which solutions are long.
    """
    rng = np.random.default_rng(3911)
    n = int(rng.integers(3, 80))
    Q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    values = np.geomspace(1.0, 10.0 ** -rng.uniform(4, 18), n)
    values[n // 2 :] = 0.0
    rng.random(2), rng.integers(4)  # as the system was found
    A = (Q * values) @ Q.T
    A = (A + A.T) / 2
    rhs = A @ rng.standard_normal((n, 2))
    solver = Cholesky()
    with pytest.warns(JitterWarning):
        found = solver.solve(solver.init(DenseOperator(A, "float32"), 0.0), rhs)
    left = np.linalg.norm(rhs - A @ found.value, axis=0)
    scale = np.linalg.norm(A, 2) * np.linalg.norm(found.value, axis=0)
    done = left <= 17 * EPS * (scale + np.linalg.norm(rhs, axis=0))
    assert done.all() or found.status is not Status.OK
