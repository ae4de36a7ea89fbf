"""The recurrences themselves: what is believed, what is given up, and which iterate is kept."""

from __future__ import annotations

import numpy as np
import pytest

from kernreg.exceptions import NotPositiveDefiniteError
from kernreg.solvers.pcg.conjugate import _require_positive, iterate, reopen, start
from tests.contracts.solver import gaussian_points, kernel_matrix


class Dense:
    """``K + diag(profile) level_j``; products that need not be exact are multiplied by a factor."""

    def __init__(self, K, levels, profile=None, low=False, factor=1.0):
        self.K, self.levels = K, np.asarray(levels, dtype=np.float64)
        self.profile = np.ones(len(K)) if profile is None else profile
        self.low, self.factor, self.calls = low, factor, []

    @property
    def ridges(self):
        return self.levels * self.profile.max()

    def ridge(self, columns):
        return self.profile[:, None] * self.levels[columns]

    def product(self, V, columns, exact):
        self.calls.append(exact)
        image = self.K @ V + self.ridge(columns) * V
        return image if exact or not self.low else image * self.factor

    def precondition(self, R, columns):
        return R.copy()

    def raise_precision(self):
        self.low = False


def solve(system, rhs, *, tol=1e-8, max_iter=500, recompute_every=50, strict=False, at=None):
    at = at or start(system, rhs)
    seen = []
    iterate(
        system,
        rhs,
        at,
        tol=tol,
        max_iter=max_iter,
        recompute_every=recompute_every,
        strict=strict,
        after=lambda now: seen.append(now.sizes.copy()),
    )
    return at, seen


def residuals(system, rhs, x):
    everyone = np.arange(rhs.shape[1])
    return np.linalg.norm(rhs - system.product(x, everyone, True), axis=0)


def gaussian_kernel(n, d=1, seed=0):
    X = gaussian_points(n, d, seed)
    return np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(2))


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("profile", [None, np.linspace(0.2, 1.8, 80)])
def test_a_huge_ridge_beside_a_small_one(every, profile):
    """Rounding is measured by K and each column's own ridge: not by the largest of all."""
    K, rhs = kernel_matrix(80), gaussian_points(80, 2, seed=1)
    system = Dense(K, [1e18, 1.0], profile)
    at, _ = solve(system, rhs, recompute_every=every)
    assert at.solved.all()
    assert (residuals(system, rhs, at.x) <= 1e-8 * np.linalg.norm(rhs, axis=0)).all()


@pytest.mark.parametrize("levels", [[1e18, 1e-3], [1e-3, 1e18], [1e18, 50.0], [50.0], [1e-3]])
def test_norm_is_a_lower_bound_of_that_of_the_kernel(levels):
    """Found from products with the smallest ridge, whose subtraction loses least."""
    vectors = np.linalg.qr(gaussian_points(60, 60))[0]
    K = (vectors * np.linspace(0.1, 1.0, 60)) @ vectors.T
    at, _ = solve(Dense(K, levels), gaussian_points(60, len(levels), seed=1), max_iter=3)
    assert 0.3 <= at.norm <= 1 + 1e-6


@pytest.mark.parametrize("levels", [[1e18, 1e-3], [1e-3, 1e18], [50.0, 1e18]])
def test_norm_is_seen_where_right_hand_sides_do_not_show_it(levels):
    """The largest eigenvector is constant and they have mean zero; a huge ridge would hide it."""
    K = 0.1 * np.eye(40) + 0.9 / 40 * np.ones((40, 40))
    rhs = gaussian_points(40, 2, seed=3)
    at, _ = solve(Dense(K, levels), rhs - rhs.mean(axis=0), max_iter=1)
    assert 0.99 <= at.norm <= 1 + 1e-6


def test_the_better_iterate_is_kept():
    """Without a preconditioner the residual rises again and again; the last one is not the best."""
    K, rhs = gaussian_kernel(60), gaussian_points(60, 2, seed=1)
    system = Dense(K, [1e-9, 1e-9])
    at, seen = solve(system, rhs, max_iter=90, recompute_every=1)
    assert (np.array(seen)[-1] > 2 * np.min(seen, axis=0)).any()
    best = np.minimum(np.min(seen, axis=0), np.linalg.norm(rhs, axis=0))
    # Computed once more from its definition: another rounding of A x.
    noise = 60 * np.finfo(float).eps * 60 * np.linalg.norm(at.x, axis=0)
    assert (residuals(system, rhs, at.x) <= best + noise).all()
    assert (at.x == at.anchor).all()


@pytest.mark.parametrize("share", [1e-9, 1e-11, 1e-13])
def test_an_end_leaves_no_more_than_cholesky(share):
    """Where the tolerance is beyond reach: what is called solved is as good as a direct solve."""
    K, rhs = gaussian_kernel(50, seed=3), gaussian_points(50, 3, seed=2)
    A = K + share * np.eye(50)
    lower = np.linalg.cholesky(A)
    direct = np.linalg.solve(lower.T, np.linalg.solve(lower, rhs))
    system = Dense(K, [share] * 3)
    # An exact inverse but for rounding: what remains to be shown is where it stops.
    system.precondition = lambda R, columns: np.linalg.solve(lower.T, np.linalg.solve(lower, R))
    at, _ = solve(system, rhs, tol=1e-14)
    reached, left = (residuals(system, rhs, x) for x in (at.x, direct))
    assert at.solved.all()
    assert (reached <= 4 * left).all()


def test_a_tolerance_is_reached_where_it_can_be():
    """Although the level of a direct solve of a larger solution would be worse."""
    K, rhs = kernel_matrix(60), gaussian_points(60, 2, seed=4)
    system = Dense(K, [1e-2, 1e-2])
    for tol in (1e-4, 1e-8, 1e-12):
        at, _ = solve(system, rhs, tol=tol)
        found = residuals(system, rhs, at.x) / np.linalg.norm(rhs, axis=0)
        assert at.solved.all()
        assert (found <= tol).all()


def test_a_singular_system_is_not_called_solved_by_its_rounding():
    """A huge solution makes any residual look small beside it; ``strict`` asks for 1e-6."""
    K = np.diag([1.0, 1e-16])
    rhs = np.array([[1.0], [1.0]])
    rotation = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    system = Dense(rotation @ K @ rotation.T, [0.0])
    at, _ = solve(system, rotation @ rhs, strict=True)
    left = residuals(system, rotation @ rhs, at.x) / np.linalg.norm(rhs)
    assert at.solved.all() == (left[0] <= 1e-6)


@pytest.mark.parametrize("factor", [1.3, 0.0, -1.0, np.nan])
def test_wrong_low_precision_is_given_up(factor):
    K, rhs = kernel_matrix(40), gaussian_points(40, 2, seed=5)
    system = Dense(K, [1.0, 1.0], low=True, factor=factor)
    at, _ = solve(system, rhs)
    assert not system.low
    assert not at.low
    assert at.solved.all()
    assert (residuals(system, rhs, at.x) <= 1e-8 * np.linalg.norm(rhs, axis=0)).all()


def test_products_that_are_not_numbers_end_in_a_failure():
    class Broken(Dense):
        def product(self, V, columns, exact):
            image = super().product(V, columns, exact)
            return image * np.nan if len(self.calls) > 4 else image

    K, rhs = kernel_matrix(40), gaussian_points(40, 1, seed=6)
    at, _ = solve(Broken(K, [1e-6]), rhs, max_iter=60, recompute_every=5)
    assert not at.solved.any()
    assert np.isfinite(at.x).all()


def test_reopened_columns_are_judged_anew():
    """A tolerance that was met is not any more; zero columns stay solved."""
    K, rhs = kernel_matrix(50), gaussian_points(50, 2, seed=7)
    rhs[:, 1] = 0
    system = Dense(K, [0.1, 0.1])
    at, _ = solve(system, rhs, tol=1e-3)
    assert at.solved.all()
    reopen(system, rhs, at, tol=1e-9, strict=False)
    assert at.open.tolist() == [True, False]
    np.testing.assert_allclose(at.residual, rhs - K @ at.x - 0.1 * at.x, atol=1e-12)
    at, _ = solve(system, rhs, tol=1e-9, at=at)
    assert (residuals(system, rhs, at.x) <= 1e-9 * np.linalg.norm(rhs[:, 0])).all()
    assert not at.x[:, 1].any()


def test_checks_are_as_frequent_as_asked():
    K, rhs = kernel_matrix(60), gaussian_points(60, 1, seed=8)
    system = Dense(K, [1e-4])
    solve(system, rhs, max_iter=12, recompute_every=4)
    # An exact product after every fourth one; beside it those that sharpen the norm at the end.
    assert [i for i, exact in enumerate(system.calls[:14]) if exact] == [4, 9]


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_reopened_columns_of_any_size(size):
    """All but zeros are taken up again, which stay as they are and take no iteration."""
    rhs = size * gaussian_points(30, 3)
    rhs[:, 1] = 0.0
    system = Dense(kernel_matrix(30), [0.1] * 3)
    at, _ = solve(system, rhs, tol=1e-3)
    loose = at.finished.copy()
    reopen(system, rhs, at, tol=1e-10, strict=False)
    assert at.open.tolist() == at.active.tolist() == [True, False, True]
    at, _ = solve(system, rhs, tol=1e-10, at=at)
    assert at.solved.all()
    assert at.finished[1] == 0
    assert (at.finished[[0, 2]] > loose[[0, 2]]).all()
    assert (residuals(system, rhs, at.x) <= 1e-10 * np.linalg.norm(rhs, axis=0)).all()


@pytest.mark.parametrize("factor", [0.3, 1.0001, 1.5])
@pytest.mark.parametrize("max_iter", range(1, 13))
def test_what_is_left_at_the_limit_is_that_of_exact_products(factor, max_iter):
    """Also where the last iterate was worse, and an earlier one is given back."""
    turn = np.linalg.qr(gaussian_points(30, 30))[0]
    K = turn * np.geomspace(1e-8, 1, 30) @ turn.T
    rhs = K @ gaussian_points(30, 2)
    system = Dense(K, [0.0, 1e-7], low=True, factor=factor)
    at, _ = solve(system, rhs, max_iter=max_iter, recompute_every=2)
    exact = rhs - system.product(at.x, np.arange(2), True)
    np.testing.assert_allclose(at.residual, exact, atol=1e-13 * np.abs(rhs).max())
    np.testing.assert_allclose(at.sizes, np.linalg.norm(exact, axis=0), rtol=1e-12)
    assert (at.sizes <= np.linalg.norm(rhs, axis=0)).all()


def test_curvature_is_told_for_a_direction_of_unit_length():
    with pytest.raises(NotPositiveDefiniteError, match=r"has curvature -2, .* at least 2 "):
        _require_positive(np.array([-8.0, 9.0]), np.array([2.0, 3.0]), np.array([5.0, 5.0]), 10)
